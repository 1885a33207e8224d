package activities

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

// take hands activity id over, as Temporal does.
func (r *rig) take(id, owner string, priority int) error {
	r.Helper()
	in := input(0)
	in.Owner, in.Priority = owner, priority
	_, err := r.h.Take(Attempt{
		Key:   tasklet.ActivityKey{WorkflowID: r.key.WorkflowID, RunID: r.key.RunID, ActivityID: id},
		Input: in, Token: []byte(id), Number: 1,
	})
	r.eventually("that the backlog is at rest", r.h.backlog.atRest)
	return err
}

// atRest tells whether nothing arrives or is about to be given back.
func (b *backlog) atRest() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for e := range b.waiting {
		if e.yielding {
			return false
		}
	}
	return b.arriving == 0
}

// fill hands over as much as the leader takes of one owner and priority.
func (r *rig) fill(owner string, priority int) (n int) {
	r.Helper()
	for {
		err := r.take(fmt.Sprintf("%s%d-%d", owner, priority, n), owner, priority)
		if !errors.Is(err, activity.ErrResultPending) {
			var back *temporal.ApplicationError
			if !errors.As(err, &back) || back.Type() != handedBack || back.NonRetryable() || back.NextRetryDelay() != handBackPause {
				r.Fatalf("handed back with %v", err)
			}
			return n
		}
		if n++; n > 1000 {
			r.Fatal("the backlog has no bound")
		}
	}
}

func (r *rig) eventuallyLoad(want Load) {
	r.Helper()
	r.eventually(fmt.Sprintf("a load of %+v, not %+v", want, r.h.Load()), func() bool { return r.h.Load() == want })
}

// waitingOf gives the activities of an owner whose tasks wait with the framework.
func (r *rig) waitingOf(owner string) (ids []string) {
	r.mu2.Lock()
	defer r.mu2.Unlock()
	for id, t := range r.tasks {
		if t.Owner == owner {
			key, err := tasklet.ParseTaskID(id)
			if err != nil {
				r.Error(err)
			}
			ids = append(ids, key.ActivityID)
		}
	}
	return ids
}

func TestTheBacklogIsBounded(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxWaiting = 20 })
	if n := r.fill("huge", 3); n != 25 {
		t.Errorf("%d activities taken over, a bound of 20 and a quarter more allows 25", n)
	}
	r.eventuallyLoad(Load{Waiting: 25})
	if n := r.fill("huge", 4); n != 0 {
		t.Errorf("%d activities of a lower priority taken over", n)
	}
	if n := r.fill("small", 4); n != 0 {
		t.Errorf("%d activities of another owner and a lower priority taken over", n)
	}
}

func TestAnotherOwnerIsTakenInstead(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxWaiting = 20 })
	r.fill("huge", 3)
	if n := r.fill("small", 3); n != 12 {
		t.Errorf("%d of the small owner, a fair share of 25 is 12", n)
	}
	r.eventuallyLoad(Load{Waiting: 25})
	r.untilN("released: true", 12)
	huge, small := r.waitingOf("huge"), r.waitingOf("small")
	if len(huge) != 13 || len(small) != 12 {
		t.Errorf("%d of the huge owner wait and %d of the small one", len(huge), len(small))
	}
	for _, id := range huge {
		if n := strings.TrimPrefix(id, "huge3-"); len(n) == 2 && n > "12" {
			t.Errorf("%s, one of the newest, still waits", id)
		}
	}
	if n := r.fill("third", 3); n != 8 {
		t.Errorf("%d of a third owner, a fair share of 25 is 8", n)
	}
}

func TestAHigherPriorityIsTakenInstead(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxWaiting = 20 })
	r.fill("huge", 0) // not given: the default
	if n := r.fill("huge", 1); n != 25 {
		t.Errorf("%d of the highest priority", n)
	}
	r.untilN("released: true", 25)
	if n := r.fill("small", 2); n != 0 {
		t.Errorf("%d taken instead of higher priorities", n)
	}
}

// What has a place does not count, nor can it be given back.
func TestWhatIsPlacedLeavesRoom(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxWaiting = 4; c.MaxTasks = 7 })
	if n := r.fill("huge", 3); n != 5 {
		t.Fatalf("%d taken over", n)
	}
	r.eventuallyLoad(Load{Waiting: 5})
	for i := range 3 {
		r.placeOf(fmt.Sprintf("huge3-%d", i))
	}
	r.eventuallyLoad(Load{Waiting: 2, Placed: 3})
	var permits int
	for r.h.Slots().TryReserveSlot(nil) != nil {
		permits++
	}
	if permits != 2 {
		t.Errorf("%d polls, there is room for 2", permits)
	}
	for _, id := range []string{"more-1", "more-2"} {
		if err := r.take(id, "huge", 3); !errors.Is(err, activity.ErrResultPending) {
			t.Error(err)
		}
	}
	r.eventuallyLoad(Load{Waiting: 4, Placed: 3})
	if _, full := r.h.backlog.room(); !full {
		t.Error("the bound of all tasks is not seen")
	}
}

