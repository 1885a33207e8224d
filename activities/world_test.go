package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
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
	"github.com/baas-batch/baas/storage"
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
	attempt int32
	details api.Details
	beaten  bool
	beat    time.Time // the last heartbeat, or the start of the attempt
	result  api.LaunchResult
	tasks   map[string]*simTask
	used    map[string]bool
	done    map[int]string // by partition: the task that succeeded, for all to see
}

// simTask is a task that Mesos knows: from the ACCEPT to the acknowledgement of
// its terminal update.
type simTask struct {
	id   tasklet.TaskID
	last *mesos.Update // unacknowledged
	over bool
	away bool // its agent is unreachable
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
		HeartbeatTimeout: 20 * time.Millisecond, RetryPause: time.Millisecond, MaxLosses: 1000,
		Backoff: func(int) time.Duration { return time.Millisecond },
	})
	t.h.Bind(t)
	w.mu.Lock()
	w.note("lead")
	var known []mesos.Update
	for _, s := range w.tasks {
		known = append(known, s.reconciled())
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

func (t *term) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	if err := t.reached(); err != nil {
		return nil, err
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
	return &workflowservice.ListWorkflowExecutionsResponse{Executions: []*workflowpb.WorkflowExecutionInfo{{
		Execution: &commonpb.WorkflowExecution{WorkflowId: t.w.key.WorkflowID, RunId: t.w.key.RunID},
	}}}, nil
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

// Mesos

func (t *term) Submit(tasks ...mesos.Task) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, tasks...)
}

func (t *term) Withdraw(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := len(t.queue)
	t.queue = slices.DeleteFunc(t.queue, func(q mesos.Task) bool { return q.ID == id })
	return len(t.queue) < before
}

func (t *term) Kill(ref mesos.TaskRef, _ time.Duration) {
	if !t.dead.Load() {
		t.w.end(ref.TaskID, mesos.KilledState, true)
	}
}

func (t *term) Acknowledge(u mesos.Update) {
	if u.UUID == nil || t.dead.Load() {
		return
	}
	w := t.w
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.tasks[u.TaskID]
	if s == nil || s.last == nil || string(s.last.UUID) != string(u.UUID) {
		return
	}
	s.last = nil
	if !s.over {
		return
	}
	w.note("ack %s", short(u.TaskID))
	delete(w.tasks, u.TaskID)
	if u.State == mesos.Finished && w.pending && !w.stored(s.id) {
		w.violated("the result of %s is lost by its acknowledgement", short(u.TaskID))
	}
}

func (t *term) Reconcile(refs ...mesos.TaskRef) {
	for _, ref := range refs {
		t.w.mu.Lock()
		u := mesos.Update{TaskID: ref.TaskID, State: mesos.Gone, AgentID: ref.AgentID, Source: "MASTER", Reason: "RECONCILIATION"}
		if s := t.w.tasks[ref.TaskID]; s != nil {
			u = s.reconciled()
		}
		t.w.mu.Unlock()
		t.h.Update(u)
	}
}

func (t *term) Forget(string)                            {}
func (t *term) Describe(string, string, mesos.Resources) {}
func (t *term) Send(string, string, []byte) error        { return nil }
func (t *term) Explain(string) string                    { return "" }

// place gives the oldest waiting task a place, and launches it unless the leader
// dies or the offer is taken back in between.
func (w *world) place() {
	t := w.leader.Load()
	t.mu.Lock()
	if len(t.queue) == 0 {
		t.mu.Unlock()
		return
	}
	task := t.queue[0]
	t.queue = t.queue[1:]
	t.mu.Unlock()
	launch := t.h.Placed(context.Background(), mesos.Placement{Agent: mesos.Agent{ID: "a1"}, Executor: "x1", Tasks: []mesos.Task{task}})[0]
	fate := w.draw(10)
	switch {
	case errors.Is(launch.Err, context.Canceled), launch.Err == nil && fate == 0:
		t.h.Update(mesos.Update{TaskID: task.ID, State: mesos.Dropped, Source: mesos.FrameworkSource})
	case launch.Err != nil, fate == 1: // 1: the leader dies now
		if fate == 1 {
			w.lead()
		}
	default:
		w.accept(task)
	}
}

func (w *world) accept(task mesos.Task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, err := tasklet.ParseTaskID(task.ID)
	if err != nil {
		w.Error(err)
		return
	}
	w.note("launch %s", short(task.ID))
	if w.used[task.ID] {
		w.violated("the ID of %s is used twice", short(task.ID))
	}
	w.used[task.ID] = true
	for _, s := range w.tasks {
		if s.id.First == id.First && !s.over && !s.away {
			w.violated("%s runs beside %s", short(task.ID), short(s.id.String()))
		}
	}
	if before := w.done[id.First]; before != "" {
		w.violated("%s runs though %s has succeeded", short(task.ID), before)
	}
	w.tasks[task.ID] = &simTask{id: id}
}

// end ends a task; its agent tells of it until that is acknowledged.
func (w *world) end(id string, state mesos.State, store bool) {
	w.mu.Lock()
	s := w.tasks[id]
	if s == nil || s.over || s.away && state == mesos.KilledState {
		w.mu.Unlock()
		return
	}
	s.over = true
	if state == mesos.Finished && !s.away {
		w.done[s.id.First] = short(id)
	}
	w.note("%s %s, stored %v", short(id), state, store)
	u := mesos.Update{TaskID: id, State: state, AgentID: "a1", ExecutorID: "x1", Source: "EXECUTOR", UUID: fmt.Append(nil, state)}
	if state == mesos.FailedState {
		executorTerminated(&u)
	} else {
		r := ok(s.id.First)
		if state == mesos.KilledState {
			r.Outcome = tasklet.Killed
		}
		u.Data, _ = json.Marshal(tasklet.StatusData{Results: []tasklet.Result{r}, Stored: store})
		if store {
			key := api.ResultKey(stepPrefix, w.key.ActivityID, s.id.First, s.id.Generation)
			object := tasklet.ResultObject{Results: []tasklet.Result{r}}
			if _, err := storage.PutJSON(context.Background(), w.store.Store, key, object); err != nil {
				w.Error(err)
			}
		}
	}
	s.last = &u
	told := !s.away && w.draw(3) > 0 // else the agent's repetition does
	w.mu.Unlock()
	if told {
		w.leader.Load().h.Update(u)
	}
}

// resend repeats what is not acknowledged.
func (w *world) resend() {
	w.mu.Lock()
	var again []mesos.Update
	for _, s := range w.tasks {
		if s.last != nil && !s.away {
			again = append(again, *s.last)
		}
	}
	w.mu.Unlock()
	for _, u := range again {
		w.leader.Load().h.Update(u)
	}
}
