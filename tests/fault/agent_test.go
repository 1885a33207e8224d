package fault

import (
	"testing"

	"github.com/baas-batch/baas/tests/harness"
)

// An executor dies, and its tasks with it: they are the platform's loss and are
// started again without using an attempt up.
func TestKillExecutors(t *testing.T) { ways(t, testKillExecutors) }

func testKillExecutors(t *testing.T, as way) {
	w := New(t, Config{})
	r := w.Start(as(Standard()))
	r.UnderWay(4, 8)
	for agent := range w.cfg.Agents {
		if n := w.KillExecutors(agent); n == 0 {
			t.Errorf("no executor was killed on agent %d", agent)
		}
	}
	r.Await("no task is started again", again)
	r.Open()
	w.Verify(r)
}

// again tells whether an attempt was started a second time.
func again(l Ledger) bool {
	type attempt struct {
		Partition
		n int
	}
	seen := make(map[attempt]bool)
	for _, e := range l.Of(Began) {
		a := attempt{e.Partition, e.Attempt}
		if seen[a] {
			return true
		}
		seen[a] = true
	}
	return false
}

// A task's process dies by a signal: that is the user's failure and uses an
// attempt up.
func TestKillTasks(t *testing.T) { ways(t, testKillTasks) }

func testKillTasks(t *testing.T, as way) {
	w := New(t, Config{})
	r := w.Start(as(Standard()))
	r.UnderWay(4, 6)
	r.Await("too few tasks wait at the gate", func(l Ledger) bool { return len(gated(r.Flow, l.Living())) >= 3 })
	killed := 0
	for _, e := range gated(r.Flow, r.Ledger().Living()) {
		if r.Kill(e) {
			killed++
		}
	}
	if killed < 2 {
		t.Errorf("%d tasks were killed", killed)
	}
	r.Await("no second attempt", func(l Ledger) bool {
		n := 0
		for _, e := range gated(r.Flow, l.Of(Began)) {
			if e.Attempt == 2 {
				n++
			}
		}
		return n == killed
	})
	r.Open()
	w.Verify(r)
}

// A machine is gone for ever, with all that ran on it.
func TestLoseMachine(t *testing.T) { ways(t, testLoseMachine) }

func testLoseMachine(t *testing.T, as way) {
	w := New(t, Config{})
	r := w.Start(as(Standard()))
	agent := r.busiest()
	if n := w.LoseMachine(agent); n == 0 {
		t.Error("nothing ran on the machine")
	}
	r.Await("nothing is started again elsewhere", again)
	w.MarkGone(agent)
	r.Open()
	w.Verify(r)
}

// busiest waits until all six tasks that wait at the gate of Standard do so, and
// gives the agent that has most of them.
func (r *Run) busiest() int {
	r.w.Helper()
	var waiting Ledger
	r.Await("too few tasks wait at the gate", func(l Ledger) bool {
		waiting = gated(r.Flow, l.Living())
		return len(waiting) == 6 && len(l.Of(Ended)) > 4
	})
	if len(on(waiting, 0)) > 2 {
		return 0
	}
	return 1
}

// on gives the entries of one agent's tasks.
func on(l Ledger, agent int) Ledger {
	var some Ledger
	for _, e := range l {
		if e.Agent == agent {
			some = append(some, e)
		}
	}
	return some
}

// An agent comes back when its tasks have been started elsewhere: the old ones must
// be killed, and the new ones go on.
func TestAgentReturns(t *testing.T) { ways(t, testAgentReturns) }

func testAgentReturns(t *testing.T, as way) {
	w := New(t, Config{})
	r := w.Start(as(Standard()))
	agent := r.busiest()
	old := on(gated(r.Flow, r.Ledger().Living()), agent)
	w.LoseAgent(agent)
	r.Await("its tasks are not started elsewhere", func(l Ledger) bool {
		return len(on(gated(r.Flow, l.Living()), 1-agent)) == 6
	})
	survive(t, old)
	w.ReturnAgent(agent)
	harness.Eventually(t, "the old tasks live on", func() bool {
		return len(on(gated(r.Flow, r.Ledger().Living()), agent)) == 0
	})
	survive(t, on(gated(r.Flow, r.Ledger().Living()), 1-agent))
	r.Open()
	w.Verify(r)
}

// An agent dies and recovers its executors: nothing is lost and nothing is started
// again.
func TestRestartAgents(t *testing.T) {
	t.Parallel()
	w := New(t, Config{})
	r := w.Start(Standard())
	r.UnderWay(4, 8)
	living := gated(r.Flow, r.Ledger().Living())
	for agent := range w.cfg.Agents {
		w.KillAgent(agent)
	}
	for agent := range w.cfg.Agents {
		w.RestartAgent(agent)
	}
	w.do(w.Cluster.AwaitAgents(t.Context()))
	survive(t, living)
	r.Open()
	w.Verify(r)
	survived(t, r, living)
}

// survived checks that the tasks ended as the processes that they were.
func survived(t *testing.T, r *Run, tasks Ledger) {
	t.Helper()
	ended := map[Partition]int{}
	for _, e := range r.Ledger().Of(Ended) {
		ended[e.Partition] = e.PID
	}
	for _, e := range tasks {
		if ended[e.Partition] != e.PID {
			t.Errorf("process %d ended it, not the one of %s", ended[e.Partition], e)
		}
	}
}
