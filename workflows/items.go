package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
)

// errand is a pending activity of any worker's that a step waits for before it
// launches anything.
type errand struct {
	future workflow.Future
	settle func(workflow.Future)
}

// send starts an errand. It has a heartbeat, and lasts as long as the data does.
func (p *phase) send(summary string, most time.Duration, activity string, in any, settle func(workflow.Future)) {
	ctx := workflow.WithActivityOptions(p.ctx, workflow.ActivityOptions{
		TaskQueue:           api.TaskQueue,
		StartToCloseTimeout: most,
		HeartbeatTimeout:    shortHeartbeat,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: time.Second, MaximumInterval: 30 * time.Second},
		Summary:             summary,
	})
	p.errands = append(p.errands, &errand{workflow.ExecuteActivity(ctx, activity, in), settle})
}

// list has the items of a step written down that are in storage. Until their number
// is known the step runs without partitions.
func (p *phase) list(s *step, source *flow.Source) {
	s.ranges.listing = true
	p.send("list the items of "+s.def.ID, time.Hour, api.ActivityListItems, api.ListItemsInput{
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
	}, func(f workflow.Future) { p.listed(s, f) })
}

func (p *phase) listed(s *step, f workflow.Future) {
	s.ranges.listing = false
	var result api.ListItemsResult
	err := f.Get(p.wait, &result)
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
