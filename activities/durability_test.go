package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

// Losses and generations (rules 1 and 8)

// The framework drops a placement that could not be prepared either: the update
// is about the old generation, whatever has become of the pack meanwhile.
func TestDroppedPlacementThatIsSubmittedAgainAlready(t *testing.T) {
	store := &brokenStore{}
	r := newRig(t, withBrokenStore(store), func(c *Config) { c.RetryPause = 30 * time.Millisecond })
	in := input(0)
	in.Attempt = 2 // looks for a checkpoint
	r.deliver(in, api.Details{}, 1)
	r.until("submit 0.1")
	store.down.Store(true)
	if launch := r.offer(0, 1); launch.Err == nil {
		t.Fatal("launched")
	}
	r.update(0, 1, mesos.Dropped, func(u *mesos.Update) { u.Source, u.UUID = mesos.FrameworkSource, nil })
	r.until("submit 0.2")
	store.down.Store(false)
	if launch := r.offer(0, 2); launch.Err != nil {
		t.Fatal(launch.Err)
	}
	r.after(100 * time.Millisecond)
	r.never("submit 0.3")
}

func TestNoLeadershipMeansOneSubmissionForEachTry(t *testing.T) {
	r := newRig(t, func(c *Config) { c.RetryPause = time.Hour })
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.set(func() { r.leading = false })
	// The entry tries again by itself; a DROPPED would make it two.
	if launch := r.offer(0, 1); launch.Err == nil || errors.Is(launch.Err, context.Canceled) {
		t.Errorf("answer %v", launch.Err)
	}
}

func TestAtMostOnce(t *testing.T) {
	once := func(partitions ...int) api.LaunchInput {
		in := input(partitions...)
		in.AtMostOnce = true
		return in
	}
	t.Run("what only waited is placed by the next leader", func(t *testing.T) {
		first := newRig(t)
		first.deliver(once(0), api.Details{}, 1)
		first.until("submit 0.1")
		var details api.Details
		first.look(func(e *entry) { details = e.details() })
		next := newRig(t)
		next.deliver(once(0), details, 2)
		next.until("submit 0.2")
	})
	t.Run("what was lost is not placed by the next leader", func(t *testing.T) {
		first := newRig(t)
		first.deliver(once(0, 1), api.Details{}, 1)
		for i := range 2 {
			first.until(fmt.Sprintf("submit %d.1", i))
			first.offer(i, 1)
		}
		first.update(0, 1, mesos.FailedState, executorTerminated)
		first.until("ack 0.1 FAILED")
		next := newRig(t)
		next.deliver(once(0, 1), *first.details, 2)
		next.update(1, 1, mesos.Finished, withResults(ok(1)))
		next.isHeld(0, 1)
		next.never("submit 0.1")
		next.never("submit 0.2")
	})
	forgotten := func(u *mesos.Update) { u.Source, u.Reason = "AGENT", "RECONCILIATION" }
	t.Run("what its agent has forgotten is placed again if it was not seen running", func(t *testing.T) {
		r := newRig(t)
		r.deliver(once(0), api.Details{}, 1)
		r.until("submit 0.1")
		r.offer(0, 1)
		r.update(0, 1, mesos.Dropped, forgotten)
		r.until("submit 0.2")
	})
	t.Run("and is not if it was", func(t *testing.T) {
		r := newRig(t)
		r.deliver(once(0), api.Details{}, 1)
		r.until("submit 0.1")
		r.offer(0, 1)
		r.update(0, 1, mesos.Running, fromMaster)
		r.update(0, 1, mesos.Dropped, forgotten)
		r.isHeld(0, 1)
		r.never("submit 0.2")
	})
}

// Results (rules 4 and 5)

func TestResultsThatOnlyTheUpdateHas(t *testing.T) {
	t.Run("of a range are acknowledged with the completion", func(t *testing.T) {
		r := newRig(t)
		r.deliver(input(0, 1), api.Details{}, 1)
		for i := range 2 {
			r.until(fmt.Sprintf("submit %d.1", i))
			r.offer(i, 1)
		}
		r.update(0, 1, mesos.Finished, onlyHere(ok(0)))
		r.update(0, 1, mesos.Finished, onlyHere(ok(0))) // the agent tells it again
		r.look(func(e *entry) { e.heartbeat() })
		r.never("ack 0.1 FINISHED")
		if got := r.details.Tasks; len(got) != 2 {
			t.Errorf("the next leader would hear of %+v only", got)
		}
		r.update(1, 1, mesos.Finished, withResults(ok(1)))
		r.until("ack 0.1 FINISHED")
		r.before("complete 7", "ack 0.1 FINISHED")
		r.never("kill 0.1")
		if n := r.count("ack 0.1 FINISHED"); n != 1 {
			t.Errorf("acknowledged %d times", n)
		}
	})
	t.Run("are waited for when the end is reconciled", func(t *testing.T) {
		r := newRig(t)
		r.deliver(input(0), held(1, mesos.Running, 0), 2)
		r.until("reconcile 0.1 on a1")
		r.update(0, 1, mesos.Finished, fromMaster)
		r.untilN("reconcile 0.1 on a1", 2)
		r.never("submit 0.2")
		r.update(0, 1, mesos.Finished, onlyHere(ok(0)))
		r.until("complete 7")
	})
}

