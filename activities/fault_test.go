package activities

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

const stepPrefix = "runs/app/app-1-00000001/work/"

// held are details of an activity with a first placement of each of some
// partitions, on agent a1.
func held(total int, state mesos.State, firsts ...int) api.Details {
	d := api.Details{
		Prefix: stepPrefix, Total: total, Attempt: 1, Token: []byte("old"),
		Agents: []api.AgentDetail{{ID: "a1", Host: "host"}},
	}
	for _, first := range firsts {
		d.Tasks = append(d.Tasks, api.TaskDetail{First: first, Count: 1, Generation: 1, State: string(state)})
	}
	return d
}

// brokenStore is a store that can be out of reach.
type brokenStore struct {
	storage.Store
	down  atomic.Bool
	tries atomic.Int64
}

var errStoreDown = errors.New("storage is out of reach")

func (s *brokenStore) List(ctx context.Context, o storage.ListOptions) (storage.Page, error) {
	if s.down.Load() {
		s.tries.Add(1)
		return storage.Page{}, errStoreDown
	}
	return s.Store.List(ctx, o)
}

func (s *brokenStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	if s.down.Load() {
		s.tries.Add(1)
		return nil, storage.Info{}, errStoreDown
	}
	return s.Store.Get(ctx, key, offset, length)
}

func withBrokenStore(s *brokenStore) func(*Config) {
	return func(c *Config) { s.Store, c.Store = c.Store, s }
}

// eventually waits for a condition that no line of the journal tells of.
func (r *rig) eventually(what string, holds func() bool) {
	r.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			r.Fatalf("never: %s; journal:\n%v", what, r.all())
		}
		<-tick.C
	}
}

// look runs f among the events of the entry.
func (r *rig) look(f func(e *entry)) {
	r.Helper()
	done := make(chan struct{})
	e := r.h.entry(r.key)
	if !e.post(func() { f(e); close(done) }) {
		r.Fatal("the entry is gone")
	}
	<-done
	r.settle() // what f has posted is done, too
}

// after lets an entry's own timers of the given age fire first.
func (r *rig) after(pause time.Duration) {
	r.Helper()
	done := make(chan struct{})
	r.h.entry(r.key).later(pause, func() { close(done) })
	<-done
}

func (r *rig) ask(first int, executor string, q tasklet.Request) {
	r.Helper()
	data, err := json.Marshal(tasklet.Report{TaskID: r.id(first, 1), Request: &q})
	if err != nil {
		r.Fatal(err)
	}
	r.h.Message(mesos.Message{AgentID: "a1", ExecutorID: executor, Data: data})
}

func (r *rig) killAll() {
	r.Helper()
	in := api.KillInput{WorkflowID: r.key.WorkflowID, RunID: r.key.RunID, Reason: "on request"}
	if err := r.h.KillTasks(r.Context(), in); err != nil {
		r.Fatal(err)
	}
}

func executorTerminated(u *mesos.Update) { u.Source, u.Reason = "AGENT", "EXECUTOR_TERMINATED" }

// Only the executor's own word, of results that it could not store.
func onlyHere(results ...tasklet.Result) func(*mesos.Update) {
	return func(u *mesos.Update) { u.Data, _ = json.Marshal(tasklet.StatusData{Results: results}) }
}

// Adoption (rule 7)

func TestAdoptedTaskAsksForItsCheckpoint(t *testing.T) {
	r := newRig(t)
	details := held(1, mesos.Running, 0)
	r.set(func() { r.details = &details })
	if _, err := storage.PutBytes(t.Context(), r.store, api.CheckpointKey(stepPrefix, 0, 1, 1), []byte("x")); err != nil {
		t.Fatal(err)
	}
	r.update(0, 1, mesos.Running, fromMaster)
	r.ask(0, "x1", tasklet.Request{ID: "a", Role: tasklet.RoleRestore})
	r.until(`grant a error="" url=true`)
}

