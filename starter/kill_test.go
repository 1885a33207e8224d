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

// While ranges run, each of their partitions stands in one column.
func TestPartitionsOfRangesAreAccountedFor(t *testing.T) {
	run := Run{Activities: []Activity{{Step: "a", Details: api.Details{
		Total: 100, Done: 40,
		Range: &api.RangeDetail{Failed: 3, Killed: 2, Running: 12, Backoffs: []api.BackoffDetail{{Count: 20}, {Count: 1}}},
	}}}}
	run.Steps = []api.StepState{{ID: "a", Partitions: 150, Active: 100, Done: 48, Failed: 1, Killed: 1}}
	divideActive(&run)
	s := run.Steps[0]
	if s.Done != 83 || s.Failed != 4 || s.Killed != 3 || s.Active != 60 || s.Running != 12 || s.Waiting != 27 ||
		s.Done+s.Failed+s.Killed+s.Active != s.Partitions {
		t.Errorf("got %+v", s)
	}
	if got := s.Lost(); got != "3 killed" {
		t.Errorf("lost %q", got)
	}
}

// relayed is who asks for a run that relays another one.
const relayed = "somebody's own client"

// continues is the date of a relayed run that goes on in a new history at once.
const continues = "2026-01-01"

// relay is a stand-in for a BatchFlow under another ID than its instance's.
func relay(ctx workflow.Context, state *api.RunState) (result api.RunResult, err error) {
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: state.Instance + "-right", WaitForCancellation: true,
	}), api.WorkflowBatchFlow, api.RunInput{Relayed: true, OrderDate: state.OrderDate})
	var execution workflow.Execution
	if err := child.GetChildWorkflowExecution().Get(ctx, &execution); err != nil {
		return result, err
	}
	state.Relay = &api.Relay{WorkflowID: execution.ID, RunID: execution.RunID}
	return result, child.Get(ctx, &result)
}

// A kill through the ID of a relay tells the run itself who kills it and why, also
// where that has gone on in a new history.
func TestKillThroughARelay(t *testing.T) {
	p := newPlatform(t)
	for _, date := range []string{"2026-03-31", continues} {
		// An ID of its own: a run of before may still be closing when the test is repeated.
		name := fmt.Sprintf("of-somebody-%d", time.Now().UnixNano())
		own, err := p.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: name, TaskQueue: api.TaskQueue},
			api.WorkflowBatchFlow, api.RunInput{Requested: relayed, OrderDate: date})
		if err != nil {
			t.Fatal(err)
		}
		id := api.RunID(own.GetID(), own.GetRunID())
		eventually(t, "the relayed run", func() bool {
			r, err := p.Describe(t.Context(), id)
			return err == nil && r.Instance == name+"-right" && r.Status == api.StatusRunning && len(r.Activities) == 1 &&
				(r.Run == api.RunID(r.Instance, r.TemporalRunID)) == (date != continues)
		})
		if err := p.Kill(t.Context(), id, "wrong month", "ann"); err != nil {
			t.Fatal(err)
		}
		last, err := p.Wait(t.Context(), id)
		if err != nil || last.Status != api.StatusKilled || last.Instance != name+"-right" || last.Reason != "killed by ann: wrong month" {
			t.Errorf("%s: got %+v, %v", date, last.RunState, err)
		}
	}
}
