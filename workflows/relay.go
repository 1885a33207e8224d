package workflows

import (
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
)

// relayFrom runs the instance as a child under its own ID, because task IDs and
// the rule "one run of an instance at a time" rest on that ID. A workflow cannot
// query another one: the state of this one names the run to ask.
func (r *run) relayFrom(own string) (api.RunResult, error) {
	if r.in.Relayed {
		return api.RunResult{}, r.abandon(invalid(fmt.Sprintf(
			"the parameters gave instance %s when the run was started and %s when it was prepared", own, r.instance)))
	}
	r.relay = &api.Relay{WorkflowID: r.instance}
	in := r.in
	in.Relayed = true

	ctx := workflow.WithChildOptions(r.ctx, workflow.ChildWorkflowOptions{
		WorkflowID:            r.instance,
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WaitForCancellation:   true,
		StaticSummary:         "run of instance " + r.instance,
	})
	child := workflow.ExecuteChildWorkflow(ctx, api.WorkflowBatchFlow, in)

	var execution workflow.Execution
	if err := child.GetChildWorkflowExecution().Get(r.ctx, &execution); err != nil {
		return api.RunResult{}, r.abandon(r.startError(err))
	}
	r.relay.RunID = execution.RunID
	r.id = api.RunID(r.instance, execution.RunID)
	r.announce("Relays run " + code(r.id) + ".")

	var result api.RunResult
	if err := child.Get(ctx, &result); err != nil {
		return api.RunResult{}, r.abandon(cause(err))
	}
	r.status, r.ended = result.Status, workflow.Now(r.ctx)
	r.announce("Relayed run " + code(r.id) + ".")
	return result, nil
}

func (r *run) startError(err error) error {
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		return temporal.NewNonRetryableApplicationError(fmt.Sprintf(
			"instance %s has a run that has not ended: only one run of an instance at a time", r.instance),
			api.ErrorAlreadyRunning, nil)
	}
	return cause(err)
}
