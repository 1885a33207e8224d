package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/retention"
	"github.com/baas-batch/baas/storage"
)

// sweepBatch is how many runs one activity sweeps: it asks for the app's runs anew
// after them, and another worker goes on from there if this one dies.
const sweepBatch = 5000

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
// no app.
func (s *Sweeper) SweepApp(ctx context.Context, in api.SweepInput) (api.SweepBatch, error) {
	sweep := &retention.Sweeper{
		Store: s.Store, Runs: s.Runs, Rules: s.Rules, UploadAge: s.UploadAge, MaxRuns: s.Batch,
		Progress: func(done retention.Tally) { activity.RecordHeartbeat(ctx, done) },
	}
	if sweep.MaxRuns == 0 {
		sweep.MaxRuns = sweepBatch
	}
	app, err := retention.NextApp(ctx, s.Store, in.After)
	if err != nil {
		return api.SweepBatch{}, err
	}
	if app == "" {
		n, err := sweep.Uploads(ctx, "")
		return api.SweepBatch{Uploads: n}, err
	}
	report, err := sweep.App(ctx, app)
	if errors.Is(err, retention.ErrUnreadable) {
		return api.SweepBatch{App: app, Trouble: err.Error()}, nil // the other apps are swept
	}
	return api.SweepBatch{
		App: app, More: report.More, Kept: report.Kept,
		Swept: api.SweptSum{Runs: report.Swept, Objects: report.Objects, Bytes: report.Bytes},
	}, err
}
