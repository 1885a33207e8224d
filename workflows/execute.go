package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
)

var (
	attributeApp       = temporal.NewSearchAttributeKeyKeyword(api.AttributeApp)
	attributeOwner     = temporal.NewSearchAttributeKeyKeyword(api.AttributeOwner)
	attributeStatus    = temporal.NewSearchAttributeKeyKeyword(api.AttributeStatus)
	attributeOrderDate = temporal.NewSearchAttributeKeyTime(api.AttributeOrderDate)
)

// execute runs all steps, then those of on_exit, stores the instance's state and
// ends the run.
//
// The first cancel kills what runs then: the steps, after which on_exit runs to its
// end, or on_exit itself. Another one changes nothing, and neither does one that
// comes when all steps have ended. Carried are the steps of a run that goes on in a new
// history; the error is then, too, what has the next one begin.
func (r *run) execute(carried []api.ContinuedStep) (api.RunResult, error) {
	if err := r.begin(); err != nil {
		return api.RunResult{}, r.abandon(err)
	}
	if carried != nil {
		if err := r.resumeSteps(carried); err != nil {
			return api.RunResult{}, r.abandon(err)
		}
	}
	main := len(r.plan.Flow.Steps)
	if err := r.phase(r.ctx, r.steps[:main]); err != nil {
		return api.RunResult{}, err
	}
	exit := r.ctx
	if r.ctx.Err() != nil || r.killed {
		exit, _ = workflow.NewDisconnectedContext(r.ctx)
	}
	if err := r.phase(exit, r.steps[main:]); err != nil {
		return api.RunResult{}, err
	}
	return r.end()
}

// phase runs some of the steps until all have ended. A cancel of ctx kills them. The
// error is that with which the run goes on in a new history.
func (r *run) phase(ctx workflow.Context, steps []*step) error {
	if err := newPhase(r, ctx, steps).loop(); err != nil {
		return err
	}
	for _, s := range steps {
		r.killed = r.killed || s.state.Status == api.StatusKilled
	}
	return nil
}

func (r *run) begin() error {
	plan := r.plan
	for _, list := range [][]flow.Step{plan.Flow.Steps, plan.Flow.OnExit} {
		onExit := len(r.steps) == len(plan.Flow.Steps)
		for i := range list {
			s := newStep(&list[i], onExit)
			r.steps = append(r.steps, s)
			r.byID[s.def.ID] = s
		}
	}
	date, err := time.Parse(time.DateOnly, r.in.OrderDate)
	if err != nil {
		return err
	}
	r.note = ""
	return workflow.UpsertTypedSearchAttributes(r.ctx,
		attributeApp.ValueSet(plan.Flow.Name),
		attributeOwner.ValueSet(plan.Owner),
		attributeStatus.ValueSet(string(r.status)),
		attributeOrderDate.ValueSet(date))
}

// outcome is the run's status as far as it is known now.
func (r *run) outcome() api.Status {
	switch {
	case r.killed:
		return api.StatusKilled
	case r.reason != "":
		return api.StatusFailed
	}
	return api.StatusSucceeded
}

// failed notes the first failure of the run.
func (r *run) failed(s *step, reason string) {
	if r.reason == "" {
		r.reason, r.failedStep = shorten("step "+s.def.ID+reason, maxReason), s.def.ID
	}
}

// outputRoom is how many bytes the outputs of all steps may have together, so that
// the run's state stays one payload.
func (r *run) outputRoom() int {
	room := maxState - maxAllReason - stateOfStep*len(r.steps)
	for _, p := range r.plan.Flow.Params {
		room -= len(r.params[p.Name])
	}
	return clamp(room, 0, maxRunOutputs)
}

func (r *run) end() (api.RunResult, error) {
	r.awaitReleases()
	r.status, r.ended = r.outcome(), workflow.Now(r.ctx)
	if r.status == api.StatusKilled {
		r.reason = r.killReason() + andBefore(r.reason)
	}
	ctx, _ := workflow.NewDisconnectedContext(r.ctx)
	if err := r.save(ctx); err != nil {
		return api.RunResult{}, err
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, attributeStatus.ValueSet(string(r.status))); err != nil {
		return api.RunResult{}, err
	}
	switch r.status {
	case api.StatusKilled:
		return api.RunResult{}, temporal.NewCanceledError(r.result(false))
	case api.StatusFailed:
		return api.RunResult{}, temporal.NewNonRetryableApplicationError(
			r.reason, api.ErrorRunFailed, nil, r.result(false))
	}
	return r.result(true), nil
}

// save stores the instance's last state. It is retried for as long as storage
// cannot be reached: a run that closed without it could not be restarted once
// Temporal has forgotten it.
func (r *run) save(ctx workflow.Context) error {
	r.announce("Storing the last state of the instance, since " + r.ended.UTC().Format(time.DateTime) +
		" UTC. The run closes when that is done.")
	state, err := r.snapshot()
	if err != nil {
		return err
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           api.TaskQueue,
		StartToCloseTimeout: 2 * time.Minute,
		HeartbeatTimeout:    shortHeartbeat,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: time.Second, MaximumInterval: 30 * time.Second},
		Summary:             "store the instance's last state",
	})
	err = workflow.ExecuteActivity(ctx, api.ActivitySaveInstance, state).Get(ctx, nil)
	r.announce("")
	return cause(err)
}
