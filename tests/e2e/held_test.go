package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"

	mesosapi "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/master"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tests/harness"
)

// delicate has tasks that may be repeated and tasks that must not; all wait at the gate.
const delicate = `
name: delicate
params: {ledger: {type: string}, gate: {type: string}}
defaults: {resources: {cpus: 0.05, mem: 16MB}}
steps:
  plain:
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.gate }}'}
    run: |
      echo "start plain $BAAS_ATTEMPT $$" >>"$BAAS_INPUT_LEDGER"
      read x <"$BAAS_INPUT_GATE"
  once:
    for_each: {from: 0, to: 2}
    at_most_once: true
    retry: {attempts: 2, backoff: 100ms}
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.gate }}'}
    run: |
      echo "start once.$BAAS_PARTITION $BAAS_ATTEMPT $$" >>"$BAAS_INPUT_LEDGER"
      read x <"$BAAS_INPUT_GATE"
`

// heldWorld is two workers, and a run whose framework an operator has torn down.
type heldWorld struct {
	*testing.T
	target
	platform *platform.Platform
	workers  map[string]*harness.Worker
	ledger   *ledger
	gate     *gate
	run      client.WorkflowRun
	id       string      // of the run
	lives    []processID // of the first placements
}

func newHeldWorld(t *testing.T) *heldWorld {
	t.Helper()
	w := &heldWorld{T: t, ledger: newLedger(t), gate: newGate(t), workers: map[string]*harness.Worker{}}
	w.platform = start(t, func(c *platform.Config) { c.NoWorker = true })
	w.target = of(w.platform)
	for _, name := range []string{"a", "b"} {
		cfg := harness.LikePlatform(w.platform, name)
		cfg.Gateway = w.platform.Gateway.URL()
		w.workers[name] = harness.NewWorker(t, cfg)
		do(t, w.workers[name].Start())
	}
	w.run = run(t, w.target, map[string]string{"flow.yaml": delicate}, map[string]string{"ledger": w.ledger.path, "gate": w.gate.path})
	w.id = api.RunID(w.run.GetID(), w.run.GetRunID())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s\n%v", show(w.describe()), w.ledger.lines(t))
		}
	})
	eventually(t, patience, "the tasks do not start", func() bool { return len(w.ledger.of(t, "start")) == 4 })
	for _, words := range w.ledger.of(t, "start") {
		w.lives = append(w.lives, living(t, words[2]))
	}
	w.tearDown()
	return w
}

func (w *heldWorld) describe() starter.Run {
	w.Helper()
	run, err := w.runs().Describe(context.WithoutCancel(w.Context()), w.id)
	if err != nil {
		w.Error(err)
	}
	return run
}

// tearDown removes the framework, as an operator can, and waits for its tasks' end.
func (w *heldWorld) tearDown() {
	w.Helper()
	list := operator(w.T, w.platform, master.Call_GET_FRAMEWORKS).GetFrameworks.Frameworks
	equal(w.T, len(list), 1)
	id := mesosapi.FrameworkID{Value: list[0].FrameworkInfo.ID.Value}
	mesostest.Operate(w.T, w.platform.Cluster.MasterURL(), mesostest.Options{},
		&master.Call{Type: master.Call_TEARDOWN, Teardown: &master.Call_Teardown{FrameworkID: id}})
	for _, p := range w.lives {
		eventually(w.T, patience, "a task lives on without its framework", func() bool { return !p.alive() })
	}
}

// holds waits until the run shows these partitions of once as held, and no other.
func (w *heldWorld) holds(partitions ...int) {
	w.Helper()
	eventually(w.T, patience, "what runs at most once is not held", func() bool {
		now := w.describe()
		held := now.Held()
		if len(held) != len(partitions) {
			return false
		}
		for i, h := range held {
			if h.Step != "once" || h.Partition != partitions[i] {
				return false
			}
		}
		return true
	})
	equal(w.T, w.describe().Status, api.StatusRunning)
}

// began counts the starts of each task by what the ledger says.
func (w *heldWorld) began() map[string]int {
	w.Helper()
	return w.ledger.count(w.T, "start")
}

func (w *heldWorld) release(partition int, as api.ReleaseAs) (api.Release, error) {
	return w.runs().Release(w.Context(), w.id, starter.ReleaseOptions{
		Step: "once", Partition: partition, As: as, Reason: "seen in the ledger", By: "ann",
	})
}

