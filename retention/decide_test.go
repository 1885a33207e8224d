package retention

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
)

const day = 24 * time.Hour

var midnight = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// parse reads "r1 i1 succeeded 40 needs=r0,r2 swept=begun own=outputs:5d": a run, its
// instance, how it ended, and how many days ago.
func parse(t *testing.T, line string) api.RunRecord {
	t.Helper()
	words := strings.Fields(line)
	var age float64
	if _, err := fmt.Sscan(words[3], &age); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	r := api.RunRecord{Run: words[0], Instance: words[1], Status: api.Status(words[2]), Ended: midnight.Add(-time.Duration(age * float64(day)))}
	r.Started = r.Ended.Add(-time.Minute)
	for _, word := range words[4:] {
		name, value, _ := strings.Cut(word, "=")
		value = strings.ReplaceAll(value, ":", "=")
		switch name {
		case "needs":
			r.Needs = strings.Split(value, ",")
		case "swept":
			r.Sweep = api.SweepStage(value)
		case "own":
			own, err := flow.ParseRetention(strings.ReplaceAll(value, "+", ","))
			if err != nil {
				t.Fatal(err)
			}
			r.Retention = &own
		case "found":
			r.Found = true
		default:
			t.Fatalf("unknown word %q", word)
		}
	}
	return r
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name  string
		rules string
		runs  []string
		live  []Live
		want  string // runs that go; in brackets: all but their logs
	}{
		{"no rules", "", []string{"a i succeeded 4000", "b i failed 4000"}, nil, ""},
		{"by age", "outputs=30d", []string{"a i succeeded 31", "b j succeeded 29.9", "c k succeeded 30"}, nil, "a c"},
		{"by number", "runs=2", []string{"a i succeeded 4", "b i succeeded 3", "c j succeeded 2", "d i failed 1"}, nil, "a"},
		{"by age and number", "outputs=3d,runs=1", []string{"a i succeeded 9", "b i succeeded 8", "c i succeeded 2"}, nil, "a b"},
		{"the newest are kept at any age", "outputs=3d,runs=2", []string{"a i succeeded 9", "b i succeeded 8", "c i succeeded 7"}, nil, "a"},
		{"failures do not count as the newest", "runs=1", []string{"a i succeeded 9", "b i failed 8", "c i killed 7"}, nil, ""},
		{"failed are kept longer by default", "outputs=1d", []string{"a i failed 89", "b j failed 91", "c k killed 91"}, nil, "b c"},
		{"and as long as the others at least", "outputs=200d", []string{"a i failed 199"}, nil, ""},
		{"failed by their own rule", "outputs=1d,failed=5d", []string{"a i failed 4", "b j failed 6"}, nil, "b"},
		{"a rule for failed only", "failed=5d", []string{"a i succeeded 400", "b j failed 6"}, nil, "b"},
		{"a rule for logs only", "logs=5d", []string{"a i succeeded 400", "b j failed 400"}, nil, ""},
		{"logs live longer", "outputs=5d,logs=10d", []string{"a i succeeded 6", "b i succeeded 11", "c i succeeded 6 swept=logs", "d i succeeded 11 swept=logs"}, nil, "(a) b d"},
		{"logs never go before the rest", "outputs=5d,logs=1d", []string{"a i succeeded 4", "b i succeeded 6"}, nil, "b"},
		{"failures that a restart may go on from stay together", "failed=5d", []string{"a i failed 9", "b i killed 7", "c i failed 4", "d j failed 9"}, nil, "d"},
		{"they end with a success", "failed=5d,outputs=1d", []string{"a i failed 9", "b i succeeded 8", "c i failed 4"}, nil, "a b"},
		{"what is kept keeps what it refers to", "outputs=5d", []string{"a i succeeded 9", "b i succeeded 8 needs=a", "c j succeeded 1 needs=b", "d j succeeded 9"}, nil, "d"},
		{"references in a circle, and to what is gone", "outputs=5d", []string{"a i succeeded 9 needs=b", "b i succeeded 9 needs=a,z"}, nil, "a b"},
		{"an open run keeps what it was given", "outputs=5d", []string{"a i succeeded 9 needs=b", "b i succeeded 9", "c i succeeded 9"}, []Live{{"l", "j", []string{"a"}}}, "c"},
		{"an open run keeps the failures before it", "failed=5d,outputs=1d",
			[]string{"x i failed 12 ", "a i succeeded 10", "b i failed 9 needs=a", "c i failed 8", "d j failed 9"}, []Live{{"l", "i", nil}}, "x d"},
		{"an open run that has its record", "outputs=1d", []string{"a i succeeded 9"}, []Live{{"a", "i", nil}}, ""},
		{"a sweep that has begun is finished", "outputs=30d,runs=5", []string{"a i succeeded 1 swept=begun", "b i failed 1 swept=begun"}, nil, "a b"},
		{"but not when something open needs it", "outputs=30d", []string{"a i succeeded 1 swept=begun"}, []Live{{"l", "j", []string{"a"}}}, ""},
		{"what is swept counts as nothing", "runs=1", []string{"a i succeeded 9", "b i succeeded 1 swept=begun"}, nil, "b"},
		{"a run's own rules, where they are longer", "outputs=1h", []string{"a i succeeded 4 own=outputs:5d", "b j succeeded 6 own=outputs:5d", "c k succeeded 1"}, nil, "b c"},
		{"and the app's, where these are", "outputs=9d", []string{"a i succeeded 6 own=outputs:5d", "b j succeeded 10 own=outputs:5d"}, nil, "b"},
		{"own numbers", "outputs=1h", []string{"a i succeeded 4 own=runs:2", "b i succeeded 3 own=runs:2", "c i succeeded 2"}, nil, "a c"},
		{"own rules for failures and logs", "outputs=1h,failed=1h", []string{"a i failed 4 own=failed:5d", "b j failed 6 own=failed:5d+logs:9d"}, nil, "(b)"},
		{"own rules that do not tell keep nothing", "outputs=1h", []string{"a i succeeded 4 own=failed:5d"}, nil, "a"},
		{"nor do they end what is kept for ever", "failed=1h", []string{"a i succeeded 4 own=outputs:1d", "b i failed 4"}, nil, "b"},
		{"without a record", "failed=1h", []string{"a i failed 0.5 found", "b j failed 1.5 found", "c k failed 0.5"}, nil, "b c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var rules flow.Retention
			if c.rules != "" {
				var err error
				if rules, err = flow.ParseRetention(c.rules); err != nil {
					t.Fatal(err)
				}
			}
			var runs []api.RunRecord
			for _, line := range c.runs {
				runs = append(runs, parse(t, line))
			}
			var goes []string
			for i, v := range Decide(runs, c.live, Rules{App: rules}, midnight) {
				switch {
				case v.Reason == "":
					t.Errorf("no reason for %s", runs[i].Run)
				case v.Goes == All:
					goes = append(goes, runs[i].Run)
				case v.Goes == AllButLogs:
					goes = append(goes, "("+runs[i].Run+")")
				}
			}
			if got := strings.Join(goes, " "); got != c.want {
				t.Errorf("%q go, want %q", got, c.want)
			}
		})
	}
}

