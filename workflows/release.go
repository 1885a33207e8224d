package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tasklet"
)

const (
	maxReleases      = 100 // kept in the run's state
	maxReleaseReason = 300 // bytes
)

// acceptReleases takes the word of persons on tasks that are held. What is accepted
// stands in the run's history, with who and why, before anything follows from it.
func (r *run) acceptReleases() error {
	r.releasing = workflow.NewMutex(r.ctx)
	err := workflow.SetUpdateHandlerWithOptions(r.ctx, api.UpdateRelease, r.release, workflow.UpdateHandlerOptions{
		Validator:   r.checkRelease,
		Description: "Says what became of a task that is held for a person.",
	})
	if err != nil {
		return fmt.Errorf("register the release update: %w", err)
	}
	return nil
}

// awaitReleases lets those that are under way end before the run does.
func (r *run) awaitReleases() {
	ctx, _ := workflow.NewDisconnectedContext(r.ctx)
	// Only a cancel of ctx could make this an error.
	_ = workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
}

// checkRelease refuses what makes no sense, before it is recorded. Whether a task is
// held, only the leader knows.
func (r *run) checkRelease(in api.ReleaseRequest) error {
	s, ok := r.byID[in.Step]
	switch {
	case !in.As.Valid():
		return refused(fmt.Sprintf("a task is released as never-ran, ran or failed, not as %q", in.As))
	case in.Reason == "":
		return refused("a release needs a reason")
	case !ok:
		return notHeld(fmt.Sprintf("the run has no step %q, or has not begun it yet", in.Step))
	}
	if before := r.released(in); before != nil {
		if before.As == in.As {
			return nil
		}
		return refused(fmt.Sprintf("it was released as %s already, by %s: %s", before.As, before.By, before.Reason))
	}
	if s.state.Status != api.StatusRunning {
		return notHeld(fmt.Sprintf("step %s is %s", in.Step, s.state.Status))
	}
	if in.As == api.ReleaseRan {
		if i := slices.IndexFunc(s.def.Outputs, func(o tasklet.Output) bool { return !o.Optional }); i >= 0 {
			return refused(fmt.Sprintf("step %s has the output %s, which nobody but the task can give: "+
				"it can be released as never-ran or failed only", in.Step, s.def.Outputs[i].Name))
		}
	}
	return nil
}

// release has the leader carry a release out. One that is asked for twice is carried
// out once.
func (r *run) release(ctx workflow.Context, in api.ReleaseRequest) (api.Release, error) {
	in.By, in.Reason = shorten(in.By, maxKilledBy), shorten(in.Reason, maxReleaseReason)
	ctx, _ = workflow.NewDisconnectedContext(ctx) // a kill ends what is held, and so this
	if err := r.releasing.Lock(ctx); err != nil {
		return api.Release{}, err
	}
	defer r.releasing.Unlock()
	if before := r.released(in); before != nil {
		if before.As != in.As {
			return api.Release{}, refused("it was released as " + string(before.As) + " meanwhile")
		}
		return *before, nil
	}
	execution := workflow.GetInfo(ctx).WorkflowExecution
	ctx = r.control(ctx, fmt.Sprintf("release %s #%d as %s", in.Step, in.Partition, in.As))
	err := workflow.ExecuteActivity(ctx, api.ActivityRelease, api.ReleaseInput{
		WorkflowID:     execution.ID,
		RunID:          execution.RunID,
		Prefix:         api.StepPrefix(r.plan.Flow.Name, r.id, in.Step),
		ReleaseRequest: in,
	}).Get(ctx, nil)
	if err != nil {
		return api.Release{}, cause(err)
	}
	done := api.Release{ReleaseRequest: in, At: workflow.Now(ctx)}
	r.releases = append(r.releases, done)
	if len(r.releases) > maxReleases {
		r.releases = slices.Clone(r.releases[1:])
	}
	return done, nil
}

// released finds what was said of the same task before.
func (r *run) released(in api.ReleaseRequest) *api.Release {
	i := slices.IndexFunc(r.releases, func(one api.Release) bool { return one.Of(in) })
	if i < 0 {
		return nil
	}
	return &r.releases[i]
}

func notHeld(why string) error {
	return temporal.NewNonRetryableApplicationError(why, api.ErrorNotHeld, nil)
}

func refused(why string) error {
	return temporal.NewNonRetryableApplicationError(why, api.ErrorRefused, nil)
}