// placeOf gives the only task of an activity a place.
func (r *rig) placeOf(activityID string) {
	r.Helper()
	id := tasklet.TaskID{WorkflowID: r.key.WorkflowID, RunID: r.key.RunID, ActivityID: activityID, Generation: 1}.String()
	r.mu2.Lock()
	task := r.tasks[id]
	delete(r.tasks, id)
	r.mu2.Unlock()
	if got := r.h.Placed(r.Context(), mesos.Placement{Agent: mesos.Agent{ID: "a1"}, Tasks: []mesos.Task{task}}); got[0].Err != nil {
		r.Fatal(got[0].Err)
	}
}

// An activity that was given back is a new one when it comes again.
func TestWhatWasGivenBackComesAgain(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxWaiting = 1 })
	if err := r.take("first", "huge", 3); !errors.Is(err, activity.ErrResultPending) {
		t.Fatal(err)
	}
	r.eventuallyLoad(Load{Waiting: 1})
	if err := r.take("urgent", "huge", 1); !errors.Is(err, activity.ErrResultPending) {
		t.Fatal(err)
	}
	r.until("released: true")
	r.eventuallyLoad(Load{Waiting: 1})
	r.placeOf("urgent")
	r.eventuallyLoad(Load{Placed: 1})
	if err := r.take("first", "huge", 3); !errors.Is(err, activity.ErrResultPending) {
		t.Fatal(err)
	}
	r.eventuallyLoad(Load{Waiting: 1, Placed: 1})
	r.placeOf("first")
	r.eventuallyLoad(Load{Placed: 2})
}

// released is a SlotReleaseInfo.
type released struct {
	worker.SlotReleaseInfo
	permit *worker.SlotPermit
}

func (i released) Permit() *worker.SlotPermit { return i.permit }

func TestProbesGoOutWhileTheBacklogIsFull(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxWaiting = 1 })
	s := r.h.Slots()
	asked := make(chan int, 100)
	s.pace = func(quiet int) time.Duration {
		asked <- quiet
		return time.Millisecond
	}
	r.fill("huge", 3)
	r.eventuallyLoad(Load{Waiting: 1})
	last := func() (quiet int) {
		for {
			select {
			case quiet = <-asked:
			default:
				return quiet
			}
		}
	}
	probeFor := func() *worker.SlotPermit {
		t.Helper()
		last()
		permit, err := s.ReserveSlot(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if s.TryReserveSlot(nil) != nil {
			t.Fatal("two probes at a time")
		}
		return permit
	}
	// fill has ended with one that was handed back.
	permit := probeFor()
	if got := last(); got != 1 {
		t.Errorf("%d polls in vain so far", got)
	}
	if err := r.take("more", "huge", 3); errors.Is(err, activity.ErrResultPending) {
		t.Fatal("taken over")
	}
	s.ReleaseSlot(released{permit: permit})
	permit = probeFor()
	if got := last(); got != 2 {
		t.Errorf("%d polls in vain so far", got)
	}
	if err := r.take("urgent", "huge", 1); !errors.Is(err, activity.ErrResultPending) {
		t.Fatal(err)
	}
	s.ReleaseSlot(released{permit: permit})
	permit = probeFor()
	if got := last(); got != 0 {
		t.Errorf("%d polls in vain after one that was not", got)
	}
	s.ReleaseSlot(released{permit: permit})
}

func TestProbesSlowDown(t *testing.T) {
	var last time.Duration
	for quiet := range 100 {
		pace := probePace(quiet)
		if pace < last || pace < probeMin || pace > probeMax {
			t.Fatalf("%v after %d in vain, before that %v", pace, quiet, last)
		}
		last = pace
	}
	if last != probeMax {
		t.Errorf("at last %v", last)
	}
}

func TestHeartbeatsOfTheYoungComeMoreOften(t *testing.T) {
	r := newRig(t, func(c *Config) { c.HeartbeatTimeout = 5 * time.Minute })
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	for _, c := range []struct{ age, want time.Duration }{
		{0, youngPace}, {time.Minute, 30 * time.Second}, {time.Hour, 100 * time.Second},
	} {
		r.look(func(e *entry) {
			if got := e.pace(e.since.Add(c.age)); got != c.want {
				t.Errorf("at the age of %v every %v, want %v", c.age, got, c.want)
			}
		})
	}
}
