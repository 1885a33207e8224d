package workflows

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

func TestItemsInStorage(t *testing.T) {
	w := newRanged(t, `
name: f
params: {file: file, dir: directory}
steps:
  lines: {run: ./x, for_each: {lines: '${{ params.file }}'}, with: {l: '${{ item }}'}}
  values: {run: ./x, for_each: {values: '${{ params.file }}'}}
  files: {run: ./x, for_each: {files: '${{ params.dir }}'}, with: {f: '${{ item }}'}}
  objects: {run: ./x, for_each: {objects: 'in/${{ run.date }}/'}}
`, map[string]any{
		"file": tasklet.NewFileRef("files/x", 1, "ab", "x"),
		"dir":  tasklet.FileRef{Tag: tasklet.FileRefTag, Key: "files/d", Size: 1, SHA256: "ab", Form: tasklet.FormArchive},
	})
	w.items = 7000
	w.succeed()
	same(t, "listings", len(w.listed), 4)
	for _, in := range w.listed {
		same(t, "run", in.Run, w.state().Run)
		same(t, "owner", in.Owner, "billing")
		same(t, "app", in.App, "f")
		switch in.Step {
		case "lines":
			same(t, "lines", in.Lines.Key, "files/x")
		case "values":
			same(t, "values", in.Values.Key, "files/x")
		case "files":
			same(t, "files", in.Files.Key, "files/d")
		case "objects":
			same(t, "objects", in.Objects, "in/2026-01-31/")
		}
	}
	same(t, "launches", len(w.launched), 8)
	same(t, "items", w.launches("lines")[1].Range.Items.Object.N, 7000)
	same(t, "done", w.step("files").Done, 7000)
}

func TestItemsThatCannotBeListed(t *testing.T) {
	const source = "name: f\nsteps:\n  many: {run: ./x, for_each: {objects: in/}, min_success: 0}\n  next: {run: ./x, needs: [many]}\n"
	w := newRanged(t, source, nil)
	w.listErr = temporal.NewNonRetryableApplicationError("there is no object below in/", api.ErrorInvalidItems, nil)
	same(t, "message", w.fail(api.ErrorRunFailed), "step many: for_each: there is no object below in/")
	w.statuses("many=failed", "next=blocked")

	w = newRanged(t, source, nil)
	w.items = flow.MaxPartitions + 1
	same(t, "message", w.fail(api.ErrorRunFailed), "step many: for_each: 1000001 items, at most 1000000 are allowed")
}

func TestItemsAndInputsThatAreTooLarge(t *testing.T) {
	w := newRanged(t, `
name: f
params: {text: string}
steps: {many: {run: ./x, for_each: ['${{ params.text }}'], min_success: 0}}
`, map[string]any{"text": strings.Repeat("x", maxRangeItems)})
	same(t, "message", w.fail(api.ErrorRunFailed),
		"step many: for_each: element 0: it has 262146 bytes, at most 262144 are allowed: pass large values as files")

	w = newRanged(t, `
name: f
params: {text: string}
steps: {many: {run: ./x, for_each: [1], with: {t: '${{ params.text }}'}, min_success: 0}}
`, map[string]any{"text": strings.Repeat("x", flow.MaxTemplate)})
	if message := w.fail(api.ErrorRunFailed); !strings.Contains(message, "(with.t has 262,146): pass large values as files") {
		t.Error(message)
	}
	same(t, "launches", len(w.launched), 0)
}

func TestRangesAreForNewRuns(t *testing.T) {
	for _, field := range []string{"for_each: {objects: in/}", "for_each: [1], min_success: 1", "for_each: [1], fail_fast: true"} {
		w := newWorld(t, "name: f\nsteps:\n  many: {run: ./x, "+field+"}\n", nil)
		if message := w.fail(api.ErrorRunFailed); !strings.Contains(message, "not for runs of this platform") {
			t.Errorf("%s: %s", field, message)
		}
	}
}

func TestKillOfRanges(t *testing.T) {
	w := newRanged(t, `
name: f
steps:
  many: {run: ./x, for_each: {from: 0, to: 39}, parallel: 2, min_success: 0}
  next: {run: ./x, needs: [many]}
`, nil)
	w.plan.Settings.RangeSize = 10
	w.ranged = func(in api.LaunchInput) (api.RangeResult, time.Duration) {
		return losing(in, 1), time.Hour + time.Duration(in.Range.First)*time.Minute
	}
	w.env.RegisterDelayedCallback(w.env.CancelWorkflow, 90*time.Minute)
	w.killedRun()
	w.statuses("many=killed", "next=blocked")
	same(t, "kills", len(w.kills), 1)
	same(t, "step", w.kills[0].Step, "")
	same(t, "launches", len(w.launched), 4)
	step := w.step("many")
	same(t, "done", step.Done, 18)
	same(t, "failed", step.Failed, 2)
	if !strings.HasPrefix(step.Reason, "killed on request; before that: partition 0: exit code 3") {
		t.Error(step.Reason)
	}
}

func TestKillOfPartitions(t *testing.T) {
	w := newRanged(t, `
name: f
steps:
  many: {run: ./x, for_each: {from: 0, to: 39}, parallel: 2, min_success: 38}
  next: {run: ./x, needs: [many]}
`, nil)
	w.plan.Settings.RangeSize = 10
	w.ranged = func(in api.LaunchInput) (api.RangeResult, time.Duration) {
		r := well(in)
		if in.Range.First == 10 {
			r.Succeeded, r.Killed = 8, 2
		}
		return r, time.Hour
	}
	request := api.KillPartitionsRequest{Step: "many", Partitions: []int{12, 11, 12}, By: "ann", Reason: "hangs"}
	var taken answer
	var refusals []*answer
	w.env.RegisterDelayedCallback(func() {
		w.env.UpdateWorkflow(api.UpdateKillPartitions, "", &taken, request)
		for _, wrong := range []api.KillPartitionsRequest{
			{Step: "none", Partitions: []int{1}}, {Step: "next", Partitions: []int{0}}, {Step: "many"},
			{Step: "many", Partitions: []int{40}}, {Step: "many", Partitions: []int{-1}}, {Step: "many", Partitions: []int{25}},
			{Step: "many", Partitions: make([]int, api.MaxKillPartitions+1)},
		} {
			a := &answer{}
			w.env.UpdateWorkflow(api.UpdateKillPartitions, "", a, wrong)
			refusals = append(refusals, a)
		}
	}, 30*time.Minute)
	w.succeed()
	for i, refusal := range refusals {
		var app *temporal.ApplicationError
		if !errors.As(refusal.err, &app) || app.Type() != api.ErrorRefused {
			t.Errorf("request %d: %v, want ErrorRefused", i, refusal.err)
		}
	}
	same(t, "refusals", len(refusals), 7)
	same(t, "error", taken.err, nil)
	same(t, "answer", taken.kill.Count, 2)
	same(t, "kills", len(w.kills), 1)
	kill := w.kills[0]
	same(t, "kill", fmt.Sprint(kill.WorkflowID, kill.Step, kill.Partitions, kill.Reason), "f-k7q2m4xw5tzamany[11 12]killed by ann: hangs")
	if kill.RunID == "" {
		t.Error("the kill names no run")
	}
	state := w.state()
	same(t, "recorded", len(state.Kills), 1)
	same(t, "spans", state.Kills[0].Spans, "#11–12")
	step := w.step("many")
	same(t, "killed", step.Killed, 2)
	same(t, "done", step.Done, 38)
	same(t, "reason", step.Reason, "2 of 40 partitions did not succeed, as min_success allows; the first: 2 partitions were killed on request")
}