func TestRestartsLookBackAtTwentyRuns(t *testing.T) {
	rules := flow.Retention{Failed: flow.Duration(10 * day)}
	var runs []api.RunRecord
	for age := range 30 {
		runs = append(runs, parse(t, fmt.Sprintf("r%d i failed %d", age, 9+age)))
	}
	for age, v := range Decide(runs, nil, Rules{App: rules}, midnight) {
		if kept := v.Goes == Nothing; kept != (age < maxTail) {
			t.Errorf("the run before %d others: kept %v, %s", age, kept, v.Reason)
		}
	}
}

func TestRulesAreThoseOfTheNewestRun(t *testing.T) {
	platform := flow.Retention{Runs: 7}
	old, fresh := parse(t, "a i succeeded 9"), parse(t, "b i failed 1")
	old.Retention = &flow.Retention{Runs: 3}
	found := parse(t, "c i failed 0 found")
	for _, c := range []struct {
		what string
		runs []api.RunRecord
		want int
	}{
		{"no run", nil, 7},
		{"one with rules", []api.RunRecord{old}, 3},
		{"the newest has none", []api.RunRecord{fresh, old}, 7},
		{"one without a record says nothing", []api.RunRecord{old, found}, 3},
	} {
		if got := RulesOf(c.runs, platform); got.App.Runs != c.want || got.Platform != platform {
			t.Errorf("%s: %+v", c.what, got)
		}
	}
}

// One run of an app with short rules of its own takes nothing from those before it.
func TestRunsWithoutRulesGoByThePlatforms(t *testing.T) {
	runs := []api.RunRecord{parse(t, "a i succeeded 9"), parse(t, "b i succeeded 31"), parse(t, "c j succeeded 1 own=outputs:1h")}
	verdicts := Decide(runs, nil, RulesOf(runs, flow.Retention{Outputs: flow.Duration(30 * day)}), midnight)
	for i, goes := range []Part{Nothing, All, All} {
		if verdicts[i].Goes != goes {
			t.Errorf("run %s: %+v", runs[i].Run, verdicts[i])
		}
	}
}
