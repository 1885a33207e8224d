package workflows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

// gather answers with the files that Gather would write.
func (w *world) gather(ctx context.Context, in api.GatherInput) (api.GatherResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gathers = append(w.gathers, in)
	if w.gatherErr != nil {
		return api.GatherResult{}, w.gatherErr
	}
	var result api.GatherResult
	for _, name := range flow.ReduceInputs(in.Outputs) {
		key := api.GatherKey(api.StepPrefix(in.App, in.Run, in.Step), 1, name)
		result.Files = append(result.Files, tasklet.NewFileRef(key, 10, "ab", name))
	}
	if w.atOnce {
		return result, nil
	}
	token := activity.GetInfo(ctx).TaskToken
	w.env.RegisterDelayedCallback(func() { w.complete(token, result) }, max(w.gatherDelay, time.Millisecond))
	return api.GatherResult{}, activity.ErrResultPending
}

const reducing = `
name: f
params: {month: {type: string, default: '2026-01'}}
steps:
  render:
    run: ./x
    for_each: {from: 1, to: 40}
    min_success: 50%
    outputs: {sum: int, statement: file}
  total: {reduce: render, run: ./total, with: {month: '${{ params.month }}'}, outputs: {n: int}, retry: {attempts: 3, backoff: 1m}}
  plain: {reduce: render, run: ./plain}
  last: {run: ./x, with: {n: '${{ steps.total.outputs.n }}'}}
`

func TestReduce(t *testing.T) {
	w := newRanged(t, reducing, nil)
	w.plan.Settings.RangeSize = 15
	w.ranged = func(in api.LaunchInput) (api.RangeResult, time.Duration) {
		return losing(in, 1), time.Hour - time.Duration(in.Range.First)*time.Minute // the last ends first
	}
	w.script = func(in api.LaunchInput, _ api.LaunchPartition) (tasklet.Result, time.Duration) {
		if in.Step == "total" && in.Attempt < 3 {
			return exits(1), time.Second
		}
		return ok("n", "7"), time.Second
	}
	w.gatherDelay = time.Hour
	var details string
	var refusal answer
	w.env.RegisterDelayedCallback(func() {
		details = w.details()
		w.env.UpdateWorkflow(api.UpdateKillPartitions, "", &refusal, api.KillPartitionsRequest{Step: "total", Partitions: []int{0}})
	}, 90*time.Minute)
	w.succeed()
	same(t, "gatherings", len(w.gathers), 2)
	for _, in := range w.gathers {
		var manifests []string
		for _, ref := range in.Manifests {
			manifests = append(manifests, fmt.Sprint(ref.Key, "=", ref.N))
		}
		same(t, "manifests", strings.Join(manifests, " "), "manifests/render.0=15 manifests/render.15=15 manifests/render.30=10")
		same(t, "outputs", len(in.Outputs), 2)
		same(t, "owner and app", in.Owner+" "+in.App, "billing f")
		same(t, "run", in.Run, w.state().Run)
	}
	same(t, "attempts", len(w.launches("total")), 3)
	prefix := api.StepPrefix("f", w.state().Run, "total") + "gather/1/"
	for _, in := range w.launches("total") {
		inputs := in.Partitions[0].Inputs
		same(t, "inputs", len(inputs), 3)
		same(t, "month", string(inputs["month"]), `"2026-01"`)
		for _, name := range []string{"results", "statement"} {
			var ref tasklet.FileRef
			if err := json.Unmarshal(inputs[name], &ref); err != nil {
				t.Error(err)
			}
			same(t, name, ref, tasklet.NewFileRef(prefix+name, 10, "ab", name))
		}
	}
	same(t, "inputs without with", len(w.launches("plain")[0].Partitions[0].Inputs), 2)
	if !strings.Contains(details, "\n- **total**: gathers the results of render\n") {
		t.Errorf("details while it gathers:\n%s", details)
	}
	if strings.Contains(w.details(), "gathers") {
		t.Errorf("details at the end:\n%s", w.details())
	}
	var app *temporal.ApplicationError
	if !errors.As(refusal.err, &app) || !strings.Contains(app.Message(), "the results of render are being gathered") {
		t.Errorf("kill of a partition while it gathers: %v", refusal.err)
	}
	w.statuses("render=succeeded", "total=succeeded", "plain=succeeded", "last=succeeded")
}

