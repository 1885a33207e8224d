package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/retention"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tests/harness"
)

const sweptFlow = `
name: swept
retention: {runs: 1}
params:
  do: string
  after: {type: file, required: false}
steps:
  make:
    run: eval "$BAAS_INPUT_DO"; echo made >$BAAS_OUTPUTS/file
    with: {do: '${{ params.do }}'}
    outputs: {file: file}
`

// paused gives the schedule that workers make, which from now on starts nothing by itself.
func paused(t *testing.T, p target) client.ScheduleHandle {
	t.Helper()
	schedule := p.client.ScheduleClient().GetHandle(t.Context(), api.SweepScheduleID)
	harness.Eventually(t, "the sweep is scheduled", func() bool {
		return schedule.Pause(t.Context(), client.SchedulePauseOptions{}) == nil
	})
	return schedule
}

// TestSweep has the nightly sweep run by its schedule, while one run is open.
func TestSweep(t *testing.T) {
	p := of(start(t))
	schedule := paused(t, p)
	harness.Eventually(t, "the store is the one of this Temporal", func() bool {
		var home api.StoreHome
		err := storage.GetJSON(t.Context(), p.store, api.StoreHomeKey, 1<<10, &home)
		return err == nil && home.Namespace == client.DefaultNamespace && home.NamespaceID != ""
	})
	files := map[string]string{"flow.yaml": sweptFlow}
	do := func(command string) string {
		r := run(t, p, files, map[string]string{"do": command})
		if last := ended(t, p, r, 2*time.Minute); (last.Status == api.StatusFailed) != (command == "exit 1") {
			t.Fatal(show(last))
		}
		return api.RunID(r.GetID(), r.GetRunID())
	}
	first, second, third, failed := do("true"), do("echo 2"), do("echo 3"), do("exit 1")
	g := newGate(t)
	waiting := run(t, p, files, map[string]string{"do": "read x <" + g.path})
	live := api.RunID(waiting.GetID(), waiting.GetRunID())
	harness.Eventually(t, "the last run's task runs", func() bool {
		state, err := p.runs().Describe(t.Context(), live)
		return err == nil && len(state.Steps) == 1 && state.Steps[0].Running == 1
	})
	for _, key := range []string{api.OutputKey(api.StepPrefix("swept", live, "make"), 0, 1, 1, "file"), "runs/swept/strange/x"} {
		if _, err := storage.PutBytes(t.Context(), p.store, key, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}

	has := func(what string, want map[string]bool) {
		t.Helper()
		for id, want := range want {
			page, err := p.store.List(t.Context(), storage.ListOptions{Prefix: api.RunPrefix("swept", id)})
			if err != nil {
				t.Fatal(err)
			}
			if got := len(page.Items) > 0; got != want {
				t.Errorf("%s: objects of %s are there: %v, want %v", what, id, got, want)
			}
		}
	}
	all := map[string]bool{first: true, second: true, third: true, failed: true, live: true}
	has("before", all)
	var shown []retention.Item
	dry, err := p.runs().Sweep(t.Context(), starter.SweepOptions{DryRun: true, Each: func(i retention.Item) { shown = append(shown, i) }})
	if err != nil || len(dry.Apps) != 1 || dry.Apps[0].Swept != 2 || dry.Apps[0].Kept != 2 || len(shown) != 2 {
		t.Fatalf("dry run: %+v, %+v, %v", dry, shown, err)
	}
	has("after the dry run", all)

	result := nightly(t, p, schedule)
	if result.Swept.Runs != 2 || result.Kept != 2 || result.Apps != 1 || result.Swept.Objects < 4 {
		t.Errorf("the sweep says %+v", result)
	}
	has("after the sweep", map[string]bool{first: false, second: false, third: true, failed: true, live: true})

	g.open(t)
	last := succeeded(t, p, waiting, 2*time.Minute)
	if _, err := p.runs().Download(t.Context(), last.Outputs()[0], t.TempDir()); err != nil {
		t.Errorf("the output of the run that was open: %v", err)
	}
	if result = nightly(t, p, schedule); result.Swept.Runs != 1 {
		t.Errorf("the second sweep says %+v", result)
	}
	has("after the second sweep", map[string]bool{third: false, failed: true, live: true})
}

// nightly triggers the schedule and waits for the sweep.
func nightly(t *testing.T, p target, schedule client.ScheduleHandle) (result api.SweepResult) {
	t.Helper()
	actions := func() int {
		d, err := schedule.Describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return d.Info.NumActions
	}
	before := actions()
	if err := schedule.Trigger(t.Context(), client.ScheduleTriggerOptions{}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the schedule starts a sweep", func() bool { return actions() > before })
	d, err := schedule.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	started := d.Info.RecentActions[len(d.Info.RecentActions)-1].StartWorkflowResult
	if err := p.client.GetWorkflow(t.Context(), started.WorkflowID, started.FirstExecutionRunID).Get(t.Context(), &result); err != nil {
		t.Fatal(err)
	}
	return result
}

// TestSweepKeepsWhatAnOpenRunWasGiven: a key that stands in a parameter protects the
// run that it belongs to; when that run is gone all the same, nobody can be given it.
func TestSweepKeepsWhatAnOpenRunWasGiven(t *testing.T) {
	p := of(start(t))
	paused(t, p)
	files := map[string]string{"flow.yaml": sweptFlow}
	var runs []string
	var outputs []starter.Output
	for _, command := range []string{"true", "echo 2"} {
		last := succeeded(t, p, run(t, p, files, map[string]string{"do": command}), 2*time.Minute)
		runs, outputs = append(runs, last.Run), append(outputs, last.Outputs()...)
	}
	g := newGate(t)
	dir := dir(t)
	if err := os.WriteFile(filepath.Join(dir, "flow.yaml"), []byte(sweptFlow), 0o644); err != nil {
		t.Fatal(err)
	}
	give := func(do string) (starter.Started, error) {
		return p.runs().Start(t.Context(), starter.StartOptions{
			File: filepath.Join(dir, "flow.yaml"), Params: map[string]any{"do": do, "after": outputs[0].Files[0]},
		})
	}
	given, err := give("read x <" + g.path)
	if err != nil {
		t.Fatal(err)
	}
	sweep := func() (report retention.Report) {
		t.Helper()
		swept, err := p.runs().Sweep(t.Context(), starter.SweepOptions{App: "swept"})
		if err != nil || len(swept.Apps) != 1 {
			t.Fatalf("%+v, %v", swept, err)
		}
		return swept.Apps[0]
	}
	harness.Eventually(t, "the listing shows the open run", func() bool {
		list, err := p.runs().List(t.Context(), starter.ListOptions{Status: api.StatusRunning})
		return err == nil && slices.ContainsFunc(list, func(s starter.Summary) bool { return s.Run == given.Run })
	})
	if r := sweep(); r.Swept != 0 || r.Kept != 2 {
		t.Errorf("while the run is open: %+v", r)
	}
	g.open(t)
	succeeded(t, p, p.client.GetWorkflow(t.Context(), given.Instance, given.FirstID), 2*time.Minute)
	// The newest success now names the first run, and the second is named by nobody.
	if r := sweep(); r.Swept != 1 || r.Kept != 2 {
		t.Errorf("after its end: %+v", r)
	}
	if state, err := p.runs().Describe(t.Context(), runs[0]); err != nil || state.Status != api.StatusSucceeded {
		t.Errorf("%+v, %v", state, err)
	}

	// A sweep that has begun is told to whoever is given what it removes.
	var record api.RunRecord
	if err := storage.GetJSON(t.Context(), p.store, api.RunRecordKey("swept", runs[0]), 1<<20, &record); err != nil {
		t.Fatal(err)
	}
	record.Sweep = api.SweepBegun
	if _, err := storage.PutJSON(t.Context(), p.store, api.RunRecordKey("swept", runs[0]), record); err != nil {
		t.Fatal(err)
	}
	late, err := give("true")
	if err != nil {
		t.Fatal(err)
	}
	err = p.client.GetWorkflow(t.Context(), late.Instance, late.FirstID).Get(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "run "+runs[0]+" is past its retention") {
		t.Errorf("a run that is given what is being swept: %v", err)
	}
}
