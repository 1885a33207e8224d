package mesos_test

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	embedded "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/link"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
	"github.com/baas-batch/baas/mesos"
)

// book is a handler that writes down what the framework is told, and acknowledges
// all of it.
type book struct {
	*mesos.Framework
	launch string // TaskInfo.data: what the executor is to do

	mu      sync.Mutex
	masters []string // of the subscriptions
	history map[string][]mesos.Update
	lost    []string // agents
	changed chan struct{}
}

func (b *book) note(f func()) {
	b.mu.Lock()
	f()
	b.mu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

func (b *book) Subscribed(s mesos.Subscription) {
	b.note(func() { b.masters = append(b.masters, s.Master) })
}
func (b *book) Disconnected(error)               {}
func (b *book) Message(mesos.Message)            {}
func (b *book) ExecutorLost(string, string, int) {}
func (b *book) AgentLost(id string)              { b.note(func() { b.lost = append(b.lost, id) }) }

func (b *book) Update(u mesos.Update) {
	b.note(func() { b.history[u.TaskID] = append(b.history[u.TaskID], u) })
	b.Acknowledge(u)
}

func (b *book) Placed(_ context.Context, p mesos.Placement) []mesos.Launch {
	out := make([]mesos.Launch, len(p.Tasks))
	for i := range out {
		out[i].Data = []byte(b.launch)
	}
	return out
}

// await waits until a condition over the book holds.
func (b *book) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	again := time.NewTicker(50 * time.Millisecond) // for conditions that are not only over the book
	defer again.Stop()
	for deadline := time.After(mesostest.Patience); ; {
		b.mu.Lock()
		ok := holds()
		b.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-b.changed:
		case <-again.C:
		case <-deadline:
			b.mu.Lock()
			defer b.mu.Unlock()
			t.Fatalf("not in %s: %s; masters %v, updates %+v", mesostest.Patience, what, b.masters, b.history)
		}
	}
}

func (b *book) awaitState(t *testing.T, state mesos.State, ids ...string) {
	t.Helper()
	b.await(t, "tasks "+string(state), func() bool {
		return !slices.ContainsFunc(ids, func(id string) bool {
			h := b.history[id]
			return len(h) == 0 || h[len(h)-1].State != state
		})
	})
}

// states lists, without repetitions in a row, what a task went through.
func (b *book) states(id string) (states []mesos.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, u := range b.history[id] {
		states = append(states, u.State)
	}
	return slices.Compact(states)
}

func (b *book) submit(ids ...string) {
	for _, id := range ids {
		b.Submit(mesos.Task{
			ID: id, Name: id, Owner: "owner", Resources: mesos.Resources{CPUs: 1, Mem: 32 << 20},
			Executor: mesos.ExecutorSpec{Owner: "owner"},
		})
	}
}

type held struct{}

func (held) Confirm(context.Context) error { return nil }

// runFramework runs a framework that knows all masters of the cluster.
func runFramework(t *testing.T, c *embedded.Cluster, launch string) *book {
	t.Helper()
	command, err := mesostest.ExecutorCommand()
	if err != nil {
		t.Fatal(err)
	}
	cfg := mesos.Config{
		Masters: c.MasterURLs(), FrameworkID: "framework-1", ExecutorCommand: command.GetValue(),
		ExecutorEnv: map[string]string{}, ExecutorResources: mesos.Resources{CPUs: 0.1, Mem: 512 << 20},
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
	b := &book{launch: launch, history: map[string][]mesos.Update{}, changed: make(chan struct{}, 1)}
	if b.Framework, err = mesos.New(cfg, b, held{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the framework ends with %v", err)
		}
	})
	return b
}

// followed waits until the framework is with the leading master, subscribed for
// the nth time.
func (b *book) followed(t *testing.T, c *embedded.Cluster, n int) {
	t.Helper()
	b.await(t, "subscription with the new leader", func() bool {
		return len(b.masters) >= n && b.masters[len(b.masters)-1] == c.MasterURL()
	})
}

