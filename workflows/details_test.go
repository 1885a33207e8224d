package workflows

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
)

var update = flag.Bool("update", false, "write golden files")

// golden compares with a file of testdata, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// detailsReason has all that Markdown could take for its own.
const detailsReason = "partition 41: cannot read \"C:\\new|old\": | see\n<b>the_log</b> & `usage` of *render* --help, " +
	"[$HOME/a_b] or $TMPDIR/~~x~~ &lt;"

func detailsRun() *run {
	at := func(s int) time.Time { return time.Date(2026, 1, 31, 6, 0, s, 0, time.UTC) }
	r := &run{
		id: "statements-k7q2m4xw5tza-5e2f91aa", status: api.StatusRunning, started: at(0),
		reason: "step render, " + detailsReason,
	}
	for _, s := range []api.StepState{
		{ID: "split", Status: api.StatusSucceeded, Partitions: 1, Done: 1, Started: at(0), Ended: at(12)},
		{ID: "render", Status: api.StatusRunning, Partitions: 200, Done: 120, Failed: 1, Active: 50, Started: at(12),
			Reason: detailsReason},
		{ID: "none", Status: api.StatusSucceeded, Started: at(12), Ended: at(12)},
		{ID: "approve", Status: api.StatusSkipped},
		{ID: "post", Status: api.StatusWaiting},
		{ID: "cleanup", Status: api.StatusWaiting, OnExit: true},
	} {
		r.steps = append(r.steps, &step{state: s, def: &flow.Step{ID: s.ID}})
	}
	return r
}

func TestDetailsTable(t *testing.T) {
	golden(t, "details_running.md", detailsRun().details())
}

func TestDetailsTellWhatWasLost(t *testing.T) {
	r := detailsRun()
	r.steps[1].state.Killed, r.steps[1].state.NotRun = 2, 5
	r.steps[2].state.Killed = 1
	for _, want := range []string{"- **render**: 2 killed, 5 not run; partition 41", "- **none**: 1 killed\n"} {
		if got := r.details(); !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestDetailsOfEndedRun(t *testing.T) {
	r := detailsRun()
	r.status, r.ended, r.note = api.StatusFailed, r.started.Add(95*time.Second), "Storing the last state of the instance."
	golden(t, "details_ended.md", r.details())
}

func TestDetailsOfLargeFlowShowWhatMatters(t *testing.T) {
	r := detailsRun()
	for range 500 {
		r.steps = append(r.steps, &step{state: api.StepState{ID: "more", Status: api.StatusWaiting}})
	}
	got := r.details()
	if !strings.Contains(got, "\n| render") || strings.Contains(got, "| more") ||
		!strings.Contains(got, "505 more steps") {
		t.Errorf("got\n%s", got)
	}
	for range 500 {
		r.steps = append(r.steps, &step{state: api.StepState{ID: "run", Status: api.StatusRunning}})
	}
	if got := strings.Count(r.details(), "\n| "); got != maxRows+1 {
		t.Errorf("%d rows", got)
	}
}
