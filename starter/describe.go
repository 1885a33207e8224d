package starter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
)

// queryTimeout bounds the question to the workflow, which a worker answers.
const queryTimeout = 5 * time.Second

// maxInstanceState bounds the stored state of an instance, in bytes.
const maxInstanceState = 64 << 20

// Run is what is known of a run.
type Run struct {
	api.RunState
	WorkflowID    string     `json:"workflow_id"`
	TemporalRunID string     `json:"temporal_run_id,omitempty"` // "" when Temporal has forgotten the run
	Activities    []Activity `json:"activities,omitempty"`      // under way
	// Incomplete says why the steps are not known: no worker answers.
	Incomplete string `json:"incomplete,omitempty"`
}

// Step finds a step by its ID.
func (r *Run) Step(id string) (*api.StepState, bool) {
	i := slices.IndexFunc(r.Steps, func(s api.StepState) bool { return s.ID == id })
	if i < 0 {
		return nil, false
	}
	return &r.Steps[i], true
}

// Activity is a range of partitions that the scheduler works on.
type Activity struct {
	ID          string      `json:"id"`
	Step        string      `json:"step"`
	Try         int32       `json:"try"` // of Temporal: above 1 after a change of leader
	Details     api.Details `json:"details"`
	LastFailure string      `json:"last_failure,omitempty"`
}

// agent names the agent of a task; "" where it is not known.
func (a *Activity) agent(t api.TaskDetail) string {
	if t.Agent < 0 || t.Agent >= len(a.Details.Agents) {
		return ""
	}
	return cmp.Or(a.Details.Agents[t.Agent].Host, a.Details.Agents[t.Agent].ID)
}

// Describe gives the state of a run. The ID of an instance means its latest run.
// Errors: ErrNotFound, ErrUnreachable.
func (c *Client) Describe(ctx context.Context, id string) (Run, error) {
	x, err := c.find(ctx, id)
	if err != nil {
		if stored, ok := c.stored(ctx, id); ok && errors.Is(err, ErrNotFound) {
			return stored, nil
		}
		return Run{}, err
	}
	run, err := c.state(ctx, x)
	if err != nil {
		return Run{}, err
	}
	if run.Relay != nil && run.Relay.RunID != "" && run.Relay.WorkflowID != x.workflowID {
		target, err := c.newest(ctx, run.Relay.WorkflowID, run.Relay.RunID)
		if err != nil {
			return Run{}, unknown(id, err)
		}
		return c.state(ctx, target)
	}
	return run, nil
}

func (c *Client) state(ctx context.Context, x *execution) (Run, error) {
	run := Run{WorkflowID: x.workflowID, TemporalRunID: x.runID, Activities: activities(x)}
	if !x.open() {
		if stored, ok := c.stored(ctx, x.run); ok {
			stored.TemporalRunID = x.runID
			return stored, nil
		}
	}
	state, err := c.query(ctx, x)
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, ErrNotFound) {
			return Run{}, err
		}
		run.Incomplete = "no worker answers: " + err.Error()
	}
	run.RunState = state
	divideActive(&run)
	c.complete(ctx, &run, x)
	return run, nil
}

// query asks the workflow itself.
func (c *Client) query(ctx context.Context, x *execution) (state api.RunState, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	value, err := c.temporal.QueryWorkflow(ctx, x.workflowID, x.runID, api.QueryState)
	if err != nil {
		return state, c.named(err)
	}
	return state, value.Get(&state)
}

// complete adds what Temporal knows itself: how a run ended that could not say so.
func (c *Client) complete(ctx context.Context, run *Run, x *execution) {
	info := x.description.GetWorkflowExecutionInfo()
	if run.Run == "" {
		run.Run, run.Instance = x.run, x.workflowID
		run.App = keyword(info, api.AttributeApp)
		run.Owner = keyword(info, api.AttributeOwner)
		run.Started = info.GetStartTime().AsTime()
	}
	if x.open() {
		if run.Status == "" {
			run.Status = api.StatusRunning
		}
		return
	}
	if !run.Status.Final() || run.Status == "" {
		run.Status = closedStatus(info)
	}
	if run.Ended.IsZero() {
		run.Ended = info.GetCloseTime().AsTime()
	}
	if run.Reason == "" && run.Status != api.StatusSucceeded {
		run.Reason = c.closeReason(ctx, x)
	}
}

func (c *Client) closeReason(ctx context.Context, x *execution) string {
	event, err := c.closeEvent(ctx, x.workflowID, x.runID)
	if err != nil || event == nil {
		return ""
	}
	switch {
	case event.GetWorkflowExecutionFailedEventAttributes() != nil:
		return event.GetWorkflowExecutionFailedEventAttributes().GetFailure().GetMessage()
	case event.GetWorkflowExecutionTerminatedEventAttributes() != nil:
		return strings.TrimSuffix("terminated in Temporal: "+event.GetWorkflowExecutionTerminatedEventAttributes().GetReason(), ": ")
	case event.GetWorkflowExecutionTimedOutEventAttributes() != nil:
		return "the workflow is over its time limit in Temporal"
	}
	return ""
}

