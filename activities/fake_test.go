package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
	"github.com/baas-batch/baas/tasklet"
)

// journal is the one list of everything that went out, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
	wake  chan struct{}
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
	close(j.wake)
	j.wake = make(chan struct{})
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.lines...)
}

func (j *journal) count(line string) int {
	n := 0
	for _, l := range j.all() {
		if l == line {
			n++
		}
	}
	return n
}

// rig is a Handoff between a scripted Temporal and a scripted Mesos, with a real
// file store.
type rig struct {
	*testing.T
	h     *Handoff
	store *file.Store
	key   tasklet.ActivityKey
	journal

	mu2         sync.Mutex
	state       enumspb.PendingActivityState
	status      enumspb.WorkflowExecutionStatus
	pending     bool
	details     *api.Details // last written
	beatErr     error
	completeErr error
	result      *api.LaunchResult
	leading     bool
	tasks       map[string]mesos.Task
	granted     []tasklet.Grant
	held        []mesos.TaskInfo      // in Mesos, as the framework lists them
	earlier     map[string]earlierRun // by Temporal's run ID
	listErr     error
}

// earlierRun is a closed run of the same workflow ID.
type earlierRun struct {
	status  enumspb.WorkflowExecutionStatus
	first   string
	details map[string]api.Details // of the activities that it has left pending
}

func newRig(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	store, err := file.Open(t.TempDir(), file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if err := store.UseGateway("http://127.0.0.1:9"); err != nil {
		t.Fatal(err)
	}
	r := &rig{
		T: t, store: store,
		key:     tasklet.ActivityKey{WorkflowID: "app-1", RunID: "run-1", ActivityID: "7"},
		journal: journal{wake: make(chan struct{})},
		state:   enumspb.PENDING_ACTIVITY_STATE_STARTED,
		status:  enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING,
		pending: true, leading: true,
		tasks: make(map[string]mesos.Task),
	}
	cfg := Config{
		Temporal: r, Store: store, Leader: "test",
		Leading:          func() bool { r.mu2.Lock(); defer r.mu2.Unlock(); return r.leading },
		HeartbeatTimeout: time.Hour, // heartbeats in tests are those that an event causes
		RetryPause:       time.Millisecond,
		FirstPack:        firstPack,
		Backoff:          func(int) time.Duration { return time.Millisecond },
	}
	for _, f := range change {
		f(&cfg)
	}
	r.h = New(cfg)
	r.h.Bind((*rigFramework)(r))
	t.Cleanup(r.h.Close)
	return r
}

func (r *rig) set(f func()) { r.mu2.Lock(); defer r.mu2.Unlock(); f() }

// until waits for a line of the journal.
func (r *rig) until(line string) {
	r.Helper()
	r.untilN(line, 1)
}

func (r *rig) untilN(line string, n int) {
	r.Helper()
	deadline := time.After(10 * time.Second)
	for {
		r.journal.mu.Lock()
		wake := r.wake
		r.journal.mu.Unlock()
		if r.count(line) >= n {
			return
		}
		select {
		case <-wake:
		case <-deadline:
			r.Fatalf("no %q (%d times) in:\n%v", line, n, r.all())
		}
	}
}

// never makes sure that a line is not there once all events so far are handled.
func (r *rig) never(line string) {
	r.Helper()
	r.settle()
	if r.count(line) > 0 {
		r.Fatalf("unexpected %q in:\n%v", line, r.all())
	}
}

// settle waits until the entry has handled what was posted before.
func (r *rig) settle() {
	r.Helper()
	done := make(chan struct{})
	e := r.h.entry(r.key)
	e.post(func() { close(done) })
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		r.Fatal("the entry hangs")
	}
}

// answerTo gives the answer to a request of an executor; false if there is none.
func (r *rig) answerTo(request string) (tasklet.Grant, bool) {
	r.mu2.Lock()
	defer r.mu2.Unlock()
	for _, g := range r.granted {
		if g.ID == request {
			return g, true
		}
	}
	return tasklet.Grant{}, false
}

// Temporal

func (r *rig) CompleteActivity(_ context.Context, _ []byte, _ any, err error) error {
	r.add("released: %v", err != nil)
	return nil
}

