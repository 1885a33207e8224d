package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/retention"
	"github.com/baas-batch/baas/storage"
)

// sweepBatch is how many runs one activity sweeps: it asks for the app's runs anew
// after them, and another worker goes on from there if this one dies.
const sweepBatch = 5000

// sweepAttempts is how often an app is tried before the sweep goes on without it.
const sweepAttempts = 5

// Sweeper does the sweep of storage. Any worker may do it.
type Sweeper struct {
	Store storage.Store
	Runs  retention.Runs
	Rules flow.Retention // of apps whose flow has none
	// UploadAge is how old an unfinished upload is aborted; a day if 0.
	UploadAge time.Duration
	// Batch is how many runs one activity sweeps; 5,000 if 0.
	Batch int
}

// SweepApp is the activity api.ActivitySweep: it sweeps the app that follows
// in.After. When there is none, it aborts unfinished uploads, and its answer names
// no app. When the worker stops, it ends with what it has done, or to be tried again.
func (s *Sweeper) SweepApp(ctx context.Context, in api.SweepInput) (api.SweepBatch, error) {
	info := activity.GetInfo(ctx)
	ctx, stop := untilWorkerStops(ctx)
	defer stop()
	sweep := &retention.Sweeper{
		Store: s.Store, Runs: s.Runs, Rules: s.Rules, UploadAge: s.UploadAge, MaxRuns: s.Batch,
		// The ends of runs are told by Temporal's clock, and so is now.
		Now:      func() time.Time { return info.ScheduledTime },
		Progress: func(done retention.Tally) { activity.RecordHeartbeat(ctx, done) },
	}
	if sweep.MaxRuns == 0 {
		sweep.MaxRuns = sweepBatch
	}
	app, err := retention.NextApp(ctx, s.Store, in.After)
	if err != nil {
		return api.SweepBatch{}, sweepError(ctx, err)
	}
	if app == "" {
		n, err := sweep.Uploads(ctx, "")
		return api.SweepBatch{Uploads: n}, sweepError(ctx, err)
	}
	report, err := sweep.App(ctx, app)
	batch := api.SweepBatch{
		App: app, More: report.More, Kept: report.Kept,
		Swept: api.SweptSum{Runs: report.Swept, Objects: report.Objects, Bytes: report.Bytes},
	}
	switch {
	case err == nil:
		return batch, nil
	case errors.Is(context.Cause(ctx), errWorkerStops) && report.Swept > 0:
		batch.More = true
		return batch, nil
	case !s.ofApp(ctx, err, info.Attempt):
		return api.SweepBatch{}, sweepError(ctx, err)
	}
	batch.More, batch.Trouble = false, err.Error() // the other apps are swept
	return batch, nil
}

// ofApp tells whether a failure concerns one app only, and stays.
func (s *Sweeper) ofApp(ctx context.Context, err error, attempt int32) bool {
	switch {
	case ctx.Err() != nil, errors.Is(err, retention.ErrForeign):
		return false
	case errors.Is(err, retention.ErrUnreadable):
		return true
	case errors.Is(err, retention.ErrNoAnswer), attempt < sweepAttempts:
		return false
	}
	_, err = retention.NextApp(ctx, s.Store, "")
	return err == nil // else it is the whole store that does not answer
}

// errWorkerStops has another worker, or this one when it is back, try again.
var errWorkerStops = errors.New("the worker stops")

func untilWorkerStops(ctx context.Context) (context.Context, context.CancelFunc) {
	stops := activity.GetWorkerStopChannel(ctx)
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-stops:
			cancel(errWorkerStops)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// sweepError is how Temporal is told of a failure.
func sweepError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), errWorkerStops):
		return errWorkerStops
	case errors.Is(err, retention.ErrForeign):
		return temporal.NewNonRetryableApplicationError(err.Error(), api.ErrorSweep, nil)
	}
	return err
}
