package cli

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/retention"
	"github.com/baas-batch/baas/starter"
)

var sweptItems = []retention.Item{
	{App: "a", Run: "a-1-2", What: retention.WhatRun, Reason: "succeeded, ended 2026-01-01 00:00:00 UTC", Tally: retention.Tally{Objects: 3, Bytes: 1500}},
	{App: "b", Run: "b-1-2", What: retention.WhatNoLogs, Reason: "failed, ended 2026-01-01 00:00:00 UTC", Tally: retention.Tally{Objects: 1, Bytes: 10}},
	{App: "b", Run: "b-1-3", What: retention.WhatUpload, Key: "runs/b/b-1-3/work/outputs/0/x", Reason: "unfinished since 2026-01-01 00:00:00 UTC"},
}

func sweepBench(t *testing.T, asked *[]starter.SweepOptions) *bench {
	b := newBench(t)
	b.runs.sweep = func(_ context.Context, o starter.SweepOptions) (starter.Swept, error) {
		*asked = append(*asked, o)
		for _, i := range sweptItems {
			o.Each(i)
			o.Progress(i.Tally)
		}
		return starter.Swept{Uploads: 1, Apps: []retention.Report{
			{App: "a", Rules: flow.Retention{Runs: 2}, Kept: 2, Swept: 1, Tally: retention.Tally{Objects: 3, Bytes: 1500}},
			{App: "b", Kept: 1, Swept: 1, Tally: retention.Tally{Objects: 1, Bytes: 10}},
		}}, nil
	}
	return b
}

func TestStorageSweep(t *testing.T) {
	var asked []starter.SweepOptions
	b := sweepBench(t, &asked)
	got := b.says(ExitDone, "storage", "sweep", "--app", "a", "--retention", "outputs=30d,runs=2")
	want := `a
     1.5 kB       3 objects  a-1-2
                             succeeded, ended 2026-01-01 00:00:00 UTC
b
       10 B        1 object  b-1-2 (run but its logs)
                             failed, ended 2026-01-01 00:00:00 UTC
                             unfinished upload runs/b/b-1-3/work/outputs/0/x
                             unfinished since 2026-01-01 00:00:00 UTC
a: 2 ended runs kept, by the rules runs=2
To be removed: 2 runs with 4 objects, 1.5 kB, 1 unfinished upload. Remove them with --yes.
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if o := asked[0]; !o.DryRun || o.App != "a" || o.Rules != (flow.Retention{Outputs: flow.Duration(30 * 24 * time.Hour), Runs: 2}) {
		t.Errorf("asked for %+v", o)
	}
	b.env["BAAS_RETENTION"] = "failed=1d"
	if got := b.says(ExitDone, "storage", "sweep", "--yes"); !strings.Contains(got, "Removed: 2 runs with 4 objects, 1.5 kB, 1 unfinished upload. Kept: 3 ended runs, and all open ones.\n") {
		t.Error(got)
	}
	if o := asked[1]; o.DryRun || o.App != "" || o.Rules.FailedFor() != 24*time.Hour {
		t.Errorf("asked for %+v", o)
	}
	var out struct {
		DryRun bool             `json:"dry_run"`
		Items  []retention.Item `json:"items"`
		Apps   []retention.Report
	}
	if err := json.Unmarshal([]byte(b.says(ExitDone, "storage", "sweep", "-o", "json")), &out); err != nil || !out.DryRun || len(out.Items) != 3 || len(out.Apps) != 2 {
		t.Errorf("%+v, %v", out, err)
	}
	if len(b.closed) != 3 {
		t.Errorf("closed %d times", len(b.closed))
	}
}

func TestStorageSweepMistakes(t *testing.T) {
	var asked []starter.SweepOptions
	b := sweepBench(t, &asked)
	for args, want := range map[string]string{
		"sweep a":                       "usage: baas storage sweep",
		"sweep --yes --dry-run":         "give one of them",
		"sweep --retention outputs=x":   "--retention: outputs: expected a duration",
		"sweep --upload-age 5m":         "--upload-age is 5m0s: at least 1h",
		"ls --app a":                    "--app is for sweep",
		"du --dry-run":                  "--dry-run is for sweep",
		"ls --retention runs=1":         "--retention is for sweep",
		"rm x --upload-age 2h":          "--upload-age is for sweep",
		"sweep --retention keep=30d -q": "unknown option --q",
	} {
		if got := b.says(ExitUsage, append([]string{"storage"}, strings.Fields(args)...)...); !strings.Contains(got, want) {
			t.Errorf("%s: %q", args, got)
		}
	}
	if len(asked) > 0 {
		t.Errorf("asked for %+v", asked)
	}
	b.runs.sweep = func(context.Context, starter.SweepOptions) (starter.Swept, error) {
		return starter.Swept{}, &starter.UnreachableError{What: "Temporal", Address: "x", Err: errors.New("down")}
	}
	if got := b.says(ExitUnreachable, "storage", "sweep"); strings.Contains(got, "nothing to remove") {
		t.Error(got)
	}
	b.withoutPlatform()
	if got := b.says(ExitUnreachable, "storage", "sweep", "--storage", "file:///x"); !strings.Contains(got, "asks Temporal") {
		t.Error(got)
	}
}

// Ctrl-C ends a sweep, and says that it can be gone on with.
func TestStorageSweepInterrupted(t *testing.T) {
	b := newBench(t)
	b.runs.sweep = func(ctx context.Context, _ starter.SweepOptions) (starter.Swept, error) {
		b.interrupt <- struct{}{}
		<-ctx.Done()
		return starter.Swept{}, ctx.Err()
	}
	if got := b.says(ExitFailed, "storage", "sweep", "--yes"); !strings.Contains(got, "the next sweep goes on from here") {
		t.Error(got)
	}
}
