package mesos

import (
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"github.com/baas-batch/baas/mesos/placement"
)

// A loss doubles the time if something was launched since the last one: tasks
// that are lost together count once.
func TestBlameDoublesAndForgets(t *testing.T) {
	limits := Timings{AvoidMin: time.Second, AvoidMax: 8 * time.Second, AvoidWindow: time.Minute}
	tab := newTable()
	now := epoch
	blame := func(want time.Duration) {
		t.Helper()
		tab.blame("a", "why", now, limits)
		if got := tab.agents["a"].blame.until.Sub(now); got != want {
			t.Errorf("avoided for %s, want %s", got, want)
		}
	}
	launch := func(id string) {
		tab.place(waitingTask(id, "o"), "a", now)
		tab.launched(id, now)
	}
	blame(time.Second)
	now = now.Add(400 * time.Millisecond)
	blame(600 * time.Millisecond) // of the same event
	now = now.Add(700 * time.Millisecond)
	blame(time.Second) // launched before the first loss, lost later
	for _, want := range []time.Duration{2, 4, 8, 8, 8} {
		now = now.Add(20 * time.Second)
		launch("t" + now.String())
		now = now.Add(time.Second)
		blame(want * time.Second)
	}
	now = tab.agents["a"].blame.until.Add(limits.AvoidWindow + 1)
	launch("late")
	blame(time.Second)
}

func TestFinishedTaskClearsItsAgent(t *testing.T) {
	limits := Timings{}.withDefaults()
	tab := newTable()
	tab.blame("a", "why", epoch, limits)
	if tab.finished("a", epoch.Add(-time.Second)) || tab.finished("a", time.Time{}) || tab.finished("b", epoch.Add(time.Second)) {
		t.Error("cleared by a task from before the loss, by one that was adopted, or by another agent's")
	}
	if len(tab.avoided) != 1 {
		t.Fatalf("avoided: %v", tab.avoided)
	}
	if !tab.finished("a", epoch.Add(time.Second)) || len(tab.avoided) != 0 || tab.agents["a"].blame != (blame{}) {
		t.Errorf("not cleared: %+v", tab.agents["a"])
	}
}

// The patience counts from the last loss, and only where there is no other agent.
func TestLastResort(t *testing.T) {
	s := newScene(t)
	limits := s.cfg.Timings
	s.submit("t", "o", 0, 1, gb)
	w := s.queue.tasks["t"]
	s.agent("a", size(8, 8), size(8, 8))
	s.agent("small", size(0.5, 8), size(0.5, 8))
	if s.shunning(s.now).lastResort(w) {
		t.Error("last resort without anything avoided")
	}
	lost := epoch.Add(time.Hour) // the task has waited for long by then
	s.table.blame("a", "why", lost, limits)
	for _, c := range []struct {
		at   time.Duration
		want bool
	}{{0, false}, {limits.AvoidPatience - 1, false}, {limits.AvoidPatience, true}} {
		if got := s.shunning(lost.Add(c.at)).lastResort(w); got != c.want {
			t.Errorf("last resort %v after the loss: %v, want %v", c.at, got, c.want)
		}
	}
	s.agent("b", size(8, 8), size(0, 0)) // busy, but sound
	if s.shunning(lost.Add(time.Hour)).lastResort(w) {
		t.Error("last resort beside a sound agent")
	}
}

func TestNothingIsPlacedOnAnAvoidedAgent(t *testing.T) {
	r, m, s := connect(t, func(c *Config) {
		c.Timings.AvoidMin, c.Timings.AvoidPatience = 300*time.Millisecond, time.Hour
	})
	s.send(offersEvent(testOffer("o1", "bad", 4, 400), testOffer("o2", "good", 1.2, 400)))
	eventually(t, "offers", func() bool { return len(r.Agents()) == 2 })
	r.Blame("bad", "executor killed")
	r.Blame("bad", "executor killed")
	began := time.Now()
	if n := r.Metrics().Avoided.Load(); n != 1 || r.Metrics().Blames.Load() != 2 {
		t.Errorf("%d agents avoided", n)
	}
	r.Submit(testTask("t1", 1, 100))
	c := m.want(scheduler.Call_ACCEPT)
	if got := launches(c)[0].AgentID.Value; got != "good" {
		t.Errorf("launched on %s", got)
	}
	r.Submit(testTask("t2", 1, 100))
	c = m.want(scheduler.Call_ACCEPT) // when the time is over
	if got := launches(c)[0].AgentID.Value; got != "bad" || time.Since(began) < 250*time.Millisecond {
		t.Errorf("launched on %s after %v", got, time.Since(began))
	}
	for _, text := range []string{"an agent is avoided", "no longer avoided"} {
		if n := r.log.count(text); n != 1 {
			t.Errorf("%q is said %d times", text, n)
		}
	}
	// It fails again, is avoided for longer, and then a task that was launched there
	// since finishes.
	s.send(statusEvent("t1", "good", "x", mesos.TASK_FINISHED, "u1"))
	get(t, r.handler.updates, "update")
	r.Blame("bad", "executor killed")
	for _, a := range r.Agents() {
		if want := map[string]int{"bad": 2}[a.ID]; a.Losses != want || a.AvoidedUntil.IsZero() == (want > 0) {
			t.Errorf("agent %+v", a)
		}
	}
	r.Submit(testTask("t3", 2, 100))
	s.send(offersEvent(testOffer("o3", "bad", 3, 400)))
	none(t, m.calls, "call for an agent that is avoided")
}

func TestLastResortIsTaken(t *testing.T) {
	r, m, s := connect(t, func(c *Config) {
		c.Timings.AvoidMin, c.Timings.AvoidPatience = time.Hour, 150*time.Millisecond
		c.Timings.Staging = 40 * time.Millisecond // looks through the tables as often
	})
	s.send(offersEvent(testOffer("o1", "only", 4, 400)))
	eventually(t, "offer", func() bool { return len(r.Agents()) == 1 })
	r.Blame("only", "disk full")
	began := time.Now()
	r.Submit(testTask("t1", 1, 100))
	c := m.until(scheduler.Call_ACCEPT)
	if waited := time.Since(began); len(launches(c)) != 1 || waited < 150*time.Millisecond {
		t.Errorf("launched %s after %v", taskIDs(launches(c)), waited)
	}
	s.send(statusEvent("t1", "only", launches(c)[0].Executor.ExecutorID.Value, mesos.TASK_FINISHED, "u1"))
	get(t, r.handler.updates, "update")
	if n := r.Metrics().Avoided.Load(); n != 0 || r.log.count("no longer avoided") != 1 {
		t.Errorf("%d agents avoided after a task has finished there", n)
	}
}

func TestBlameOfNobody(t *testing.T) {
	s := newScene(t)
	s.Blame("", "dropped before it had an agent")
	if len(s.table.agents)+len(s.table.avoided) != 0 {
		t.Errorf("agents %v", s.table.agents)
	}
	s.Blame("never-seen", "why")
	if a := s.table.agents["never-seen"]; a.capacity() != (placement.Vector{}) || s.table.total() != (placement.Vector{}) {
		t.Errorf("it counts as capacity: %+v", a)
	}
}
