package executor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mesosexec "github.com/mesos/mesos-go/api/v1/lib/executor"

	"github.com/baas-batch/baas/tasklet"
)

// Executor is one executor of one framework on one agent.
type Executor struct {
	cfg    Config
	log    *slog.Logger
	agent  *agentClient
	outbox *outbox
	broker *broker
	store  *store
	box    *sandbox
	procs  *table
	bundle *bundles

	host atomic.Value // string: the agent's host name

	mu    sync.Mutex
	tasks map[string]*task // not acknowledged to their end
	seen  recent           // task IDs launched here: none is used twice
	final bool             // no more launches
	idle  *time.Timer

	sealing chan struct{} // bounds the segments that are being completed

	stop     chan struct{} // closed by the agent's SHUTDOWN
	stopOnce sync.Once
}

// New prepares the sandbox and the process for running tasks. The process
// becomes a subreaper and must not wait for children by other means.
func New(cfg Config, log *slog.Logger) (*Executor, error) {
	agent, err := newAgentClient(cfg)
	if err != nil {
		return nil, err
	}
	box, err := openSandbox(cfg, log)
	if err != nil {
		return nil, err
	}
	procs, err := newTable(cfg.Tuning, log)
	if err != nil {
		return nil, err
	}
	x := &Executor{
		cfg: cfg, log: log, agent: agent, box: box, procs: procs,
		outbox:  newOutbox(log),
		tasks:   map[string]*task{},
		sealing: make(chan struct{}, maxSealing),
		stop:    make(chan struct{}),
	}
	x.host.Store("")
	x.broker = newBroker(x.report)
	cache, err := newCache(filepath.Join(box.work, "cache"), cfg.CacheSize, cfg.Tuning.MinCached, log)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	x.store = newStore(cfg.Tuning, cfg.StorageRoots, x.broker, log)
	x.store.cache = cache
	x.bundle = newBundles(box.bundles, cfg.Tuning, x.store, log)
	return x, nil
}

// Run serves the agent until it sends SHUTDOWN, stays away too long, or ctx
// ends. Each of these kills all tasks; Run returns after their terminal updates
// are acknowledged or the grace period is over.
func (x *Executor) Run(ctx context.Context) error {
	session, endSession := context.WithCancel(context.WithoutCancel(ctx))
	defer endSession()
	var wg sync.WaitGroup
	gone := make(chan struct{})
	wg.Go(func() { x.outbox.run(session, x.agent.update) })
	wg.Go(func() { x.store.cache.watch(session, x.cfg.Tuning.DiskEvery) })
	wg.Go(func() {
		defer close(gone)
		x.serve(session)
	})
	listening := true
	select {
	case <-ctx.Done():
		x.log.Info("shutting down: terminated")
	case <-x.stop:
		x.log.Info("shutting down: told to by the agent")
	case <-gone:
		x.log.Info("shutting down: the agent stayed away")
		listening = false
	}
	x.shutDown(listening)
	endSession()
	wg.Wait()
	x.procs.close()
	if err := x.box.close(); err != nil {
		x.log.Warn("sandbox not cleared", "error", err)
	}
	return nil
}

// shutDown kills all tasks and, while there is an agent listening, sees their
// terminal updates off, within the grace period that the agent gives, less a
// little for the exit itself.
func (x *Executor) shutDown(listening bool) {
	grace := max(x.cfg.ShutdownGrace*9/10, time.Second)
	deadline, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	x.mu.Lock()
	x.final = true
	running := make([]*task, 0, len(x.tasks))
	for _, t := range x.tasks {
		running = append(running, t)
	}
	x.mu.Unlock()
	for _, t := range running {
		t.kill(min(t.grace(), grace/2), true)
		// Uploads may use what is left, but for the time that the last update needs.
		stop := time.AfterFunc(grace*3/4, t.abandonUploads)
		defer stop.Stop()
	}
	for _, t := range running {
		select {
		case <-t.done:
		case <-deadline.Done():
		}
	}
	if listening {
		x.outbox.drain(deadline)
	}
}

