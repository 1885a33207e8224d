package workflows

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
)

const (
	roundsPerRun = 50 // leaderships in one run of the workflow, before continue-as-new
	steadyLead   = time.Minute
	maxLeadPause = time.Minute
)

// MesosFramework is the singleton that chooses a framework's ID, once and before
// its first use, and has one worker at a time lead it. It ends only when it is
// cancelled: a leader that dies is replaced by Temporal, within LeaseTimeout, and
// an ID that the master has removed is replaced by a new one.
func MesosFramework(ctx workflow.Context, in api.FrameworkInput) error {
	f := &framework{ctx: ctx, in: in}
	if err := workflow.SetQueryHandler(ctx, api.QueryFrameworkID, f.frameworkID); err != nil {
		return fmt.Errorf("register the framework ID query: %w", err)
	}
	return f.run()
}

type framework struct {
	ctx  workflow.Context
	in   api.FrameworkInput
	last string // how the leadership before this one ended
}

func (f *framework) frameworkID() (string, error) { return f.in.FrameworkID, nil }

func (f *framework) run() error {
	if f.in.LeaseTimeout <= 0 {
		f.in.LeaseTimeout = api.DefaultLeaseTimeout
	}
	if f.in.FrameworkID == "" {
		if err := f.choose(); err != nil {
			return err
		}
	}
	var pause time.Duration
	for range roundsPerRun {
		began := workflow.Now(f.ctx)
		if err := f.lead(); err != nil {
			return err
		}
		if workflow.Now(f.ctx).Sub(began) >= steadyLead {
			pause = 0
		}
		// A master that takes no framework at all must not be asked without a pause.
		if err := workflow.Sleep(f.ctx, pause); err != nil {
			return err
		}
		pause = clamp(2*pause, time.Second, maxLeadPause)
	}
	return workflow.NewContinueAsNewError(f.ctx, api.WorkflowFramework, f.in)
}

// lead returns when a leadership has ended for good; an error ends the workflow.
func (f *framework) lead() error {
	workflow.SetCurrentDetails(f.ctx, "Framework ID "+code(f.in.FrameworkID)+". The pending activity is the leader.\n\n"+f.last)
	ctx := workflow.WithActivityOptions(f.ctx, workflow.ActivityOptions{
		TaskQueue:           api.LeadQueue(f.in.Name),
		StartToCloseTimeout: forever,
		HeartbeatTimeout:    f.in.LeaseTimeout,
		WaitForCancellation: true,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    200 * time.Millisecond,
			BackoffCoefficient: 2,
			MaximumInterval:    2 * time.Second,
		},
		Summary: "lead framework " + f.in.Name,
	})
	var result api.LeadResult
	err := workflow.ExecuteActivity(ctx, api.ActivityLead, api.LeadInput{
		Framework:   f.in.Name,
		FrameworkID: f.in.FrameworkID,
	}).Get(ctx, &result)
	switch {
	case f.ctx.Err() != nil:
		return f.ctx.Err()
	case err != nil:
		f.report("The leader has given up: " + messageOf(err) + ". Another one follows.")
		return nil
	case !result.Removed:
		return nil
	}
	old := f.in.FrameworkID
	if err := f.choose(); err != nil {
		return err
	}
	f.report(fmt.Sprintf("The master has removed framework %s (%s), and with it all its tasks. New framework ID: %s.",
		code(old), result.Reason, code(f.in.FrameworkID)))
	return nil
}

// choose makes a new FrameworkID. Mesos accepts an ID that it has never seen; that
// the choice stands in history before a leader hears of it makes it survive all.
func (f *framework) choose() error {
	var suffix string
	err := workflow.SideEffect(f.ctx, func(workflow.Context) any {
		random := make([]byte, 6)
		_, _ = rand.Read(random) // never fails
		return hex.EncodeToString(random)
	}).Get(&suffix)
	f.in.FrameworkID = "baas-" + f.in.Name + "-" + suffix
	return err
}

// report says it loudly: in the log and on the workflow's page.
func (f *framework) report(text string) {
	workflow.GetLogger(f.ctx).Error(text, "framework", f.in.Name)
	f.last = workflow.Now(f.ctx).UTC().Format(time.DateTime) + " UTC: " + text
}
