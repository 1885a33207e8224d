package activities

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// isHeld waits until Temporal knows that a task is held.
func (r *rig) isHeld(first, generation int) api.Details {
	r.Helper()
	var found api.Details
	r.eventually("a heartbeat that says HELD", func() bool {
		r.mu2.Lock()
		defer r.mu2.Unlock()
		if r.details == nil {
			return false
		}
		found = *r.details
		for _, t := range found.Tasks {
			if t.First == first && t.Generation == generation && t.State == "HELD" && t.Held != nil {
				return true
			}
		}
		return false
	})
	r.never("complete 7")
	return found
}

func once(partitions ...int) api.LaunchInput {
	in := input(partitions...)
	in.AtMostOnce = true
	return in
}

// lost lets a task be lost as after "framework removed", so that it is held.
func (r *rig) lost(in api.LaunchInput) api.Details {
	r.Helper()
	r.deliver(in, held(len(in.Partitions), mesos.Running, 0), 2)
	r.until("reconcile 0.1 on a1")
	r.update(0, 1, mesos.Gone, fromMaster)
	r.look(func(e *entry) { e.heartbeat() }) // it would come within a second
	return r.isHeld(0, 1)
}

func (r *rig) releaseInput(as api.ReleaseAs) api.ReleaseInput {
	return api.ReleaseInput{
		WorkflowID: r.key.WorkflowID, RunID: r.key.RunID, Prefix: stepPrefix,
		ReleaseRequest: api.ReleaseRequest{
			Activity: r.key.ActivityID, Step: "work", Generation: 1, As: as, By: "ann", Reason: "looked at the journal",
		},
	}
}

func (r *rig) release(as api.ReleaseAs) {
	r.Helper()
	if err := r.h.ReleaseHeld(r.Context(), r.releaseInput(as)); err != nil {
		r.Fatal(err)
	}
}

// refuses wants an error of type NotHeld for a release.
func (r *rig) refuses(as api.ReleaseAs, why string) {
	r.Helper()
	err := r.h.ReleaseHeld(r.Context(), r.releaseInput(as))
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() != api.ErrorNotHeld || !app.NonRetryable() || !strings.Contains(app.Message(), why) {
		r.Errorf("released as %s: %v, want %s with %q", as, err, api.ErrorNotHeld, why)
	}
}

// retried carries a release out as a later try of the activity.
func (r *rig) retried(as api.ReleaseAs) (err error) {
	r.Helper()
	r.look(func(e *entry) {
		e.adopt()
		err = e.releaseHeld(r.releaseInput(as), true)
	})
	return err
}

// Whatever Mesos says of a task that may have run once: it is not placed again, a
// person hears of it once and loudly, and the reason says what to do.
func TestLostAtMostOnceIsHeld(t *testing.T) {
	for _, state := range []mesos.State{mesos.Gone, mesos.GoneByOperator, mesos.Unknown, mesos.Lost} {
		t.Run(string(state), func(t *testing.T) {
			var log bytes.Buffer
			r := newRig(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			r.deliver(once(0), held(1, mesos.Running, 0), 2)
			r.until("reconcile 0.1 on a1")
			r.update(0, 1, state, fromMaster)
			d := r.isHeld(0, 1)
			r.update(0, 1, state, fromMaster) // told again
			r.never("submit 0.2")
			command := "baas release app-1-00000001/work#0 --as never-ran|ran|failed --reason TEXT"
			for _, want := range []string{"held for a person: ", "nobody knows whether or how far it ran", string(state), command} {
				if !strings.Contains(d.Reason, want) {
					t.Errorf("%q is not in: %s", want, d.Reason)
				}
			}
			if d.State != "held" || d.Done != 0 || d.Replaced != 0 || d.Tasks[0].Held.Since.IsZero() {
				t.Errorf("details %+v", d)
			}
			r.h.Close()
			if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), command) {
				t.Errorf("%d errors in the log:\n%s", n, log.String())
			}
		})
	}
}

