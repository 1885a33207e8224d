package worker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
)

// nightly is when the sweep starts, in UTC; sweepJitter keeps it from the full hour.
const (
	nightly     = "17 2 * * *"
	sweepJitter = 20 * time.Minute
)

// scheduleOnce gives a function that makes sure, once, that the sweep is scheduled.
// A schedule that is there stays as it is: operators may have changed or paused it.
func scheduleOnce(c client.Client) func(context.Context) error {
	var done atomic.Bool
	return func(ctx context.Context) error {
		if done.Load() {
			return nil
		}
		_, err := c.ScheduleClient().Create(ctx, client.ScheduleOptions{
			ID:            api.SweepScheduleID,
			Spec:          client.ScheduleSpec{CronExpressions: []string{nightly}, Jitter: sweepJitter},
			Overlap:       enumspb.SCHEDULE_OVERLAP_POLICY_SKIP,
			CatchupWindow: 12 * time.Hour,
			Note:          "removes what retention rules let go",
			Action: &client.ScheduleWorkflowAction{
				ID: api.SweepScheduleID, Workflow: api.WorkflowSweep, TaskQueue: api.TaskQueue,
				Args: []any{api.SweepInput{}}, StaticSummary: "sweep of storage",
			},
		})
		if err != nil && !errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
			return fmt.Errorf("schedule of the sweep: %w", err)
		}
		done.Store(true)
		return nil
	}
}
