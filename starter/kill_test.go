package starter

import (
	"fmt"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
)

func TestWaitingIsToldFromRunning(t *testing.T) {
	task := func(count int) api.TaskDetail { return api.TaskDetail{Count: count} }
	run := Run{Activities: []Activity{
		{Step: "a", Details: api.Details{Total: 10, Done: 2, Tasks: []api.TaskDetail{task(1), task(4)}}},
		{Step: "a", Details: api.Details{Total: 10, Tasks: []api.TaskDetail{task(1)}}},
		{Step: "a"}, // nobody has it yet
		{Step: "behind", Details: api.Details{Done: 3, Tasks: []api.TaskDetail{task(5)}}},
	}}
	run.Steps = []api.StepState{{ID: "a", Active: 40}, {ID: "behind", Active: 4}, {ID: "done", Done: 7}}
	divideActive(&run)
	for i, want := range [][2]int{{6, 32}, {4, 0}, {0, 0}} {
		if s := run.Steps[i]; s.Running != want[0] || s.Waiting != want[1] {
			t.Errorf("step %s: %d running and %d waiting, want %v", s.ID, s.Running, s.Waiting, want)
		}
	}
}

// relayed is who asks for a run that relays another one.
const relayed = "somebody's own client"

// relay is a stand-in for a BatchFlow under another ID than its instance's.
func relay(ctx workflow.Context, state *api.RunState) (result api.RunResult, err error) {
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: state.Instance + "-right", WaitForCancellation: true,
	}), api.WorkflowBatchFlow, api.RunInput{Relayed: true})
	var execution workflow.Execution
	if err := child.GetChildWorkflowExecution().Get(ctx, &execution); err != nil {
		return result, err
	}
	state.Relay = &api.Relay{WorkflowID: execution.ID, RunID: execution.RunID}
	return result, child.Get(ctx, &result)
}

// A kill through the ID of a relay tells the run itself who kills it and why.
func TestKillThroughARelay(t *testing.T) {
	p := newPlatform(t)
	// An ID of its own: a run of before may still be closing when the test is repeated.
	name := fmt.Sprintf("of-somebody-%d", time.Now().UnixNano())
	own, err := p.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: name, TaskQueue: api.TaskQueue},
		api.WorkflowBatchFlow, api.RunInput{Requested: relayed})
	if err != nil {
		t.Fatal(err)
	}
	id := api.RunID(own.GetID(), own.GetRunID())
	eventually(t, "the relayed run", func() bool {
		r, err := p.Describe(t.Context(), id)
		return err == nil && r.Instance == name+"-right"
	})
	if err := p.Kill(t.Context(), id, "wrong month", "ann"); err != nil {
		t.Fatal(err)
	}
	last, err := p.Wait(t.Context(), id)
	if err != nil || last.Status != api.StatusKilled || last.Instance != name+"-right" || last.Reason != "killed by ann: wrong month" {
		t.Errorf("got %+v, %v", last.RunState, err)
	}
}