// A drained agent has ended it: it may have done part of its work.
func TestDrainedAtMostOnceIsHeld(t *testing.T) {
	r := newRig(t)
	r.deliver(once(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.update(0, 1, mesos.Running)
	r.update(0, 1, mesos.KilledState, withResults(tasklet.Result{Outcome: tasklet.Killed}), func(u *mesos.Update) {
		u.Source, u.Reason = "AGENT", "AGENT_DRAINING"
	})
	r.isHeld(0, 1)
	r.never("submit 0.2")
}

// A range goes on beside what is held, which does not fill the backlog.
func TestHeldAmongOthers(t *testing.T) {
	r := newRig(t)
	details := held(3, mesos.Running, 0, 1)
	r.deliver(once(0, 1, 2), details, 2)
	r.until("reconcile 0.1 on a1")
	r.update(0, 1, mesos.Gone, fromMaster)
	r.isHeld(0, 1)
	r.until("submit 2.1")
	r.offer(2, 1)
	r.update(1, 1, mesos.Finished, withResults(ok(1)))
	r.update(2, 1, mesos.Finished, withResults(ok(2)))
	r.eventually("only one is left", func() bool { return r.h.Load() == Load{Placed: 1} })
	if d := r.isHeld(0, 1); d.State != "held" {
		t.Errorf("state %s", d.State)
	}
	r.release(api.ReleaseRan)
	r.until("complete 7")
	for i, got := range r.result.Results {
		if got.Partition != i || got.Outcome != tasklet.Succeeded {
			t.Errorf("result %+v", got)
		}
	}
}

func TestRelease(t *testing.T) {
	for as, outcome := range map[api.ReleaseAs]tasklet.Outcome{api.ReleaseRan: tasklet.Succeeded, api.ReleaseFailed: tasklet.Failed} {
		t.Run(string(as), func(t *testing.T) {
			r := newRig(t)
			r.lost(once(0))
			r.release(as)
			r.until("complete 7")
			r.never("submit 0.2")
			got := r.result.Results[0]
			if got.Outcome != outcome || got.Reason != "released as "+string(as)+" by ann: looked at the journal" || (got.ExitCode == 0) != (as == api.ReleaseRan) {
				t.Errorf("result %+v", got)
			}
			if r.result.Replaced != 0 {
				t.Errorf("replaced %d", r.result.Replaced)
			}
			r.refuses(as, "it has ended")
			if err := r.retried(as); err != nil {
				t.Errorf("a later try: %v", err)
			}
		})
	}
	t.Run("never-ran", func(t *testing.T) {
		r := newRig(t)
		r.lost(once(0))
		r.release(api.ReleaseNeverRan)
		r.until("submit 0.2")
		if d := *r.details; len(d.Tasks) != 0 || d.Generations[0] != 1 {
			t.Errorf("launched before Temporal knew: %+v", d)
		}
		if err := r.retried(api.ReleaseNeverRan); err != nil {
			t.Errorf("a later try: %v", err)
		}
		r.never("submit 0.3")
		r.refuses(api.ReleaseRan, "placed again")
		r.offer(0, 2)
		r.storeResult(0, 2, ok(0))
		r.update(0, 2, mesos.Finished, withResults(ok(0)))
		r.until("complete 7")
		if got := r.result; got.Results[0].Outcome != tasklet.Succeeded || got.Replaced != 1 {
			t.Errorf("result %+v", got)
		}
		if err := r.retried(api.ReleaseNeverRan); err != nil {
			t.Errorf("a later try after the end: %v", err)
		}
	})
	t.Run("lost again", func(t *testing.T) {
		r := newRig(t)
		r.lost(once(0))
		r.release(api.ReleaseNeverRan)
		r.until("submit 0.2")
		r.offer(0, 2)
		r.update(0, 2, mesos.FailedState, executorTerminated)
		r.isHeld(0, 2)
		r.refuses(api.ReleaseRan, "placed again") // the order is for the first task
		r.never("submit 0.3")
	})
}

func TestReleaseOfWhatIsNotHeld(t *testing.T) {
	t.Run("another step's", func(t *testing.T) {
		r := newRig(t)
		r.lost(once(0))
		in := r.releaseInput(api.ReleaseRan)
		in.Prefix = "runs/app/app-1-00000001/other/"
		if err := r.h.ReleaseHeld(t.Context(), in); err == nil || !strings.Contains(err.Error(), "another step") {
			t.Errorf("error %v", err)
		}
		r.isHeld(0, 1)
	})
	r := newRig(t)
	r.deliver(once(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.update(0, 1, mesos.Running)
	r.refuses(api.ReleaseFailed, "it is RUNNING")
	r.update(0, 1, mesos.Finished, withResults(ok(0)))
	r.until("complete 7")
	r.refuses(api.ReleaseNeverRan, "it has ended")
}

// Nothing is released that would not survive the leader.
func TestReleaseThatCannotBeNoted(t *testing.T) {
	t.Run("Temporal out of reach", func(t *testing.T) {
		r := newRig(t)
		r.lost(once(0))
		r.set(func() { r.beatErr = errAway })
		if err := r.h.ReleaseHeld(t.Context(), r.releaseInput(api.ReleaseNeverRan)); !errors.Is(err, errAway) {
			t.Errorf("error %v", err)
		}
		r.never("submit 0.2")
		r.set(func() { r.beatErr = nil })
		r.release(api.ReleaseNeverRan)
		r.until("submit 0.2")
	})
	t.Run("storage out of reach", func(t *testing.T) {
		store := &brokenStore{}
		r := newRig(t, withBrokenStore(store))
		r.lost(once(0))
		store.down.Store(true)
		if err := r.h.ReleaseHeld(t.Context(), r.releaseInput(api.ReleaseRan)); !errors.Is(err, errStoreDown) {
			t.Errorf("error %v", err)
		}
		store.down.Store(false)
		r.isHeld(0, 1)
		r.release(api.ReleaseRan)
		r.until("complete 7")
	})
	t.Run("leadership lost", func(t *testing.T) {
		r := newRig(t)
		r.lost(once(0))
		r.set(func() { r.leading = false })
		for _, as := range []api.ReleaseAs{api.ReleaseNeverRan, api.ReleaseRan, api.ReleaseFailed} {
			if err := r.h.ReleaseHeld(t.Context(), r.releaseInput(as)); !errors.Is(err, errNotLeader) {
				t.Errorf("as %s: %v", as, err)
			}
		}
		r.never("submit 0.2")
	})
}

// The next leader holds on: with the details alone, and with the input.
func TestHeldSurvivesTheLeader(t *testing.T) {
	first := newRig(t)
	details := first.lost(once(0))
	adopted := func(t *testing.T) *rig {
		r := newRig(t)
		r.set(func() { r.details = &details })
		if err := r.h.TakeOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.settle()
		return r
	}
	t.Run("with its input", func(t *testing.T) {
		r := newRig(t)
		r.deliver(once(0), details, 2)
		r.untilN("beat 0.1=HELD", 1)
		r.never("reconcile 0.1 on a1")
		r.never("submit 0.2")
		r.release(api.ReleaseNeverRan)
		r.until("submit 0.2")
	})
	for as, outcome := range map[api.ReleaseAs]tasklet.Outcome{api.ReleaseRan: tasklet.Succeeded, api.ReleaseFailed: tasklet.Failed} {
		t.Run("with details alone, "+string(as), func(t *testing.T) {
			r := adopted(t)
			r.until("beat 0.1=HELD")
			r.never("released: true") // no need of the input
			r.release(as)
			r.until("complete 7")
			if got := r.result.Results[0]; got.Outcome != outcome {
				t.Errorf("result %+v", got)
			}
		})
	}
	t.Run("with details alone, never-ran", func(t *testing.T) {
		r := adopted(t)
		r.release(api.ReleaseNeverRan)
		r.until("released: true") // the attempt, for the input
		if err := r.retried(api.ReleaseNeverRan); err != nil {
			t.Errorf("a later try: %v", err)
		}
		r.deliver(once(0), *r.details, 3)
		r.until("submit 0.2")
	})
	t.Run("without a word from TakeOver", func(t *testing.T) {
		r := newRig(t)
		r.set(func() { r.details = &details })
		r.release(api.ReleaseRan)
		r.until("complete 7")
	})
	t.Run("a leader that died after it had noted the release", func(t *testing.T) {
		r := newRig(t)
		object := releasedObject{tasklet.ResultObject{Results: []tasklet.Result{ok(0)}}, &api.ReleaseRequest{Activity: "7", Generation: 1, As: api.ReleaseRan}}
		if _, err := storage.PutJSON(t.Context(), r.store, api.ResultKey(stepPrefix, "7", 0, 1), object); err != nil {
			t.Fatal(err)
		}
		r.set(func() { r.details = &details })
		if err := r.h.TakeOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.until("complete 7")
		if err := r.retried(api.ReleaseRan); err != nil {
			t.Errorf("a later try: %v", err)
		}
		if err := r.retried(api.ReleaseFailed); err == nil {
			t.Error("what was released as ran is released as failed")
		}
	})
}

func TestKillEndsWhatIsHeld(t *testing.T) {
	r := newRig(t)
	r.lost(once(0))
	r.killAll()
	r.until("complete 7")
	if got := r.result.Results[0]; got.Outcome != tasklet.Killed || !strings.Contains(got.Reason, "on request; it was held for a person") {
		t.Errorf("result %+v", got)
	}
}

// A task that shows up after all needs no person any more.
func TestHeldTaskShowsUp(t *testing.T) {
	t.Run("alive", func(t *testing.T) {
		r := newRig(t)
		r.lost(once(0))
		r.update(0, 1, mesos.Running)
		r.until("beat 0.1=RUNNING")
		r.never("kill 0.1")
		r.refuses(api.ReleaseNeverRan, "it is RUNNING")
		r.update(0, 1, mesos.Finished, withResults(ok(0)))
		r.until("complete 7")
	})
	t.Run("ended", func(t *testing.T) {
		r := newRig(t)
		r.lost(once(0))
		r.update(0, 1, mesos.Finished, withResults(ok(0)))
		r.until("complete 7")
		if got := r.result.Results[0]; got.Outcome != tasklet.Succeeded {
			t.Errorf("result %+v", got)
		}
	})
	t.Run("its result lies in storage", func(t *testing.T) {
		r := newRig(t)
		r.lost(once(0))
		r.storeResult(0, 1, ok(0))
		r.refuses(api.ReleaseFailed, "its result has come after all")
		r.until("complete 7")
		if got := r.result.Results[0]; got.Outcome != tasklet.Succeeded {
			t.Errorf("result %+v", got)
		}
	})
}

// What is short of room keeps what the next leader needs: that the task is held.
func TestHeldHasRoomInDetails(t *testing.T) {
	d := held(60, mesos.Running)
	for i := range 60 {
		d.Tasks = append(d.Tasks, api.TaskDetail{
			First: i, Count: 1, Generation: 1, State: "HELD", Log: strings.Repeat("x", 50),
			Held: &api.HeldDetail{Since: time.Unix(int64(i)*12345, 0), Reason: strings.Repeat("because ", 50)},
		})
	}
	small, whole := fit(d, api.MaxDetails)
	if !whole || jsonSize(small) > api.MaxDetails {
		t.Fatalf("%d bytes, whole %v", jsonSize(small), whole)
	}
	if len(d.Tasks[0].Held.Reason) == 0 {
		t.Error("the entry's own reasons are cut")
	}
}
