package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/embedded"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage/file"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tests/harness"
	"github.com/baas-batch/baas/worker"
)

// crowd is the argument of a workflow that schedules activities as BatchFlow
// does, all at once.
type crowd struct {
	Owner    string
	Priority int // 0: not given
	Count    int
	Last     string // how long each task takes
}

const (
	crowdQueue = "crowd"
	pollers    = 5 // of the leader
)

// launchCrowd gives the number of activities whose task has succeeded.
func launchCrowd(ctx workflow.Context, c crowd) (done int, err error) {
	var futures []workflow.Future
	for i := range c.Count {
		id := fmt.Sprintf("work-%d", i+1)
		futures = append(futures, workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			ActivityID: id, TaskQueue: api.LaunchQueue(api.DefaultFramework),
			StartToCloseTimeout: time.Hour, HeartbeatTimeout: time.Minute,
			Priority: temporal.Priority{PriorityKey: c.Priority, FairnessKey: c.Owner},
		}), api.ActivityRunTasklets, c.input()))
	}
	for _, f := range futures {
		var r api.LaunchResult
		if err := f.Get(ctx, &r); err != nil {
			return done, err
		}
		if len(r.Results) == 1 && r.Results[0].Outcome == tasklet.Succeeded {
			done++
		}
	}
	return done, nil
}

func (c crowd) input() api.LaunchInput {
	return api.LaunchInput{
		App: "crowd", Owner: c.Owner, Run: "crowd-1-00000001", Step: "work", Attempt: 1, Priority: c.Priority,
		Args: []string{c.Last}, CPUs: 1, Mem: 32 << 20, Grace: time.Second, UnreachableTimeout: time.Hour,
		Partitions: []api.LaunchPartition{{Index: 0}},
	}
}

// arena is a real worker between a real Temporal and a farm.
type arena struct {
	*testing.T
	farm   *farm
	client client.Client
	worker *worker.Worker
	peak   chan int // the most tasks that waited with the leader, once asked for
	asked  chan struct{}
}

// newArena has room for so many tasks of one CPU at a time, and for a few executors.
func newArena(t *testing.T, room int, change func(*worker.Config)) *arena {
	t.Helper()
	a := &arena{T: t, farm: newFarm(t, 1, float64(room)+0.9), peak: make(chan int), asked: make(chan struct{})}
	server, err := embedded.StartTemporal(t.Context(), embedded.TemporalConfig{NoUI: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	options := server.ClientOptions()
	options.Logger = sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if a.client, err = client.DialContext(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.client.Close)
	flows := sdkworker.New(a.client, crowdQueue, sdkworker.Options{})
	flows.RegisterWorkflowWithOptions(launchCrowd, workflow.RegisterOptions{Name: "crowd"})
	if err := flows.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(flows.Stop)

	cfg := worker.Config{
		Client: a.client, Store: newStore(t),
		Mesos:  mesos.Config{Masters: []string{a.farm.master.URL()}, ExecutorURI: "executor"},
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	}
	change(&cfg)
	if a.worker, err = worker.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.worker.Stop)
	harness.Eventually(t, "the worker leads", a.worker.Leading)
	go a.watch()
	return a
}

func newStore(tb testing.TB) *file.Store {
	tb.Helper()
	store, err := file.Open(tb.TempDir(), file.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { store.Close() })
	if err := store.UseGateway("http://127.0.0.1:9"); err != nil { // nobody fetches
		tb.Fatal(err)
	}
	return store
}

// watch looks at the leader's load all the time.
func (a *arena) watch() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	most := 0
	for {
		most = max(most, a.worker.Load().Waiting)
		select {
		case <-tick.C:
		case <-a.asked:
			a.peak <- most
			return
		case <-a.Context().Done():
			return
		}
	}
}

func (a *arena) mostWaiting() int {
	close(a.asked)
	return <-a.peak
}

func (a *arena) launch(id string, c crowd) client.WorkflowRun {
	a.Helper()
	run, err := a.client.ExecuteWorkflow(a.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: crowdQueue}, "crowd", c)
	if err != nil {
		a.Fatal(err)
	}
	return run
}

func (a *arena) await(run client.WorkflowRun, want int) {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.Context(), 8*time.Minute)
	defer cancel()
	var done int
	if err := run.Get(ctx, &done); err != nil || done != want {
		a.Fatalf("%s: %d of %d tasks have succeeded, error %v", run.GetID(), done, want, err)
	}
}