func closedStatus(info *workflowpb.WorkflowExecutionInfo) api.Status {
	switch info.GetStatus() {
	case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
		return api.StatusRunning
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		return api.StatusSucceeded
	case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		return api.StatusKilled
	}
	return api.StatusFailed
}

func keyword(info *workflowpb.WorkflowExecutionInfo, name string) string {
	payload, ok := info.GetSearchAttributes().GetIndexedFields()[name]
	if !ok {
		return ""
	}
	var value string
	if converter.GetDefaultDataConverter().FromPayload(payload, &value) != nil {
		return ""
	}
	return value
}

// stored gives the last state of an instance from storage, if it is of that run.
func (c *Client) stored(ctx context.Context, id string) (Run, bool) {
	if c.store == nil {
		return Run{}, false
	}
	instance, _, err := api.SplitRunID(id)
	if err != nil {
		instance = id
	}
	i := strings.LastIndexByte(instance, '-')
	if i <= 0 {
		return Run{}, false
	}
	key := api.InstanceKey(instance[:i], instance[i+1:])
	if storage.CheckKey(key) != nil {
		return Run{}, false
	}
	run := Run{WorkflowID: instance}
	if err := storage.GetJSON(ctx, c.store, key, maxInstanceState, &run.RunState); err != nil {
		return Run{}, false
	}
	return run, run.Run == id || id == instance
}

func activities(x *execution) []Activity {
	var list []Activity
	for _, p := range x.description.GetPendingActivities() {
		if p.GetActivityType().GetName() != api.ActivityRunTasklets {
			continue
		}
		a := Activity{ID: p.GetActivityId(), Try: p.GetAttempt(), LastFailure: p.GetLastFailure().GetMessage()}
		if details := p.GetHeartbeatDetails(); details != nil {
			// Details of a newer version may not be readable; the rest is.
			_ = converter.GetDefaultDataConverter().FromPayloads(details, &a.Details)
		}
		a.Step = stepOf(a)
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b Activity) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// stepOf reads the step from the activity's ID, which is the step and a number.
func stepOf(a Activity) string {
	if i := strings.LastIndexByte(a.ID, '-'); i > 0 {
		return a.ID[:i]
	}
	return a.ID
}

// divideActive tells what runs from what waits for an offer, by the last heartbeats:
// they are a second or two old, so the workflow's own count bounds them.
func divideActive(run *Run) {
	type sum struct{ placed, paused, ended, failed, killed int }
	steps := map[string]sum{}
	for _, a := range run.Activities {
		one := steps[a.Step]
		d := &a.Details
		one.ended += d.Done
		if d.Range != nil {
			one.placed += d.Range.Running
			one.failed += d.Range.Failed
			one.killed += d.Range.Killed
			one.paused += d.Range.Paused()
		} else {
			for _, t := range d.Tasks {
				if t.Held == nil {
					one.placed += t.Count
				}
			}
		}
		steps[a.Step] = one
	}
	for i := range run.Steps {
		s := &run.Steps[i]
		one := steps[s.ID]
		s.Running = min(one.placed, s.Active)
		s.Waiting = max(0, s.Active-s.Running-one.ended-one.paused)
		if many(run, s.ID) {
			// The workflow hears of a range's partitions when it ends.
			s.Active = max(0, s.Active-one.ended)
			s.Failed += one.failed
			s.Killed += one.killed
			s.Done = min(s.Done+one.ended-one.failed-one.killed, s.Partitions-s.Failed-s.Killed)
		}
	}
}

// many tells whether a step has ranges under way.
func many(run *Run, step string) bool {
	return slices.ContainsFunc(run.Activities, func(a Activity) bool { return a.Step == step && a.Details.Range != nil })
}

// Watch describes a run again and again until it has ended: the last state given
// is final. An error is given and the watch goes on, unless the consumer stops,
// ctx ends or the run is not there (ErrNotFound).
func (c *Client) Watch(ctx context.Context, id string, every time.Duration) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			run, err := c.Describe(ctx, id)
			if ctx.Err() != nil {
				yield(Run{}, ctx.Err())
				return
			}
			if !yield(run, err) || errors.Is(err, ErrNotFound) || err == nil && run.Status.Final() {
				return
			}
			select {
			case <-ctx.Done():
				yield(Run{}, ctx.Err())
				return
			case <-ticker.C:
			}
		}
	}
}

// Wait returns the final state of a run.
func (c *Client) Wait(ctx context.Context, id string) (Run, error) {
	var last Run
	for run, err := range c.Watch(ctx, id, time.Second) {
		if errors.Is(err, ErrUnreachable) {
			continue
		}
		if err != nil {
			return run, fmt.Errorf("wait for run %s: %w", id, err)
		}
		last = run
	}
	return last, nil
}