func TestStorageTroubleIsNoFinalAnswerToAnExecutor(t *testing.T) {
	store := &brokenStore{}
	r := newRig(t, withBrokenStore(store))
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	store.down.Store(true)
	r.ask(0, "x1", tasklet.Request{ID: "a", Role: tasklet.RoleRestore})
	r.never(`grant a error="there is no checkpoint" url=false`)
	store.down.Store(false)
	r.ask(0, "x1", tasklet.Request{ID: "b", Role: tasklet.RoleRestore})
	r.until(`grant b error="there is no checkpoint" url=false`)
}

func TestOnlyItsOwnExecutorIsSignedFor(t *testing.T) {
	r := newRig(t)
	r.deliver(input(0), held(1, mesos.Running, 0), 2)
	r.until("reconcile 0.1 on a1")
	r.ask(0, "other", tasklet.Request{ID: "a", Role: tasklet.RoleResult})
	r.never(`grant a error="" url=true`)
	r.update(0, 1, mesos.Running, fromMaster)
	r.ask(0, "x1", tasklet.Request{ID: "b", Role: tasklet.RoleResult})
	r.until(`grant b error="" url=true`)
}

// An executor that is not answered would keep its task, and its resources, for ever.
func TestExecutorsOfUnwantedTasksAreTold(t *testing.T) {
	t.Run("of a closed run", func(t *testing.T) {
		r := newRig(t)
		r.set(func() { r.status = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED })
		r.ask(0, "x1", tasklet.Request{ID: "a", Role: tasklet.RoleResult})
		r.until(`grant a error="nobody waits for this task any more" url=false`)
		r.eventually("the entry is forgotten", func() bool { return len(r.h.all()) == 0 })
	})
	t.Run("given up", func(t *testing.T) {
		r := newRig(t)
		in := input(0)
		in.UnreachableTimeout = time.Millisecond
		r.deliver(in, api.Details{}, 1)
		r.until("submit 0.1")
		r.offer(0, 1)
		r.update(0, 1, mesos.Unreachable, fromMaster)
		r.until("submit 0.2")
		r.ask(0, "x1", tasklet.Request{ID: "a", Role: tasklet.RoleResult})
		r.until(`grant a error="nobody waits for this task any more" url=false`)
	})
}

// The details of the last heartbeat may be older than what this leader knows.
func TestNextAttemptWithOldDetailsDoublesNothing(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Backoff = func(int) time.Duration { return time.Hour } })
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.set(func() { r.beatErr = errors.New("unavailable") })
	r.update(0, 1, mesos.FailedState, executorTerminated)
	r.deliver(input(0), held(1, mesos.Running, 0), 2)
	r.look(func(e *entry) {
		if len(e.packs) != 1 {
			t.Errorf("%d packs hold the one partition", len(e.packs))
		}
	})
}

// One partition has ended without a note, one runs, one has no place yet.
func TestTakeOverMissesNoPartition(t *testing.T) {
	r := newRig(t)
	details := held(3, mesos.Running, 0, 1)
	r.set(func() { r.details = &details })
	r.storeResult(0, 1, ok(0))
	if err := r.h.TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.until("released: true")
}

func TestTakeOverOfACancelledActivity(t *testing.T) {
	r := newRig(t)
	details := held(1, mesos.Running, 0)
	r.set(func() { r.details, r.state = &details, enumspb.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED })
	if err := r.h.TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.until("kill 0.1")
}

func TestResultsOfOtherPartitionsDoNotCount(t *testing.T) {
	r := newRig(t)
	r.deliver(input(4, 5), api.Details{}, 1)
	r.until("submit 4.1")
	r.until("submit 5.1")
	r.offer(4, 1)
	r.offer(5, 1)
	r.update(5, 1, mesos.Finished, withResults(ok(5), ok(0), ok(4)))
	r.until("ack 5.1 FINISHED")
	r.never("complete 7")
	r.update(4, 1, mesos.FailedState, withResults(tasklet.Result{Partition: 4, Outcome: tasklet.Failed}))
	r.until("complete 7")
	if got := r.result.Results; len(got) != 2 || got[0].Outcome != tasklet.Failed || got[1].Partition != 5 {
		t.Errorf("results %+v", got)
	}
}