// killLeader kills the worker that leads, and waits for the other one.
func (w *heldWorld) killLeader() {
	w.Helper()
	first, _, err := harness.Leader(w.Context(), w.client)
	do(w.T, err)
	do(w.T, w.workers[first].Kill())
	eventually(w.T, takeoverLimit, "the other worker does not lead", func() bool {
		name, _, err := harness.Leader(w.Context(), w.client)
		return err == nil && name != "" && name != first
	})
}

// The framework is removed while tasks run: what may be repeated runs again, what
// must not is held, through the death of the leader too, until a person has said
// what became of it.
func TestHeldForAPerson(t *testing.T) {
	w := newHeldWorld(t)
	w.holds(0, 1, 2)
	eventually(t, patience, "the plain step does not run again", func() bool { return w.began()["plain"] == 2 })
	e, err := w.runs().Explain(t.Context(), w.id, starter.ExplainOptions{Step: "once", Partition: 1})
	do(t, err)
	if len(e.Steps) != 1 || len(e.Steps[0].Held) != 1 {
		t.Fatalf("explained as %+v", e)
	}
	if h := e.Steps[0].Held[0]; h.Agent == "" || !strings.Contains(h.Reason, "nobody knows whether or how far it ran") ||
		h.Release != "baas release "+w.id+"/once#1 --as never-ran|ran|failed --reason TEXT" {
		t.Errorf("held as %+v", h)
	}

	w.killLeader()
	w.holds(0, 1, 2)
	equal(t, w.began(), map[string]int{"plain": 2, "once.0": 1, "once.1": 1, "once.2": 1})

	for partition, as := range []api.ReleaseAs{api.ReleaseNeverRan, api.ReleaseRan, api.ReleaseFailed} {
		done, err := w.release(partition, as)
		if err != nil || done.As != as || done.By != "ann" {
			t.Fatalf("release of %d as %s: %+v, %v", partition, as, done, err)
		}
	}
	eventually(t, patience, "what was released as never-ran, and what has another attempt, does not run", func() bool {
		n := w.began()
		return n["once.0"] == 2 && n["once.2"] == 2
	})
	w.holds()
	again, err := w.release(1, api.ReleaseRan) // said twice, done once
	if err != nil || again.Partition != 1 {
		t.Errorf("again: %+v, %v", again, err)
	}
	for _, as := range []api.ReleaseAs{api.ReleaseFailed, api.ReleaseNeverRan} {
		if _, err := w.release(1, as); !errors.Is(err, starter.ErrNotFound) || !strings.Contains(err.Error(), "released as ran by ann: seen in the ledger") {
			t.Errorf("another word on it: %v", err)
		}
	}

	w.gate.open(t)
	last := succeeded(t, w.target, w.run, patience)
	equal(t, w.began(), map[string]int{"plain": 2, "once.0": 2, "once.1": 1, "once.2": 2})
	attempts := map[string]string{}
	for _, words := range w.ledger.of(t, "start") {
		attempts[words[0]] += words[1]
	}
	equal(t, attempts, map[string]string{"plain": "11", "once.0": "11", "once.1": "1", "once.2": "12"})
	equal(t, len(last.Releases), 3)
	var ended *starter.EndedError
	if _, err := w.release(1, api.ReleaseRan); !errors.As(err, &ended) {
		t.Errorf("release in a run that has ended: %v", err)
	}
}

// A kill ends what is held; what is not there cannot be released.
func TestKillWhileHeld(t *testing.T) {
	w := newHeldWorld(t)
	w.holds(0, 1, 2)
	for name, c := range map[string]struct {
		run  string
		what starter.ReleaseOptions
		text string
	}{
		"step that runs": {w.id, starter.ReleaseOptions{Step: "plain", Partition: starter.AllPartitions}, "no task of it waits for a person"},
		"step":           {w.id, starter.ReleaseOptions{Step: "twice"}, "the run has plain, once"},
		"all partitions": {w.id, starter.ReleaseOptions{Step: "once", Partition: starter.AllPartitions}, "name one"},
		"partition":      {w.id, starter.ReleaseOptions{Step: "once", Partition: 3}, "no task of it waits for a person"},
		"run":            {"delicate-0123456789abcdef-01234567", starter.ReleaseOptions{Step: "once"}, "not found"},
	} {
		c.what.As, c.what.Reason = api.ReleaseRan, "a try"
		if _, err := w.runs().Release(t.Context(), c.run, c.what); !errors.Is(err, starter.ErrNotFound) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	do(t, w.runs().Kill(t.Context(), w.id, "enough", "ann"))
	last := ended(t, w.target, w.run, patience)
	equal(t, last.Status, api.StatusKilled)
	for name, n := range w.began() {
		if strings.HasPrefix(name, "once.") && n != 1 {
			t.Errorf("%s was started %d times", name, n)
		}
	}
}
