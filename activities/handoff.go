// Package activities is what touches the world on behalf of workflows. Its heart
// is the hand-off between Temporal and Mesos: each RunTasklets activity becomes
// Mesos tasks, is kept alive by heartbeats while they run, and is completed by ID
// when their results are durable.
package activities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/secrets"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// Temporal is what the hand-off needs of a Temporal client.
type Temporal interface {
	CompleteActivity(ctx context.Context, taskToken []byte, result any, err error) error
	CompleteActivityByID(ctx context.Context, namespace, workflowID, runID, activityID string, result any, err error) error
	RecordActivityHeartbeatByID(ctx context.Context, namespace, workflowID, runID, activityID string, details ...any) error
	ListWorkflow(ctx context.Context, request *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error)
	DescribeWorkflowExecution(ctx context.Context, workflowID, runID string) (*workflowservice.DescribeWorkflowExecutionResponse, error)
}

// Framework is what the hand-off needs of the Mesos framework.
type Framework interface {
	Submit(tasks ...mesos.Task)
	Withdraw(taskID string) bool
	Kill(ref mesos.TaskRef, grace time.Duration)
	Acknowledge(u mesos.Update)
	Reconcile(refs ...mesos.TaskRef)
	Forget(taskID string)
	Send(agentID, executorID string, data []byte) error
	Explain(taskID string) string
	// Blame keeps tasks away for a while from an agent that has lost one.
	Blame(agentID, reason string)
	// Tasks lists what Mesos holds for the framework.
	Tasks() []mesos.TaskInfo
	// Holds tells which contents an executor has at hand.
	Holds(agentID, executorID string, contents ...mesos.Content)
	// Describe tells owner and resources of a task that the framework has adopted.
	Describe(taskID, owner string, r mesos.Resources)
}

// Config of a Handoff. Zero values get defaults where one is named.
type Config struct {
	Temporal  Temporal
	Namespace string
	Store     storage.Store
	// Secrets gives tasks their secrets; nil where the platform has none.
	Secrets *secrets.Keeper
	// Users says whom steps may run as; see checkUser.
	Users []string
	// Volumes says what steps may mount; see checkVolumes.
	Volumes []string
	// Leading tells whether the leadership was confirmed within its time-out.
	Leading func() bool
	Leader  string // name of this leader, for people
	// Framework is the framework's name: a leader takes over what its own had.
	Framework string
	Logger    *slog.Logger

	HeartbeatTimeout time.Duration // of RunTasklets; heartbeats go out at a third of it or sooner. Default 3m
	MaxWaiting       int           // tasks without a place, from where on no more are polled for. Default 1000
	MaxTasks         int           // tasks in hand, waiting or placed, likewise. Default 200000
	MaxLosses        int           // placements of one pack that the platform may lose. Default 10
	MaxCrashes       int           // executors that one pack may take down alone. Default 3
	FirstPack        int           // partitions of a Range in one task while their pace is not known. Default 1
	URLLifetime      time.Duration // of signed URLs. Default 24h
	CallTimeout      time.Duration // of one call to Temporal or storage. Default 10s
	RetryPause       time.Duration // before such a call is made again. Default 2s
	// Backoff is the pause after the n-th loss of a pack (n from 1).
	// Default: 1s, doubled each time, at most 1m.
	Backoff func(n int) time.Duration
}

