package workflows

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tasklet"
)

const diamond = `
name: diamond
steps:
  a: {run: ./a, outputs: {x: int}}
  b: {run: ./b, with: {x: '${{ steps.a.outputs.x }}'}, outputs: {y: int}}
  c: {run: ./c, with: {x: '${{ steps.a.outputs.x }}'}, outputs: {y: int}}
  d: {run: ./d, with: {b: '${{ steps.b.outputs.y }}', c: '${{ steps.c.outputs.y }}'}, outputs: {z: string}}
`

func TestDiamond(t *testing.T) {
	w := newWorld(t, diamond, nil)
	w.script = func(in api.LaunchInput, p api.LaunchPartition) (tasklet.Result, time.Duration) {
		switch in.Step {
		case "a":
			return ok("x", "7"), time.Minute
		case "b":
			return ok("y", "1"), time.Minute
		case "c":
			return ok("y", "2"), time.Hour
		}
		return ok("z", fmt.Sprintf("%q", string(p.Inputs["b"])+"+"+string(p.Inputs["c"]))), time.Second
	}
	result := w.succeed()
	same(t, "output", string(result.Outputs["d"]["z"]), `"1+2"`)
	same(t, "b and c start together", w.started["b"], w.started["c"])
	if gap := w.started["d"].Sub(w.started["c"]); gap < time.Hour {
		t.Errorf("d started %v after c, which took an hour", gap)
	}

	info := w.infos[0]
	same(t, "queue", info.TaskQueue, "baas-launch-test")
	same(t, "heartbeat", info.HeartbeatTimeout, time.Minute)
	same(t, "activity ID", info.ActivityID, "a-1")
	in := w.launched[0]
	same(t, "run", in.Run, result.Run)
	same(t, "owner", in.Owner, "billing")
	same(t, "attempt", in.Attempt, 1)
	same(t, "grace", in.Grace, 30*time.Second)

	if len(w.saved) != 1 || w.saved[0].Status != api.StatusSucceeded || w.saved[0].Ended.IsZero() {
		t.Errorf("saved %+v, want the final state once", w.saved)
	}
	state := w.state()
	same(t, "app", state.App, "diamond")
	same(t, "instance", state.Instance, "diamond-k7q2m4xw5tza")
	same(t, "order date", state.OrderDate, "2026-01-31")
	same(t, "cpu", w.step("a").Usage.CPUSeconds, 1)
	same(t, "exit status", w.step("a").ExitStatus, "0")
}

func TestFailureSparesIndependentBranchAndRunsOnExit(t *testing.T) {
	w := newWorld(t, `
name: f
steps:
  bad: {run: ./x}
  needs_bad: {run: ./x, needs: [bad]}
  further: {run: ./x, needs: [needs_bad]}
  good: {run: ./x}
  after_good: {run: ./x, needs: [good]}
on_exit:
  report: {run: ./x, with: {status: '${{ run.status }}', step: '${{ run.failed_step }}', reason: '${{ run.reason }}'}}
  last: {run: ./x, needs: [report], when: '${{ steps.bad.status == "failed" }}'}
`, nil)
	w.script = func(in api.LaunchInput, _ api.LaunchPartition) (tasklet.Result, time.Duration) {
		if in.Step == "bad" {
			return exits(3), time.Second
		}
		return ok(), time.Minute
	}
	message := w.fail(api.ErrorRunFailed)
	want := "step bad: exit code 3; log: baas logs " + w.state().Run + "/bad"
	same(t, "message", message, want)
	w.statuses("bad=failed", "needs_bad=blocked", "further=blocked", "good=succeeded", "after_good=succeeded",
		"report=succeeded", "last=succeeded")
	same(t, "blocked reason", w.step("needs_bad").Reason, "needs bad, which is failed")

	exit := w.launches("report")[0].Partitions[0].Inputs
	same(t, "run.status", string(exit["status"]), `"failed"`)
	same(t, "run.failed_step", string(exit["step"]), `"bad"`)
	if !strings.Contains(string(exit["reason"]), "exit code 3") {
		t.Errorf("run.reason is %s", exit["reason"])
	}
	if w.started["report"].Before(w.started["after_good"].Add(time.Minute)) {
		t.Error("on_exit began before all steps had ended")
	}
	same(t, "saved", w.saved[0].Status, api.StatusFailed)

	var app *temporal.ApplicationError
	var details api.RunResult
	if err := w.env.GetWorkflowError(); !errors.As(err, &app) || app.Details(&details) != nil || details.Status != api.StatusFailed {
		t.Errorf("error details %+v of %v", details, app)
	}
}

func TestFailedOnExitFailsTheRun(t *testing.T) {
	w := newWorld(t, `
name: f
steps: {a: {run: ./x}}
on_exit: {clean: {run: ./x}}
`, nil)
	w.script = func(in api.LaunchInput, _ api.LaunchPartition) (tasklet.Result, time.Duration) {
		if in.Step == "clean" {
			return exits(1), time.Second
		}
		return ok(), time.Second
	}
	if message := w.fail(api.ErrorRunFailed); !strings.HasPrefix(message, "step clean: exit code 1") {
		t.Errorf("message %q", message)
	}
	w.statuses("a=succeeded", "clean=failed")
}

