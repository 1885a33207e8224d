package starter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/baas-batch/baas/api"
)

// pollSilence is how long a task queue may go without a poll before it counts as
// deserted: a poll lasts a minute, and Temporal notes when it began.
const pollSilence = 100 * time.Second

// Scheduler is who places the tasks of a run.
type Scheduler struct {
	Framework string    `json:"framework"`
	Leader    string    `json:"leader,omitempty"` // the worker that leads, or led last
	Since     time.Time `json:"since,omitzero"`   // of its leadership
	Heard     time.Time `json:"heard,omitzero"`   // its last heartbeat
	// LaunchPolled is when a leader last asked for steps.
	LaunchPolled time.Time `json:"launch_polled,omitzero"`
	// Backlog counts the activities that wait in Temporal for the leader, of all runs.
	Backlog int64 `json:"backlog"`
	// Trouble says why nobody leads, "" if somebody does.
	Trouble string `json:"trouble,omitempty"`
	// Mesos says why the leader has no Mesos master, "" if it has.
	Mesos string `json:"mesos,omitempty"`
}

// scheduler asks Temporal who leads a framework. The answer may have gaps where a
// question fails; only an unreachable Temporal is an error.
func (c *Client) scheduler(ctx context.Context, framework string) (Scheduler, error) {
	s := Scheduler{Framework: framework}
	queue, err := c.taskQueue(ctx, api.LaunchQueue(framework), enumspb.TASK_QUEUE_TYPE_ACTIVITY)
	if err != nil {
		return s, err
	}
	s.LaunchPolled = lastPoll(queue.GetPollers())
	s.Backlog = queue.GetStats().GetApproximateBacklogCount()

	x, err := c.describe(ctx, api.FrameworkWorkflowID(framework), "")
	if errors.Is(err, ErrNotFound) {
		s.Trouble = fmt.Sprintf("no worker has led the framework %q yet", framework)
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if !x.open() {
		s.Trouble = fmt.Sprintf("the workflow %s has ended, so nobody leads", x.workflowID)
		return s, nil
	}
	s.read(x)
	return s, nil
}

// read takes the leadership from the pending activity that stands for it.
func (s *Scheduler) read(x *execution) {
	for _, p := range x.description.GetPendingActivities() {
		if p.GetActivityType().GetName() != api.ActivityLead {
			continue
		}
		s.Leader = p.GetLastWorkerIdentity()
		if t := p.GetLastStartedTime(); t != nil {
			s.Since = t.AsTime()
		}
		if t := p.GetLastHeartbeatTime(); t != nil {
			s.Heard = t.AsTime()
		}
		if p.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED {
			var details api.LeadDetails
			if converter.GetDefaultDataConverter().FromPayloads(p.GetHeartbeatDetails(), &details) == nil && details.Leader == s.Leader {
				s.Mesos = details.Mesos
			}
			return
		}
		s.Trouble = "no worker has taken the lead yet"
		if since := latest(s.Heard, s.LaunchPolled); !since.IsZero() {
			s.Trouble = "no worker leads since " + since.UTC().Format(time.RFC3339)
			if s.Leader != "" {
				s.Trouble += "; the last was " + s.Leader
			}
		}
		if why := p.GetLastFailure(); why.GetTimeoutFailureInfo() == nil && why.GetMessage() != "" {
			s.Trouble += ": " + why.GetMessage()
		}
		return
	}
	s.Trouble = "no worker leads: the framework's workflow has not begun, or waits for a worker"
}

// taskQueue describes a task queue. A failure other than an unreachable Temporal
// gives an empty answer.
func (c *Client) taskQueue(ctx context.Context, name string, kind enumspb.TaskQueueType) (answer *workflowservice.DescribeTaskQueueResponse, err error) {
	err = c.call(ctx, func(ctx context.Context) (err error) {
		answer, err = c.temporal.WorkflowService().DescribeTaskQueue(ctx, &workflowservice.DescribeTaskQueueRequest{
			Namespace:     c.namespace,
			TaskQueue:     &taskqueuepb.TaskQueue{Name: name},
			TaskQueueType: kind,
			ReportStats:   true,
		})
		return err
	})
	if err != nil && !errors.Is(err, ErrUnreachable) && ctx.Err() == nil {
		return nil, nil
	}
	return answer, err
}

func lastPoll(pollers []*taskqueuepb.PollerInfo) (last time.Time) {
	for _, p := range pollers {
		last = latest(last, p.GetLastAccessTime().AsTime())
	}
	return last
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// workers says what is wrong with the workers, which run the workflow itself; ""
// if they poll.
func (c *Client) workers(ctx context.Context, now time.Time) (string, error) {
	queue, err := c.taskQueue(ctx, api.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil || queue == nil {
		return "", err
	}
	last := lastPoll(queue.GetPollers())
	switch {
	case last.IsZero():
		return fmt.Sprintf("no worker polls task queue %q: none is running, or none for some minutes", api.TaskQueue), nil
	case now.Sub(last) > pollSilence:
		return fmt.Sprintf("no worker has polled task queue %q since %s", api.TaskQueue, last.UTC().Format(time.RFC3339)), nil
	}
	return "", nil
}

// framework gives the name of the framework that serves a launch queue.
func (j *journal) framework() string {
	if name, ok := strings.CutPrefix(j.plan.Settings.LaunchQueue, api.LaunchQueue("")); ok && name != "" {
		return name
	}
	return api.DefaultFramework
}