// The framework goes over to each new leader by itself; tasks run on, and it goes
// on placing others.
func TestFrameworkFollowsLeader(t *testing.T) {
	cfg := testConfig(t, 2)
	cfg.Masters = 2
	c := start(t, cfg)
	b := runFramework(t, c, "run")
	ids := []string{"a", "b", "c", "d"}
	b.submit(ids...)
	b.awaitState(t, mesos.Running, ids...)
	for n, failover := range []func(context.Context) error{c.FailoverMaster, c.DeposeMaster} {
		dead := c.Leader()
		if err := failover(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.followed(t, c, n+2)
		b.await(t, "an answer for each task", func() bool {
			return !slices.ContainsFunc(ids, func(id string) bool { return len(b.history[id]) < n+2 })
		})
		next := string(rune('e' + n))
		b.submit(next)
		b.awaitState(t, mesos.Running, next)
		if err := c.ReviveMaster(t.Context(), dead); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids {
		if got := b.states(id); !slices.Equal(got, []mesos.State{mesos.Running}) {
			t.Errorf("%s went through %v", id, got)
		}
		b.Kill(mesos.TaskRef{TaskID: id}, 0)
	}
	b.awaitState(t, mesos.KilledState, ids...)
	if len(b.lost) > 0 {
		t.Errorf("agents lost: %v", b.lost)
	}
}

// What ends while no master leads is told to the next leader.
func TestTasksEndWithoutLeader(t *testing.T) {
	cfg := testConfig(t, 1)
	cfg.Masters = 2
	finished := make(chan struct{}, 1000)
	open := make(chan struct{}) // closed once a new leader is there
	cfg.Faults.Update = func(u link.StatusUpdate) (fate link.Fate) {
		select {
		case <-open:
		default:
			fate.Drop = updateTo(api.TASK_FINISHED)(u)
			if fate.Drop {
				finished <- struct{}{}
			}
		}
		return fate
	}
	c := start(t, cfg)
	b := runFramework(t, c, "finish")
	b.submit("a", "b")
	for range 2 {
		select {
		case <-finished:
		case <-time.After(mesostest.Patience):
			t.Fatal("nothing has finished")
		}
	}
	if err := c.KillMaster(0); err != nil {
		t.Fatal(err)
	}
	close(open)
	if err := c.ElectMaster(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	b.followed(t, c, 2)
	b.awaitState(t, mesos.Finished, "a", "b")
}

// An agent that misses the failover is unreachable after AgentReregisterTimeout,
// and its tasks run on when it comes back.
func TestFrameworkAndAgentThatMissesFailover(t *testing.T) {
	cfg := testConfig(t, 1)
	cfg.Masters = 2
	cfg.Master.AgentReregisterTimeout = 500 * time.Millisecond
	c := start(t, cfg)
	b := runFramework(t, c, "run")
	b.submit("a", "b")
	b.awaitState(t, mesos.Running, "a", "b")
	agent := c.Agents()[0].ID
	if err := c.KillAgent(agent); err != nil {
		t.Fatal(err)
	}
	if err := c.FailoverMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.followed(t, c, 2)
	b.awaitState(t, mesos.Unreachable, "a", "b")
	if err := c.RestartAgent(agent); err != nil {
		t.Fatal(err)
	}
	b.awaitState(t, mesos.Running, "a", "b")
	b.Kill(mesos.TaskRef{TaskID: "a"}, 0)
	b.awaitState(t, mesos.KilledState, "a")
	if got := b.states("b"); !slices.Equal(got, []mesos.State{mesos.Running, mesos.Unreachable, mesos.Running}) {
		t.Errorf("b went through %v", got)
	}
}

// An ACCEPT that the master has answered but lost with its life: the framework
// learns from the next leader that the task is nowhere.
func TestFrameworkAndLostAccept(t *testing.T) {
	cfg := testConfig(t, 1)
	cfg.Masters = 2
	lost := newFirst(callOf(scheduler.Call_ACCEPT))
	cfg.Faults.Call = func(call *scheduler.Call) link.CallFate { return link.CallFate{Lose: lost.hit(call)} }
	c := start(t, cfg)
	b := runFramework(t, c, "run")
	b.submit("a")
	select {
	case <-lost.seen:
	case <-time.After(mesostest.Patience):
		t.Fatal("no ACCEPT was sent")
	}
	if err := c.FailoverMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.followed(t, c, 2)
	b.await(t, "a is said to be nowhere", func() bool {
		return slices.ContainsFunc(b.history["a"], func(u mesos.Update) bool { return u.State == mesos.Gone || u.State == mesos.Dropped })
	})
}

// The calls about offers are lost, each kind some times in a row: the offers come
// back all the same, and whatever waits is placed. Work comes after the framework
// has asked for no more offers.
func TestFrameworkAndLostCallsAboutOffers(t *testing.T) {
	cfg := testConfig(t, 1)
	var mu sync.Mutex
	left := map[scheduler.Call_Type]int{
		scheduler.Call_ACCEPT: 1, scheduler.Call_DECLINE: 3, scheduler.Call_SUPPRESS: 2, scheduler.Call_REVIVE: 2,
	}
	cfg.Faults.Call = func(call *scheduler.Call) (f link.CallFate) {
		mu.Lock()
		defer mu.Unlock()
		if left[call.Type] > 0 {
			left[call.Type]--
			return link.CallFate{Lose: true, Cut: true}
		}
		return f
	}
	c := start(t, cfg)
	b := runFramework(t, c, "finish")
	suppressed := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return left[scheduler.Call_SUPPRESS] == 0
	}
	b.await(t, "no SUPPRESS is made again", suppressed)
	b.submit("a")
	b.await(t, "a is placed, or said to be nowhere", func() bool { return len(b.history["a"]) > 0 })
	b.submit("b")
	b.await(t, "b ends", func() bool {
		return slices.ContainsFunc(b.history["b"], func(u mesos.Update) bool { return u.State == mesos.Finished })
	})
	mu.Lock()
	defer mu.Unlock()
	for kind, n := range left {
		if n > 0 {
			t.Errorf("%d calls of %s were not lost", n, kind)
		}
	}
}