// Many activities and a cluster for eight: the leader takes over what it
// may, Temporal keeps the rest, and each runs once.
func TestTheBacklogStaysInTemporal(t *testing.T) {
	const runs, each, room, bound = 3, 60, 8, 30
	a := newArena(t, room, func(c *worker.Config) { c.MaxWaiting = bound })
	var all []client.WorkflowRun
	for i := range runs {
		all = append(all, a.launch(fmt.Sprintf("crowd-%d", i), crowd{Owner: fmt.Sprintf("owner-%d", i%2), Count: each, Last: "gate"}))
	}
	a.farm.until("the cluster is full", harness.Patience, func() bool { return len(a.farm.running) == room })
	for _, run := range all {
		harness.Eventually(t, "all activities are scheduled", func() bool { return len(a.pending(run.GetID())) == each })
	}
	harness.Eventually(t, "the leader's backlog is full", func() bool { return a.worker.Load().Waiting >= bound })
	a.farm.open()
	for _, run := range all {
		a.await(run, each)
	}
	most := a.mostWaiting()
	t.Logf("at most %d tasks have waited with the leader", most)
	if most > bound+bound/4+pollers {
		t.Errorf("%d tasks have waited with the leader, over the bound of %d, its quarter and what was polled meanwhile", most, bound)
	}
	times := make(map[tasklet.ActivityKey]int)
	for _, s := range a.farm.started() {
		times[s.id.Activity()]++
	}
	if len(times) != runs*each {
		t.Errorf("%d activities have run, want %d", len(times), runs*each)
	}
	for key, n := range times {
		if n != 1 {
			t.Errorf("%v has run %d times", key, n)
		}
	}
	harness.Eventually(t, "nothing is left in the leader's hands", func() bool { return a.worker.Load().Waiting+a.worker.Load().Placed == 0 })
}

// flood fills the cluster and the leader's backlog with tasks of one owner, and
// leaves many more of them in Temporal.
func (a *arena) flood(room, bound int, last string) {
	a.Helper()
	for i := range 4 {
		a.launch(fmt.Sprintf("huge-%d", i), crowd{Owner: "huge", Count: 500, Last: last})
	}
	harness.Eventually(a.T, "the leader's backlog is full", func() bool { return a.worker.Load().Waiting >= bound })
	a.farm.until("the cluster is full", harness.Patience, func() bool { return len(a.farm.running) == room })
}

// before counts the starts of other workflows' tasks after the first n starts and
// before the last one of a workflow; false while not all of that are there.
func (f *farm) before(n int, workflow string, want int) (others int, ok bool) {
	for _, s := range f.starts[n:] {
		if s.id.WorkflowID != workflow {
			others++
			continue
		}
		if want--; want == 0 {
			return others, true
		}
	}
	return others, false
}

// What is urgent or belongs to somebody who has little goes before thousands of
// tasks that one owner has waiting, on a cluster whose tasks take a second.
func TestSmallOwnersAndPrioritiesGoBeforeAHugeOwner(t *testing.T) {
	const room, bound = 4, 40
	a := newArena(t, room, func(c *worker.Config) { c.MaxWaiting = bound })
	a.flood(room, bound, "1s")
	n := len(a.farm.started())
	small := a.launch("small", crowd{Owner: "small", Count: 5, Last: "1s"})
	top := a.launch("top", crowd{Owner: "huge", Priority: 1, Count: 1, Last: "1s"})
	a.await(small, 5)
	a.await(top, 1)
	a.farm.mu.Lock()
	defer a.farm.mu.Unlock()
	for workflow, count := range map[string]int{"small": 5, "top": 1} {
		others, ok := a.farm.before(n, workflow, count)
		t.Logf("%s: %d other tasks were started before its last one", workflow, others)
		if !ok || others > 8*room {
			t.Errorf("%s: %d other tasks were started before its last one, more than in 8 task lengths", workflow, others)
		}
	}
}

// On a cluster that stands still no slot comes free, and yet what is urgent gets
// into the leader's hands: it is the next to be placed.
func TestSmallOwnersAndPrioritiesReachALeaderWhoseClusterStandsStill(t *testing.T) {
	const room, bound = 4, 20
	a := newArena(t, room, func(c *worker.Config) { c.MaxWaiting = bound })
	a.flood(room, bound, "forever")
	a.launch("small", crowd{Owner: "small", Count: 2, Last: "forever"})
	a.launch("top", crowd{Owner: "huge", Priority: 1, Count: 2, Last: "forever"})
	for _, workflow := range []string{"small", "top"} {
		harness.Eventually(t, "the leader has the tasks of "+workflow, func() bool { return a.taken(workflow) == 2 })
	}
	n := len(a.farm.started())
	for range 4 {
		if !a.farm.finish() {
			t.Fatal("nothing runs")
		}
	}
	a.farm.until("four tasks are placed", harness.Patience, func() bool { return len(a.farm.starts) >= n+4 })
	for _, s := range a.farm.started()[n : n+4] {
		if s.id.WorkflowID != "small" && s.id.WorkflowID != "top" {
			t.Errorf("a task of %s was placed first", s.id.WorkflowID)
		}
	}
}

// taken counts a run's activities that the leader has heartbeated for.
func (a *arena) taken(workflow string) (n int) {
	for _, p := range a.pending(workflow) {
		if p.GetHeartbeatDetails() != nil {
			n++
		}
	}
	return n
}

// pending gives a run's activities that are scheduled and not completed.
func (a *arena) pending(workflow string) []*workflowpb.PendingActivityInfo {
	a.Helper()
	d, err := a.client.DescribeWorkflowExecution(a.Context(), workflow, "")
	if err != nil {
		a.Fatal(err)
	}
	return d.GetPendingActivities()
}
