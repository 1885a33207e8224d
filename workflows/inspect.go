package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
)

// InspectTimeout bounds the wait for a leader's answer: longer than it takes
// another worker to lead.
const InspectTimeout = 20 * time.Second

// InspectMesos asks the leader of a framework what it holds. Only the leader knows:
// offers in hand and reasons for waiting stand nowhere else.
func InspectMesos(ctx workflow.Context, in api.InspectInput) (out api.Inspection, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              api.ControlQueue(in.Framework),
		ScheduleToCloseTimeout: InspectTimeout,
		StartToCloseTimeout:    InspectTimeout / 2,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: time.Second, MaximumInterval: time.Second},
		Summary:                in.What + " of framework " + in.Framework,
	})
	err = workflow.ExecuteActivity(ctx, api.ActivityInspect, in).Get(ctx, &out)
	return out, err
}