func (r *rig) CompleteActivityByID(_ context.Context, _, _, _, id string, result any, err error) error {
	r.mu2.Lock()
	defer r.mu2.Unlock()
	if err != nil {
		r.Errorf("completed with an error: %v", err)
	}
	if r.completeErr != nil {
		r.add("complete %s refused", id)
		return r.completeErr
	}
	done := result.(api.LaunchResult)
	r.result = &done
	r.pending = false
	r.add("complete %s", id)
	return nil
}

func (r *rig) RecordActivityHeartbeatByID(_ context.Context, _, _, _, _ string, details ...any) error {
	r.mu2.Lock()
	defer r.mu2.Unlock()
	if r.beatErr != nil {
		r.add("beat refused")
		return r.beatErr
	}
	d := details[0].(api.Details)
	r.details = &d
	line := "beat"
	for _, t := range d.Tasks {
		line += fmt.Sprintf(" %d.%d=%s", t.First, t.Generation, t.State)
	}
	r.add("%s", line)
	return nil
}

func (r *rig) DescribeWorkflowExecution(_ context.Context, _, runID string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	r.mu2.Lock()
	defer r.mu2.Unlock()
	if run, ok := r.earlier[runID]; ok {
		return run.describe(), nil
	}
	answer := &workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: r.status},
	}
	if r.pending {
		var payloads *commonpb.Payloads
		if r.details != nil {
			payloads, _ = converter.GetDefaultDataConverter().ToPayloads(*r.details)
		}
		answer.PendingActivities = []*workflowpb.PendingActivityInfo{{
			ActivityId: r.key.ActivityID, State: r.state, HeartbeatDetails: payloads,
		}}
	}
	return answer, nil
}

var notFound = serviceerror.NewNotFound("invalid activityID or activity already timed out")

func (run earlierRun) describe() *workflowservice.DescribeWorkflowExecutionResponse {
	answer := &workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: run.status, FirstRunId: run.first},
	}
	for id, details := range run.details {
		payloads, _ := converter.GetDefaultDataConverter().ToPayloads(details)
		answer.PendingActivities = append(answer.PendingActivities, &workflowpb.PendingActivityInfo{
			ActivityId: id, State: enumspb.PENDING_ACTIVITY_STATE_STARTED, HeartbeatDetails: payloads,
		})
	}
	return answer
}

// ListWorkflow answers with all runs, or those of the instance.
func (r *rig) ListWorkflow(context.Context, *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	r.mu2.Lock()
	defer r.mu2.Unlock()
	if r.listErr != nil {
		return nil, r.listErr
	}
	answer := &workflowservice.ListWorkflowExecutionsResponse{Executions: []*workflowpb.WorkflowExecutionInfo{{
		Execution: &commonpb.WorkflowExecution{WorkflowId: r.key.WorkflowID, RunId: r.key.RunID}, Status: r.status,
	}}}
	for id, run := range r.earlier {
		answer.Executions = append(answer.Executions, &workflowpb.WorkflowExecutionInfo{
			Execution: &commonpb.WorkflowExecution{WorkflowId: r.key.WorkflowID, RunId: id}, Status: run.status,
		})
	}
	return answer, nil
}

// Mesos

type rigFramework rig

func (f *rigFramework) Submit(tasks ...mesos.Task) {
	for _, t := range tasks {
		f.mu2.Lock()
		f.tasks[t.ID] = t
		f.mu2.Unlock()
		f.add("submit %s", short(t.ID))
	}
}

