package workflows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

// script says how an attempt at a partition ends, and how long it lasts.
type script func(in api.LaunchInput, p api.LaunchPartition) (tasklet.Result, time.Duration)

// patient takes a workflow goroutine that a loaded machine does not serve for a
// second, the SDK's default, for no deadlock.
var patient = worker.Options{DeadlockDetectionTimeout: 30 * time.Second}

// world runs one BatchFlow on Temporal's test environment. Its activities answer
// as the script says; each lasts as long as its longest partition, in the
// environment's time, which skips.
type world struct {
	t    *testing.T
	env  *testsuite.TestWorkflowEnvironment
	plan api.PrepareResult

	script       script
	launchErr    error // of RunTasklets
	prepareErr   error
	atOnce       bool // activities end at once: the environment wakes no child later
	prepareDelay time.Duration
	saveDelay    time.Duration
	saveFailures int

	mu       sync.Mutex
	prepared []api.PrepareInput
	launched []api.LaunchInput
	infos    []activity.Info
	started  map[string]time.Time // first launch of a step
	inFlight map[string]int       // partitions, by step
	most     map[string]int
	pending  int // activities
	mostPend int
	saved    []api.RunState
	kills    []api.KillInput
	releases []api.ReleaseInput

	releaseErrors []error // of ReleaseHeld, one after the other

	ranged  rangeScript // of launches with a Range
	listed  []api.ListItemsInput
	items   int   // that ListItems finds
	listErr error // of ListItems

	gathers     []api.GatherInput
	gatherErr   error
	gatherDelay time.Duration
}

// rangeScript says what becomes of a range, and how long it lasts.
type rangeScript func(in api.LaunchInput) (api.RangeResult, time.Duration)

func ok(outputs ...string) tasklet.Result {
	r := tasklet.Result{Outcome: tasklet.Succeeded, Usage: tasklet.Usage{CPUSeconds: 1, PeakMemory: 100, WallTime: 2}}
	for i := 0; i+1 < len(outputs); i += 2 {
		if r.Outputs == nil {
			r.Outputs = map[string]json.RawMessage{}
		}
		r.Outputs[outputs[i]] = json.RawMessage(outputs[i+1])
	}
	return r
}

func exits(code int) tasklet.Result {
	return tasklet.Result{Outcome: tasklet.Failed, ExitCode: code}
}

func always(r tasklet.Result) script {
	return func(api.LaunchInput, api.LaunchPartition) (tasklet.Result, time.Duration) { return r, time.Second }
}

// newWorld parses a flow and prepares a run of it under its right ID.
func newWorld(t *testing.T, source string, params map[string]any) *world {
	t.Helper()
	f, err := flow.Parse("flow.yaml", []byte(source), flow.Options{})
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	bound, err := f.Bind(params)
	if err != nil {
		t.Fatalf("bind: %v", err)
	}
	w := &world{
		t:      t,
		script: always(ok()),
		plan: api.PrepareResult{
			Flow:     *f,
			Owner:    "billing",
			Params:   bound,
			Identity: "k7q2m4xw5tza",
			Settings: api.Settings{
				LaunchQueue: "baas-launch-test", ControlQueue: "baas-control-test",
				HeartbeatTimeout: time.Minute, MaxPending: 100,
			},
		},
		started: map[string]time.Time{}, inFlight: map[string]int{}, most: map[string]int{},
	}
	var suite testsuite.WorkflowTestSuite
	suite.SetDisableRegistrationAliasing(true)
	w.env = suite.NewTestWorkflowEnvironment()
	w.env.SetTestTimeout(time.Minute)
	w.env.SetWorkerOptions(patient)
	w.env.SetStartTime(time.Date(2026, 1, 31, 6, 0, 0, 0, time.UTC))
	w.as(api.InstanceID(f.Name, w.plan.Identity))
	Register(w.env)
	for name, f := range map[string]any{
		api.ActivityPrepare:      w.prepare,
		api.ActivityRunTasklets:  w.runTasklets,
		api.ActivityKillTasks:    w.killTasks,
		api.ActivityRelease:      w.releaseHeld,
		api.ActivitySaveInstance: w.save,
		api.ActivityListItems:    w.listItems,
		api.ActivityGather:       w.gather,
	} {
		w.env.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
	return w
}

// as sets the ID that the workflow is started under.
func (w *world) as(id string) {
	w.env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: id, TaskQueue: api.TaskQueue})
}

func (w *world) prepare(ctx context.Context, in api.PrepareInput) (api.PrepareResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.prepared = append(w.prepared, in)
	if w.prepareDelay > 0 {
		token := activity.GetInfo(ctx).TaskToken
		w.env.RegisterDelayedCallback(func() { w.complete(token, w.plan) }, w.prepareDelay)
		return api.PrepareResult{}, activity.ErrResultPending
	}
	return w.plan, w.prepareErr
}

