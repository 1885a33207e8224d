package activities

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tasklet"
)

// standing is what Temporal says of an activity.
type standing int

const (
	standsClosed   standing = iota // the workflow run has closed, or is forgotten
	standsGone                     // the run lives, the activity is no longer pending
	standsBackoff                  // pending, between two attempts or not started yet
	standsRunning                  // pending, an attempt is under way
	standsCanceled                 // pending, a cancel was asked for
)

// describer asks Temporal about workflow runs, and shares one answer among all
// who asked before the question went out. An older answer would not do: it might
// not know an activity that was scheduled since.
type describer struct {
	temporal Temporal
	timeout  time.Duration

	mu   sync.Mutex
	runs map[workflowRun]*describeQueue
}

type workflowRun struct{ workflowID, runID string }

type describeQueue struct {
	running bool
	next    *describeCall
}

type describeCall struct {
	done    chan struct{}
	pending map[string]*workflowpb.PendingActivityInfo // where closed: those that it has left behind
	closed  bool
	status  enumspb.WorkflowExecutionStatus // unspecified when Temporal has forgotten the run
	first   string                          // run ID that continue-as-new keeps, if known
	err     error
}

func newDescriber(t Temporal, timeout time.Duration) *describer {
	return &describer{temporal: t, timeout: timeout, runs: make(map[workflowRun]*describeQueue)}
}

// activity tells how an activity stands, and gives its last heartbeat details.
func (d *describer) activity(ctx context.Context, key tasklet.ActivityKey) (standing, api.Details, error) {
	call, err := d.run(ctx, workflowRun{key.WorkflowID, key.RunID})
	if err != nil {
		return 0, api.Details{}, err
	}
	if call.closed {
		return standsClosed, api.Details{}, nil
	}
	p, ok := call.pending[key.ActivityID]
	if !ok {
		return standsGone, api.Details{}, nil
	}
	return read(p)
}

// read tells how a pending activity stands.
func read(p *workflowpb.PendingActivityInfo) (standing, api.Details, error) {
	var details api.Details
	if p.GetHeartbeatDetails() != nil {
		if err := converter.GetDefaultDataConverter().FromPayloads(p.GetHeartbeatDetails(), &details); err != nil {
			return 0, details, fmt.Errorf("heartbeat details of activity %s: %w", p.GetActivityId(), err)
		}
	}
	switch p.GetState() {
	case enumspb.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED:
		return standsCanceled, details, nil
	case enumspb.PENDING_ACTIVITY_STATE_STARTED:
		return standsRunning, details, nil
	}
	return standsBackoff, details, nil
}

func (d *describer) run(ctx context.Context, run workflowRun) (*describeCall, error) {
	d.mu.Lock()
	q, ok := d.runs[run]
	if !ok {
		q = &describeQueue{}
		d.runs[run] = q
	}
	if q.next == nil {
		q.next = &describeCall{done: make(chan struct{})}
	}
	call := q.next
	if !q.running {
		q.running = true
		go d.serve(run, q)
	}
	d.mu.Unlock()
	select {
	case <-call.done:
		return call, call.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serve answers the calls of one run, one after the other, until none waits.
func (d *describer) serve(run workflowRun, q *describeQueue) {
	for {
		d.mu.Lock()
		call := q.next
		q.next = nil
		if call == nil {
			q.running = false
			delete(d.runs, run)
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
		d.ask(run, call)
		close(call.done)
	}
}

func (d *describer) ask(run workflowRun, call *describeCall) {
	ctx, cancel := context.WithTimeout(context.Background(), d.timeout)
	defer cancel()
	answer, err := d.temporal.DescribeWorkflowExecution(ctx, run.workflowID, run.runID)
	var notFound *serviceerror.NotFound
	switch {
	case errors.As(err, &notFound):
		call.closed = true
	case err != nil:
		call.err = err
	default:
		call.status = answer.GetWorkflowExecutionInfo().GetStatus()
		call.first = answer.GetWorkflowExecutionInfo().GetFirstRunId()
		call.closed = !open(call.status)
		call.pending = make(map[string]*workflowpb.PendingActivityInfo, len(answer.GetPendingActivities()))
		for _, p := range answer.GetPendingActivities() {
			call.pending[p.GetActivityId()] = p
		}
	}
}

func open(s enumspb.WorkflowExecutionStatus) bool {
	return s == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING || s == enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED
}
