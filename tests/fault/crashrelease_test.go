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
	call("order of a release", 3, underWay),
	[]crash{at("taken ReleaseHeld", 3, underWay)},
	call("write of result", 2, underWay),
	call("heartbeat of a release", 2, underWay),
	call("result of ReleaseHeld", 3, underWay),
)

// A worker dies while a person decides about tasks that are lost with their
// executors: each word is carried out once.
func TestCrashInRelease(t *testing.T) { ways(t, testCrashInRelease) }

func testCrashInRelease(t *testing.T, as way) {
	w := newCrashWorld(t)
	var before *Run
	w.each(releaseCrashes, scene{
		flow: func() Flow { return as(delicate()) },
		stir: func(r *Run) {
			if before != nil { // its tasks are in the same executors
				before.Wait()
			}
			before = r
			r.UnderWay(0, r.Flow.Tasks()/2) // some may be lost before: with an executor that just ends
			harness.Eventually(w, "no executor lives", func() bool { return w.KillExecutors(0)+w.KillExecutors(1) > 0 })
		},
		judge: w.judgeReleased,
	})
	w.oneFramework(1)
	w.report()
}

// judgeReleased checks that every task has become what the person has said of it, or
// has run as if nothing had been said.
func (w *crashWorld) judgeReleased(r *Run) {
	w.Helper()
	last := r.Wait()
	history, err := r.History(w.Context())
	w.do(err)
	ledger := r.Ledger()
	if n := len(ledger.Of(Overlaps)); n > 0 {
		w.Errorf("%d tasks overlapped", n)
	}
	if len(last.Releases) == 0 {
		w.Error("no task was released")
	}
	failed := false
	for _, s := range r.Flow.Steps {
		for i := range s.Tasks {
			p := Partition{s.Name, i}
			words := w.words(last.Releases, p)
			failed = failed || words > 0 && !s.Again
			begun, ended := len(ledger.of(Began, p)), len(ledger.of(Ended, p))
			results := slices.DeleteFunc(slices.Clone(history.Accepted), func(a Acceptance) bool { return a.Partition != p })
			switch {
			case len(results) != 1:
				w.Errorf("%s has %d results", p, len(results))
			case words > 0 && !s.Again:
				if words > 1 || begun > 1 || ended > 0 || !released(results[0].Result) {
					w.Errorf("%s failed, by %d words of a person: it began %d times and ended %d times, as %+v", p, words, begun, ended, results[0].Result)
				}
			case begun < 1 || begun > 1+words || ended != 1 || results[0].Result.Outcome != tasklet.Succeeded:
				w.Errorf("%s never ran, by %d words of a person: it began %d times and ended %d times, as %+v", p, words, begun, ended, results[0].Result)
			}
		}
	}
	if want := map[bool]api.Status{true: api.StatusFailed, false: api.StatusSucceeded}[failed]; last.Status != want {
		w.Errorf("the run ended as %s (%s), want %s", last.Status, last.Reason, want)
	}
}

// words counts what was said of a task; each word must be about another placement.
func (w *crashWorld) words(all []api.Release, p Partition) int {
	w.Helper()
	generations := map[int]bool{}
	for _, one := range all {
		if one.Step != p.Step || one.Partition != p.Index {
			continue
		}
		if generations[one.Generation] {
			w.Errorf("two releases of generation %d of %s", one.Generation, p)
		}
		generations[one.Generation] = true
	}
	return len(generations)
}

// of gives the entries of one kind of one task.
func (l Ledger) of(kind string, p Partition) Ledger {
	return slices.DeleteFunc(l.Of(kind), func(e Entry) bool { return e.Partition != p })
}
