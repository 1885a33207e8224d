package harness

import (
	"context"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/baas-batch/baas/api"
)

// Leader tells which worker Temporal has given the leadership of the default
// framework to, and in which attempt; "" when nobody has it, and the attempt is the
// next.
func Leader(ctx context.Context, c client.Client) (name string, attempt int32, err error) {
	d, err := c.DescribeWorkflowExecution(ctx, api.FrameworkWorkflowID(api.DefaultFramework), "")
	if err != nil {
		return "", 0, err
	}
	for _, a := range d.GetPendingActivities() {
		switch {
		case a.GetActivityType().GetName() != api.ActivityLead:
		case a.GetState() != enumspb.PENDING_ACTIVITY_STATE_STARTED:
			return "", a.GetAttempt(), nil
		default:
			return a.GetLastWorkerIdentity(), a.GetAttempt(), nil
		}
	}
	return "", 0, nil
}
