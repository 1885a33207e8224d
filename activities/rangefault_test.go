package activities

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

// A leader dies in the middle: some partitions are done and noted, some done without
// a note, one waits for its retry, some run.
func TestRangeTakeOver(t *testing.T) {
	in := rangeInput(0, 40, attempts(2, time.Millisecond))
	first := newRig(t)
	first.deliver(in, api.Details{}, 1)
	a, b := first.next(), first.next()
	first.tell(a, mesos.Running, first.storeSegment(a, append(a.results(well, 0), a.results(badly, 1)...)))
	first.until("ack 0.1 RUNNING")
	first.storeSegment(a, a.results(well, 2))                   // its update was never heard
	ended := first.storeSegment(b, b.results(well, 0, 1, 2, 3)) // so was the end of this one
	details := first.lastNamed(2)                               // names both tasks
	next := first.takenOver(t)
	next.deliver(in, details, 2)
	next.until("reconcile 0.1 on a1")
	next.tell(a, mesos.Running, nil, fromMaster)
	next.tell(b, mesos.Finished, ended)
	ran := map[int]int{}
	next.finish(a, well) // position 3
	tasks := next.runAll(func(task *running, i int) tasklet.Result {
		ran[i]++
		if task.Attempt > 1 && i != a.Partitions[1].Index {
			t.Errorf("partition %d has attempt %d", i, task.Attempt)
		}
		return well(i)
	})
	for i := range 40 {
		want := 1
		if slices.Contains([]int{0, 2, 3, 4, 5, 6, 7}, i) {
			want = 0
		}
		if ran[i] != want {
			t.Errorf("partition %d ran %d times under the next leader", i, ran[i])
		}
	}
	if got := next.result.Range; got.Succeeded != 40 || got.Retries != 1 || got.Tasks != tasks+2 {
		t.Errorf("result %+v, %d tasks of the next leader", got, tasks)
	}
	if list := next.manifest(); list[1].Attempt != 2 {
		t.Errorf("attempt %d", list[1].Attempt)
	}
}

// lastNamed gives the details written last, which must name so many tasks.
func (r *rig) lastNamed(tasks int) api.Details {
	r.Helper()
	r.mu2.Lock()
	defer r.mu2.Unlock()
	if r.details == nil || len(r.details.Tasks) != tasks {
		r.Fatalf("details %+v do not name %d tasks", r.details, tasks)
	}
	return roundTrip(r.T, *r.details)
}

