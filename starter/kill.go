package starter

import (
	"context"
	"errors"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/baas-batch/baas/api"
)

// Kill asks a run to end: its tasks are killed, steps of on_exit run, and it ends
// as killed, with who asked and why as its reason. It returns when Temporal has
// taken the request; Wait tells the end. For a run that has ended already, the error
// is an *EndedError.
func (c *Client) Kill(ctx context.Context, id, reason, requestedBy string) error {
	x, err := c.find(ctx, id)
	if err != nil {
		return err
	}
	if !x.open() {
		return &EndedError{Run: x.run, Status: closedStatus(x.description.GetWorkflowExecutionInfo())}
	}
	if err := c.announceKill(ctx, x, api.KillRequest{By: requestedBy, Reason: reason}); err != nil {
		return err
	}
	return c.call(ctx, func(ctx context.Context) error {
		_, err := c.temporal.WorkflowService().RequestCancelWorkflowExecution(ctx, &workflowservice.RequestCancelWorkflowExecutionRequest{
			Namespace:           c.namespace,
			WorkflowExecution:   &commonpb.WorkflowExecution{WorkflowId: x.workflowID},
			FirstExecutionRunId: x.firstID,
			Identity:            requestedBy,
			Reason:              reason,
		})
		return err
	})
}

// KillPartitions ends single partitions of a step with for_each: what runs is killed,
// what waits never begins, and none is tried again; the step goes on. It returns when
// the leader has the order. Errors: ErrNotFound for a run or step that is not there,
// an *EndedError, ErrUnreachable, and what the run says where the order makes no sense.
func (c *Client) KillPartitions(ctx context.Context, id string, request api.KillPartitionsRequest) (done api.PartitionKill, err error) {
	run, err := c.unfinished(ctx, id)
	if err != nil {
		return done, err
	}
	if _, ok := run.Step(request.Step); !ok {
		return done, fmt.Errorf("step %q of run %s: %w%s", request.Step, run.Run, ErrNotFound, suggest(request.Step, &run))
	}
	err = plainError(c.update(ctx, &run, api.UpdateKillPartitions, request, &done))
	return done, err
}

// announceKill tells the workflow, and the run that it may relay, what the cancel
// that follows is about: a workflow does not see that of the cancel itself. One
// that has just ended needs no reason.
func (c *Client) announceKill(ctx context.Context, x *execution, request api.KillRequest) error {
	executions := []*commonpb.WorkflowExecution{{WorkflowId: x.workflowID, RunId: x.runID}}
	for _, child := range x.description.GetPendingChildren() {
		if child.GetWorkflowTypeName() == api.WorkflowBatchFlow {
			// Without its run ID, which is that of its first execution, the newest one hears.
			executions = append(executions, &commonpb.WorkflowExecution{WorkflowId: child.GetWorkflowId()})
		}
	}
	for _, e := range executions {
		err := c.call(ctx, func(ctx context.Context) error {
			return c.temporal.SignalWorkflow(ctx, e.GetWorkflowId(), e.GetRunId(), api.SignalKill, request)
		})
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}
