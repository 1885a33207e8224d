package workflows

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tasklet"
)

// first runs a history to the point where the run goes on in another, and gives the
// argument of that one.
func (w *world) first() api.RunInput {
	w.t.Helper()
	_, err := w.run()
	var next *workflow.ContinueAsNewError
	if !errors.As(err, &next) {
		w.t.Fatalf("the run ended with %v, want it to continue", err)
	}
	same(w.t, "workflow", next.WorkflowType.Name, api.WorkflowBatchFlow)
	var in api.RunInput
	if err := converter.GetDefaultDataConverter().FromPayloads(next.Input, &in); err != nil {
		w.t.Fatal(err)
	}
	if in.Continued == nil {
		w.t.Fatal("the argument carries nothing")
	}
	same(w.t, "saved", len(w.saved), 0)
	return in
}

const continuable = `
name: f
params: {p: {type: int, default: 5}}
steps:
  a: {run: ./x, outputs: {v: int}}
  b: {run: ./x, needs: [a], retry: {attempts: 3, backoff: 1h}, with: {v: '${{ steps.a.outputs.v + params.p }}'}}
  c: {run: ./x, needs: [b], with: {v: '${{ steps.a.outputs.v }}'}}
on_exit: {tidy: {run: ./x, with: {status: '${{ run.status }}'}}}
`

func TestRunContinuesInABackoff(t *testing.T) {
	w := newRanged(t, continuable, nil)
	w.env.SetContinueAsNewSuggested(true)
	w.script = func(in api.LaunchInput, _ api.LaunchPartition) (tasklet.Result, time.Duration) {
		if in.Step == "b" {
			return exits(1), time.Minute
		}
		return ok("v", "7"), time.Minute
	}
	in := w.first()
	same(t, "launches", len(w.launched), 2)
	before := w.state()

	next := newRanged(t, continuable, nil)
	next.env.SetContinuedExecutionRunID("before")
	next.env.SetStartTime(before.Started.Add(3 * time.Minute))
	next.script = always(ok("v", "9"))
	next.env.ExecuteWorkflow(api.WorkflowBatchFlow, in)
	if err := next.env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	next.statuses("a=succeeded", "b=succeeded", "c=succeeded", "tidy=succeeded")
	same(t, "prepared", len(next.prepared), 0)
	same(t, "launches", len(next.launched), 3)
	same(t, "attempt", next.launched[0].Attempt, 2)
	same(t, "ID", next.infos[0].ActivityID, "b-2")
	same(t, "input", string(next.launched[0].Partitions[0].Inputs["v"]), "12")
	same(t, "input of c", string(next.launched[1].Partitions[0].Inputs["v"]), "7")
	after := next.state()
	same(t, "started", after.Started, before.Started)
	same(t, "run", after.Run, before.Run)
	same(t, "requested", after.Requested, "tester")
	same(t, "retries", next.step("b").Retries, 1)
	same(t, "cpu", next.step("a").Usage.CPUSeconds, 1)
	if wait := next.started["b"].Sub(before.Started); wait < time.Hour || wait > time.Hour+10*time.Minute {
		t.Errorf("the second attempt came after %v, want the backoff of the first history", wait)
	}
	same(t, "saved", len(next.saved), 1)
}

// A full history launches nothing more but the ranges of steps that have begun.
func TestRunDrainsBeforeItContinues(t *testing.T) {
	const source = `
name: f
steps:
  short: {run: ./x}
  next: {run: ./x, needs: [short]}
  many: {run: ./x, for_each: {from: 0, to: 39}, parallel: 1, outputs: {n: int}}
  sum: {run: ./x, with: {n: '${{ steps.many.outputs.n[39] }}'}}
on_exit: {tidy: {run: ./x}}
`
	w := newRanged(t, source, nil)
	w.plan.Settings.RangeSize = 10
	w.env.RegisterDelayedCallback(func() { w.env.SetCurrentHistoryLength(fullHistory) }, 30*time.Second)
	w.script = func(api.LaunchInput, api.LaunchPartition) (tasklet.Result, time.Duration) { return ok(), time.Minute }
	in := w.first()
	same(t, "launches of next", len(w.launches("next")), 0)
	same(t, "launches of many", len(w.launches("many")), 4)
	same(t, "launches of sum", len(w.launches("sum")), 0)

	next := newRanged(t, source, nil)
	next.env.SetContinuedExecutionRunID("before")
	next.env.ExecuteWorkflow(api.WorkflowBatchFlow, in)
	if err := next.env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	next.statuses("short=succeeded", "next=succeeded", "many=succeeded", "sum=succeeded", "tidy=succeeded")
	same(t, "launches", len(next.launched), 3)
	same(t, "input", string(next.launches("sum")[0].Partitions[0].Inputs["n"]), "39")
}

// A kill of the first history is known in the second, whose on_exit runs to its end.
func TestKilledRunContinuesInOnExit(t *testing.T) {
	const source = `
name: f
steps: {a: {run: ./x}}
on_exit:
  one: {run: ./x, retry: {attempts: 2, backoff: 1h}}
  two: {run: ./x, needs: [one], with: {s: '${{ run.status }}', r: '${{ run.reason }}'}}
`
	w := newRanged(t, source, nil)
	w.script = func(in api.LaunchInput, _ api.LaunchPartition) (tasklet.Result, time.Duration) {
		return exits(1), time.Hour
	}
	w.env.RegisterDelayedCallback(func() {
		w.env.SetContinueAsNewSuggested(true)
		w.env.SignalWorkflow(api.SignalKill, api.KillRequest{By: "ann"})
		w.env.CancelWorkflow()
	}, time.Minute)
	in := w.first()
	next := newRanged(t, source, nil)
	next.env.SetContinuedExecutionRunID("before")
	next.env.RegisterDelayedCallback(next.env.CancelWorkflow, time.Minute) // changes nothing
	next.env.ExecuteWorkflow(api.WorkflowBatchFlow, in)
	next.statuses("a=killed", "one=succeeded", "two=succeeded")
	same(t, "status", string(next.launches("two")[0].Partitions[0].Inputs["s"]), `"killed"`)
	same(t, "reason", next.state().Reason, "killed by ann")
	same(t, "saved", next.saved[0].Status, api.StatusKilled)
}

func TestNobodyElseContinuesARun(t *testing.T) {
	w := newRanged(t, continuable, nil)
	w.env.ExecuteWorkflow(api.WorkflowBatchFlow, api.RunInput{Continued: &api.Continued{Plan: w.plan}})
	if err := w.env.GetWorkflowError(); err == nil || !strings.Contains(err.Error(), "only the run itself may do that") {
		t.Errorf("got %v", err)
	}
	same(t, "launches", len(w.launched), 0)
}

func TestRunsThatDoNotContinue(t *testing.T) {
	for name, prepare := range map[string]func(*world){
		"without ranges": func(w *world) { w.plan.Settings.RangeSize = 0 },
		"too large":      func(w *world) { w.plan.Flow.Description = strings.Repeat("x", maxContinued) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newRanged(t, continuable, nil)
			prepare(w)
			w.env.SetCurrentHistoryLength(fullHistory)
			w.script = always(ok("v", "7"))
			w.succeed()
			same(t, "launches", len(w.launched), 4)
		})
	}
}
