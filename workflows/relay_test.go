package workflows

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tasklet"
)

const single = "name: f\nsteps: {a: {run: ./x, outputs: {v: int}}}\n"

func TestWrongIDRelaysResult(t *testing.T) {
	w := newWorld(t, single, nil)
	w.as("started-by-somebody")
	var relaying, running api.RunState
	w.atOnce = true
	w.script = func(api.LaunchInput, api.LaunchPartition) (tasklet.Result, time.Duration) {
		relaying = w.state()
		running = decodeState(t)(w.env.QueryWorkflowByID("f-k7q2m4xw5tza", api.QueryState))
		return ok("v", "1"), 0
	}
	result := w.succeed()

	same(t, "output", string(result.Outputs["a"]["v"]), "1")
	if relaying.Relay == nil || relaying.Relay.WorkflowID != "f-k7q2m4xw5tza" || relaying.Relay.RunID == "" {
		t.Fatalf("relay %+v", relaying.Relay)
	}
	same(t, "relaying status", relaying.Status, api.StatusRunning)
	same(t, "run", relaying.Run, result.Run)
	if !strings.HasPrefix(result.Run, "f-k7q2m4xw5tza-") {
		t.Errorf("run %q", result.Run)
	}
	same(t, "child's steps", len(running.Steps), 1)
	if running.Relay != nil {
		t.Error("the child relays too")
	}
	same(t, "order date of the child", w.prepared[1].Run.OrderDate, "2026-01-31")
	same(t, "saved by the child only", len(w.saved), 1)
	same(t, "status at the end", w.state().Status, api.StatusSucceeded)
}

func TestWrongIDRelaysFailure(t *testing.T) {
	w := newWorld(t, single, nil)
	w.as("started-by-somebody")
	w.atOnce, w.script = true, always(exits(4))
	if message := w.fail(api.ErrorRunFailed); !strings.HasPrefix(message, "step a: exit code 4; log: baas logs f-k7q2m4xw5tza-") {
		t.Errorf("message %q", message)
	}
}

func TestWrongIDRelaysCancel(t *testing.T) {
	w := newWorld(t, single, nil)
	w.as("started-by-somebody")
	w.script = func(api.LaunchInput, api.LaunchPartition) (tasklet.Result, time.Duration) { return ok(), time.Hour }
	w.env.RegisterDelayedCallback(w.env.CancelWorkflow, time.Minute)
	w.killedRun()
	same(t, "killed by the child", len(w.kills), 1)
	same(t, "workflow", w.kills[0].WorkflowID, "f-k7q2m4xw5tza")
	same(t, "status", w.saved[0].Status, api.StatusKilled)
}

func TestRunningInstanceIsNamed(t *testing.T) {
	w := newWorld(t, single, nil)
	w.script = func(api.LaunchInput, api.LaunchPartition) (tasklet.Result, time.Duration) {
		return ok("v", "1"), time.Hour
	}
	// The instance runs already when somebody starts it under another ID.
	w.env.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
		start := func(id string) workflow.ChildWorkflowFuture {
			return workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
				WorkflowID: id, WorkflowRunTimeout: 100 * time.Hour,
			}), api.WorkflowBatchFlow, api.RunInput{})
		}
		if err := start("f-k7q2m4xw5tza").GetChildWorkflowExecution().Get(ctx, nil); err != nil {
			return err
		}
		return cause(start("started-by-somebody").Get(ctx, nil))
	}, workflow.RegisterOptions{Name: "Outer"})
	w.as("outer")
	w.env.ExecuteWorkflow("Outer")
	var app *temporal.ApplicationError
	if err := w.env.GetWorkflowError(); !errors.As(err, &app) || app.Type() != api.ErrorAlreadyRunning {
		t.Fatalf("error %v, want %s", err, api.ErrorAlreadyRunning)
	}
	if !strings.Contains(app.Message(), "instance f-k7q2m4xw5tza has a run that has not ended") {
		t.Errorf("message %q", app.Message())
	}
}

func TestRelayedRunUnderWrongIDIsRefused(t *testing.T) {
	w := newWorld(t, single, nil)
	w.as("started-by-somebody")
	w.env.ExecuteWorkflow(api.WorkflowBatchFlow, api.RunInput{Relayed: true})
	if err := w.env.GetWorkflowError(); err == nil || !strings.Contains(err.Error(), "f-k7q2m4xw5tza") {
		t.Errorf("error %v", err)
	}
}