func (w *world) runTasklets(ctx context.Context, in api.LaunchInput) (api.LaunchResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	info := activity.GetInfo(ctx)
	w.launched, w.infos = append(w.launched, in), append(w.infos, info)
	if w.launchErr != nil {
		return api.LaunchResult{}, w.launchErr
	}
	if _, again := w.started[in.Step]; !again {
		w.started[in.Step] = w.env.Now()
	}
	n := len(in.Partitions)
	if in.Range != nil {
		n = in.Range.Count
	}
	w.pending++
	w.inFlight[in.Step] += n
	w.mostPend, w.most[in.Step] = max(w.mostPend, w.pending), max(w.most[in.Step], w.inFlight[in.Step])

	var result api.LaunchResult
	var lasts time.Duration
	if in.Range != nil {
		r, d := w.ranged(in)
		result.Range, lasts = &r, d
	}
	for _, p := range in.Partitions {
		r, d := w.script(in, p)
		r.Partition, lasts = p.Index, max(lasts, d)
		result.Results = append(result.Results, r)
	}
	if w.atOnce {
		return result, nil
	}
	w.env.RegisterDelayedCallback(func() {
		w.mu.Lock()
		w.pending--
		w.inFlight[in.Step] -= n
		w.mu.Unlock()
		w.complete(info.TaskToken, result)
	}, max(lasts, time.Millisecond))
	return api.LaunchResult{}, activity.ErrResultPending
}

func (w *world) complete(token []byte, result any) {
	if err := w.env.CompleteActivity(token, result, nil); err != nil {
		w.t.Errorf("complete: %v", err)
	}
}

func (w *world) killTasks(_ context.Context, in api.KillInput) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kills = append(w.kills, in)
	return nil
}

func (w *world) releaseHeld(_ context.Context, in api.ReleaseInput) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.releases = append(w.releases, in)
	if len(w.releaseErrors) == 0 {
		return nil
	}
	err := w.releaseErrors[0]
	w.releaseErrors = w.releaseErrors[1:]
	return err
}

func (w *world) listItems(_ context.Context, in api.ListItemsInput) (api.ListItemsResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listed = append(w.listed, in)
	return api.ListItemsResult{Items: tasklet.LinesRef{Key: "items/" + in.Step, Size: 7, N: w.items}}, w.listErr
}

func (w *world) save(ctx context.Context, state api.RunState) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.saveFailures > 0 {
		w.saveFailures--
		return errors.New("storage cannot be reached")
	}
	w.saved = append(w.saved, state)
	if w.saveDelay > 0 {
		token := activity.GetInfo(ctx).TaskToken
		w.env.RegisterDelayedCallback(func() { w.complete(token, nil) }, w.saveDelay)
		return activity.ErrResultPending
	}
	return nil
}

// details are the current details, as the Temporal Web UI gets them.
func (w *world) details() string {
	w.t.Helper()
	value, err := w.env.QueryWorkflow("__temporal_workflow_metadata")
	if err != nil {
		w.t.Fatalf("query: %v", err)
	}
	var metadata sdkpb.WorkflowMetadata
	if err := value.Get(&metadata); err != nil {
		w.t.Fatalf("query: %v", err)
	}
	return metadata.CurrentDetails
}

// run executes the flow to its end.
func (w *world) run() (api.RunResult, error) {
	w.t.Helper()
	w.env.ExecuteWorkflow(api.WorkflowBatchFlow, api.RunInput{Requested: "tester"})
	if !w.env.IsWorkflowCompleted() {
		w.t.Fatal("the workflow did not end")
	}
	if err := w.env.GetWorkflowError(); err != nil {
		return api.RunResult{}, err
	}
	var result api.RunResult
	if err := w.env.GetWorkflowResult(&result); err != nil {
		w.t.Fatalf("result: %v", err)
	}
	return result, nil
}

// succeed runs the flow and wants it to succeed.
func (w *world) succeed() api.RunResult {
	w.t.Helper()
	result, err := w.run()
	if err != nil {
		w.t.Fatalf("the run failed: %v", err)
	}
	if result.Status != api.StatusSucceeded {
		w.t.Fatalf("status %q, want succeeded", result.Status)
	}
	return result
}

// fail runs the flow, wants it to fail so, and gives the message.
func (w *world) fail(kind string) string {
	w.t.Helper()
	_, err := w.run()
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() != kind {
		w.t.Fatalf("error %v, want an application error of type %s", err, kind)
	}
	return app.Message()
}

// killedRun runs the flow and wants it to be cancelled.
func (w *world) killedRun() {
	w.t.Helper()
	_, err := w.run()
	var canceled *temporal.CanceledError
	if !errors.As(err, &canceled) {
		w.t.Fatalf("error %v, want CanceledError", err)
	}
}

func (w *world) state() api.RunState {
	w.t.Helper()
	return decodeState(w.t)(w.env.QueryWorkflow(api.QueryState))
}

func decodeState(t *testing.T) func(converter.EncodedValue, error) api.RunState {
	return func(value converter.EncodedValue, err error) api.RunState {
		t.Helper()
		if err != nil {
			t.Fatalf("query: %v", err)
		}
		var state api.RunState
		if err := value.Get(&state); err != nil {
			t.Fatalf("query: %v", err)
		}
		return state
	}
}

// statuses wants the steps to have ended so, given as "a=succeeded".
func (w *world) statuses(want ...string) {
	w.t.Helper()
	var got []string
	for _, s := range w.state().Steps {
		got = append(got, fmt.Sprintf("%s=%s", s.ID, s.Status))
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("steps\n %v, want\n %v", got, want)
	}
}

func (w *world) step(id string) api.StepState {
	w.t.Helper()
	for _, s := range w.state().Steps {
		if s.ID == id {
			return s
		}
	}
	w.t.Fatalf("no step %s", id)
	return api.StepState{}
}

// launches counts the activities of a step.
func (w *world) launches(step string) (list []api.LaunchInput) {
	for _, in := range w.launched {
		if in.Step == step {
			list = append(list, in)
		}
	}
	return list
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