// serve keeps a subscription until ctx ends or the agent was away too long.
func (x *Executor) serve(ctx context.Context) {
	patience := x.cfg.RecoveryTimeout
	if !x.cfg.Checkpoint {
		patience = 10 * time.Second // for the first subscription only
	}
	lost := time.Now()
	for {
		subscribed, err := x.subscribe(ctx)
		if ctx.Err() != nil {
			return
		}
		if subscribed {
			lost = time.Now()
			if !x.cfg.Checkpoint {
				x.log.Info("agent lost, and the framework does not checkpoint", "error", err)
				return
			}
		}
		if away := time.Since(lost); away > patience {
			x.log.Error("agent lost for good", "away", away, "error", err)
			return
		}
		x.log.Info("not subscribed, trying again", "error", err)
		// A recovering agent waits only 2 s for its executors: try often, and
		// not all at the same moment.
		w := x.cfg.Tuning.SubscribeWait
		if !pause(ctx, w+rand.N(w)) {
			return
		}
	}
}

// subscribe holds one subscription. It tells whether the agent had accepted it.
func (x *Executor) subscribe(ctx context.Context) (accepted bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tasks, updates, carried := x.outbox.unacknowledged()
	stream, err := x.agent.subscribe(ctx, tasks, updates)
	if err != nil {
		return false, err
	}
	defer stream.close()
	defer x.outbox.disconnected()
	dog := &watchdog{floor: x.cfg.Tuning.WatchdogFloor, onDead: func() {
		cancel(fmt.Errorf("no sign of life from the agent"))
	}}
	defer dog.stop()
	for {
		event, err := stream.next()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return accepted, err
		}
		dog.event(event.Type == mesosexec.Event_HEARTBEAT, time.Now())
		if event.Type == mesosexec.Event_SUBSCRIBED && event.Subscribed != nil {
			accepted = true
			x.host.Store(event.Subscribed.AgentInfo.Hostname)
			x.outbox.subscribed(carried)
			x.log.Info("subscribed", "tasks", len(tasks), "updates", len(updates))
			continue
		}
		x.handle(event)
	}
}

// handle never fails: an event that makes no sense must not cost the stream.
func (x *Executor) handle(e *mesosexec.Event) {
	switch {
	case e.Launch != nil:
		x.launch(e.Launch.Task)
	case e.LaunchGroup != nil:
		for _, t := range e.LaunchGroup.TaskGroup.Tasks {
			x.refuse(t, "task groups are not supported")
		}
	case e.Kill != nil:
		x.kill(e.Kill)
	case e.Acknowledged != nil:
		x.acknowledged(e.Acknowledged)
	case e.Message != nil:
		x.order(e.Message.Data)
	case e.Type == mesosexec.Event_SHUTDOWN:
		x.stopOnce.Do(func() { close(x.stop) })
	case e.Type == mesosexec.Event_HEARTBEAT:
	case e.Error != nil:
		x.log.Error("agent reports an error", "message", e.Error.Message)
	default:
		x.log.Warn("event ignored", "type", e.Type)
	}
}

func (x *Executor) launch(info mesos.TaskInfo) {
	id := info.TaskID.Value
	launch, err := decodeLaunch(info.Data, id)
	x.mu.Lock()
	again := x.seen.has(id)
	if again || x.final {
		x.mu.Unlock()
		x.log.Warn("launch ignored", "task", id, "repeated", again)
		return
	}
	x.seen.add(id)
	x.stopIdling()
	if err == nil {
		t := newTask(x, launch)
		x.tasks[id] = t
		x.outbox.launched(info)
		go t.run()
	}
	x.mu.Unlock()
	if err != nil {
		x.outbox.launched(info)
		x.refuse(info, err.Error())
		return
	}
	x.log.Info("launched", "task", id, "partitions", len(launch.Partitions))
}

