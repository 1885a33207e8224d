package mesos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/mesos/placement"
	"github.com/baas-batch/baas/tasklet"
)

// ErrNotSubscribed is returned for messages while there is no subscription.
var ErrNotSubscribed = errors.New("not subscribed to a Mesos master")

// FrameworkSource is the Update.Source of updates that the framework makes itself,
// for tasks that were placed and written ahead but never launched. They have no
// UUID.
const FrameworkSource = "FRAMEWORK"

// Framework is one scheduler of one Mesos framework. Its methods may be called by
// several goroutines, also from within Handler's.
type Framework struct {
	cfg       Config
	log       *slog.Logger
	handler   Handler
	lease     Lease
	executors *executors
	metrics   Metrics
	detector  *detector // nil without ZooKeeper
	access    atomic.Pointer[Access]
	unread    string // why access could not be renewed; said already. Of subscribeLoop alone

	match chan struct{} // something to match; capacity 1
	house chan struct{} // something due; capacity 1
	news  chan struct{} // something in own; capacity 1
	// matched is when a task was last matched with an offer. Of matchLoop alone.
	matched time.Time
	// placements counts the goroutines that place; Run waits for them.
	placements sync.WaitGroup
	writers    chan struct{} // bounds the Placed calls at a time

	// delivery serialises the calls of Handler's methods other than Placed. It is
	// taken before mu, never while holding it.
	delivery sync.Mutex

	mu      sync.Mutex
	session *session // nil while not subscribed
	link    linkState
	queue   *queue
	rules   ruleBook
	table   *table
	offers  *offerBook
	flights map[string]*flight // by the ID of each of their offers
	// unreturned offers are of the subscription of the moment.
	unreturned []unreturned
	holdings   *holdings
	own        []Update // of FrameworkSource, to be delivered
	asks       *asks
	kills      *kills
	roles      map[string]*role
	joining    bool    // a role is being asked for
	quotas     []quota // as the last survey found them
	scratch    placement.Round
}

// linkState is what Explain tells about the connection.
type linkState struct {
	since     time.Time // connected or not
	err       error     // why not
	lastOffer time.Time
	// implicit is when the last implicit reconciliation was asked for, next when
	// the next one is due.
	implicit, nextImplicit time.Time
	nextSurvey             time.Time // not before; see survey
	settled                time.Time // from when on it is known where an earlier leader's tasks are
}

// New makes a framework; Run starts it.
func New(cfg Config, h Handler, lease Lease) (*Framework, error) {
	cfg, err := cfg.prepare()
	if err != nil {
		return nil, err
	}
	f := &Framework{
		cfg: cfg, log: cfg.Logger, handler: h, lease: lease,
		match:    make(chan struct{}, 1),
		house:    make(chan struct{}, 1),
		news:     make(chan struct{}, 1),
		writers:  make(chan struct{}, maxWriters),
		queue:    newQueue(),
		table:    newTable(),
		offers:   newOfferBook(),
		flights:  make(map[string]*flight),
		holdings: newHoldings(),
		roles:    make(map[string]*role),
		asks:     newAsks(cfg.Timings),
		kills:    newKills(cfg.Timings),
		link:     linkState{since: time.Now()},
	}
	f.table.groupOf, f.queue.roleOf = f.cfg.GroupOf, f.cfg.roleOf
	f.holdings.off = f.cfg.ExecutorEnv[tasklet.EnvCacheSize] == "0"
	f.executors = newExecutors(&f.cfg)
	if err := f.firstAccess(); err != nil {
		return nil, err
	}
	if f.cfg.zk != nil {
		f.detector = newDetector(*f.cfg.zk, &f.cfg, f.access.Load().TLS != nil)
	}
	return f, nil
}

// maxWriters bounds the write-aheads that go on at the same time.
const maxWriters = 32

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Submit queues tasks for placement; they stay queued over re-subscriptions. A
// task that is known already is left as it is.
func (f *Framework) Submit(tasks ...Task) {
	now := time.Now()
	f.mu.Lock()
	for _, t := range tasks {
		if f.queue.tasks[t.ID] != nil || f.table.tasks[t.ID] != nil {
			f.log.Warn("task submitted twice", "task", t.ID)
			continue
		}
		w, err := f.prepare(t, now)
		if err != nil {
			f.log.Error("a task cannot be placed", "task", t.ID, "error", err)
			f.report(t.ID, ErrorState, "", "", err.Error())
			continue
		}
		f.queue.add(w)
		r := f.role(f.cfg.roleOf(t.Owner))
		r.newWork, r.busy = true, now
	}
	f.join(now)
	f.mu.Unlock()
	notify(f.match)
}

// prepare makes a task ready to wait. f.mu is held.
func (f *Framework) prepare(t Task, now time.Time) (*waiting, error) {
	if t.Limits != (Limits{}) {
		t.Executor.Isolation = cmp.Or(t.Executor.Isolation, "limits")
	}
	x, err := f.executors.of(t.Executor, t.ID)
	if err != nil {
		return nil, err
	}
	w := newWaiting(t, x, now)
	if w.preferred, err = f.executors.preferred(&w.Task, w.need); err != nil {
		return nil, err
	}
	w.group = f.cfg.GroupOf(t.ID)
	w.rules, err = f.rules.of(t.Constraints)
	return w, err
}

