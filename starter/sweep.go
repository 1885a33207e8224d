package starter

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/retention"
)

// SweepOptions say what to sweep.
type SweepOptions struct {
	App    string         // all if empty
	Rules  flow.Retention // of apps whose flow has none
	DryRun bool           // only tell
	// UploadAge is how old unfinished uploads are aborted; a day if 0.
	UploadAge time.Duration
	// Each is told of all that has gone, or would go; Progress of how much it is so
	// far. Both may be nil.
	Each     func(retention.Item)
	Progress func(retention.Tally)
}

// Swept sums a sweep up.
type Swept struct {
	Apps    []retention.Report `json:"apps"`
	Uploads int                `json:"uploads"` // unfinished, aborted
}

// Sweep removes what retention rules let go. It may be cut at any moment and called
// again. Errors: an *UnreachableError where Temporal is not known; without an answer
// of Temporal nothing more is removed. An app that cannot be swept is among the errors
// at the end, and the others are swept.
func (c *Client) Sweep(ctx context.Context, o SweepOptions) (Swept, error) {
	var sum Swept
	if c.temporal == nil || c.store == nil {
		return sum, &UnreachableError{What: "Temporal", Address: c.address, Err: errors.New("it must say which runs are open")}
	}
	s := &retention.Sweeper{
		Store: c.store, Rules: o.Rules, UploadAge: o.UploadAge, DryRun: o.DryRun, Each: o.Each, Progress: o.Progress,
		Runs: namedRuns{&retention.Temporal{Service: c.temporal.WorkflowService(), Namespace: c.namespace}, c},
	}
	var troubles []error
	for app, err := range c.appsToSweep(ctx, o.App) {
		if err != nil {
			return sum, err
		}
		report, err := s.App(ctx, app)
		switch {
		case err != nil && (errors.Is(err, retention.ErrForeign) || ctx.Err() != nil):
			return sum, err
		case errors.Is(err, retention.ErrNoAnswer) && !errors.Is(err, retention.ErrUnreadable):
			return sum, err
		case err != nil:
			troubles = append(troubles, err) // the other apps are swept
		}
		if err == nil || report.Swept > 0 {
			sum.Apps = append(sum.Apps, report)
		}
	}
	uploads, err := s.Uploads(ctx, o.App)
	sum.Uploads = uploads
	return sum, errors.Join(append(troubles, err)...)
}

// appsToSweep gives one app, or all of which storage has runs.
func (c *Client) appsToSweep(ctx context.Context, only string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if only != "" {
			yield(only, nil)
			return
		}
		for app := ""; ; {
			var err error
			if app, err = retention.NextApp(ctx, c.store, app); err == nil && app == "" {
				return
			}
			if !yield(app, err) || err != nil {
				return
			}
		}
	}
}

// namedRuns names failures of Temporal as the client's other calls do.
type namedRuns struct {
	*retention.Temporal
	client *Client
}

func (r namedRuns) Open(ctx context.Context, instance string) (string, error) {
	run, err := r.Temporal.Open(ctx, instance)
	return run, r.client.named(err)
}

func (r namedRuns) Live(ctx context.Context, app string, progress func()) ([]retention.Live, error) {
	live, err := r.Temporal.Live(ctx, app, progress)
	return live, r.client.named(err)
}

func (r namedRuns) Home(ctx context.Context) (api.StoreHome, error) {
	home, err := r.Temporal.Home(ctx)
	return home, r.client.named(err)
}
