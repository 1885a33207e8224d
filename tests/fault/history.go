package fault

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tasklet"
)

// Acceptance is a result that Temporal has accepted.
type Acceptance struct {
	Partition
	Attempt int
	At      time.Time
	Result  tasklet.Result
	// Seen is how long after At it may be before whoever places tasks must have seen
	// it: at once if Temporal has it.
	Seen time.Duration
}

// History is what Temporal has accepted for a run, in order.
type History struct {
	Accepted []Acceptance
	// Broken are activities that ended otherwise than with a result, and those that
	// were ordered of a run that was to end.
	Broken []string

	cancelled bool
	ranges    []launch
}

// History reads the run's history from Temporal.
func (r *Run) History(ctx context.Context) (History, error) {
	var h History
	launched := make(map[int64]launch) // by the event that scheduled it
	events := r.w.Client.GetWorkflowHistory(ctx, r.started.Instance, r.started.FirstID, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		if err != nil {
			return h, err
		}
		if err := h.add(event, launched); err != nil {
			return h, fmt.Errorf("event %d: %w", event.GetEventId(), err)
		}
	}
	for _, one := range h.ranges {
		if err := h.addRange(ctx, r.w.Store, one); err != nil {
			return h, fmt.Errorf("activity %s: %w", one.activity, err)
		}
	}
	return h, nil
}

// launch is one RunTasklets activity.
type launch struct {
	api.LaunchInput
	activity string
	ended    time.Time
	manifest tasklet.LinesRef
}

func (h *History) add(event *historypb.HistoryEvent, launched map[int64]launch) error {
	h.cancelled = h.cancelled || event.GetWorkflowExecutionCancelRequestedEventAttributes() != nil
	decode := converter.GetDefaultDataConverter().FromPayloads
	if a := event.GetActivityTaskScheduledEventAttributes(); a.GetActivityType().GetName() == api.ActivityRunTasklets {
		var in api.LaunchInput
		if err := decode(a.GetInput(), &in); err != nil {
			return err
		}
		launched[event.GetEventId()] = launch{LaunchInput: in, activity: a.GetActivityId()}
		if h.cancelled {
			h.Broken = append(h.Broken, fmt.Sprintf("tasks of step %s were ordered after the run was killed", in.Step))
		}
	}
	if a := event.GetActivityTaskCompletedEventAttributes(); a != nil {
		in, ok := launched[a.GetScheduledEventId()]
		if !ok {
			return nil
		}
		var out api.LaunchResult
		if err := decode(a.GetResult(), &out); err != nil {
			return err
		}
		if in.Range != nil && out.Range != nil {
			in.ended, in.manifest = event.GetEventTime().AsTime(), out.Range.Manifest
			h.ranges = append(h.ranges, in)
			if n := out.Range.Manifest.N; n != in.Range.Count {
				h.Broken = append(h.Broken, fmt.Sprintf("step %s: %d results of %d partitions", in.Step, n, in.Range.Count))
			}
			return nil
		}
		if len(out.Results) != len(in.Partitions) {
			h.Broken = append(h.Broken, fmt.Sprintf("step %s: %d results of %d partitions", in.Step, len(out.Results), len(in.Partitions)))
		}
		for _, result := range out.Results {
			h.Accepted = append(h.Accepted, Acceptance{
				Partition: Partition{in.Step, result.Partition}, Attempt: in.Attempt, At: event.GetEventTime().AsTime(), Result: result,
			})
		}
	}
	for _, end := range []interface {
		GetScheduledEventId() int64
	}{
		event.GetActivityTaskFailedEventAttributes(), event.GetActivityTaskTimedOutEventAttributes(), event.GetActivityTaskCanceledEventAttributes(),
	} {
		if in, ok := launched[end.GetScheduledEventId()]; ok {
			h.Broken = append(h.Broken, fmt.Sprintf("the activity of step %s, attempt %d, ended by %s", in.Step, in.Attempt, event.GetEventType()))
		}
	}
	return nil
}

// Of gives the acceptances of one partition.
func (h History) Of(p Partition) []Acceptance {
	var some []Acceptance
	for _, a := range h.Accepted {
		if a.Partition == p {
			some = append(some, a)
		}
	}
	return some
}