// refuse ends a task that cannot be run as described. Its ID names the partition:
// the launch data may be what cannot be read.
func (x *Executor) refuse(info mesos.TaskInfo, reason string) {
	now := time.Now()
	reason = printable(reason, 500)
	id, _ := tasklet.ParseTaskID(info.TaskID.Value)
	data, _ := json.Marshal(tasklet.StatusData{Results: []tasklet.Result{{
		Partition: id.First, Outcome: tasklet.Invalid, ExitCode: -1, Reason: reason, Started: now, Ended: now, Agent: x.hostname(),
	}}})
	x.log.Warn("task refused", "task", info.TaskID.Value, "reason", reason)
	x.outbox.add(mesos.TaskStatus{
		TaskID: info.TaskID, State: mesos.TASK_FAILED.Enum(), Message: &reason, Data: data,
	}, nil)
}

func (x *Executor) kill(k *mesosexec.Event_Kill) {
	t := x.task(k.TaskID.Value)
	if t == nil {
		x.log.Warn("kill of an unknown task", "task", k.TaskID.Value)
		return
	}
	grace := t.grace()
	if p := k.GetKillPolicy(); p != nil && p.GracePeriod != nil {
		grace = time.Duration(p.GracePeriod.Nanoseconds)
	}
	x.log.Info("kill", "task", k.TaskID.Value, "grace", grace)
	t.kill(grace, false)
}

func (x *Executor) acknowledged(a *mesosexec.Event_Acknowledged) {
	state, known := x.outbox.acknowledge(a.TaskID.Value, a.UUID)
	if !known || !isTerminal(state) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.tasks, a.TaskID.Value)
	if len(x.tasks) == 0 {
		x.startIdling()
	}
}

func (x *Executor) order(data []byte) {
	var o tasklet.Order
	if err := json.Unmarshal(data, &o); err != nil {
		x.log.Warn("message is not an order", "error", err)
		return
	}
	if o.Grant != nil {
		x.broker.grant(*o.Grant)
	}
	if len(o.Kill) > 0 {
		if t := x.task(o.TaskID); t != nil {
			t.killPartitions(o.Kill)
		}
	}
}

// report sends a message to the leader; it may be lost.
func (x *Executor) report(ctx context.Context, r tasklet.Report) {
	data, err := json.Marshal(r)
	if err == nil {
		err = x.agent.message(ctx, data)
	}
	if err != nil && ctx.Err() == nil {
		x.log.Debug("report not sent", "task", r.TaskID, "error", err)
	}
}

func (x *Executor) task(id string) *task {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.tasks[id]
}

func (x *Executor) hostname() string { return x.host.Load().(string) }

// idleTime is longer than the pause between two steps of a run.
const idleTime = time.Second

// startIdling gives memory back to the machine when nothing has run for a while.
func (x *Executor) startIdling() {
	if x.idle == nil {
		x.idle = time.AfterFunc(idleTime, debug.FreeOSMemory)
		return
	}
	x.idle.Reset(idleTime)
}

func (x *Executor) stopIdling() {
	if x.idle != nil {
		x.idle.Stop()
	}
}

func isTerminal(s mesos.TaskState) bool {
	switch s {
	case mesos.TASK_FINISHED, mesos.TASK_FAILED, mesos.TASK_KILLED:
		return true
	}
	return false
}

// recent remembers the last maxRecent strings.
type recent struct {
	set  map[string]struct{}
	ring []string
	next int
}

const maxRecent = 4096

func (r *recent) has(s string) bool {
	_, ok := r.set[s]
	return ok
}

func (r *recent) add(s string) {
	if r.set == nil {
		r.set = map[string]struct{}{}
	}
	if len(r.ring) < maxRecent {
		r.ring = append(r.ring, s)
	} else {
		delete(r.set, r.ring[r.next])
		r.ring[r.next] = s
		r.next = (r.next + 1) % maxRecent
	}
	r.set[s] = struct{}{}
}
