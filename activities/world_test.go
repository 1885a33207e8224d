package activities

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage/file"
	"github.com/baas-batch/baas/tasklet"
)

// world is one activity, its Mesos tasks and a succession of leaders, with faults
// from a seed. It watches over what must never happen.
type world struct {
	*testing.T
	dice   sync.Mutex
	random *rand.Rand
	store  *brokenStore
	key    tasklet.ActivityKey
	in     api.LaunchInput
	mortal bool // may be killed

	leader atomic.Pointer[term] // the one that Mesos talks to

	mu      sync.Mutex
	log     []string
	away    bool // Temporal
	pending bool
	started bool // else the activity waits for an attempt to be delivered
	killed  bool // a cancel was asked for
	healed  bool // no more faults
	attempt int32
	details api.Details
	beaten  bool
	beat    time.Time // the last heartbeat, or the start of the attempt
	result  api.LaunchResult
	tasks   map[string]*simTask
	used    map[string]bool
	done    map[int]string // by partition: the task that succeeded, for all to see
	before  *api.Details   // of the same activity of a run that was terminated; nil if there is none
}

const earlierRunID = "run-0"

// haunted gives the run a predecessor that was terminated while its tasks ran.
func (w *world) haunted() {
	w.before = &api.Details{
		State: "running", Prefix: "runs/app/app-1-00000000/work/", Total: len(w.in.Partitions), Attempt: 1,
		Agents: []api.AgentDetail{{ID: "a1"}},
	}
	for i := range w.in.Partitions {
		id := tasklet.TaskID{WorkflowID: w.key.WorkflowID, RunID: earlierRunID, ActivityID: w.key.ActivityID, First: i, Generation: 1}
		away := w.draw(2) == 0
		w.tasks[id.String()] = &simTask{id: id, away: away, lost: away}
		w.before.Tasks = append(w.before.Tasks, api.TaskDetail{First: i, Count: 1, Generation: 1, State: "RUNNING"})
	}
}

// earlier tells whether a task is of the predecessor.
func (s *simTask) earlier() bool { return s.id.RunID == earlierRunID }

// simTask is a task that Mesos knows: from the ACCEPT to the acknowledgement of
// its terminal update.
type simTask struct {
	id   tasklet.TaskID
	last *mesos.Update // unacknowledged
	over bool
	away bool // its agent is unreachable
	lost bool // it was, at least once
	// dying: its leader repeats a KILL that is yet to arrive.
	dying bool

	run  *running      // of a Range
	then *mesos.Update // the end, behind an update that is not acknowledged
}

// term is one leader. It is the framework of its hand-off.
type term struct {
	w     *world
	h     *Handoff
	dead  atomic.Bool
	mu    sync.Mutex
	queue []mesos.Task
}

