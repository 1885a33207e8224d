package fault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tests/harness"
)

// harm is a fault that may cost tasks: from when to when, and on which agent.
type harm struct {
	agent int
	// away tells that the agent could not be reached: until its end tasks may run
	// on unseen.
	away     bool
	from, to time.Time // to is zero while it lasts
}

// Harm tells Check that tasks on an agent (its index) may be lost from now on
// without being to blame, by a fault that the World has no method for.
func (w *World) Harm(agent int) { w.harmed(harm{agent: agent, from: time.Now(), to: time.Now()}) }

func (w *World) harmed(h harm) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.harms = append(w.harms, h)
}

func (w *World) back(agent int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.harms {
		if h := &w.harms[i]; h.agent == agent && h.away && h.to.IsZero() {
			h.to = time.Now()
		}
	}
}

// AgentID is the ID of an agent at the moment.
func (w *World) AgentID(agent int) api.AgentID { return w.Cluster.Agents()[agent].ID }

// LoseAgent cuts an agent off the masters; its tasks run on.
func (w *World) LoseAgent(agent int) {
	w.Helper()
	w.harmed(harm{agent: agent, away: true, from: time.Now()})
	w.do(w.Cluster.LoseAgent(w.AgentID(agent)))
}

// ReturnAgent ends LoseAgent.
func (w *World) ReturnAgent(agent int) {
	w.Helper()
	w.do(w.Cluster.ReturnAgent(w.AgentID(agent)))
	w.back(agent)
}

// KillAgent kills an agent as kill -9 does; executors and tasks run on.
func (w *World) KillAgent(agent int) {
	w.Helper()
	w.harmed(harm{agent: agent, away: true, from: time.Now()})
	w.do(w.Cluster.KillAgent(w.AgentID(agent)))
}

// RestartAgent starts an agent that was killed; it recovers its executors.
func (w *World) RestartAgent(agent int) {
	w.Helper()
	w.do(w.Cluster.RestartAgent(w.AgentID(agent)))
	w.back(agent)
}

// LoseMachine ends an agent with all that runs on it, for ever, as a machine that
// burns. What runs at most once and was on it waits for MarkGone.
func (w *World) LoseMachine(agent int) (killed int) {
	w.Helper()
	id := w.AgentID(agent)
	w.harmed(harm{agent: agent, away: true, from: time.Now()})
	w.do(w.Cluster.LoseAgent(id)) // nobody is told
	w.do(w.Cluster.KillAgent(id))
	for _, p := range w.Executors(agent) { // first: none tells how its tasks end
		if p.Kill() {
			killed++
		}
	}
	for _, p := range w.processes() {
		if agentOf(p.dir) == agent && p.Kill() {
			killed++
		}
	}
	return killed
}

// MarkGone is an operator's word that an agent will never come back: tasks that run
// at most once and were on it fail then, all others need not wait any longer.
func (w *World) MarkGone(agent int) {
	w.Helper()
	w.Harm(agent)
	body := fmt.Sprintf(`{"type": "MARK_AGENT_GONE", "mark_agent_gone": {"agent_id": {"value": %q}}}`, w.AgentID(agent).Value)
	w.do(w.operator(w.Context(), body, nil))
}

// KillExecutors kills the executors of an agent as kill -9 does, and tells how
// many there were.
func (w *World) KillExecutors(agent int) (killed int) {
	w.Helper()
	w.Harm(agent)
	for _, p := range w.Executors(agent) {
		if p.Kill() {
			killed++
		}
	}
	return killed
}

// Executors are the executors that live on an agent.
func (w *World) Executors(agent int) []harness.Proc {
	var some []harness.Proc
	for _, p := range w.processes() {
		if p.run == "" && agentOf(p.dir) == agent && p.Name() == "baas-executor" {
			some = append(some, p.Proc)
		}
	}
	return some
}

// process is a process that the agents have started, or a child of one.
type process struct {
	harness.Proc
	dir string // in its agent's work directory
	run string // that a task belongs to; "" for an executor
}

// processes are all live ones of this World's agents.
func (w *World) processes() []process {
	var all []process
	harness.EachProc(func(p harness.Proc, getenv func(string) string) {
		dir := getenv("MESOS_DIRECTORY")
		if dir == "" {
			dir = getenv("HOME") // of a task
		}
		if strings.HasPrefix(dir, w.dir+"/") {
			all = append(all, process{p, dir, getenv(tasklet.EnvRun)})
		}
	})
	return all
}

// StartTemporal starts Temporal again after Temporal.Kill, and leads all links to it.
func (w *World) StartTemporal() {
	w.Helper()
	w.do(w.Temporal.Start())
	w.clean.SetTarget(w.Temporal.Address())
	for _, v := range w.Workers {
		v.Temporal.SetTarget(w.Temporal.Address())
	}
}

// RestartMaster kills the leading master and starts it again.
func (w *World) RestartMaster() {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), harness.Patience)
	defer cancel()
	w.do(w.Cluster.RestartMaster(ctx))
}

// Leader waits until a worker leads, and gives it.
func (w *World) Leader() *Worker {
	w.Helper()
	leader, _ := w.LeaderOtherThan(nil)
	return leader
}

// LeaderOtherThan waits until a worker other than old leads; took tells for how
// long.
func (w *World) LeaderOtherThan(old *Worker) (leader *Worker, took time.Duration) {
	w.Helper()
	began := time.Now()
	harness.Eventually(w, "nobody leads", func() bool {
		ctx, cancel := context.WithTimeout(w.Context(), 5*time.Second)
		defer cancel()
		name, _, err := harness.Leader(ctx, w.Client)
		i := slices.IndexFunc(w.Workers, func(v *Worker) bool { return v.Name == name })
		if err != nil || i < 0 || w.Workers[i] == old {
			return false
		}
		leader = w.Workers[i]
		return true
	})
	return leader, time.Since(began)
}

// term counts the terms of leadership.
func (w *World) term() int32 {
	w.Helper()
	_, n, err := harness.Leader(w.Context(), w.Client)
	w.do(err)
	return n
}

// Standby gives a worker that does not lead.
func (w *World) Standby() *Worker {
	w.Helper()
	leader := w.Leader()
	for _, v := range w.Workers {
		if v != leader && v.Running() {
			return v
		}
	}
	w.Fatal("no other worker runs")
	return nil
}