func roundTrip(t *testing.T, d api.Details) (back api.Details) {
	t.Helper()
	data, err := json.Marshal(d)
	if err == nil {
		err = json.Unmarshal(data, &back)
	}
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// The details are older than what lies in storage: they name a task that has ended,
// and know nothing of two that came after it.
func TestRangeTakeOverWithOldDetails(t *testing.T) {
	in := rangeInput(0, 12)
	first := newRig(t)
	first.deliver(in, api.Details{}, 1)
	a := first.next()
	details := first.lastNamed(1)
	b, c := first.next(), first.next()
	for _, task := range []*running{a, b, c} {
		first.storeSegment(task, task.results(well, task.rest()...))
	}
	next := first.takenOver(t)
	next.deliver(in, details, 2)
	next.until("complete 7")
	if got := next.result.Range; got.Succeeded != 12 {
		t.Errorf("result %+v", got)
	}
	next.never("submit 0.4")
	for _, line := range next.all() {
		if len(line) > 6 && line[:6] == "submit" {
			t.Errorf("%s, though all were done", line)
		}
	}
}

// A leader that has no input yet hears of the end of a task, and waits.
func TestRangeAdoptedWaitsForItsInput(t *testing.T) {
	in := rangeInput(0, 4)
	first := newRig(t)
	first.deliver(in, api.Details{}, 1)
	a := first.next()
	details := first.lastNamed(1)
	next := first.takenOver(t)
	next.details = &details
	last := next.storeSegment(a, append(a.results(well, 0, 1, 2), a.results(badly, 3)...))
	next.tell(a, mesos.FailedState, last)
	next.until("released: true")
	next.never("ack 0.1 FAILED")
	next.deliver(in, details, 2)
	next.until("ack 0.1 FAILED")
	next.until("complete 7")
	if got := next.result.Range; got.Succeeded != 3 || got.Failed != 1 {
		t.Errorf("result %+v", got)
	}
}

func TestRangeUnreachableAgentComesBack(t *testing.T) {
	r := newRig(t)
	in := rangeInput(0, 4)
	in.UnreachableTimeout = time.Millisecond
	r.deliver(in, api.Details{}, 1)
	old := r.next()
	r.tell(old, mesos.Running, r.storeSegment(old, old.results(well, 0)))
	r.until("ack 0.1 RUNNING")
	r.tell(old, mesos.Unreachable, nil, fromMaster)
	again := r.next()
	if len(again.Partitions) != 3 {
		t.Fatalf("placed again: %+v", again.Partitions)
	}
	// The old one has done all of it; the new one has failed one already.
	r.tell(again, mesos.Running, r.storeSegment(again, again.results(badly, 0)))
	r.until(fmt.Sprintf("ack %d.2 RUNNING", again.id.First))
	r.tell(old, mesos.Finished, r.storeSegment(old, old.results(func(i int) tasklet.Result {
		one := well(i)
		one.Reason = "old"
		return one
	}, 1, 2, 3)))
	r.until(fmt.Sprintf("kill %d.2", again.id.First))
	r.finish(again, well)
	r.until("complete 7")
	if got := r.result.Range; got.Succeeded != 4 || got.Failed != 0 {
		t.Errorf("result %+v", got)
	}
	for _, one := range r.manifest()[1:] {
		if one.Reason != "old" {
			t.Errorf("partition %d counts with %+v, the lowest generation did it too", one.Partition, one)
		}
	}
}

func TestRangeKillOfSinglePartitions(t *testing.T) {
	kill := func(r *rig, partitions ...int) {
		r.Helper()
		in := api.KillInput{WorkflowID: r.key.WorkflowID, RunID: r.key.RunID, Step: "work", Partitions: partitions, Reason: "wrong item"}
		if err := r.h.KillTasks(r.Context(), in); err != nil {
			r.Fatal(err)
		}
	}
	start := func(t *testing.T) (*rig, api.LaunchInput, *running) {
		r := newRig(t, func(c *Config) { c.HeartbeatTimeout = time.Minute })
		r.key.ActivityID = "work-1"
		in := rangeInput(0, 100, attempts(2, time.Hour))
		r.deliver(in, api.Details{}, 1)
		task := r.next()
		r.tell(task, mesos.Running, r.storeSegment(task, task.results(badly, 0)))
		r.until("ack 0.1 RUNNING")
		return r, in, task
	}
	t.Run("in each state", func(t *testing.T) {
		r, _, task := start(t)
		kill(r, 0, 1, 6, 90) // in backoff, running, in a pack that waits, in none
		r.until("order 0.1 to kill [1]")
		r.look(func(e *entry) {
			if e.ranged.n[partKilled] != 3 {
				t.Errorf("states %v", e.ranged.n)
			}
		})
		r.eventually("the details name the one that runs", func() bool {
			r.mu2.Lock()
			defer r.mu2.Unlock()
			d := r.details.Range
			return len(d.Killing) == 1 && d.Killing[0] == [2]int{1, 1} && d.Killed == 3
		})
		r.finish(task, func(i int) tasklet.Result {
			if i == 1 {
				return tasklet.Result{Outcome: tasklet.Killed}
			}
			return well(i)
		})
		r.until("ack 0.1 FAILED")
		r.playUntil("complete work-1", func(task *running) {
			r.finish(task, func(i int) tasklet.Result {
				if slices.Contains([]int{0, 1, 6, 90}, i) {
					t.Errorf("%d runs", i)
				}
				return well(i)
			})
		})
		if got := r.result.Range; got.Killed != 4 || got.Succeeded != 96 || got.Failed != 0 {
			t.Errorf("result %+v", got)
		}
		if got := r.manifest()[90]; got.Outcome != tasklet.Killed || got.Reason != "wrong item" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("over a change of leaders", func(t *testing.T) {
		r, in, task := start(t)
		kill(r, 0, 1, 90)
		next := r.takenOver(t, func(c *Config) { c.HeartbeatTimeout = time.Minute })
		next.key = r.key
		details := roundTrip(t, *next.details)
		next.deliver(in, details, 2)
		next.until("reconcile 0.1 on a1")
		next.tell(task, mesos.Running, nil, fromMaster)
		next.until("order 0.1 to kill [1]")
		next.look(func(e *entry) {
			if e.ranged.n[partKilled] != 2 {
				t.Errorf("states %v", e.ranged.n)
			}
		})
	})
	t.Run("that are lost meanwhile", func(t *testing.T) {
		r, _, task := start(t)
		kill(r, 1)
		r.until("order 0.1 to kill [1]")
		r.tell(task, mesos.FailedState, nil, executorTerminated)
		r.until("ack 0.1 FAILED")
		r.look(func(e *entry) {
			if e.ranged.at(1).state != partKilled || e.ranged.at(2).state == partKilled {
				t.Errorf("states %v", e.ranged.n)
			}
		})
	})
}

func TestRangeCancel(t *testing.T) {
	t.Run("while it runs", func(t *testing.T) {
		r := newRig(t)
		r.deliver(rangeInput(0, 300), api.Details{}, 1)
		task := r.next()
		r.tell(task, mesos.Running, r.storeSegment(task, task.results(well, 0)))
		r.until("ack 0.1 RUNNING")
		r.killAll()
		r.until("kill 0.1")
		r.finish(task, func(int) tasklet.Result { return tasklet.Result{Outcome: tasklet.Killed} })
		r.until("complete 7")
		if got := r.result.Range; got.Succeeded != 1 || got.Killed != 299 {
			t.Errorf("result %+v", got)
		}
		if got := r.manifest()[200]; got.Outcome != tasklet.Killed || got.Reason != "on request" {
			t.Errorf("%+v", got)
		}
	})
	// An agent holds the end of a task back until what it has told before is
	// acknowledged; and of an activity that is cancelled nothing can be noted.
	t.Run("while results are to be noted", func(t *testing.T) {
		r := newRig(t)
		r.deliver(rangeInput(0, 300), api.Details{}, 1)
		task := r.next()
		r.set(func() {
			r.beatErr, r.state = temporal.NewCanceledError(), enumspb.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED
		})
		r.tell(task, mesos.Running, r.storeSegment(task, task.results(well, 0)))
		r.until("ack 0.1 RUNNING")
		r.until("kill 0.1")
		r.finish(task, func(int) tasklet.Result { return tasklet.Result{Outcome: tasklet.Killed} })
		r.until("complete 7")
		if got := r.result.Range; got.Succeeded != 1 || got.Killed != 299 {
			t.Errorf("result %+v", got)
		}
	})
	t.Run("of which a leader hears that has no input", func(t *testing.T) {
		first := newRig(t)
		first.deliver(rangeInput(0, 30), api.Details{}, 1)
		a := first.next()
		first.storeSegment(a, a.results(well, 0, 1))
		next := first.takenOver(t)
		next.set(func() { next.state = enumspb.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED })
		if err := next.h.TakeOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		next.until("kill 0.1")
		next.finish(a, func(int) tasklet.Result { return tasklet.Result{Outcome: tasklet.Killed} })
		next.until("complete 7")
		if got := next.result.Range; got.Succeeded != 2 || got.Killed != 28 {
			t.Errorf("result %+v", got)
		}
	})
}

// An executor says that results lie in storage where there are none.
func TestRangeResultsThatAreNotThereRunAgain(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, 2), api.Details{}, 1)
	task := r.next()
	r.tell(task, mesos.Finished, &tasklet.Segment{Done: []byte{0xff, 0xff}, Seconds: 0.1})
	again := r.next()
	if len(again.Partitions) != 2 {
		t.Errorf("again %+v", again.Partitions)
	}
	r.finish(again, well)
	r.until("complete 7")
	if got := r.result.Range; got.Succeeded != 2 {
		t.Errorf("result %+v", got)
	}
}

func TestRangeSuspectsAreDivided(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, 4), api.Details{}, 1)
	task := r.next()
	r.tell(task, mesos.Running, nil)
	r.tell(task, mesos.FailedState, nil, executorTerminated)
	crashes := 1
	r.playUntil("complete 7", func(one *running) {
		if len(one.Partitions) != 1 {
			t.Errorf("%d suspects together", len(one.Partitions))
		}
		if one.Partitions[0].Index == 2 {
			crashes++
			r.tell(one, mesos.FailedState, nil, executorTerminated)
			return
		}
		r.finish(one, well)
	})
	got := r.result.Range
	if got.Succeeded != 3 || got.Failed != 1 || got.Failures[0].Result.Outcome != tasklet.Platform || crashes != 4 {
		t.Errorf("result %+v after %d crashes", got, crashes)
	}
}