func (f *rigFramework) Withdraw(id string) bool {
	f.mu2.Lock()
	_, waiting := f.tasks[id]
	delete(f.tasks, id)
	f.mu2.Unlock()
	f.add("withdraw %s", short(id))
	return waiting
}
func (f *rigFramework) Kill(ref mesos.TaskRef, _ time.Duration) { f.add("kill %s", short(ref.TaskID)) }
func (f *rigFramework) Acknowledge(u mesos.Update) {
	if u.UUID != nil {
		f.add("ack %s %s", short(u.TaskID), u.State)
	}
}
func (f *rigFramework) Reconcile(refs ...mesos.TaskRef) {
	for _, r := range refs {
		f.add("reconcile %s on %s", short(r.TaskID), r.AgentID)
	}
}
func (f *rigFramework) Forget(string)                            {}
func (f *rigFramework) Describe(string, string, mesos.Resources) {}
func (f *rigFramework) Send(agent, executor string, data []byte) error {
	var o tasklet.Order
	if err := json.Unmarshal(data, &o); err != nil {
		return err
	}
	if o.Grant == nil {
		f.add("order %s to kill %v", short(o.TaskID), o.Kill)
		return nil
	}
	f.mu2.Lock()
	f.granted = append(f.granted, *o.Grant)
	f.mu2.Unlock()
	f.add("grant %s error=%q url=%v", o.Grant.ID, o.Grant.Error, o.Grant.URL != "")
	return nil
}
func (f *rigFramework) Holds(agent, executor string, contents ...mesos.Content) {
	for _, c := range contents {
		f.add("%s on %s holds %d bytes of %s", executor, agent, c.Size, c.ID)
	}
}
func (f *rigFramework) Explain(string) string { return "no offers" }
func (f *rigFramework) Blame(agent, reason string) {
	f.add("blame %s: %s", agent, reason)
}

func (f *rigFramework) Tasks() []mesos.TaskInfo {
	f.mu2.Lock()
	defer f.mu2.Unlock()
	return f.held
}

func short(taskID string) string {
	id, err := tasklet.ParseTaskID(taskID)
	if err != nil {
		return taskID
	}
	return fmt.Sprintf("%d.%d", id.First, id.Generation)
}

// What Temporal, Mesos and executors do.

func input(partitions ...int) api.LaunchInput {
	in := api.LaunchInput{
		App: "app", Owner: "adhoc", Run: "app-1-00000001", Step: "work", Attempt: 1,
		Shell: "true", CPUs: 0.1, Mem: 32 << 20, Grace: time.Second, UnreachableTimeout: time.Hour,
		Outputs: []tasklet.Output{{Name: "report", Type: tasklet.TypeFile}},
	}
	for _, i := range partitions {
		in.Partitions = append(in.Partitions, api.LaunchPartition{Index: i})
	}
	return in
}

func (r *rig) deliver(in api.LaunchInput, details api.Details, try int32) {
	e := r.h.entry(r.key)
	e.post(func() { e.attach(in, details, []byte("token"), try) })
}

func (r *rig) id(first, generation int) string {
	return tasklet.TaskID{WorkflowID: r.key.WorkflowID, RunID: r.key.RunID, ActivityID: r.key.ActivityID,
		First: first, Generation: generation}.String()
}

// offer places a submitted task on agent a1.
func (r *rig) offer(first, generation int) mesos.Launch {
	r.Helper()
	id := r.id(first, generation)
	r.mu2.Lock()
	task, ok := r.tasks[id]
	delete(r.tasks, id)
	r.mu2.Unlock()
	if !ok {
		r.Fatalf("%s was not submitted: %v", short(id), r.all())
	}
	return r.h.Placed(context.Background(), mesos.Placement{
		Agent:    mesos.Agent{ID: "a1", Hostname: "host", Endpoint: "host:5051"},
		Executor: "x1", Tasks: []mesos.Task{task},
	})[0]
}

func (r *rig) update(first, generation int, state mesos.State, change ...func(*mesos.Update)) {
	u := mesos.Update{
		TaskID: r.id(first, generation), State: state, Source: "EXECUTOR",
		AgentID: "a1", ExecutorID: "x1", UUID: []byte{1}, Time: time.Now(),
	}
	for _, f := range change {
		f(&u)
	}
	r.h.Update(u)
}

func fromMaster(u *mesos.Update) { u.Source, u.UUID, u.Reason = "MASTER", nil, "RECONCILIATION" }

func withResults(results ...tasklet.Result) func(*mesos.Update) {
	return func(u *mesos.Update) { u.Data, _ = json.Marshal(tasklet.StatusData{Results: results, Stored: true}) }
}

func ok(partition int) tasklet.Result {
	return tasklet.Result{Partition: partition, Outcome: tasklet.Succeeded}
}

func (r *rig) storeResult(first, generation int, results ...tasklet.Result) {
	r.Helper()
	in := input()
	key := api.ResultKey(api.StepPrefix(in.App, in.Run, in.Step), r.key.ActivityID, first, generation)
	if _, err := storage.PutJSON(context.Background(), r.store, key, tasklet.ResultObject{Results: results}); err != nil {
		r.Fatal(err)
	}
}
