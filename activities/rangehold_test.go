package activities

import (
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

// heldInRange has the first of two tasks that run at most once held, and the other
// one done.
func heldInRange(t *testing.T) (r *rig, in api.LaunchInput, held *running) {
	t.Helper()
	r = newRig(t)
	in = rangeInput(0, 3)
	in.AtMostOnce = true
	r.deliver(in, api.Details{}, 1)
	held = r.next()
	r.tell(held, mesos.Running, nil)
	r.tell(held, mesos.FailedState, nil, executorTerminated)
	r.isHeld(0, 1)
	r.finish(r.next(), well)
	r.until("ack 1.2 FINISHED")
	return r, in, held
}

// A leader died after it had placed a released task again, and before it could say
// so: the next one says so, also where the task has ended meanwhile.
func TestRangeReleaseThatWasCarriedOut(t *testing.T) {
	for name, rest := range map[string]bool{"others run": false, "all is done": true} {
		t.Run(name, func(t *testing.T) {
			r, in, _ := heldInRange(t)
			other := r.next()
			r.release(api.ReleaseNeverRan)
			r.until("submit 0.4")
			again := r.next()
			next := r.takenOver(t)
			next.deliver(in, *next.details, 2)
			next.until("reconcile 0.4 on a1")
			next.finish(again, well)
			next.until("ack 0.4 FINISHED")
			if rest {
				next.finish(other, well)
				next.until("complete 7")
			}
			if err := next.retried(api.ReleaseNeverRan); err != nil {
				t.Error(err)
			}
		})
	}
}

// The result of a task that is held comes after all: no word of a person is needed,
// and none is taken.
func TestRangeHeldTaskHasFailedAfterAll(t *testing.T) {
	r, _, held := heldInRange(t)
	r.tell(held, mesos.FailedState, r.storeSegment(held, held.results(badly, 0)))
	r.finish(r.next(), well)
	r.until("complete 7")
	if got := r.result.Range; got.Succeeded != 2 || got.Failed != 1 || got.Failures[0].Result.ExitCode != 3 {
		t.Errorf("result %+v", got)
	}
}

// The result of a task that was to run at most once is told of, and not in storage:
// it is not run again.
func TestRangeAbsentResultOfAtMostOnce(t *testing.T) {
	r := newRig(t)
	in := rangeInput(0, 1, attempts(1, time.Millisecond))
	in.AtMostOnce = true
	r.deliver(in, api.Details{}, 1)
	task := r.next()
	r.tell(task, mesos.Finished, &tasklet.Segment{Done: []byte{1}, Size: 100, Seconds: 1})
	r.until("complete 7")
	r.never("submit 0.2")
	if got := r.result.Range; got.Failed != 1 || got.Failures[0].Result.Outcome != tasklet.Platform {
		t.Errorf("result %+v", got)
	}
}
