package activities

import (
	"errors"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

const (
	terminated = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
	completed  = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	continued  = enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW
)

// restarted is a rig whose run has a predecessor, "run-0", in a state.
func restarted(t *testing.T, run earlierRun) *rig {
	r := newRig(t)
	run.first = "01a206d2-e3dd-774d-b647-c8d6699f74ef"
	r.earlier = map[string]earlierRun{"run-0": run}
	return r
}

// left is a predecessor that was terminated while its task was in a state.
func left(state mesos.State) earlierRun {
	return earlierRun{status: terminated, details: map[string]api.Details{"work-1": held(1, state, 0)}}
}

func (r *rig) oldID() tasklet.TaskID {
	return tasklet.TaskID{WorkflowID: r.key.WorkflowID, RunID: "run-0", ActivityID: "work-1", First: 0, Generation: 1}
}

// oldUpdate tells of the predecessor's task.
func (r *rig) oldUpdate(state mesos.State, change ...func(*mesos.Update)) {
	u := mesos.Update{TaskID: r.oldID().String(), State: state, AgentID: "a1", ExecutorID: "x1"}
	fromMaster(&u)
	for _, f := range change {
		f(&u)
	}
	r.h.Update(u)
}

// barrierAnswer is the last answer to a reconciliation of everything.
func (r *rig) barrierAnswer() {
	id := r.oldID()
	id.ActivityID = barrierActivity
	u := mesos.Update{TaskID: id.String(), State: mesos.Unknown}
	fromMaster(&u)
	r.h.Update(u)
}

func awaySince(t time.Time) func(*mesos.Update) {
	return func(u *mesos.Update) { u.UnreachableSince = t }
}

func (r *rig) reason() (text string) {
	r.look(func(e *entry) { text = e.details().Reason })
	return text
}

func (r *rig) waitsFor(words ...string) {
	r.Helper()
	r.eventually("the reason names "+strings.Join(words, ", "), func() bool {
		text := r.reason()
		for _, word := range words {
			if !strings.Contains(text, word) {
				return false
			}
		}
		return true
	})
	r.never("submit 0.1")
}

func TestFenceWaitsForTasksOfAnEarlierRun(t *testing.T) {
	r := restarted(t, left(mesos.Running))
	r.deliver(input(0), api.Details{}, 1)
	r.until("reconcile 0.1 on a1")
	r.waitsFor("partition 0", "host", "app-1-699f74ef", "Mesos is being asked")
	r.oldUpdate(mesos.Running)
	r.until("kill 0.1")
	r.waitsFor("being killed")
	r.barrierAnswer()
	r.never("submit 0.1")
	r.oldUpdate(mesos.KilledState)
	r.until("submit 0.1")
	if text := r.reason(); strings.Contains(text, "earlier run") {
		t.Errorf("still waits: %s", text)
	}
}

func TestFenceGivesUnreachableTasksUpAsTheStepDoes(t *testing.T) {
	t.Run("after its time", func(t *testing.T) {
		r := restarted(t, left(mesos.Running))
		in := input(0)
		in.UnreachableTimeout = 100 * time.Millisecond
		r.deliver(in, api.Details{}, 1)
		r.until("reconcile 0.1 on a1")
		r.barrierAnswer()
		since := time.Now()
		r.oldUpdate(mesos.Unreachable, awaySince(since))
		r.until("submit 0.1")
		if time.Since(since) < in.UnreachableTimeout {
			t.Error("too early")
		}
		r.never("kill 0.1") // nobody would hear it
		r.oldUpdate(mesos.Running)
		r.until("kill 0.1")
	})
	t.Run("not before", func(t *testing.T) {
		r := restarted(t, left(mesos.Unreachable))
		r.deliver(input(0), api.Details{}, 1)
		r.until("reconcile 0.1 on a1")
		r.barrierAnswer()
		r.oldUpdate(mesos.Unreachable)
		r.waitsFor("does not answer: until")
		r.oldUpdate(mesos.Running) // back
		r.until("kill 0.1")
		r.waitsFor("being killed")
		r.oldUpdate(mesos.Gone)
		r.until("submit 0.1")
	})
	t.Run("what the details tell may be over", func(t *testing.T) {
		run := left(mesos.Unreachable)
		since := time.Now().Add(-time.Hour)
		run.details["work-1"].Tasks[0].UnreachableSince = &since
		r := restarted(t, run)
		in := input(0)
		in.UnreachableTimeout = time.Millisecond
		r.deliver(in, api.Details{}, 1)
		r.until("reconcile 0.1 on a1")
		r.barrierAnswer()
		r.waitsFor("Mesos is being asked")
		r.oldUpdate(mesos.Running)
		r.waitsFor("being killed")
		r.oldUpdate(mesos.KilledState)
		r.until("submit 0.1")
	})
	t.Run("never when at most once", func(t *testing.T) {
		r := restarted(t, left(mesos.Unreachable))
		in := input(0)
		in.UnreachableTimeout, in.AtMostOnce = 0, true
		r.deliver(in, api.Details{}, 1)
		r.until("reconcile 0.1 on a1")
		r.barrierAnswer()
		r.oldUpdate(mesos.Unreachable, awaySince(time.Now().Add(-time.Hour)))
		r.waitsFor("at_most_once")
		r.after(20 * time.Millisecond)
		r.never("submit 0.1")
		r.oldUpdate(mesos.GoneByOperator) // a person's word
		r.until("submit 0.1")
	})
}

// What no details name, the framework's table does, or the implicit reconciliation
// that a new leader waits for.
func TestFenceHearsOfTasksThatNoDetailsName(t *testing.T) {
	t.Run("in the table", func(t *testing.T) {
		r := restarted(t, earlierRun{status: completed})
		r.held = []mesos.TaskInfo{
			{TaskID: r.oldID().String(), State: mesos.Running, AgentID: "a1", Hostname: "host"},
			{TaskID: "other-1~run-0~work-1~0~1", State: mesos.Running, AgentID: "a1"},
		}
		r.deliver(input(0), api.Details{}, 1)
		r.until("reconcile 0.1 on a1")
		r.barrierAnswer()
		r.oldUpdate(mesos.Running)
		r.waitsFor("being killed")
		r.oldUpdate(mesos.KilledState)
		r.until("submit 0.1")
	})
	t.Run("from Mesos", func(t *testing.T) {
		r := restarted(t, earlierRun{status: completed})
		r.deliver(input(0), api.Details{}, 1)
		r.until("reconcile 0.1 on ") // the barrier
		r.waitsFor("asks Mesos for tasks of earlier run")
		r.oldUpdate(mesos.Running)
		r.until("kill 0.1")
		r.barrierAnswer()
		r.waitsFor("being killed")
		r.oldUpdate(mesos.KilledState)
		r.until("submit 0.1")
	})
}

func TestFenceLetsTheSameRunPass(t *testing.T) {
	r := newRig(t)
	first := "01a206d2-e3dd-774d-b647-c8d600000001"
	r.earlier = map[string]earlierRun{"run-0": {status: continued, first: first}}
	r.held = []mesos.TaskInfo{{TaskID: r.oldID().String(), State: mesos.Unreachable, AgentID: "a1"}}
	r.deliver(input(0), api.Details{}, 1) // of run app-1-00000001
	r.until("submit 0.1")
	r.never("reconcile 0.1 on a1")
}

// Temporal does not answer: nothing is placed on a guess.
func TestFenceAsksTemporalUntilItAnswers(t *testing.T) {
	r := newRig(t)
	r.listErr = errors.New("visibility is out of reach")
	r.deliver(input(0), api.Details{}, 1)
	r.waitsFor("visibility is out of reach")
	r.set(func() { r.listErr = nil })
	r.until("submit 0.1")
	// The next step of the run asks no more.
	r.set(func() { r.listErr = errors.New("not to be asked") })
	r.key.ActivityID = "8"
	r.deliver(input(1), api.Details{}, 1)
	r.until("submit 1.1")
}

func TestKillBehindAFence(t *testing.T) {
	r := restarted(t, left(mesos.Running))
	r.deliver(input(0), api.Details{}, 1)
	r.until("reconcile 0.1 on a1")
	r.killAll()
	r.until("complete 7")
	if got := r.result.Results[0]; got.Outcome != tasklet.Killed {
		t.Errorf("result %+v", got)
	}
	r.eventually("the fence is forgotten", func() bool {
		r.h.fences.mu.Lock()
		defer r.h.fences.mu.Unlock()
		return len(r.h.fences.open) == 0
	})
}

// An attempt that comes again while its packs wait submits them once.
func TestNextAttemptBehindAFence(t *testing.T) {
	r := restarted(t, left(mesos.Running))
	r.deliver(input(0, 1), api.Details{}, 1)
	r.until("reconcile 0.1 on a1")
	r.deliver(input(0, 1), api.Details{}, 2)
	r.barrierAnswer()
	r.oldUpdate(mesos.Gone)
	r.until("submit 0.1")
	r.until("submit 1.1")
	r.settle()
	for _, line := range []string{"submit 0.1", "submit 1.1"} {
		if n := r.count(line); n != 1 {
			t.Errorf("%s %d times", line, n)
		}
	}
	r.never("submit 0.2")
}

func TestReleaseBehindAFence(t *testing.T) {
	r := restarted(t, left(mesos.Running))
	r.deliver(input(0), api.Details{}, 1)
	r.until("reconcile 0.1 on a1")
	r.h.Release(t.Context())
	r.until("released: true")
	r.barrierAnswer()
	r.oldUpdate(mesos.Gone)
	r.never("submit 0.1")
}
