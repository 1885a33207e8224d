package starter

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/embedded"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
	"github.com/baas-batch/baas/tasklet"
)

// platform is a real Temporal and a real file store; the workflow that serves
// BatchFlow is this file's own.
type platform struct {
	*Client
	store    *file.Store
	temporal client.Client
}

var shared struct {
	sync.Once
	server *embedded.Temporal
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		shared.server.Stop()
	}
	os.Exit(code)
}

func newPlatform(t *testing.T) *platform {
	t.Helper()
	shared.Do(func() {
		shared.server, shared.err = embedded.StartTemporal(context.Background(), embedded.TemporalConfig{NoUI: true})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	temporalClient, err := Dial(t.Context(), shared.server.ClientOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(temporalClient.Close)
	store, err := file.Open(t.TempDir(), file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	w := worker.New(temporalClient, api.TaskQueue, worker.Options{})
	w.RegisterWorkflowWithOptions(standIn, workflow.RegisterOptions{Name: api.WorkflowBatchFlow})
	w.RegisterActivityWithOptions(pendingActivity, activity.RegisterOptions{Name: api.ActivityRunTasklets})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return &platform{
		Client:   New(Config{Temporal: temporalClient, Address: shared.server.Address(), Store: store}),
		store:    store,
		temporal: temporalClient,
	}
}

// standIn waits, with an activity pending, until it is cancelled or told how to end.
func standIn(ctx workflow.Context, in api.RunInput) (api.RunResult, error) {
	info := workflow.GetInfo(ctx)
	state := api.RunState{
		Run: api.RunID(info.WorkflowExecution.ID, info.FirstRunID), Instance: info.WorkflowExecution.ID,
		App: "greet", Owner: api.AdhocOwner, Status: api.StatusRunning, Requested: in.Requested, OrderDate: in.OrderDate,
		Started: info.WorkflowStartTime, Params: in.Params,
		Steps: []api.StepState{{ID: "work", Status: api.StatusRunning, Partitions: 1, Active: 1, Started: info.WorkflowStartTime}},
	}
	if err := workflow.SetQueryHandler(ctx, api.QueryState, func() (api.RunState, error) { return state, nil }); err != nil {
		return api.RunResult{}, err
	}
	if in.Relayed && in.OrderDate == continues && in.Continued == nil {
		in.Continued = &api.Continued{}
		return api.RunResult{}, workflow.NewContinueAsNewError(ctx, api.WorkflowBatchFlow, in)
	}
	workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ActivityID: "work-1", StartToCloseTimeout: time.Hour,
	}), api.ActivityRunTasklets)

	if in.Requested == relayed {
		return relay(ctx, &state)
	}
	var how string
	selector := workflow.NewSelector(ctx)
	selector.AddReceive(workflow.GetSignalChannel(ctx, "end"), func(c workflow.ReceiveChannel, _ bool) { c.Receive(ctx, &how) })
	selector.AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) {
		how = "killed"
		var request api.KillRequest
		if workflow.GetSignalChannel(ctx, api.SignalKill).ReceiveAsync(&request) {
			state.Reason = "killed by " + request.By + ": " + request.Reason
		}
	})
	selector.Select(ctx)
	state.Status, state.Ended = api.Status(how), workflow.Now(ctx)
	switch how {
	case "killed":
		return api.RunResult{}, temporal.NewCanceledError()
	case "failed":
		state.Reason = "step work: exit code 3"
		return api.RunResult{}, temporal.NewNonRetryableApplicationError(state.Reason, api.ErrorRunFailed, nil)
	}
	return api.RunResult{Run: state.Run, Status: state.Status}, nil
}

func pendingActivity(ctx context.Context) error {
	activity.RecordHeartbeat(ctx, api.Details{State: "running", Prefix: "p", Total: 1, Tasks: []api.TaskDetail{{First: 0, Count: 1}}})
	return activity.ErrResultPending
}

const greetFlow = `name: greet
params:
  who: {type: string, default: world}
  list: {type: file, default: names.txt}
  more: {type: files, default: []}
steps:
  work: {run: 'cat "$BAAS_INPUT_LIST"', with: {list: '${{ params.list }}'}}
`

func greetApp(t *testing.T) string {
	t.Helper()
	dir := appDir(t, map[string]string{"flow.yaml": strings.Replace(greetFlow, ", default: []", ", required: false", 1), "names.txt": "ann\nbob\n"})
	return filepath.Join(dir, "flow.yaml")
}

// start starts a run of an instance of its own, told apart by who.
func (p *platform) startRun(t *testing.T, who string) Started {
	t.Helper()
	s, err := p.Start(t.Context(), StartOptions{File: greetApp(t), Args: map[string]string{"who": who}, OrderDate: "2026-03-31", RequestedBy: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (p *platform) end(t *testing.T, s Started, how api.Status) {
	t.Helper()
	if err := p.temporal.SignalWorkflow(t.Context(), s.Instance, s.FirstID, "end", how); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if r, err := p.Wait(ctx, s.Run); err != nil || r.Status != how {
		t.Fatalf("got %s, %v; want %s", r.Status, err, how)
	}
}

// eventually polls; Temporal's listings follow with a delay and tell nobody.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline, ticker := time.NewTimer(20*time.Second), time.NewTicker(20*time.Millisecond)
	defer deadline.Stop()
	defer ticker.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("no %s", what)
		case <-ticker.C:
		}
	}
}

