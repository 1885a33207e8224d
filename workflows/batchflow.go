package workflows

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
)

// BatchFlow runs a flow to its end.
//
// A failed run ends with an application error of type api.ErrorRunFailed, a
// cancelled one as Canceled; steps of on_exit have run in both cases. A flow or
// parameters that are wrong end it with api.ErrorInvalidFlow before anything is
// started. Started under another ID than its instance's, it starts the right
// BatchFlow as its child and relays the result and a cancel.
func BatchFlow(ctx workflow.Context, in api.RunInput) (api.RunResult, error) {
	r := newRun(ctx, in)
	if err := workflow.SetQueryHandler(ctx, api.QueryState, r.snapshot); err != nil {
		return api.RunResult{}, fmt.Errorf("register the state query: %w", err)
	}
	if err := r.acceptReleases(); err != nil {
		return api.RunResult{}, err
	}
	if err := r.acceptKills(); err != nil {
		return api.RunResult{}, err
	}
	if carried := in.Continued; carried != nil {
		if err := r.resume(carried); err != nil {
			return api.RunResult{}, r.abandon(err)
		}
		return r.execute(carried.Steps)
	}
	if err := r.prepare(); err != nil {
		return api.RunResult{}, r.abandon(err)
	}
	if own := workflow.GetInfo(ctx).WorkflowExecution.ID; own != r.instance {
		return r.relayFrom(own)
	}
	return r.execute(nil)
}

// run is one execution of a flow.
type run struct {
	ctx      workflow.Context // ends when the run is cancelled
	in       api.RunInput
	id       string // of the run, as people type it
	instance string
	started  time.Time
	ended    time.Time
	status   api.Status
	note     string // what happens outside the steps, for the current details
	relay    *api.Relay

	plan    *api.PrepareResult // nil until Prepare has answered
	params  map[string]json.RawMessage
	steps   []*step // in file order, then on_exit
	byID    map[string]*step
	results map[string]flow.StepResult // of the steps that have ended, for expressions

	killed      bool
	kill        *api.KillRequest // nil until the run is to be killed
	reason      string           // of the first failure
	failedStep  string
	outputBytes int // of all steps

	releasing workflow.Mutex // held while a release is carried out
	releases  []api.Release
	kills     []api.PartitionKill
}

// newRun sets up what is known before the flow is.
func newRun(ctx workflow.Context, in api.RunInput) *run {
	info := workflow.GetInfo(ctx)
	r := &run{
		ctx:      ctx,
		in:       in,
		id:       api.RunID(info.WorkflowExecution.ID, firstRunID(info)),
		instance: info.WorkflowExecution.ID,
		started:  workflow.Now(ctx),
		status:   api.StatusRunning,
		byID:     map[string]*step{},
		results:  map[string]flow.StepResult{},
	}
	if r.in.OrderDate == "" {
		r.in.OrderDate = r.started.UTC().Format(time.DateOnly)
	}
	r.announce("Reading and checking the flow.")
	return r
}

func firstRunID(info *workflow.Info) string {
	if info.FirstRunID != "" {
		return info.FirstRunID
	}
	return info.WorkflowExecution.RunID
}

// prepare has the flow read, checked and compiled.
func (r *run) prepare() error {
	if _, err := time.Parse(time.DateOnly, r.in.OrderDate); err != nil {
		return invalid(fmt.Sprintf("order date %q: expected a date such as 2026-01-31", r.in.OrderDate))
	}
	ctx := workflow.WithActivityOptions(r.ctx, workflow.ActivityOptions{
		TaskQueue:           api.TaskQueue,
		StartToCloseTimeout: 2 * time.Minute,
		HeartbeatTimeout:    shortHeartbeat,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, MaximumInterval: 10 * time.Second},
		Summary:             "read and check the flow",
	})
	plan := &api.PrepareResult{}
	if err := workflow.ExecuteActivity(ctx, api.ActivityPrepare, api.PrepareInput{Run: r.in}).Get(ctx, plan); err != nil {
		return cause(err)
	}
	return r.adopt(plan)
}

