package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
)

const (
	sweepsPerRun  = 500 // activities in one run of the workflow, before continue-as-new
	maxSweptApps  = 200 // that the result names, the first
	maxTroubles   = 20
	sweepPatience = 24 * time.Hour
	sweepSilence  = 5 * time.Minute
)

// SweepStorage removes what the retention rules let go, one app after the other. When
// storage or Temporal does not answer for the better part of an hour, it ends: the next
// one begins anew.
func SweepStorage(ctx workflow.Context, in api.SweepInput) (api.SweepResult, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           api.TaskQueue,
		StartToCloseTimeout: sweepPatience,
		HeartbeatTimeout:    sweepSilence,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: 5 * time.Second, MaximumInterval: 5 * time.Minute, MaximumAttempts: 15,
		},
		Summary: "sweep storage",
	})
	for range sweepsPerRun {
		var batch api.SweepBatch
		if err := workflow.ExecuteActivity(ctx, api.ActivitySweep, api.SweepInput{After: in.After}).Get(ctx, &batch); err != nil {
			return in.Done, cause(err)
		}
		in.Done = swept(in.Done, batch)
		workflow.SetCurrentDetails(ctx, sweepDetails(in.Done))
		if batch.App == "" {
			return in.Done, sweepError(in.Done)
		}
		if !batch.More {
			in.After = batch.App
		}
	}
	return in.Done, workflow.NewContinueAsNewError(ctx, api.WorkflowSweep, in)
}

// swept adds a batch. What is kept is known with the last batch of an app.
func swept(done api.SweepResult, b api.SweepBatch) api.SweepResult {
	done.Uploads += b.Uploads
	done.Swept.Add(b.Swept)
	if b.Trouble != "" && len(done.Troubles) < maxTroubles {
		done.Troubles = append(done.Troubles, shorten(b.Trouble, maxReason))
	}
	if b.App != "" && !b.More {
		done.Apps, done.Kept = done.Apps+1, done.Kept+b.Kept
	}
	last := len(done.ByApp) - 1
	switch {
	case b.Swept.Runs == 0:
	case last >= 0 && done.ByApp[last].App == b.App:
		done.ByApp[last].Add(b.Swept)
	case len(done.ByApp) < maxSweptApps:
		done.ByApp = append(done.ByApp, api.SweptApp{App: b.App, SweptSum: b.Swept})
	}
	return done
}

// sweepError makes a sweep that left apps out a failed one, for people to see.
func sweepError(r api.SweepResult) error {
	if len(r.Troubles) == 0 {
		return nil
	}
	return temporal.NewNonRetryableApplicationError("not swept: "+strings.Join(r.Troubles, "; "), api.ErrorSweep, nil, r)
}

func sweepDetails(r api.SweepResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d apps looked at: %d runs kept, %d swept with %d objects, %d bytes; %d unfinished uploads aborted.\n",
		r.Apps, r.Kept, r.Swept.Runs, r.Swept.Objects, r.Swept.Bytes, r.Uploads)
	if len(r.ByApp) > 0 {
		b.WriteString("\n| app | runs | objects | bytes |\n| --- | ---: | ---: | ---: |\n")
	}
	for _, a := range r.ByApp {
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", code(a.App), a.Runs, a.Objects, a.Bytes)
	}
	for _, trouble := range r.Troubles {
		fmt.Fprintf(&b, "\nNot swept: %s\n", code(trouble))
	}
	return b.String()
}
