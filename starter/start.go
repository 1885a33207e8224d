package starter

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
)

// StartOptions say what to run.
type StartOptions struct {
	// File is the path of the flow file; App replaces it where it is loaded already.
	File string
	App  *App
	// Args are parameters as words of a command line. A file is a path.
	Args map[string]string
	// Params are typed parameters and win over Args: plain JSON values; a file is a
	// path or a tasklet.FileRef, files a list of these.
	Params map[string]any
	// OrderDate is the business date, YYYY-MM-DD; today in UTC if empty.
	OrderDate string
	// RequestedBy names who asks for the run.
	RequestedBy string
}

// Started names a run that was started.
type Started struct {
	Run      string // the ID that all other methods take
	Instance string // workflow ID
	FirstID  string // Temporal's first run ID
}

// plan is a run that was checked and not yet started.
type plan struct {
	app      *App
	args     arguments
	entries  []entry
	date     time.Time
	instance string
}

// Check does all of Start but storing and starting: the error is an *InvalidError
// with all problems that can be seen from here.
func Check(ctx context.Context, app *App, o StartOptions) error {
	_, err := prepare(ctx, app, o)
	return err
}

func prepare(ctx context.Context, app *App, o StartOptions) (*plan, error) {
	p := &plan{app: app}
	var invalid InvalidError
	var problems []string
	var err error
	if p.args, invalid.Others, err = bind(ctx, app, o.Args, o.Params); err != nil {
		return nil, err
	}
	if o.OrderDate == "" {
		o.OrderDate = time.Now().UTC().Format(time.DateOnly)
	}
	if p.date, err = time.Parse(time.DateOnly, o.OrderDate); err != nil {
		invalid.Others = append(invalid.Others, fmt.Sprintf("order date %q: expected a date such as 2026-01-31", o.OrderDate))
	}
	if p.entries, problems, err = listBundle(app); err != nil {
		return nil, err
	}
	invalid.Others = append(invalid.Others, problems...)
	if err := invalid.orNil(); err != nil {
		return nil, err
	}
	p.instance = api.InstanceID(app.Flow.Name, app.Flow.IdentityDigest(p.args.bound))
	return p, nil
}

// Start checks the flow and its parameters, stores what the run needs and starts
// it. Errors: *InvalidError with all problems, before anything is stored;
// *RunningError when the instance has a run that has not ended; *UnreachableError;
// those of the store.
func (c *Client) Start(ctx context.Context, o StartOptions) (Started, error) {
	if c.temporal == nil || c.store == nil {
		return Started{}, errors.New("start: no Temporal or no store")
	}
	app := o.App
	if app == nil {
		var err error
		if app, err = Load(o.File, c.catalog); err != nil {
			return Started{}, err
		}
	}
	p, err := prepare(ctx, app, o)
	if err != nil {
		return Started{}, err
	}
	input := api.RunInput{OrderDate: p.date.Format(time.DateOnly), Requested: o.RequestedBy}
	if input.Params, err = encodeParams(p.args.bound); err != nil {
		return Started{}, err
	}
	if err := storeFiles(ctx, c.store, p.args.files); err != nil {
		return Started{}, err
	}
	bundle, err := storeBundle(ctx, c.store, p.entries, app)
	if err != nil {
		return Started{}, err
	}
	input.Source = &api.FlowSource{Bundle: bundle, Path: app.Path}
	return c.start(ctx, p, input)
}

func (c *Client) start(ctx context.Context, p *plan, input api.RunInput) (Started, error) {
	name := p.app.Flow.Name
	options := client.StartWorkflowOptions{
		ID:                       p.instance,
		TaskQueue:                api.TaskQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		// Without it the SDK answers with the run that exists.
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		StaticSummary:                            name + " " + input.OrderDate,
		// The workflow sets them too; so a listing shows the run from the start.
		TypedSearchAttributes: temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyKeyword(api.AttributeApp).ValueSet(name),
			temporal.NewSearchAttributeKeyKeyword(api.AttributeStatus).ValueSet(string(api.StatusRunning)),
			temporal.NewSearchAttributeKeyTime(api.AttributeOrderDate).ValueSet(p.date),
		),
	}
	var run client.WorkflowRun
	err := c.call(ctx, func(ctx context.Context) (err error) {
		run, err = c.temporal.ExecuteWorkflow(ctx, options, api.WorkflowBatchFlow, input)
		return err
	})
	var exists *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &exists) {
		return Started{}, c.running(ctx, p.instance)
	}
	if err != nil {
		return Started{}, fmt.Errorf("start %s: %w", name, err)
	}
	return Started{Run: api.RunID(p.instance, run.GetRunID()), Instance: p.instance, FirstID: run.GetRunID()}, nil
}

func (c *Client) running(ctx context.Context, instance string) error {
	running := &RunningError{Instance: instance}
	if x, err := c.latest(ctx, instance); err == nil {
		running.Run = x.run
	}
	return running
}