// adopt takes a plan on.
func (r *run) adopt(plan *api.PrepareResult) error {
	if err := checkPlan(plan); err != nil {
		return err
	}
	r.plan = plan
	r.instance = api.InstanceID(plan.Flow.Name, plan.Identity)
	for _, p := range plan.Flow.Params {
		value, ok := plan.Params[p.Name]
		if !ok {
			continue
		}
		raw, err := json.Marshal(value)
		if err != nil {
			return invalid(fmt.Sprintf("parameter %s: %v", p.Name, err))
		}
		if r.params == nil {
			r.params = map[string]json.RawMessage{}
		}
		r.params[p.Name] = raw
	}
	return nil
}

// checkPlan refuses what this code cannot run.
func checkPlan(plan *api.PrepareResult) error {
	switch {
	case plan.Flow.Version > flow.PlanVersion:
		return invalid(fmt.Sprintf("the plan has version %d, and this worker reads up to %d: update the worker", plan.Flow.Version, flow.PlanVersion))
	case plan.Flow.Name == "" || plan.Identity == "":
		return invalid("the plan names no flow or no identity")
	case plan.Settings.LaunchQueue == "" || plan.Settings.ControlQueue == "":
		return invalid("the plan's settings name no launch queue or no control queue")
	}
	if n := plan.Settings.MaxPending; n <= 0 || n > maxPending {
		plan.Settings.MaxPending = maxPending
	}
	if plan.Settings.HeartbeatTimeout <= 0 {
		plan.Settings.HeartbeatTimeout = defaultHeartbeatTimeout
	}
	return nil
}

// abandon ends a run that never came to its steps.
func (r *run) abandon(err error) error {
	r.ended = workflow.Now(r.ctx)
	if temporal.IsCanceledError(err) {
		r.noteKill()
		r.status, r.reason = api.StatusKilled, r.killReason()
		r.announce("Killed before any step was started.")
		return temporal.NewCanceledError(r.result(false))
	}
	r.status, r.reason = api.StatusFailed, messageOf(err)
	r.announce("Nothing was started.")
	return err
}

// result is what the workflow returns.
func (r *run) result(outputs bool) api.RunResult {
	result := api.RunResult{Run: r.id, Status: r.status}
	if !outputs {
		return result
	}
	for _, s := range r.steps {
		if len(s.state.Outputs) == 0 {
			continue
		}
		if result.Outputs == nil {
			result.Outputs = map[string]map[string]json.RawMessage{}
		}
		result.Outputs[s.def.ID] = s.state.Outputs
	}
	return result
}

// snapshot answers the state query, at any time.
func (r *run) snapshot() (api.RunState, error) {
	state := api.RunState{
		Run:       r.id,
		Instance:  r.instance,
		Status:    r.status,
		Reason:    r.reason,
		Requested: r.in.Requested,
		OrderDate: r.in.OrderDate,
		Started:   r.started,
		Ended:     r.ended,
		Params:    r.params,
		Steps:     make([]api.StepState, len(r.steps)),
		Releases:  r.releases,
		Kills:     r.kills,
		Kill:      r.kill,
		Relay:     r.relay,
	}
	if r.plan != nil {
		state.App, state.Owner, state.Retention = r.plan.Flow.Name, r.plan.Owner, r.plan.Flow.Retention
	}
	for i, s := range r.steps {
		state.Steps[i] = s.state
	}
	return state, nil
}

// cause takes Temporal's wrapping off an activity's or child's error, so that the
// run fails with the words that a person can use.
func cause(err error) error {
	if temporal.IsCanceledError(err) {
		return temporal.NewCanceledError()
	}
	var app *temporal.ApplicationError
	if !errors.As(err, &app) {
		return err
	}
	var result api.RunResult
	if app.Type() == api.ErrorRunFailed && app.Details(&result) == nil {
		return temporal.NewNonRetryableApplicationError(app.Message(), app.Type(), nil, result)
	}
	return temporal.NewNonRetryableApplicationError(app.Message(), app.Type(), nil)
}

// messageOf is the text of an error without Temporal's additions to it.
func messageOf(err error) string {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return app.Message()
	}
	return err.Error()
}

func invalid(message string) error {
	return temporal.NewNonRetryableApplicationError(message, api.ErrorInvalidFlow, nil)
}