func TestReduceOfNothing(t *testing.T) {
	for _, source := range []string{"for_each: '${{ params.none }}'", "for_each: [1], when: false"} {
		w := newRanged(t, `
name: f
params: {none: {type: list, default: []}}
steps:
  many: {run: ./x, `+source+`}
  total: {reduce: many, run: ./x}
`, nil)
		w.succeed()
		same(t, "gatherings", len(w.gathers), 1)
		same(t, "manifests", len(w.gathers[0].Manifests), 0)
		same(t, "inputs", len(w.launches("total")[0].Partitions[0].Inputs), 1)
	}
}

func TestReduceThatFails(t *testing.T) {
	const source = "name: f\nsteps:\n  many: {run: ./x, for_each: [1, 2]}\n  total: {reduce: many, run: ./x}\n  next: {run: ./x, needs: [total]}\n"
	w := newRanged(t, source, nil)
	w.gatherErr = temporal.NewNonRetryableApplicationError("the file does not belong to the app: x", api.ErrorInvalidResults, nil)
	same(t, "message", w.fail(api.ErrorRunFailed), "step total: reduce: the file does not belong to the app: x")
	w.statuses("many=succeeded", "total=failed", "next=blocked")
	same(t, "launches", len(w.launches("total")), 0)

	w = newRanged(t, source, nil)
	w.ranged = func(in api.LaunchInput) (api.RangeResult, time.Duration) { return losing(in, 1), time.Second }
	w.fail(api.ErrorRunFailed)
	w.statuses("many=failed", "total=blocked", "next=blocked")
	same(t, "gatherings", len(w.gathers), 0)

	w = newWorld(t, source, nil)
	if message := w.fail(api.ErrorRunFailed); !strings.Contains(message, "step total: min_success, fail_fast, reduce and items") {
		t.Error(message)
	}
}

func TestKillWhileResultsAreGathered(t *testing.T) {
	w := newRanged(t, "name: f\nsteps:\n  many: {run: ./x, for_each: [1, 2]}\n  total: {reduce: many, run: ./x}\n  next: {run: ./x, needs: [total]}\n", nil)
	w.gatherDelay = 10 * time.Hour
	var gathers int
	w.env.RegisterDelayedCallback(func() { gathers = len(w.gathers); w.env.CancelWorkflow() }, time.Hour)
	w.killedRun()
	same(t, "gatherings", gathers, 1)
	w.statuses("many=succeeded", "total=killed", "next=blocked")
	same(t, "launches", len(w.launches("total")), 0)
	same(t, "reason", w.step("total").Reason, "killed on request")
	if took := w.state().Ended.Sub(w.state().Started); took > 2*time.Hour {
		t.Errorf("the run ended after %s: it waited for the gathering", took)
	}
}

// A new history goes on with what a step has got, and with what another one will want.
func TestRunContinuesBetweenGatheringAndLaunch(t *testing.T) {
	const source = `
name: f
steps:
  many: {run: ./x, for_each: [1, 2, 3], outputs: {f: file}}
  total: {reduce: many, run: ./x}
  later: {reduce: many, needs: [total], run: ./x}
`
	w := newRanged(t, source, nil)
	w.gatherDelay = time.Hour
	w.env.RegisterDelayedCallback(func() { w.env.SetCurrentHistoryLength(fullHistory) }, 30*time.Minute)
	in := w.first()
	same(t, "gatherings", len(w.gathers), 1)
	same(t, "launches of total", len(w.launches("total")), 0)

	next := newRanged(t, source, nil)
	next.env.SetContinuedExecutionRunID("before")
	next.env.ExecuteWorkflow(api.WorkflowBatchFlow, in)
	if err := next.env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	next.statuses("many=succeeded", "total=succeeded", "later=succeeded")
	same(t, "inputs", len(next.launches("total")[0].Partitions[0].Inputs), 2)
	same(t, "gatherings of the second history", len(next.gathers), 1)
	same(t, "step", next.gathers[0].Step, "later")
	same(t, "manifests", len(next.gathers[0].Manifests), 1)
	same(t, "manifest", next.gathers[0].Manifests[0].Key, w.gathers[0].Manifests[0].Key)
}
