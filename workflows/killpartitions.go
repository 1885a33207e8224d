package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
)

const maxKills = 20 // of partitions, kept in the run's state

// acceptKills takes orders to end single partitions.
func (r *run) acceptKills() error {
	err := workflow.SetUpdateHandlerWithOptions(r.ctx, api.UpdateKillPartitions, r.killPartitions, workflow.UpdateHandlerOptions{
		Validator:   r.checkKill,
		Description: "Ends partitions of a step, which are not tried again.",
	})
	if err != nil {
		return fmt.Errorf("register the update that kills partitions: %w", err)
	}
	return nil
}

// checkKill refuses what makes no sense, before it is recorded.
func (r *run) checkKill(in api.KillPartitionsRequest) error {
	s, ok := r.byID[in.Step]
	switch {
	case !ok:
		return refused(fmt.Sprintf("the run has no step %q, or has not begun it yet", in.Step))
	case s.state.Status != api.StatusRunning:
		return refused(fmt.Sprintf("step %s is %s", in.Step, s.state.Status))
	case s.halted:
		return refused(fmt.Sprintf("step %s is being ended anyway", in.Step))
	case s.gathering:
		return refused(fmt.Sprintf("step %s has not launched anything: the results of %s are being gathered", in.Step, s.def.Reduce))
	case len(in.Partitions) == 0:
		return refused("the request names no partition")
	case len(in.Partitions) > api.MaxKillPartitions:
		return refused(fmt.Sprintf("%d partitions at once, at most %d are allowed", len(in.Partitions), api.MaxKillPartitions))
	}
	for _, partition := range in.Partitions {
		switch {
		case partition < 0 || partition >= s.state.Partitions:
			return refused(fmt.Sprintf("step %s has no partition %d", in.Step, partition))
		case s.ranges != nil && !s.ranges.pending(partition):
			return refused(fmt.Sprintf("partition %d of step %s is in a range that has ended, or has not begun", partition, in.Step))
		}
	}
	return nil
}

// killPartitions has the leader end them. What becomes of them comes with the results
// of their activities.
func (r *run) killPartitions(ctx workflow.Context, in api.KillPartitionsRequest) (api.PartitionKill, error) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	slices.Sort(in.Partitions)
	in.Partitions = slices.Compact(in.Partitions)
	done := api.PartitionKill{
		Step:   in.Step,
		Spans:  spans(in.Partitions),
		Count:  len(in.Partitions),
		By:     shorten(in.By, maxKilledBy),
		Reason: shorten(in.Reason, maxReleaseReason),
	}
	order := r.ofThisRun(api.KillInput{
		Step:       in.Step,
		Partitions: in.Partitions,
		Reason:     (&api.KillRequest{By: done.By, Reason: done.Reason}).Text(),
	})
	summary := fmt.Sprintf("kill %s %s", in.Step, done.Spans)
	if err := workflow.ExecuteActivity(r.control(ctx, summary), api.ActivityKillTasks, order).Get(ctx, nil); err != nil {
		return api.PartitionKill{}, cause(err)
	}
	done.At = workflow.Now(ctx)
	r.kills = append(r.kills, done)
	if len(r.kills) > maxKills {
		r.kills = slices.Clone(r.kills[1:])
	}
	return done, nil
}