func newWorld(t *testing.T, seed uint64, partitions int) *world {
	files, err := file.Open(t.TempDir(), file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	if err := files.UseGateway("http://127.0.0.1:9"); err != nil {
		t.Fatal(err)
	}
	w := &world{
		T: t, random: rand.New(rand.NewPCG(seed, 1)), store: &brokenStore{Store: files},
		key:     tasklet.ActivityKey{WorkflowID: "app-1", RunID: "run-1", ActivityID: "7"},
		pending: true, tasks: make(map[string]*simTask), used: make(map[string]bool), done: make(map[int]string),
	}
	for i := range partitions {
		w.in.Partitions = append(w.in.Partitions, api.LaunchPartition{Index: i})
	}
	base := input()
	base.Partitions = w.in.Partitions
	w.in = base
	return w
}

// draw gives a number under n; events of the hand-off draw too.
func (w *world) draw(n int) int {
	w.dice.Lock()
	defer w.dice.Unlock()
	return w.random.IntN(n)
}

func (w *world) note(format string, args ...any) { w.log = append(w.log, fmt.Sprintf(format, args...)) }

func (w *world) violated(format string, args ...any) {
	w.Errorf(format+"\n%v", append(args, w.log)...)
}

// stored tells whether the result of a task lies in storage, faults aside.
func (w *world) stored(id tasklet.TaskID) bool {
	key := api.ResultKey(stepPrefix, w.key.ActivityID, id.First, id.Generation)
	_, err := w.store.Store.Stat(context.Background(), key)
	return err == nil
}

// lead lets the next leader take over, as the worker does.
func (w *world) lead() {
	if old := w.leader.Load(); old != nil {
		old.dead.Store(true)
		old.h.Close()
	}
	t := &term{w: w}
	t.h = New(Config{
		Temporal: t, Store: w.store, Leading: func() bool { return !t.dead.Load() },
		HeartbeatTimeout: 20 * time.Millisecond, RetryPause: time.Millisecond, MaxLosses: 1000, FirstPack: firstPack,
		Backoff: func(int) time.Duration { return time.Millisecond },
	})
	t.h.Bind(t)
	w.mu.Lock()
	w.note("lead")
	var known []mesos.Update
	for _, s := range w.tasks {
		s.dying = false // its KILL went with the old leader
		if !s.away {    // an implicit reconciliation leaves these out
			known = append(known, s.reconciled())
		}
	}
	w.mu.Unlock()
	w.leader.Store(t)
	for _, u := range known {
		t.h.Update(u)
	}
	_ = t.h.TakeOver(context.Background())
}

func (s *simTask) reconciled() mesos.Update {
	u := mesos.Update{TaskID: s.id.String(), State: mesos.Running, AgentID: "a1", ExecutorID: "x1", Source: "MASTER", Reason: "RECONCILIATION"}
	switch {
	case s.away:
		u.State = mesos.Unreachable
	case s.last != nil:
		u.State = s.last.State
	}
	return u
}

// Temporal

var errAway = errors.New("Temporal is out of reach")

func (t *term) reached() error {
	if t.w.away || t.dead.Load() {
		return errAway
	}
	return nil
}

func (t *term) CompleteActivity(_ context.Context, token []byte, _ any, err error) error {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	if err := t.reached(); err != nil {
		return err
	}
	if !t.w.pending || !t.w.started || string(token) != fmt.Sprint(t.w.attempt) {
		return notFound
	}
	t.w.note("given back: %v", err)
	t.w.lost()
	return nil
}

func (t *term) CompleteActivityByID(_ context.Context, _, _, _, _ string, result any, _ error) error {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	if err := t.reached(); err != nil {
		return err
	}
	if !t.w.pending {
		return notFound
	}
	t.w.note("completed")
	t.w.pending, t.w.result = false, result.(api.LaunchResult)
	return nil
}

func (t *term) RecordActivityHeartbeatByID(_ context.Context, _, _, _, _ string, details ...any) (err error) {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	if err := t.reached(); err != nil {
		return err
	}
	if !t.w.pending || !t.w.started {
		return notFound
	}
	if t.w.killed {
		defer func() { err = temporal.NewCanceledError() }()
	}
	t.w.details, t.w.beaten, t.w.beat = details[0].(api.Details), true, time.Now()
	return nil
}

func (t *term) DescribeWorkflowExecution(_ context.Context, _, runID string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	if err := t.reached(); err != nil {
		return nil, err
	}
	if runID == earlierRunID {
		run := earlierRun{status: terminated, first: earlierRunID, details: map[string]api.Details{t.w.key.ActivityID: *t.w.before}}
		return run.describe(), nil
	}
	answer := &workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING},
	}
	if t.w.pending {
		info := &workflowpb.PendingActivityInfo{ActivityId: t.w.key.ActivityID, State: enumspb.PENDING_ACTIVITY_STATE_SCHEDULED}
		if t.w.started {
			info.State = enumspb.PENDING_ACTIVITY_STATE_STARTED
		}
		if t.w.killed {
			info.State = enumspb.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED
		}
		if t.w.beaten {
			info.HeartbeatDetails, _ = converter.GetDefaultDataConverter().ToPayloads(t.w.details)
		}
		answer.PendingActivities = append(answer.PendingActivities, info)
	}
	return answer, nil
}

func (t *term) ListWorkflow(context.Context, *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	if err := t.reached(); err != nil {
		return nil, err
	}
	answer := &workflowservice.ListWorkflowExecutionsResponse{Executions: []*workflowpb.WorkflowExecutionInfo{{
		Execution: &commonpb.WorkflowExecution{WorkflowId: t.w.key.WorkflowID, RunId: t.w.key.RunID},
	}}}
	if t.w.before != nil {
		answer.Executions = append(answer.Executions, &workflowpb.WorkflowExecutionInfo{
			Execution: &commonpb.WorkflowExecution{WorkflowId: t.w.key.WorkflowID, RunId: earlierRunID}, Status: terminated,
		})
	}
	return answer, nil
}

// lost ends an attempt. With mu held.
func (w *world) lost() {
	w.started = false
	w.pending = w.pending && !w.killed // what is to be cancelled is not tried again
}

// kill cancels the activity, as a workflow does.
func (w *world) kill() {
	w.mu.Lock()
	if w.away || w.killed {
		w.mu.Unlock()
		return
	}
	w.note("kill")
	w.killed = true
	w.pending = w.pending && w.started
	w.mu.Unlock()
	_ = w.leader.Load().h.KillTasks(context.Background(), api.KillInput{WorkflowID: w.key.WorkflowID, RunID: w.key.RunID, Reason: "on request"})
}

// deliver hands the activity over, if it waits for that.
func (w *world) deliver() {
	w.mu.Lock()
	if !w.pending || w.started || w.away {
		w.mu.Unlock()
		return
	}
	w.started, w.beat = true, time.Now()
	w.attempt++
	w.note("attempt %d", w.attempt)
	details, token, try := w.details, []byte(fmt.Sprint(w.attempt)), w.attempt
	w.mu.Unlock()
	e := w.leader.Load().h.entry(w.key)
	e.post(func() { e.attach(w.in, details, token, try) })
}