func TestSkippedStepCountsAsSuccess(t *testing.T) {
	w := newWorld(t, `
name: f
params: {full: {type: bool, default: false}}
steps:
  extra: {run: ./x, when: '${{ params.full }}', outputs: {n: int}}
  next: {run: ./x, needs: [extra], with: {n: '${{ has(steps.extra.outputs.n) ? steps.extra.outputs.n : -1 }}'}}
  asks: {run: ./x, when: '${{ steps.extra.status == "skipped" }}'}
`, nil)
	w.succeed()
	w.statuses("extra=skipped", "next=succeeded", "asks=succeeded")
	same(t, "n", string(w.launches("next")[0].Partitions[0].Inputs["n"]), "-1")
	if !w.step("extra").Started.IsZero() {
		t.Error("a skipped step has a start")
	}
}

func TestOutputOfSkippedStepFailsItsReader(t *testing.T) {
	w := newWorld(t, `
name: f
steps:
  extra: {run: ./x, when: '${{ 1 > 2 }}', outputs: {n: int}}
  reader: {run: ./x, with: {n: '${{ steps.extra.outputs.n }}'}}
`, nil)
	message := w.fail(api.ErrorRunFailed)
	for _, part := range []string{"step reader: with.n: ", "steps.extra.outputs.n", "skipped"} {
		if !strings.Contains(message, part) {
			t.Errorf("message %q lacks %q", message, part)
		}
	}
	same(t, "launched", len(w.launches("reader")), 0)
}

func TestEvaluationErrors(t *testing.T) {
	for _, tc := range []struct{ name, step, want string }{
		{"when", `{run: ./x, when: '${{ steps.a.outputs.list[5] == 1 }}'}`, "step b: when: ${{ steps.a.outputs.list[5] == 1 }}"},
		{"for_each", `{run: ./x, for_each: '${{ [steps.a.outputs.list[5]] }}'}`, "step b: for_each: ${{ [steps.a.outputs.list[5]] }}"},
		{"with", `{run: ./x, for_each: [0, 1, 5], with: {v: '${{ steps.a.outputs.list[item] }}'}}`,
			"step b, partition 2: with.v: ${{ steps.a.outputs.list[item] }}"},
		{"env", `{run: ./x, env: {V: '${{ string(steps.a.outputs.list[5]) }}'}}`, "step b: env.V: ${{ string(steps.a.outputs.list[5]) }}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, "name: f\nsteps:\n  a: {run: ./x, outputs: {list: list}}\n  b: "+tc.step+"\n", nil)
			w.script = always(ok("list", "[1,2]"))
			if message := w.fail(api.ErrorRunFailed); !strings.HasPrefix(message, tc.want) {
				t.Errorf("message %q, want it to begin with %q", message, tc.want)
			}
			same(t, "status", w.step("b").Status, api.StatusFailed)
		})
	}
}

func TestInvalidFlow(t *testing.T) {
	w := newWorld(t, diamond, nil)
	problems := "flow.yaml:3:1: one\nflow.yaml:4:1: two"
	w.prepareErr = temporal.NewNonRetryableApplicationError(problems, api.ErrorInvalidFlow, nil)
	same(t, "message", w.fail(api.ErrorInvalidFlow), problems)
	state := w.state()
	same(t, "status", state.Status, api.StatusFailed)
	same(t, "reason", state.Reason, problems)
	if len(w.launched)+len(w.saved) > 0 {
		t.Error("something was started")
	}
}

func TestWrongOrderDate(t *testing.T) {
	w := newWorld(t, diamond, nil)
	w.env.ExecuteWorkflow(api.WorkflowBatchFlow, api.RunInput{OrderDate: "31.1.2026"})
	var app *temporal.ApplicationError
	if err := w.env.GetWorkflowError(); !errors.As(err, &app) || app.Type() != api.ErrorInvalidFlow {
		t.Fatalf("error %v", err)
	}
	same(t, "prepared", len(w.prepared), 0)
}

func TestStateIsAnsweredBeforePrepare(t *testing.T) {
	w := newWorld(t, diamond, nil)
	w.prepareDelay = time.Hour
	w.script = func(in api.LaunchInput, _ api.LaunchPartition) (tasklet.Result, time.Duration) {
		return ok("x", "1", "y", "1", "z", `""`), time.Second
	}
	var early api.RunState
	w.env.RegisterDelayedCallback(func() { early = w.state() }, time.Minute)
	w.succeed()
	same(t, "status", early.Status, api.StatusRunning)
	same(t, "instance", early.Instance, "diamond-k7q2m4xw5tza")
	same(t, "steps", len(early.Steps), 0)
	same(t, "requested", early.Requested, "tester")
}

func TestSavingIsRetriedAndVisible(t *testing.T) {
	w := newWorld(t, "name: f\nsteps: {a: {run: ./x}}\n", nil)
	w.saveFailures = 5 // 31 s of backoff
	var running, saving string
	w.script = func(api.LaunchInput, api.LaunchPartition) (tasklet.Result, time.Duration) {
		return ok(), 10 * time.Second
	}
	w.env.RegisterDelayedCallback(func() { running = w.details() }, 5*time.Second)
	w.env.RegisterDelayedCallback(func() { saving = w.details() }, 20*time.Second)
	w.succeed()
	same(t, "saved", len(w.saved), 1)
	row := func(cells string) string { return strings.ReplaceAll(cells, " | ", gap+"| ") }
	if !strings.Contains(running, row("a | running | 0 of 1 | 1")) {
		t.Errorf("details while running:\n%s", running)
	}
	if !strings.Contains(saving, "Storing the last state") || !strings.Contains(saving, row("a | succeeded | 1 of 1")) {
		t.Errorf("details while saving:\n%s", saving)
	}
	if last := w.details(); strings.Contains(last, "Storing") || !strings.Contains(last, "· succeeded ·") {
		t.Errorf("details at the end:\n%s", last)
	}
}
