package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
)

// listing is a pending ListItems activity.
type listing struct {
	step   *step
	future workflow.Future
}

// list has the items of a step written down that are in storage. Until their number
// is known the step runs without partitions.
func (p *phase) list(s *step, source *flow.Source) {
	s.ranges.listing = true
	ctx := workflow.WithActivityOptions(p.ctx, workflow.ActivityOptions{
		TaskQueue:           api.TaskQueue,
		StartToCloseTimeout: time.Hour,
		HeartbeatTimeout:    shortHeartbeat,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: time.Second, MaximumInterval: 30 * time.Second},
		Summary:             "list the items of " + s.def.ID,
	})
	p.listings = append(p.listings, &listing{step: s, future: workflow.ExecuteActivity(ctx, api.ActivityListItems, api.ListItemsInput{
		App:     p.plan.Flow.Name,
		Owner:   p.plan.Owner,
		Run:     p.id,
		Step:    s.def.ID,
		Lines:   source.Lines,
		Values:  source.Values,
		Files:   source.Files,
		Objects: source.Objects,
		Outputs: source.Outputs,
		Max:     flow.MaxPartitions,
	})})
}

func (p *phase) settleListing(l *listing) {
	s := l.step
	s.ranges.listing = false
	var result api.ListItemsResult
	err := l.future.Get(p.wait, &result)
	switch {
	case p.stopping:
		p.finish(s, api.StatusKilled)
	case err != nil:
		p.fail(s, ": for_each: "+messageOf(err))
		p.finish(s, api.StatusFailed)
	case result.Items.N < 0 || result.Items.N > flow.MaxPartitions:
		p.fail(s, fmt.Sprintf(": for_each: %d items, at most %d are allowed", result.Items.N, flow.MaxPartitions))
		p.finish(s, api.StatusFailed)
	default:
		s.ranges.items.Object = &result.Items
		p.cut(s, result.Items.N)
	}
}