// A terminal update that comes again while Temporal is away.
func TestRepeatedEndWhileTemporalIsAway(t *testing.T) {
	r := newRig(t, func(c *Config) { c.RetryPause = 10 * time.Millisecond })
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.set(func() { r.completeErr = errors.New("unavailable") })
	for range 20 {
		r.update(0, 1, mesos.Finished, withResults(ok(0)))
	}
	r.settle()
	before := r.count("complete 7 refused")
	r.after(55 * time.Millisecond)
	if n := r.count("complete 7 refused") - before; n > 10 {
		t.Errorf("%d tries in the time of five", n)
	}
	r.set(func() { r.completeErr = nil })
	r.until("ack 0.1 FINISHED")
	r.eventually("the entry is forgotten", func() bool { return len(r.h.all()) == 0 })
	if n := r.count("ack 0.1 FINISHED"); n != 1 {
		t.Errorf("acknowledged %d times", n)
	}
}

func TestOnlyALeaderCompletes(t *testing.T) {
	r := newRig(t)
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.set(func() { r.leading = false })
	r.update(0, 1, mesos.Finished, withResults(ok(0)))
	r.never("complete 7")
	r.set(func() { r.leading = true })
	r.until("complete 7")
}

// Activities that nobody hands over again (rule 7)

func TestLapsedActivityHearsOfItsEnd(t *testing.T) {
	r := newRig(t, func(c *Config) { c.HeartbeatTimeout = 20 * time.Millisecond })
	details := held(2, mesos.Running, 0) // one runs, the other waits
	r.set(func() { r.details = &details })
	if err := r.h.TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.until("released: true")
	r.update(0, 1, mesos.Running, fromMaster)
	r.settle()
	r.set(func() { r.status = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED })
	r.until("kill 0.1")
	r.eventually("the entry is forgotten", func() bool { return len(r.h.all()) == 0 })
	if slices.ContainsFunc(r.all(), func(l string) bool { return strings.HasPrefix(l, "beat") }) {
		t.Errorf("a heartbeat keeps the old attempt alive: %v", r.all())
	}
}

func TestLapsedActivityAcknowledges(t *testing.T) {
	r := newRig(t)
	details := held(3, mesos.Running, 0, 1)
	r.set(func() { r.details = &details })
	if err := r.h.TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.until("released: true")
	r.storeResult(0, 1, ok(0))
	r.update(0, 1, mesos.Finished, withResults(ok(0)))
	r.until("ack 0.1 FINISHED")
}

func TestKillWhileStorageIsDown(t *testing.T) {
	store := &brokenStore{}
	store.down.Store(true)
	r := newRig(t, withBrokenStore(store))
	r.deliver(input(0, 1), held(2, mesos.Running, 0), 2)
	r.eventually("a look for results", func() bool { return store.tries.Load() > 0 })
	r.killAll()
	r.until("kill 0.1")
	store.down.Store(false)
	r.update(0, 1, mesos.KilledState, withResults(tasklet.Result{Outcome: tasklet.Killed}))
	r.until("complete 7")
	if got := r.result.Results; len(got) != 2 || got[1].Outcome != tasklet.Killed {
		t.Errorf("results %+v", got)
	}
}

// Back-pressure (rule 10)

func TestActivitiesBetweenAttemptsLeaveRoomToPoll(t *testing.T) {
	limit := func(c *Config) { c.MaxWaiting = 1 }
	t.Run("taken over without anything in Mesos", func(t *testing.T) {
		r := newRig(t, limit)
		details := held(1, mesos.Running)
		r.set(func() { r.details = &details })
		if err := r.h.TakeOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.until("released: true")
		r.settle()
		if r.h.Slots().TryReserveSlot(nil) == nil {
			t.Error("the leader does not poll for what it has asked for")
		}
	})
	t.Run("in backoff", func(t *testing.T) {
		r := newRig(t, limit)
		r.deliver(input(0), api.Details{}, 1)
		r.until("submit 0.1")
		r.settle()
		if r.h.Slots().TryReserveSlot(nil) != nil {
			t.Error("a slot beyond the backlog")
		}
		r.set(func() { r.beatErr, r.state = notFound, enumspb.PENDING_ACTIVITY_STATE_SCHEDULED })
		r.look(func(e *entry) { e.heartbeat() })
		if _, err := r.h.Slots().ReserveSlot(t.Context(), nil); err != nil {
			t.Error(err)
		}
	})
}

func TestPlacementOfAForgottenActivityLeavesNothing(t *testing.T) {
	r := newRig(t)
	r.set(func() { r.leading = false })
	launch := r.h.Placed(t.Context(), mesos.Placement{Agent: mesos.Agent{ID: "a1"}, Tasks: []mesos.Task{{ID: r.id(0, 1)}}})
	if launch[0].Err == nil {
		t.Error("launched")
	}
	if n := len(r.h.all()); n != 0 {
		t.Errorf("%d entries", n)
	}
}

func TestHeartbeatsDoNotPileUp(t *testing.T) {
	r := newRig(t, func(c *Config) { c.HeartbeatTimeout = 300 * time.Millisecond })
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	e := r.h.entry(r.key)
	r.eventually("a heartbeat", func() bool { return r.count("beat") > 0 })
	held, release := make(chan struct{}), make(chan struct{})
	e.post(func() { close(held); <-release })
	<-held
	ticks := time.After(350 * time.Millisecond) // more than ten looks, three heartbeats due
	<-ticks
	e.mu.Lock()
	waiting := len(e.mailbox)
	e.mu.Unlock()
	close(release)
	if waiting > 5 {
		t.Errorf("%d heartbeats wait behind one slow call", waiting)
	}
}
