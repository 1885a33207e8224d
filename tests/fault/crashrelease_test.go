package fault

import (
	"slices"
	"testing"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tests/harness"
)

// delicate is a flow whose tasks run at most once, and all wait at the gate.
func delicate() Flow {
	return Flow{Name: "delicate", Unreachable: Unreachable, Steps: []Step{
		{Name: "spoiled", Tasks: 3, Gated: 1, AtMostOnce: true},
		{Name: "again", Tasks: 3, Gated: 1, AtMostOnce: true, Again: true},
	}}
}

var releaseCrashes = slices.Concat(
	call("order of a release", 6, underWay),
	[]crash{at("taken ReleaseHeld", 6, underWay)},
	call("write of result", 3, underWay),
	call("heartbeat of a release", 3, underWay),
	call("result of ReleaseHeld", 6, underWay),
)

// A worker dies while a person decides about tasks that are lost with their
// executors: each word is carried out once.
func TestCrashInRelease(t *testing.T) {
	t.Parallel()
	w := newCrashWorld(t)
	var before *Run
	w.each(releaseCrashes, scene{
		flow: delicate,
		stir: func(r *Run) {
			if before != nil { // its tasks are in the same executors
				before.Wait()
			}
			before = r
			r.UnderWay(0, r.Flow.Tasks())
			harness.Eventually(w, "no executor lives", func() bool { return w.KillExecutors(0)+w.KillExecutors(1) > 0 })
		},
		judge: w.judgeReleased,
	})
	w.oneFramework(1)
	w.report()
}

// judgeReleased checks that every task has become what the person has said of it.
func (w *crashWorld) judgeReleased(r *Run) {
	w.Helper()
	last := r.Wait()
	if last.Status != api.StatusFailed {
		w.Errorf("the run ended as %s (%s), want failed", last.Status, last.Reason)
	}
	history, err := r.History(w.Context())
	w.do(err)
	ledger := r.Ledger()
	if n := len(ledger.Of(Overlaps)); n > 0 {
		w.Errorf("%d tasks overlapped", n)
	}
	for _, s := range r.Flow.Steps {
		for i := range s.Tasks {
			p := Partition{s.Name, i}
			begun, ended := len(ledger.of(Began, p)), len(ledger.of(Ended, p))
			results := slices.DeleteFunc(slices.Clone(history.Accepted), func(a Acceptance) bool { return a.Partition != p })
			switch {
			case len(results) != 1:
				w.Errorf("%s has %d results", p, len(results))
			case s.Again && (begun != 2 || ended != 1 || results[0].Result.Outcome != tasklet.Succeeded):
				w.Errorf("%s never ran, by a person's word: it began %d times and ended %d times, as %+v", p, begun, ended, results[0].Result)
			case !s.Again && (begun != 1 || ended != 0 || !released(results[0].Result)):
				w.Errorf("%s failed, by a person's word: it began %d times and ended %d times, as %+v", p, begun, ended, results[0].Result)
			}
		}
	}
	if n := len(last.Releases); n != r.Flow.Tasks() {
		w.Errorf("the run tells of %d releases, want %d", n, r.Flow.Tasks())
	}
}

// of gives the entries of one kind of one task.
func (l Ledger) of(kind string, p Partition) Ledger {
	return slices.DeleteFunc(l.Of(kind), func(e Entry) bool { return e.Partition != p })
}