// Withdraw takes a task out of the queue. true: it was not launched and never will
// be, and no update will come for it.
func (f *Framework) Withdraw(taskID string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cancel(taskID, withdrawn)
}

// cancel stops a task that has not gone out yet. f.mu is held.
func (f *Framework) cancel(taskID string, why cancellation) bool {
	if f.queue.remove(taskID) {
		return true
	}
	if r := f.table.tasks[taskID]; r != nil && r.state == placing {
		if r.cancel == notCancelled {
			r.cancel = why
		}
		return true
	}
	return false
}

// Kill ends a task: SIGTERM, SIGKILL after grace. The call is repeated with
// backoff until an update says that the task is over or not known, or Forget. A
// task that was not launched yet is reported KILLED by FrameworkSource.
func (f *Framework) Kill(ref TaskRef, grace time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	waited := f.queue.tasks[ref.TaskID] != nil
	if f.cancel(ref.TaskID, killed) {
		if waited {
			f.report(ref.TaskID, KilledState, "", "", "killed before it was placed")
		}
		return
	}
	if r := f.table.tasks[ref.TaskID]; r != nil && ref.AgentID == "" {
		ref.AgentID = r.agentID
	}
	f.kills.add(ref, grace, time.Now())
	notify(f.house)
}

// Acknowledge tells Mesos that an update has taken effect. Updates without UUID
// are not acknowledged. It does not wait; while there is no subscription it does
// nothing, since the agent sends the update again.
func (f *Framework) Acknowledge(u Update) {
	if len(u.UUID) == 0 || u.AgentID == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session == nil {
		return
	}
	f.session.call(calls.Acknowledge(u.AgentID, u.TaskID, u.UUID), nil)
	f.metrics.Acknowledged.Add(1)
	if !u.State.Live() {
		f.table.acknowledged(u.TaskID, time.Now())
	}
}

// Reconcile asks for the states of tasks until each is answered; the answers come
// as Updates. Name the agent when it is known: without it Mesos answers UNKNOWN
// for tasks on unreachable agents.
func (f *Framework) Reconcile(refs ...TaskRef) {
	now := time.Now()
	f.mu.Lock()
	for _, ref := range refs {
		f.asks.add(ref, now)
	}
	f.mu.Unlock()
	notify(f.house)
}

// Forget drops all that the framework knows and wants of a task: its place in the
// queue, its row in the table, kills and reconciliations.
func (f *Framework) Forget(taskID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asks.answered(taskID)
	f.kills.settled(taskID)
	if !f.cancel(taskID, withdrawn) {
		f.table.remove(taskID, time.Now())
	}
}

// Describe tells whose an adopted task is and what it needs, so that it counts in
// the fairness between owners; Mesos does not say.
func (f *Framework) Describe(taskID, owner string, r Resources) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.table.describe(taskID, owner, r.vector())
}

// Send queues a framework message to an executor. Mesos may lose it without a
// word. ErrNotSubscribed: it was not even queued.
func (f *Framework) Send(agentID, executorID string, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session == nil {
		return ErrNotSubscribed
	}
	f.session.call(calls.Message(agentID, executorID, data), nil)
	return nil
}

// ShutdownExecutor ends an executor with all its tasks. No task is placed on it
// until Mesos has reported its end.
func (f *Framework) ShutdownExecutor(agentID, executorID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shutdown(agentID, executorID, time.Now())
}

// Metrics gives the framework's counters.
func (f *Framework) Metrics() *Metrics { return &f.metrics }

// report queues an update of the framework's own. f.mu is held.
func (f *Framework) report(taskID string, state State, agentID, executorID, message string) {
	f.own = append(f.own, Update{
		TaskID: taskID, State: state, Source: FrameworkSource, Message: message,
		AgentID: agentID, ExecutorID: executorID, Time: time.Now(),
	})
	notify(f.news)
}

// newsLoop hands the framework's own updates to the handler, in their turn.
func (f *Framework) newsLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.news:
		}
		f.mu.Lock()
		updates := f.own
		f.own = nil
		f.mu.Unlock()
		for _, u := range updates {
			f.delivery.Lock()
			f.handler.Update(u)
			f.delivery.Unlock()
		}
	}
}

// Run subscribes, and subscribes again, until ctx ends (nil) or the framework
// cannot go on: ErrLeaseLost, ErrFrameworkRemoved, ErrRefused. The tasks live on.
// When it returns, no method of the Handler is running or will be called. It may
// be called once.
func (f *Framework) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var loops sync.WaitGroup
	loops.Go(func() { f.matchLoop(ctx) })
	loops.Go(func() { f.houseLoop(ctx) })
	loops.Go(func() { f.newsLoop(ctx) })
	if f.detector != nil {
		loops.Go(func() { f.detector.run(ctx) })
	}
	err := f.subscribeLoop(ctx)
	cancel()
	loops.Wait()
	f.placements.Wait()
	if err != nil {
		return fmt.Errorf("framework %s: %w", f.cfg.FrameworkID, err)
	}
	return nil
}