func (c *Config) setDefaults() {
	if c.Namespace == "" {
		c.Namespace = "default"
	}
	if c.HeartbeatTimeout == 0 {
		c.HeartbeatTimeout = 3 * time.Minute
	}
	if c.MaxWaiting == 0 {
		c.MaxWaiting = 1000
	}
	if c.MaxTasks == 0 {
		c.MaxTasks = 200_000
	}
	if c.MaxLosses == 0 {
		c.MaxLosses = 10
	}
	if c.MaxCrashes == 0 {
		c.MaxCrashes = 3
	}
	if c.FirstPack == 0 {
		c.FirstPack = 1
	}
	if c.URLLifetime == 0 {
		c.URLLifetime = 24 * time.Hour
	}
	if c.CallTimeout == 0 {
		c.CallTimeout = 10 * time.Second
	}
	if c.RetryPause == 0 {
		c.RetryPause = 2 * time.Second
	}
	if c.Backoff == nil {
		c.Backoff = func(n int) time.Duration {
			return min(time.Second<<min(n-1, 6), time.Minute)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Handoff is the leader's side of the hand-off for one term of leadership: the
// table of activities in its care. It is the Handler of one mesos.Framework.
type Handoff struct {
	cfg     Config
	fw      Framework
	desc    *describer
	backlog *backlog
	slots   *slots
	fences  *fences
	paces   paces

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup // actors and timers under way

	mu      sync.Mutex
	closed  bool
	entries map[tasklet.ActivityKey]*entry

	beats   chan struct{} // regular heartbeats under way
	lookups chan struct{} // of secrets, under way
	scans   chan struct{} // of the segments of a whole Range, under way

	subscribed     chan struct{}
	subscribedOnce sync.Once
}

var _ mesos.Handler = (*Handoff)(nil)

// New makes a Handoff. Bind gives it its framework before anything happens.
func New(cfg Config) *Handoff {
	cfg.setDefaults()
	ctx, stop := context.WithCancel(context.Background())
	h := &Handoff{
		cfg:        cfg,
		desc:       newDescriber(cfg.Temporal, cfg.CallTimeout),
		ctx:        ctx,
		stop:       stop,
		entries:    make(map[tasklet.ActivityKey]*entry),
		beats:      make(chan struct{}, maxBeats),
		lookups:    make(chan struct{}, maxLookups),
		scans:      make(chan struct{}, maxScans),
		subscribed: make(chan struct{}),
	}
	h.fences = newFences(h)
	h.backlog = newBacklog(cfg.MaxWaiting, cfg.MaxTasks)
	h.slots = newSlots(h.backlog)
	return h
}

// Bind sets the framework and starts the heartbeats.
func (h *Handoff) Bind(fw Framework) {
	h.fw = fw
	h.start(h.heartbeats)
}

// Ready is closed when the framework has subscribed for the first time: from
// then on activities may be polled for.
func (h *Handoff) Ready() <-chan struct{} { return h.subscribed }

// Close ends all work at once. Activities and tasks stay as they are: whoever
// leads next takes them over.
func (h *Handoff) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.stop()
	h.wg.Wait()
}

// Release hands activities that have nothing in Mesos back to Temporal, so that
// the next leader need not wait for their heartbeats to time out. The calls are
// fenced by the attempt's token.
func (h *Handoff) Release(ctx context.Context) {
	var waits sync.WaitGroup
	for _, e := range h.all() {
		done := make(chan struct{})
		if !e.post(func() { e.release(ctx, "the leader stops; the next one goes on", time.Millisecond); close(done) }) {
			continue
		}
		waits.Go(func() {
			select {
			case <-done:
			case <-ctx.Done():
			}
		})
	}
	waits.Wait()
}

// Attempt is one attempt of a RunTasklets activity, as Temporal hands it over.
type Attempt struct {
	Key     tasklet.ActivityKey
	Input   api.LaunchInput
	Details api.Details // of the last heartbeat, if there was one
	Token   []byte
	Number  int32 // from 1
}

// RunTasklets is the activity api.ActivityRunTasklets; see Take.
func (h *Handoff) RunTasklets(ctx context.Context, in api.LaunchInput) (api.LaunchResult, error) {
	info := activity.GetInfo(ctx)
	a := Attempt{
		Key: tasklet.ActivityKey{
			WorkflowID: info.WorkflowExecution.ID,
			RunID:      info.WorkflowExecution.RunID,
			ActivityID: info.ActivityID,
		},
		Input: in, Token: info.TaskToken, Number: info.Attempt,
	}
	if activity.HasHeartbeatDetails(ctx) {
		if err := activity.GetHeartbeatDetails(ctx, &a.Details); err != nil {
			return api.LaunchResult{}, fmt.Errorf("heartbeat details of %s: %w", a.Key, err)
		}
	}
	return h.Take(a)
}

// Take takes an activity over. It returns activity.ErrResultPending: the activity
// is completed by ID. Any other error gives the attempt back to Temporal. An input
// that cannot be run has a result at once.
func (h *Handoff) Take(a Attempt) (api.LaunchResult, error) {
	if err := checkInput(a.Key, a.Input); err != nil {
		return h.invalidResult(a, err)
	}
	if err := checkUser(h.cfg.Users, a.Input.Owner, a.Input.User); err != nil {
		return h.invalidResult(a, err)
	}
	if err := checkVolumes(h.cfg.Volumes, a.Input.Owner, a.Input.Volumes); err != nil {
		return h.invalidResult(a, err)
	}
	if len(a.Details.Tasks) == 0 { // what runs has its secrets
		if err := h.cfg.Secrets.Check(a.Input.Owner, a.Input.Secrets); err != nil {
			return h.invalidResult(a, err)
		}
	}
	if !h.admit(a) {
		return api.LaunchResult{}, errNoRoom()
	}
	n := tasksOf(&a.Input)
	if !h.hand(a.Key, func(e *entry) {
		e.attach(a.Input, a.Details, a.Token, a.Number)
		e.weigh(n)
	}) {
		return api.LaunchResult{}, errors.New("this leader is stopping")
	}
	return api.LaunchResult{}, activity.ErrResultPending
}

// admit decides whether there is room for an activity (rule 10). One that is in
// hand already, or has tasks in Mesos, takes none.
func (h *Handoff) admit(a Attempt) bool {
	if h.known(a.Key) != nil || len(a.Details.Tasks) > 0 {
		h.backlog.expect(tasksOf(&a.Input))
		return true
	}
	v := h.backlog.admit(rankOf(&a.Input), tasksOf(&a.Input))
	if v.better || !v.admitted {
		h.slots.urgent(v.better)
	}
	if v.instead != nil {
		v.instead.post(v.instead.yield)
	}
	return v.admitted
}

// hand passes an event to an activity's entry, which is made if there is none.
// False when closed.
func (h *Handoff) hand(key tasklet.ActivityKey, event func(*entry)) bool {
	e := h.entry(key)
	return e != nil && e.post(func() {
		if e.retired { // meanwhile; a new one takes its place
			h.hand(key, event)
			return
		}
		event(e)
	})
}

// Slots bounds how many activities are polled for (rule 10 of the hand-off).
func (h *Handoff) Slots() *slots { return h.slots }

// Load tells how much this leader has in hand.
func (h *Handoff) Load() Load { return h.backlog.now() }

// start runs f as one of the goroutines that Close waits for.
func (h *Handoff) start(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.wg.Go(f)
	return true
}

// entry finds or makes the entry of an activity; nil when closed.
func (h *Handoff) entry(key tasklet.ActivityKey) *entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	e, ok := h.entries[key]
	if !ok {
		e = newEntry(h, key)
		h.entries[key] = e
	}
	return e
}

// known finds the entry of an activity, if there is one.
func (h *Handoff) known(key tasklet.ActivityKey) *entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.entries[key]
}