// A leader that was stopped between its heartbeat and its SUBSCRIBE hears of tasks
// that the next one has placed.
func TestFormerLeaderKillsNothingThatItDoesNotKnow(t *testing.T) {
	r := newRig(t)
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.set(func() { r.leading = false })
	r.update(0, 2, mesos.Running, fromMaster)
	r.never("kill 0.2")
	r.set(func() { r.leading = true })
	r.until("kill 0.2")
}

func TestGenerationsThatMesosTellsOfAreUsedUp(t *testing.T) {
	r := newRig(t)
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.update(0, 5, mesos.Running, fromMaster)
	r.update(0, 1, mesos.FailedState, executorTerminated)
	r.until("submit 0.6")
}

func TestHeartbeatsGoOnWhileStorageIsDown(t *testing.T) {
	store := &brokenStore{}
	store.down.Store(true)
	r := newRig(t, withBrokenStore(store), func(c *Config) { c.HeartbeatTimeout = 100 * time.Millisecond })
	r.deliver(input(0), held(1, mesos.Running, 0), 2)
	r.until("beat 0.1=RUNNING")
	store.down.Store(false)
	r.until("reconcile 0.1 on a1")
}

// Unreachable agents (rule 9)

func TestUnreachableSinceBeforeThisLeader(t *testing.T) {
	since := time.Now().Add(-time.Minute)
	details := held(1, mesos.Unreachable, 0)
	details.Tasks[0].UnreachableSince = &since
	in := input(0)
	in.UnreachableTimeout = 30 * time.Second
	t.Run("taken over", func(t *testing.T) {
		r := newRig(t)
		r.set(func() { r.details = &details })
		if err := r.h.TakeOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.until("reconcile 0.1 on a1")
		r.update(0, 1, mesos.Unreachable, fromMaster)
		r.until("released: true") // how long to wait stands in the input
		r.deliver(in, details, 2)
		r.until("submit 0.2")
	})
	t.Run("handed over, and back before Mesos was asked", func(t *testing.T) {
		r := newRig(t)
		r.deliver(in, details, 2)
		r.until("reconcile 0.1 on a1")
		r.update(0, 1, mesos.Running, fromMaster)
		r.after(20 * time.Millisecond)
		r.never("submit 0.2")
	})
}

func TestUnreachableTwiceWaitsTwice(t *testing.T) {
	r := newRig(t)
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	almost := func(u *mesos.Update) {
		fromMaster(u)
		u.UnreachableSince = time.Now().Add(200*time.Millisecond - time.Hour)
	}
	r.update(0, 1, mesos.Unreachable, almost)
	r.update(0, 1, mesos.Running, fromMaster)
	r.update(0, 1, mesos.Unreachable, fromMaster)
	r.after(300 * time.Millisecond)
	r.never("submit 0.2")
}

func TestAgentReturnsWhileStorageIsDown(t *testing.T) {
	store := &brokenStore{}
	r := newRig(t, withBrokenStore(store))
	in := input(0)
	in.UnreachableTimeout = time.Millisecond
	r.deliver(in, api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	store.down.Store(true)
	r.update(0, 1, mesos.Unreachable, fromMaster)
	r.eventually("a look for the result", func() bool { return store.tries.Load() > 0 })
	r.update(0, 1, mesos.Running, fromMaster)
	r.settle()
	store.down.Store(false)
	r.after(20 * time.Millisecond)
	r.never("submit 0.2")
}

func TestKillOfAnUnreachableTaskEnds(t *testing.T) {
	r := newRig(t)
	in := input(0)
	in.UnreachableTimeout, in.AtMostOnce = time.Millisecond, true
	r.deliver(in, api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.update(0, 1, mesos.Unreachable, fromMaster)
	r.after(20 * time.Millisecond)
	r.never("complete 7")
	r.killAll()
	r.until("complete 7")
	if got := r.result.Results[0]; got.Outcome != tasklet.Killed {
		t.Errorf("result %+v", got)
	}
}
