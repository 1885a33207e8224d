package mesos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"

	embedded "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/agent"
	"github.com/baas-batch/baas/embedded/mesos/master"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
	"github.com/baas-batch/baas/mesos"
)

func TestMain(m *testing.M) {
	mesostest.ExecutorMain()
	os.Exit(m.Run())
}

// patience is for a machine on which much else runs: there, what takes a second of
// processor time may take half a minute.
const patience = 2 * time.Minute

// cluster is an embedded Mesos with agents of 4 CPUs and 1 GB.
func cluster(t *testing.T, agents int) *embedded.Cluster {
	t.Helper()
	var list []embedded.AgentConfig
	for range agents {
		list = append(list, embedded.AgentConfig{
			Resources: []api.Resource{mesostest.Scalar("cpus", 4), mesostest.Scalar("mem", 1024), mesostest.Scalar("disk", 1000)},
		})
	}
	return clusterOf(t, list...)
}

func clusterOf(t *testing.T, agents ...embedded.AgentConfig) *embedded.Cluster {
	t.Helper()
	cfg := embedded.Config{
		Dir: t.TempDir(), Agents: agents,
		Master: master.Config{
			AllocationInterval: 10 * time.Millisecond, HeartbeatInterval: 200 * time.Millisecond,
			AgentPingTimeout: 100 * time.Millisecond, MaxAgentPingTimeouts: 4,
		},
		Agent: agent.Config{
			RegistrationBackoffFactor: 20 * time.Millisecond, UpdateRetryMin: 500 * time.Millisecond,
			ExecutorShutdownGracePeriod: 2 * time.Second,
		},
	}
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	c, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Terminate(ctx); err != nil {
			t.Error(err)
		}
	})
	return c
}

// scheduler is a framework under test, and the book that its handler keeps.
type scheduler struct {
	*mesos.Framework
	t      *testing.T
	cancel context.CancelFunc
	result chan error

	mu         sync.Mutex
	launch     string                   // TaskInfo.data: what the executor is to do
	last       map[string]mesos.Update  // by task
	history    map[string][]mesos.State // by task
	places     map[string]mesos.Placement
	subscribed int
	onUpdate   func(mesos.Update) // nil, or called with mu held
	changed    chan struct{}
}

func run(t *testing.T, c *embedded.Cluster, launch string, lease mesos.Lease, change func(*mesos.Config)) *scheduler {
	t.Helper()
	command, err := mesostest.ExecutorCommand()
	if err != nil {
		t.Fatal(err)
	}
	cfg := mesos.Config{
		Masters: []string{c.MasterURL()}, FrameworkID: "framework-1", ExecutorCommand: command.GetValue(),
		ExecutorEnv: map[string]string{}, ExecutorIdle: time.Minute,
		// The test binary with the race detector is a large executor.
		ExecutorResources: mesos.Resources{CPUs: 0.1, Mem: 512 << 20},
		Timings: mesos.Timings{
			BackoffMin: 10 * time.Millisecond, BackoffMax: 200 * time.Millisecond,
			ReconcileMin: 100 * time.Millisecond, KillMin: 200 * time.Millisecond, Tick: 10 * time.Millisecond,
		},
	}
	for _, v := range command.GetEnvironment().GetVariables() {
		cfg.ExecutorEnv[v.Name] = v.GetValue()
	}
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if change != nil {
		change(&cfg)
	}
	s := &scheduler{
		t: t, launch: launch, result: make(chan error, 1), changed: make(chan struct{}, 1),
		last: map[string]mesos.Update{}, history: map[string][]mesos.State{}, places: map[string]mesos.Placement{},
	}
	if s.Framework, err = mesos.New(cfg, s, lease); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.cancel = cancel
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.result <- s.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return s
}

func (s *scheduler) note(f func()) {
	s.mu.Lock()
	f()
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *scheduler) Subscribed(mesos.Subscription)    { s.note(func() { s.subscribed++ }) }
func (s *scheduler) Disconnected(error)               {}
func (s *scheduler) Message(mesos.Message)            {}
func (s *scheduler) ExecutorLost(string, string, int) {}
func (s *scheduler) AgentLost(string)                 {}

func (s *scheduler) Update(u mesos.Update) {
	s.note(func() {
		s.last[u.TaskID] = u
		s.history[u.TaskID] = append(s.history[u.TaskID], u.State)
		if s.onUpdate != nil {
			s.onUpdate(u)
		}
	})
	s.Acknowledge(u)
}

func (s *scheduler) Placed(_ context.Context, p mesos.Placement) []mesos.Launch {
	out := make([]mesos.Launch, len(p.Tasks))
	s.note(func() {
		for i, task := range p.Tasks {
			s.places[task.ID] = p
			out[i].Data = []byte(s.launch)
		}
	})
	return out
}

// await waits until a condition over the book holds.
func (s *scheduler) await(what string, cond func() bool) {
	s.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	poll := time.NewTicker(20 * time.Millisecond) // for conditions over more than the book
	defer poll.Stop()
	for {
		s.mu.Lock()
		ok := cond()
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-s.changed:
		case <-poll.C:
		case <-deadline.C:
			s.mu.Lock()
			defer s.mu.Unlock()
			s.t.Fatalf("not within %s: %s; updates %+v", patience, what, s.last)
		}
	}
}