func TestRangeHeldPartitions(t *testing.T) {
	r := newRig(t)
	in := rangeInput(0, 2, attempts(2, time.Millisecond))
	in.AtMostOnce = true
	r.deliver(in, api.Details{}, 1)
	a, b := r.next(), r.next()
	if len(a.Partitions) != 1 {
		t.Fatalf("%d partitions in a task", len(a.Partitions))
	}
	r.tell(a, mesos.Running, nil)
	r.tell(a, mesos.FailedState, nil, executorTerminated)
	r.isHeld(a.id.First, 1)
	r.finish(b, well)
	r.until("ack 1.2 FINISHED")
	details := roundTrip(t, *r.details)
	r.release(api.ReleaseFailed)
	// As told by a leader that died before it could go on.
	next := r.takenOver(t)
	next.deliver(in, details, 2)
	again := next.next()
	if again.Attempt != 2 || again.Partitions[0].Index != 0 {
		t.Errorf("again %+v", again.Launch)
	}
	next.finish(again, well)
	next.until("complete 7")
	if got := next.result.Range; got.Succeeded != 2 || got.Retries != 1 {
		t.Errorf("result %+v", got)
	}
}

// What storage cannot do for a while is done later, and costs nothing.
func TestRangeWhileStorageIsDown(t *testing.T) {
	store := &brokenStore{}
	r := newRig(t, withBrokenStore(store))
	r.deliver(rangeInput(0, 4), api.Details{}, 1)
	task := r.next()
	r.storeSegment(task, task.results(well, 0, 1))
	last := r.storeSegment(task, task.results(well, 2, 3))
	store.down.Store(true)
	r.tell(task, mesos.Finished, last) // the first was never heard
	r.eventually("a look for it", func() bool { return store.tries.Load() > 2 })
	r.never("ack 0.1 FINISHED")
	store.down.Store(false)
	r.until("complete 7")
	if got := r.result.Range; got.Succeeded != 4 || r.result.Replaced != 0 {
		t.Errorf("result %+v", got)
	}
}

func TestRangeItemsInStorage(t *testing.T) {
	r := newRig(t)
	var items []any
	for i := range 30 {
		items = append(items, fmt.Sprint("item-", i))
	}
	ref := r.putLines(stepPrefix+"items/1", items...)
	in := rangeInput(10, 20, func(in *api.LaunchInput) { in.Range.Items = api.Items{Object: &ref} })
	r.deliver(in, api.Details{}, 1)
	r.until("submit 10.1")
	r.look(func(e *entry) {
		for _, i := range []int{10, 29, 11} {
			if item, err := e.item(i); err != nil || string(item) != fmt.Sprintf(`"item-%d"`, i) {
				t.Errorf("item %d is %s, %v", i, item, err)
			}
		}
	})
	foreign := rangeInput(0, 1, func(in *api.LaunchInput) { in.Range.Items.Object = &tasklet.LinesRef{Key: "runs/other/x", N: 1} })
	if got, err := r.h.Take(Attempt{Key: r.key, Input: foreign}); err != nil || got.Range == nil || got.Range.Failed != 1 {
		t.Errorf("items of another app: %+v, %v", got, err)
	}
}
