package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/retention"
)

// A sweep starts each night between 02:17 and 02:37 UTC.
const (
	nightly     = "17 2 * * *"
	sweepJitter = 20 * time.Minute
)

const (
	arrangeTimeout = 5 * time.Second // of one try to arrange the sweep
	arrangeAgain   = 30 * time.Second
)

// arrangeSweep schedules the nightly sweep and claims the store for this Temporal. It
// tries every again until it has, or ctx ends.
func arrangeSweep(ctx context.Context, cfg Config, runs retention.Runs, again time.Duration) {
	for {
		err := tryToArrange(ctx, cfg, runs)
		switch {
		case err == nil, ctx.Err() != nil:
			return
		case errors.Is(err, retention.ErrForeign):
			cfg.Logger.Error("no sweep of this store can be made", "error", err)
			return
		}
		cfg.Logger.Warn("the nightly sweep is not arranged yet; trying again", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
	}
}

func tryToArrange(ctx context.Context, cfg Config, runs retention.Runs) error {
	ctx, cancel := context.WithTimeout(ctx, arrangeTimeout)
	defer cancel()
	if err := scheduleSweep(ctx, cfg.Client); err != nil {
		return err
	}
	home, err := runs.Home(ctx)
	if err != nil {
		return err
	}
	return retention.Claim(ctx, cfg.Store, home)
}

// scheduleSweep makes sure that the sweep is scheduled. A schedule that is there stays
// as it is: operators may have changed or paused it.
func scheduleSweep(ctx context.Context, c client.Client) error {
	_, err := c.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID:            api.SweepScheduleID,
		Spec:          client.ScheduleSpec{CronExpressions: []string{nightly}, Jitter: sweepJitter},
		Overlap:       enumspb.SCHEDULE_OVERLAP_POLICY_SKIP,
		CatchupWindow: 12 * time.Hour,
		Note:          "removes what retention rules let go, and unfinished uploads",
		Action: &client.ScheduleWorkflowAction{
			ID: api.SweepScheduleID, Workflow: api.WorkflowSweep, TaskQueue: api.TaskQueue,
			Args: []any{api.SweepInput{}}, StaticSummary: "sweep of storage",
		},
	})
	if err != nil && !errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return fmt.Errorf("schedule of the sweep: %w", err)
	}
	return nil
}