func (s *scheduler) awaitAll(ids []string, state mesos.State) {
	s.t.Helper()
	s.await(fmt.Sprintf("all %d tasks %s", len(ids), state), func() bool {
		return !slices.ContainsFunc(ids, func(id string) bool { return s.last[id].State != state })
	})
}

func (s *scheduler) submit(prefix string, n int, cpus float64) []string {
	var tasks []mesos.Task
	var ids []string
	for i := range n {
		id := fmt.Sprintf("%s-%d", prefix, i)
		ids = append(ids, id)
		tasks = append(tasks, mesos.Task{
			ID: id, Name: prefix, Owner: "billing", Resources: mesos.Resources{CPUs: cpus, Mem: 32 << 20},
			Executor: mesos.ExecutorSpec{Owner: "billing"},
		})
	}
	s.Submit(tasks...)
	return ids
}

type lease func() error

func (l lease) Confirm(context.Context) error { return l() }

var holds = lease(func() error { return nil })

func TestManyTasksThroughFewExecutors(t *testing.T) {
	c := cluster(t, 2)
	s := run(t, c, "finish", holds, func(cfg *mesos.Config) {
		cfg.ExecutorIdle = 300 * time.Millisecond
		cfg.Timings.OfferHold = 200 * time.Millisecond
	})
	begin := time.Now()
	ids := s.submit("small", 200, 0.5)
	s.awaitAll(ids, mesos.Finished)
	t.Logf("200 tasks in %v, %d ACCEPT calls", time.Since(begin), s.Metrics().Accepts.Load())

	used := map[string]bool{}
	for _, p := range s.places {
		used[p.Agent.ID+" "+p.Executor] = true
	}
	if len(used) == 0 || len(used) > 2 {
		t.Errorf("executors %v, want one for each agent", slices.Sorted(maps.Keys(used)))
	}
	for id, states := range s.history {
		states = slices.Compact(states) // an agent sends again what is not acknowledged soon
		if want := []mesos.State{mesos.Running, mesos.Finished}; !slices.Equal(states, want) {
			t.Errorf("%s went through %v, want %v", id, states, want)
		}
	}
	if rows := s.Tasks(); len(rows) != 0 {
		t.Errorf("table still has %d tasks", len(rows))
	}
	s.await("idle executors are gone", func() bool {
		return !slices.ContainsFunc(s.Agents(), func(a mesos.AgentInfo) bool { return len(a.Executors) > 0 })
	})
	s.await("SUPPRESS", func() bool { return s.Metrics().Suppresses.Load() > 0 })
	s.awaitAll(s.submit("again", 4, 0.5), mesos.Finished)
	if s.Metrics().Revives.Load() == 0 {
		t.Error("work came after SUPPRESS, and no REVIVE")
	}
}

func TestNextLeaderAdoptsRunningTasks(t *testing.T) {
	c := cluster(t, 2)
	first := run(t, c, "run", holds, nil)
	ids := first.submit("long", 6, 0.5)
	first.awaitAll(ids, mesos.Running)
	before := first.Tasks()
	first.cancel()
	if err := <-first.result; err != nil {
		t.Fatal(err)
	}
	second := run(t, c, "run", holds, nil)
	second.awaitAll(ids, mesos.Running)
	after := second.Tasks()
	for i := range after {
		if !after[i].Adopted || after[i].AgentID != before[i].AgentID || after[i].ExecutorID != before[i].ExecutorID {
			t.Errorf("adopted %+v, was %+v", after[i], before[i])
		}
	}
	// A new task goes to the executor that is there.
	second.awaitAll(second.submit("more", 1, 0.5), mesos.Running)
	for id, p := range second.places {
		if p.NewExecutor {
			t.Errorf("%s started another executor", id)
		}
	}
	for _, id := range ids {
		second.Kill(mesos.TaskRef{TaskID: id}, time.Second)
	}
	second.awaitAll(ids, mesos.KilledState)
}

func TestOnlyOneSchedulerLeads(t *testing.T) {
	c := cluster(t, 1)
	var mu sync.Mutex
	leader := 1
	leads := func(n int) lease {
		return func() error {
			mu.Lock()
			defer mu.Unlock()
			if leader != n {
				return mesos.ErrLeaseLost
			}
			return nil
		}
	}
	first := run(t, c, "run", leads(1), nil)
	ids := first.submit("long", 2, 0.5)
	first.awaitAll(ids, mesos.Running)
	mu.Lock()
	leader = 2
	mu.Unlock()
	second := run(t, c, "run", leads(2), nil)
	second.awaitAll(ids, mesos.Running)
	select {
	case err := <-first.result:
		if !errors.Is(err, mesos.ErrLeaseLost) {
			t.Errorf("the first scheduler ends with %v", err)
		}
	case <-time.After(patience):
		t.Error("the first scheduler goes on")
	}
	if second.subscribed != 1 {
		t.Errorf("the second scheduler subscribed %d times", second.subscribed)
	}
}

