package fault

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/tasklet"
)

// The checks find what they are for, and nothing in a run that is in order.
func TestChecksFind(t *testing.T) {
	var (
		p    = Partition{"work", 0}
		zero = time.Unix(1_000_000, 0)
		at   = func(seconds int) time.Time { return zero.Add(time.Duration(seconds) * time.Second) }
		line = func(kind string, attempt, second int) Entry {
			return Entry{Partition: p, Kind: kind, Attempt: attempt, At: at(second)}
		}
		result = func(attempt, second int, outcome tasklet.Outcome, exit int) Acceptance {
			return Acceptance{Partition: p, Attempt: attempt, At: at(second), Result: tasklet.Result{Outcome: outcome, ExitCode: exit}}
		}
		good    = result(1, 3, tasklet.Succeeded, 0)
		word    = Acceptance{Partition: p, Attempt: 1, At: at(3), Result: tasklet.Result{Outcome: tasklet.Failed, ExitCode: -1, Reason: "released as failed by " + personsName + ": a test"}}
		away    = harm{away: true, from: at(0), to: at(4)}
		killed  = harm{from: at(1)}
		plain   = Step{Name: "work", Tasks: 1, Attempts: 3}
		once    = Step{Name: "work", Tasks: 1, AtMostOnce: true}
		failing = Step{Name: "work", Tasks: 1, Attempts: 3, Fails: 1}
	)
	for _, test := range []struct {
		name     string
		step     Step
		ledger   Ledger
		accepted []Acceptance
		harms    []harm
		want     string // part of the violation; "" for none
	}{
		{"in order", plain, Ledger{line(Began, 1, 1), line(Ended, 1, 2)}, []Acceptance{good}, nil, ""},
		{"failed and tried again", failing, Ledger{line(Began, 1, 1), line(Failed, 1, 2), line(Began, 2, 4), line(Ended, 2, 5)},
			[]Acceptance{result(1, 3, tasklet.Failed, 75), result(2, 6, tasklet.Succeeded, 0)}, nil, ""},
		{"lost and started again", plain, Ledger{line(Began, 1, 0), line(Began, 1, 2), line(Ended, 1, 2)}, []Acceptance{good}, []harm{killed}, ""},
		{"away and started again", plain, Ledger{line(Began, 1, 0), line(Overlaps, 1, 3), line(Began, 1, 3), line(Ended, 1, 3)},
			[]Acceptance{result(1, 5, tasklet.Succeeded, 0)}, []harm{away}, ""},
		{"lost before it began", once, nil, []Acceptance{result(1, 3, tasklet.Platform, -1)}, []harm{away}, ""},
		{"held and released", once, nil, []Acceptance{word}, []harm{away}, ""},

		{"no result", plain, Ledger{line(Began, 1, 1), line(Ended, 1, 2)}, nil, nil, "has no result"},
		{"never ran", plain, nil, []Acceptance{good}, nil, `no task of it has entered "end"`},
		{"accepted too early", plain, Ledger{line(Began, 1, 1), line(Ended, 1, 4)}, []Acceptance{good}, nil, `no task of it has entered "end"`},
		{"started after its result", plain, Ledger{line(Began, 1, 1), line(Ended, 1, 2), line(Began, 1, 4)}, []Acceptance{good}, []harm{killed},
			"after the result of attempt 1 was accepted"},
		{"another attempt after success", plain, Ledger{line(Began, 1, 1), line(Ended, 1, 2), line(Began, 2, 4)}, []Acceptance{good}, nil,
			"after the result of attempt 1 was accepted"},
		{"doubled without a fault", plain, Ledger{line(Began, 1, 1), line(Began, 1, 2), line(Ended, 1, 2)}, []Acceptance{good}, nil, "no fault has cost"},
		{"not away for long enough", plain, Ledger{line(Began, 1, 0), line(Began, 1, 1), line(Ended, 1, 2)}, []Acceptance{good}, []harm{away}, "no fault has cost"},
		{"twice at most once", once, Ledger{line(Began, 1, 0), line(Began, 1, 2), line(Ended, 1, 2)}, []Acceptance{good}, []harm{killed}, "at most once"},
		{"given up although it began", once, Ledger{line(Began, 1, 0)}, []Acceptance{result(1, 3, tasklet.Platform, -1)}, []harm{away}, "ended as platform"},
		{"given up for nothing", once, nil, []Acceptance{result(1, 3, tasklet.Platform, -1)}, nil, "ended as platform"},
		{"held for nothing", once, nil, []Acceptance{word}, nil, "ended as failed"},
		{"overlapping", plain, Ledger{line(Began, 1, 0), line(Overlaps, 1, 2), line(Began, 1, 2), line(Ended, 1, 2)}, []Acceptance{good}, []harm{killed}, "still alive was"},
		{"given up too early", Step{Name: "work", Tasks: 1, Attempts: 3, Fails: 3}, Ledger{line(Began, 1, 1), line(Failed, 1, 2)},
			[]Acceptance{result(1, 3, tasklet.Failed, 75)}, nil, "given up after 1 of 3"},
		{"an attempt used up by the platform", plain, Ledger{line(Began, 1, 1), line(Began, 2, 4), line(Ended, 2, 5)},
			[]Acceptance{result(1, 3, tasklet.Platform, -1), result(2, 6, tasklet.Succeeded, 0)}, []harm{killed}, "ended as platform"},
		{"an attempt left out", plain, Ledger{line(Began, 2, 1), line(Ended, 2, 2)}, []Acceptance{result(2, 3, tasklet.Succeeded, 0)}, nil, "accepted as number 1"},
		{"killed by nobody", plain, Ledger{line(Began, 1, 1), line(Began, 2, 4), line(Ended, 2, 5)},
			[]Acceptance{{Partition: p, Attempt: 1, At: at(3), Result: tasklet.Result{Outcome: tasklet.Failed, Signal: "SIGKILL"}}, result(2, 6, tasklet.Succeeded, 0)}, nil, "SIGKILL"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := Flow{Steps: []Step{test.step}, Unreachable: 2 * time.Second}
			c := &checker{
				w: &World{TB: t, harms: test.harms}, r: &Run{Flow: f},
				ledger: test.ledger, history: History{Accepted: test.accepted},
			}
			c.partition(test.step, p)
			c.overlaps()
			switch found := c.violations; {
			case test.want == "" && len(found) > 0:
				t.Errorf("found %q in a run in order", found)
			case test.want != "" && !slices.ContainsFunc(found, func(v string) bool { return strings.Contains(v, test.want) }):
				t.Errorf("found %q, want %q", found, test.want)
			}
		})
	}
}