func TestStartStoresWhatTheRunNeeds(t *testing.T) {
	p := newPlatform(t)
	file := greetApp(t)
	extra := filepath.Join(t.TempDir(), "extra.csv")
	if err := os.WriteFile(extra, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := p.Start(t.Context(), StartOptions{
		File: file, Args: map[string]string{"who": "stored", "more": extra + "," + extra}, OrderDate: "2026-03-31", RequestedBy: "ann",
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Describe(t.Context(), s.Run)
	if err != nil || r.Run != s.Run || r.OrderDate != "2026-03-31" || r.Requested != "ann" || string(r.Params["who"]) != `"stored"` {
		t.Fatalf("got %+v, %v", r, err)
	}
	var list tasklet.FileRef
	if err := json.Unmarshal(r.Params["list"], &list); err != nil || list.Name != "names.txt" {
		t.Fatalf("list: %s, %v", r.Params["list"], err)
	}
	if b, _, err := storage.GetBytes(t.Context(), p.store, list.Key, 100); err != nil || string(b) != "ann\nbob\n" || list.Key != api.FileKey(list.SHA256) {
		t.Errorf("%s holds %q, %v", list.Key, b, err)
	}
	bundles, err := p.store.List(t.Context(), storage.ListOptions{Prefix: "bundles/"})
	if err != nil || len(bundles.Items) != 1 {
		t.Fatalf("bundles %+v, %v", bundles, err)
	}
	packed, _, err := storage.GetBytes(t.Context(), p.store, bundles.Items[0].Key, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, packed); len(got) != 2 || !strings.HasPrefix(got[0], "flow.yaml 644 name: greet") {
		t.Errorf("the bundle holds %q", got)
	}
	p.end(t, s, api.StatusSucceeded)
}

func TestOneRunOfAnInstanceAtATime(t *testing.T) {
	p := newPlatform(t)
	first := p.startRun(t, "twice")
	_, err := p.Start(t.Context(), StartOptions{File: greetApp(t), Args: map[string]string{"who": "twice"}})
	var running *RunningError
	if !errors.As(err, &running) || running.Run != first.Run || !errors.Is(err, ErrRunning) {
		t.Fatalf("got %v, want %s running", err, first.Run)
	}
	p.end(t, first, api.StatusFailed)
	second := p.startRun(t, "twice")
	if second.Instance != first.Instance || second.Run == first.Run {
		t.Errorf("first %+v, second %+v", first, second)
	}
	// The older run is found too, once it is listed, and the instance is its latest.
	eventually(t, "older run", func() bool {
		r, err := p.Describe(t.Context(), first.Run)
		return err == nil && r.Run == first.Run && r.Status == api.StatusFailed && r.Reason == "step work: exit code 3"
	})
	if r, err := p.Describe(t.Context(), first.Instance); err != nil || r.Run != second.Run {
		t.Errorf("instance: got %s, %v", r.Run, err)
	}
	p.end(t, second, api.StatusSucceeded)
}

func TestInvalidStartsNothing(t *testing.T) {
	p := newPlatform(t)
	file := greetApp(t)
	if err := os.Symlink("/etc/passwd", filepath.Join(filepath.Dir(file), "link")); err != nil {
		t.Fatal(err)
	}
	_, err := p.Start(t.Context(), StartOptions{
		File: file, Args: map[string]string{"list": "/nowhere/at/all"}, OrderDate: "soon",
	})
	var invalid *InvalidError
	if !errors.As(err, &invalid) || len(invalid.Others) != 3 {
		t.Fatalf("got %v", err)
	}
	for i, want := range []string{"/nowhere/at/all does not exist", `order date "soon"`, "link is a symbolic link"} {
		if !strings.Contains(invalid.Others[i], want) {
			t.Errorf("problem %d is %q, want %q", i, invalid.Others[i], want)
		}
	}
	page, err := p.store.List(t.Context(), storage.ListOptions{})
	if err != nil || len(page.Items) != 0 {
		t.Errorf("stored %+v, %v", page.Items, err)
	}
	bad := filepath.Join(appDir(t, map[string]string{"flow.yaml": "name: a\nsteps: {x: {rnu: y}}\nnope: 1\n"}), "flow.yaml")
	if _, err := p.Start(t.Context(), StartOptions{File: bad}); !errors.As(err, &invalid) || len(invalid.Flow) < 2 {
		t.Errorf("got %v", err)
	}
}

func TestKillAndList(t *testing.T) {
	p := newPlatform(t)
	s := p.startRun(t, "killed")
	eventually(t, "heartbeat", func() bool {
		r, err := p.Describe(t.Context(), s.Run)
		return err == nil && len(r.Activities) == 1 && r.Activities[0].Step == "work" && len(r.Activities[0].Details.Tasks) == 1
	})
	eventually(t, "running run in the listing", func() bool {
		return slices.ContainsFunc(listed(t, p, ListOptions{App: "greet", Status: api.StatusRunning}), func(x Summary) bool {
			return x.Run == s.Run && x.OrderDate == "2026-03-31" && x.Ended.IsZero()
		})
	})
	if err := p.Kill(t.Context(), s.Run, "wrong month", "ann"); err != nil {
		t.Fatal(err)
	}
	if r, err := p.Wait(t.Context(), s.Run); err != nil || r.Status != api.StatusKilled || r.Ended.IsZero() || r.Reason != "killed by ann: wrong month" {
		t.Errorf("got %+v, %v", r, err)
	}
	eventually(t, "killed run in the listing", func() bool {
		return slices.ContainsFunc(listed(t, p, ListOptions{Status: api.StatusKilled}), func(x Summary) bool { return x.Run == s.Run })
	})
	if list := listed(t, p, ListOptions{App: "o'ther"}); len(list) != 0 {
		t.Errorf("got %+v", list)
	}
	var ended *EndedError
	if err := p.Kill(t.Context(), s.Run, "again", "ann"); !errors.As(err, &ended) || !errors.Is(err, ErrNotFound) || ended.Status != api.StatusKilled {
		t.Errorf("second kill: %v", err)
	}
}

func listed(t *testing.T, p *platform, o ListOptions) []Summary {
	t.Helper()
	list, err := p.List(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestUnknownRuns(t *testing.T) {
	p := newPlatform(t)
	s := p.startRun(t, "known")
	for _, id := range []string{"nope", "greet-0123456789abcdef-01234567", s.Instance + "-ffffffff", "a/b", "../../x-1-12345678"} {
		if _, err := p.Describe(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: got %v", id, err)
		}
	}
	p.end(t, s, api.StatusSucceeded)
}

func TestStateFromStorage(t *testing.T) {
	p := newPlatform(t)
	state := api.RunState{
		Run: "greet-00000000000000aa-12345678", Instance: "greet-00000000000000aa", App: "greet", Owner: "adhoc",
		Status: api.StatusSucceeded, Started: time.Unix(1, 0).UTC(), Ended: time.Unix(2, 0).UTC(),
	}
	if _, err := storage.PutJSON(t.Context(), p.store, api.InstanceKey("greet", "00000000000000aa"), state); err != nil {
		t.Fatal(err)
	}
	offline := New(Config{Store: p.store})
	for _, c := range []*Client{p.Client, offline} {
		for _, id := range []string{state.Run, state.Instance} {
			if r, err := c.Describe(t.Context(), id); err != nil || r.Run != state.Run || r.Status != api.StatusSucceeded {
				t.Errorf("%s: got %+v, %v", id, r, err)
			}
		}
		if _, err := c.Describe(t.Context(), state.Instance+"-ffffffff"); !errors.Is(err, ErrNotFound) {
			t.Errorf("another run of the instance: %v", err)
		}
	}
	if list, err := offline.List(t.Context(), ListOptions{}); err != nil || len(list) != 1 || list[0].Run != state.Run {
		t.Errorf("got %+v, %v", list, err)
	}
}

func TestTemporalThatIsNotThere(t *testing.T) {
	began := time.Now()
	_, err := Dial(t.Context(), client.Options{HostPort: "127.0.0.1:1"})
	var unreachable *UnreachableError
	if !errors.As(err, &unreachable) || unreachable.Address != "127.0.0.1:1" || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestDownload(t *testing.T) {
	store, err := file.Open(t.TempDir(), file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	put := func(name, content string) tasklet.FileRef {
		c, err := storage.PutContent(t.Context(), store, "files", strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		return tasklet.NewFileRef(c.Key, c.Size, c.SHA256, name)
	}
	value, err := json.Marshal(map[string]any{"list": []any{put("a.txt", "1"), put("a.txt", "2"), 7, nil}, "one": put("../../b", "3")})
	if err != nil {
		t.Fatal(err)
	}
	run := Run{RunState: api.RunState{Steps: []api.StepState{{ID: "work", Outputs: map[string]json.RawMessage{"out": value, "n": json.RawMessage("3")}}}}}
	outputs := run.Outputs()
	if len(outputs) != 2 || outputs[0].Name != "n" || len(outputs[1].Files) != 3 {
		t.Fatalf("got %+v", outputs)
	}
	c, dir := New(Config{Store: store}), t.TempDir()
	written, err := c.Download(t.Context(), outputs[1], dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"00000-a.txt", "00001-a.txt", "b"} {
		content, err := os.ReadFile(filepath.Join(dir, "work", "out", want))
		if err != nil || string(content) != string(rune('1'+i)) || written[i] != filepath.Join(dir, "work", "out", want) {
			t.Errorf("%s: %q, %v, %v", want, content, err, written)
		}
	}

	broken := outputs[1]
	broken.Files = []tasklet.FileRef{broken.Files[0]}
	broken.Files[0].SHA256 = strings.Repeat("0", 64)
	broken.Step = "broken"
	if _, err := c.Download(t.Context(), broken, dir); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "broken", "out")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