// remove forgets an entry that has nothing left to do.
func (h *Handoff) remove(e *entry) {
	h.mu.Lock()
	if h.entries[e.key] == e {
		delete(h.entries, e.key)
	}
	h.mu.Unlock()
	e.retired = true
	e.leavePace()
	e.weigh(0)
	h.fences.leave(e)
}

func (h *Handoff) all() []*entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*entry, 0, len(h.entries))
	for _, e := range h.entries {
		list = append(list, e)
	}
	return list
}

// maxBeats bounds the regular heartbeats under way: when a leader has taken many
// activities over, all are due at once.
const maxBeats = 128

// heartbeats wakes the entries whose next heartbeat is due.
func (h *Handoff) heartbeats() {
	tick := time.NewTicker(min(time.Second, h.cfg.HeartbeatTimeout/10))
	defer tick.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-tick.C:
			h.beatDue()
		}
	}
}

// beatDue posts the heartbeats that are due, as fast as Temporal takes them. One
// of an entry that is busy does not count: it takes its turn there, and what keeps
// the entry must not keep others.
func (h *Handoff) beatDue() {
	for _, e := range h.all() {
		idle := e.idle()
		if !e.due(time.Now()) {
			continue
		}
		if !idle {
			e.post(e.heartbeat)
			continue
		}
		select {
		case h.beats <- struct{}{}:
		case <-h.ctx.Done():
			return
		}
		if !e.post(func() { defer func() { <-h.beats }(); e.heartbeat() }) {
			return
		}
	}
}

// call bounds one call to Temporal or storage.
func (h *Handoff) call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(h.ctx, h.cfg.CallTimeout)
}
