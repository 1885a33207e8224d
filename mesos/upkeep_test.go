package mesos

import (
	"context"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

func TestKillIsRepeated(t *testing.T) {
	for _, end := range []mesos.TaskState{mesos.TASK_KILLED, mesos.TASK_UNKNOWN, mesos.TASK_GONE} {
		t.Run(end.String(), func(t *testing.T) {
			r, m, s := connect(t, nil)
			s.send(statusEvent("t1", "a1", "x", mesos.TASK_RUNNING, "u1"))
			get(t, r.handler.updates, "update")
			r.Kill(TaskRef{TaskID: "t1"}, 3*time.Second)
			for range 3 {
				c := m.want(scheduler.Call_KILL)
				if c.Kill.GetAgentID().GetValue() != "a1" || c.Kill.GetKillPolicy().GetGracePeriod().GetNanoseconds() != 3e9 {
					t.Errorf("kill is %v", c.Kill)
				}
			}
			s.send(statusEvent("t1", "a1", "x", mesos.TASK_KILLING, "u2"))
			get(t, r.handler.updates, "update")
			m.want(scheduler.Call_KILL) // KILLING is not the end
			s.send(statusEvent("t1", "a1", "x", end, ""))
			get(t, r.handler.updates, "update")
			drain(r, m)
			none(t, m.calls, "call after the end")
		})
	}
}

// drain takes all calls that were queued before it: they are sent one after the other.
func drain(r *rig, m *scripted) {
	r.t.Helper()
	if err := r.Send("a1", "x", []byte("end")); err != nil {
		r.t.Fatal(err)
	}
	m.until(scheduler.Call_MESSAGE)
}

func TestReconcileUntilAnswered(t *testing.T) {
	r, m, s := connect(t, func(c *Config) { c.Timings.ReconcileBatch = 2 })
	r.Reconcile(TaskRef{"t1", "a1"}, TaskRef{"t2", ""}, TaskRef{"t3", "a3"})
	asked := func(n int) map[string]string {
		out := make(map[string]string)
		for len(out) < n {
			c := m.want(scheduler.Call_RECONCILE)
			if len(c.Reconcile.Tasks) > 2 {
				t.Errorf("%d tasks in one call", len(c.Reconcile.Tasks))
			}
			for _, x := range c.Reconcile.Tasks {
				out[x.TaskID.Value] = x.GetAgentID().GetValue()
			}
		}
		return out
	}
	for range 3 {
		if got := asked(3); got["t1"] != "a1" || got["t2"] != "" || got["t3"] != "a3" {
			t.Errorf("asked for %v", got)
		}
	}
	s.send(statusEvent("t1", "a1", "x", mesos.TASK_RUNNING, ""), statusEvent("t3", "a3", "", mesos.TASK_GONE, ""))
	get(t, r.handler.updates, "update")
	get(t, r.handler.updates, "update")
	r.Forget("t2")
	drain(r, m)
	none(t, m.calls, "call after all answers")
}

func TestResubscriptionAsksForAll(t *testing.T) {
	r, m, s := connect(t, nil)
	s.send(statusEvent("t1", "a1", "x", mesos.TASK_RUNNING, "u1"), statusEvent("t2", "a2", "x", mesos.TASK_UNREACHABLE, ""))
	get(t, r.handler.updates, "update")
	get(t, r.handler.updates, "update")
	r.Submit(testTask("waits", 1, 100))
	close(s.over)
	get(t, r.handler.disconnected, "Disconnected")
	s = get(t, m.streams, "second SUBSCRIBE")
	s.send(subscribedEvent())
	if c := m.want(scheduler.Call_RECONCILE); len(c.Reconcile.Tasks) != 0 {
		t.Errorf("first reconciliation is explicit: %v", c)
	}
	s.send(statusEvent("t1", "a1", "x", mesos.TASK_RUNNING, ""))
	get(t, r.handler.updates, "update")
	eventually(t, "only t2 is asked for", func() bool {
		c := m.want(scheduler.Call_RECONCILE)
		return len(c.Reconcile.Tasks) == 1 && c.Reconcile.Tasks[0].TaskID.Value == "t2" && c.Reconcile.Tasks[0].GetAgentID().GetValue() == "a2"
	})
	s.send(offersEvent(testOffer("o9", "a1", 4, 400)))
	if got := taskIDs(launches(m.until(scheduler.Call_ACCEPT))); got != "[waits]" {
		t.Errorf("launched %s: the queue is to outlive a subscription", got)
	}
}

func TestLaunchWithoutNewsIsAskedFor(t *testing.T) {
	r, m, s := connect(t, func(c *Config) { c.Timings.Staging = 20 * time.Millisecond })
	r.Submit(testTask("t1", 1, 100))
	s.send(offersEvent(testOffer("o1", "a1", 4, 400)))
	m.want(scheduler.Call_ACCEPT)
	if c := m.want(scheduler.Call_RECONCILE); len(c.Reconcile.Tasks) != 1 || c.Reconcile.Tasks[0].GetAgentID().GetValue() != "a1" {
		t.Errorf("asked for %v", c.Reconcile.Tasks)
	}
}

func TestImplicitReconciliationIsRepeated(t *testing.T) {
	_, m, _ := connect(t, func(c *Config) { c.Timings.Implicit = 10 * time.Millisecond })
	for range 3 {
		if c := m.want(scheduler.Call_RECONCILE); len(c.Reconcile.Tasks) != 0 {
			t.Errorf("asked for %v", c.Reconcile.Tasks)
		}
	}
}

// A task that Mesos has lost sight of is not in its answers: it is asked for by name.
func TestTaskMissingFromReconciliationIsAskedFor(t *testing.T) {
	_, m, s := connect(t, func(c *Config) { c.Timings.Implicit = 400 * time.Millisecond })
	s.send(statusEvent("t1", "a1", "x", mesos.TASK_RUNNING, "u1"), statusEvent("t2", "a1", "x", mesos.TASK_RUNNING, "u2"))
	named := map[string]bool{}
	for !named["t2"] {
		c := m.until(scheduler.Call_RECONCILE)
		for _, x := range c.Reconcile.Tasks {
			named[x.TaskID.Value] = true
		}
		s.send(statusEvent("t1", "a1", "x", mesos.TASK_RUNNING, "")) // as Mesos answers for what it has
	}
	if named["t1"] {
		t.Error("a task is asked for that was in the answer")
	}
}

func TestIdleExecutorIsShutDown(t *testing.T) {
	r, m, s := connect(t, func(c *Config) { c.ExecutorIdle = 50 * time.Millisecond })
	r.Submit(testTask("t1", 1, 100))
	s.send(offersEvent(testOffer("o1", "a1", 4, 400)))
	x := launches(m.want(scheduler.Call_ACCEPT))[0].Executor.ExecutorID.Value
	none(t, m.calls, "call while the task lives")

	s.send(statusEvent("t1", "a1", x, mesos.TASK_FINISHED, "u1"))
	u := get(t, r.handler.updates, "update")
	r.Acknowledge(u)
	m.want(scheduler.Call_ACKNOWLEDGE)
	if c := m.want(scheduler.Call_SHUTDOWN); c.Shutdown.ExecutorID.Value != x || c.Shutdown.AgentID.Value != "a1" {
		t.Errorf("shut down %v", c.Shutdown)
	}

	// No task may follow the SHUTDOWN until the executor's end is known.
	r.Submit(testTask("t2", 1, 100))
	s.send(offersEvent(testOffer("o2", "a1", 4, 400, x)))
	none(t, m.calls, "launch to an executor that is shutting down")
	s.send(failureEvent("a1", x))
	if got := get(t, r.handler.lost, "ExecutorLost"); got != "a1/"+x {
		t.Errorf("lost %s", got)
	}
	if got := taskIDs(launches(m.want(scheduler.Call_ACCEPT))); got != "[t2]" {
		t.Errorf("launched %s", got)
	}
}

func TestNoShutdownWhileALaunchIsOnItsWay(t *testing.T) {
	r, m, s := connect(t, func(c *Config) { c.ExecutorIdle = 20 * time.Millisecond })
	release := make(chan struct{})
	r.handler.placed = func(_ context.Context, p Placement) []Launch {
		if p.Tasks[0].ID == "t2" {
			<-release
		}
		return launchAll(p)
	}
	r.Submit(testTask("t1", 1, 100))
	s.send(offersEvent(testOffer("o1", "a1", 4, 400)))
	x := launches(m.want(scheduler.Call_ACCEPT))[0].Executor.ExecutorID.Value
	get(t, r.handler.placements, "Placed")
	r.Submit(testTask("t2", 1, 100))
	s.send(offersEvent(testOffer("o2", "a1", 4, 400, x)))
	if p := get(t, r.handler.placements, "Placed"); p.NewExecutor {
		t.Error("the second task starts another executor")
	}
	s.send(statusEvent("t1", "a1", x, mesos.TASK_FINISHED, "u1"))
	get(t, r.handler.updates, "update")
	none(t, m.calls, "call") // t2 is on its way, for thrice the idle time
	close(release)
	m.want(scheduler.Call_ACCEPT)
}

// An executor that only an offer tells of may have tasks that nobody knows yet.
func TestAdoptedExecutorIsAskedAboutFirst(t *testing.T) {
	r, m, s := connect(t, func(c *Config) { c.ExecutorIdle = 20 * time.Millisecond })
	s.send(offersEvent(testOffer("o1", "a1", 4, 400, "baas-old")))
	if c := m.want(scheduler.Call_RECONCILE); len(c.Reconcile.Tasks) != 0 {
		t.Errorf("asked for %v, want all", c.Reconcile.Tasks)
	}
	none(t, m.calls, "SHUTDOWN before the answers")
	// Time passes.
	r.mu.Lock()
	r.link.implicit = r.link.implicit.Add(-settle)
	r.table.agents["a1"].executors["baas-old"].seen = r.link.implicit.Add(-time.Second)
	r.mu.Unlock()
	if c := m.want(scheduler.Call_SHUTDOWN); c.Shutdown.ExecutorID.Value != "baas-old" {
		t.Errorf("shut down %v", c.Shutdown)
	}
}