func TestMasterRestart(t *testing.T) {
	c := cluster(t, 2)
	s := run(t, c, "run", holds, nil)
	ids := s.submit("long", 4, 0.5)
	s.awaitAll(ids, mesos.Running)
	if err := c.RestartMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.await("second subscription", func() bool { return s.subscribed == 2 })
	answered := map[string]int{}
	s.await("an answer for each task", func() bool {
		for _, id := range ids {
			answered[id] = len(s.history[id])
		}
		return !slices.ContainsFunc(ids, func(id string) bool { return answered[id] < 2 })
	})
	for _, id := range ids {
		if slices.ContainsFunc(s.history[id], func(st mesos.State) bool { return st != mesos.Running }) {
			t.Errorf("%s went through %v", id, s.history[id])
		}
		s.Kill(mesos.TaskRef{TaskID: id}, 0)
	}
	s.awaitAll(ids, mesos.KilledState)
}

func TestLostAgent(t *testing.T) {
	c := cluster(t, 1)
	s := run(t, c, "run", holds, nil)
	ids := s.submit("long", 2, 0.5)
	s.awaitAll(ids, mesos.Running)
	lost := c.Agents()[0].ID
	if err := c.LoseAgent(lost); err != nil {
		t.Fatal(err)
	}
	s.awaitAll(ids, mesos.Unreachable)
	if u := s.last[ids[0]]; u.UnreachableSince.IsZero() || u.UUID != nil {
		t.Errorf("update is %+v", u)
	}
	s.Kill(mesos.TaskRef{TaskID: ids[0], AgentID: lost.Value}, 0) // goes on until the agent is back
	if err := c.ReturnAgent(lost); err != nil {
		t.Fatal(err)
	}
	s.awaitAll(ids[1:], mesos.Running)
	s.awaitAll(ids[:1], mesos.KilledState)
}

// With the agent named, a task that is not there is GONE; without it, UNKNOWN.
func TestReconcileUnknownTasks(t *testing.T) {
	c := cluster(t, 1)
	s := run(t, c, "run", holds, nil)
	s.await("subscription", func() bool { return s.subscribed == 1 })
	s.Reconcile(mesos.TaskRef{TaskID: "never", AgentID: c.Agents()[0].ID.Value}, mesos.TaskRef{TaskID: "nowhere"})
	s.awaitAll([]string{"never"}, mesos.Gone)
	s.awaitAll([]string{"nowhere"}, mesos.Unknown)
	if u := s.last["never"]; !u.Reconciled() || u.UUID != nil {
		t.Errorf("update is %+v", u)
	}
}

func TestFrameworkIsRemovedWhenAwayTooLong(t *testing.T) {
	c := cluster(t, 1)
	short := func(cfg *mesos.Config) { cfg.FailoverTimeout = time.Millisecond }
	first := run(t, c, "run", holds, short)
	first.await("subscription", func() bool { return first.subscribed == 1 })
	first.cancel()
	<-first.result
	// Until the master has noticed, the ID may still be good.
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		next := run(t, c, "run", holds, short)
		select {
		case err := <-next.result:
			if !errors.Is(err, mesos.ErrFrameworkRemoved) {
				t.Fatalf("Run ends with %v", err)
			}
			return
		case <-time.After(200 * time.Millisecond):
			next.cancel()
			<-next.result
		}
	}
	t.Error("the framework was never removed")
}

func TestReadFile(t *testing.T) {
	c := cluster(t, 1)
	s := run(t, c, "run", holds, nil)
	ids := s.submit("long", 1, 0.5)
	s.awaitAll(ids, mesos.Running)
	p := s.places[ids[0]]
	if p.Agent.Endpoint != c.Agents()[0].Address {
		t.Errorf("endpoint is %s, want %s", p.Agent.Endpoint, c.Agents()[0].Address)
	}
	// The sandbox of our executor has its output; the test's executor is silent, so
	// the file gets its bytes here.
	dir := strings.Join([]string{"/frameworks/framework-1/executors", p.Executor, "runs/latest"}, "/")
	file := strings.Join([]string{c.Agents()[0].Dir, "slaves", p.Agent.ID, dir, "stdout"}, "/")
	want := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	if err := os.WriteFile(file, want, 0o600); err != nil {
		t.Fatal(err)
	}
	size, err := mesos.FileSize(t.Context(), p.Agent.Endpoint, dir+"/stdout")
	if err != nil || size != int64(len(want)) {
		t.Fatalf("size is %d, %v; want %d", size, err, len(want))
	}
	var got []byte
	for {
		part, err := mesos.ReadFile(t.Context(), p.Agent.Endpoint, dir+"/stdout", int64(len(got)), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(part) == 0 {
			break
		}
		got = append(got, part...)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, want the %d that were written", len(got), len(want))
	}
	if _, err := mesos.ReadFile(t.Context(), p.Agent.Endpoint, dir+"/nothing", 0, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
