package activities

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

// entry is one activity in the leader's care. Its events run one at a time, in
// order; everything below the mailbox is touched by them alone.
type entry struct {
	h   *Handoff
	key tasklet.ActivityKey

	mu      sync.Mutex
	mailbox []func()
	busy    bool

	nextBeat atomic.Int64 // Unix nanoseconds; 0 for never

	in      *launchInput // nil while Temporal has not handed the activity over
	token   []byte       // of the attempt that did
	prefix  string
	attempt int
	total   int

	packs       []*pack                 // in Mesos, or on their way there
	generations generations             // used up
	results     map[int]tasklet.Result  // of a plain step
	ranged      *ranged                 // the partitions of a Range; nil for a plain step
	joining     map[string]bool         // uploads whose parts are being joined, by ID
	losses      map[int]*loss           // of unfinished packs, by first partition
	ends        map[string]mesos.Update // how adopted tasks were lost, by ID
	replaced    int
	lost        string         // the last loss, for people
	fenced      string         // what the packs in phaseFenced wait for, for people
	acks        []mesos.Update // terminal updates that wait for their results to be noted
	held        []mesos.Update // those whose results nobody else has: they wait for the completion

	notedAt   time.Time
	reason    string // of the cancel
	cancelled bool
	// lapsed: no more heartbeats, so that Temporal hands the activity over again.
	lapsed   bool
	watching bool // over a lapsed activity
	retrying bool // the completion
	noting   bool // a heartbeat is to come soon; see noteSoon
	// between: an attempt is yet to come, and must find room in the backlog.
	between bool
	// orphan: nobody waits for this activity any more; what runs is killed.
	orphan  bool
	retired bool // no longer in the table

	claim    claim // guarded by the backlog's lock, as is the next one
	yielding bool  // about to be given back
	since    time.Time
}

func newEntry(h *Handoff, key tasklet.ActivityKey) *entry {
	return &entry{
		h:     h,
		key:   key,
		since: time.Now().UTC().Truncate(time.Second), // for people
	}
}

// log is made when it is needed: most entries have nothing to say.
func (e *entry) log() *slog.Logger {
	return e.h.cfg.Logger.With("workflow", e.key.WorkflowID, "activity", e.key.ActivityID)
}

// put sets an entry's value in a map that few entries need, and that is made with
// the first one.
func put[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[key] = value
}

// post queues an event; false when the hand-off is closed.
func (e *entry) post(event func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.busy {
		if !e.h.start(e.drain) {
			return false
		}
		e.busy = true
	}
	e.mailbox = append(e.mailbox, event)
	return true
}

func (e *entry) drain() {
	for {
		e.mu.Lock()
		if len(e.mailbox) == 0 || e.h.ctx.Err() != nil {
			e.busy = false
			e.mailbox = nil
			e.mu.Unlock()
			return
		}
		event := e.mailbox[0]
		e.mailbox = e.mailbox[1:]
		e.mu.Unlock()
		event()
		e.weigh(0)
	}
}

// later posts an event after a pause, unless the hand-off closes first.
func (e *entry) later(pause time.Duration, event func()) {
	time.AfterFunc(pause, func() { e.post(event) })
}

// taskID is the Mesos ID of a pack's task.
func (e *entry) taskID(p *pack) string { return e.id(p.first, p.generation).String() }

func (e *entry) id(first, generation int) tasklet.TaskID {
	return tasklet.TaskID{
		WorkflowID: e.key.WorkflowID, RunID: e.key.RunID, ActivityID: e.key.ActivityID,
		First: first, Generation: generation,
	}
}

func (e *entry) find(first, generation int) *pack {
	for _, p := range e.packs {
		if p.first == first && p.generation == generation {
			return p
		}
	}
	return nil
}

func (e *entry) drop(p *pack) {
	e.packs = slices.DeleteFunc(e.packs, func(q *pack) bool { return q == p })
}

// due tells whether a heartbeat is due, once: while one waits for its turn behind
// a slow call, no other shall. Safe from any goroutine.
func (e *entry) due(now time.Time) bool {
	at := e.nextBeat.Load()
	next := now.Add(e.pace(now)).UnixNano()
	return at != 0 && now.UnixNano() >= at && e.nextBeat.CompareAndSwap(at, next)
}

// pace is the time between regular heartbeats: a third of the time-out, so that
// one may be lost, and at first less, since people look at what is young.
func (e *entry) pace(now time.Time) time.Duration {
	return min(e.h.cfg.HeartbeatTimeout/3, max(youngPace, now.Sub(e.since)/2))
}

const youngPace = 15 * time.Second

// idle tells whether nothing is to be done. Safe from any goroutine.
func (e *entry) idle() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.busy
}

// changed asks for a heartbeat soon: people look at the details.
func (e *entry) changed() {
	if e.lapsed || e.orphan {
		return
	}
	soon := time.Now().Add(min(time.Second, e.h.cfg.HeartbeatTimeout/6)).UnixNano()
	if at := e.nextBeat.Load(); at == 0 || at > soon {
		e.nextBeat.Store(soon)
	}
}

var (
	errNotHeard  = errors.New("the activity is between two attempts")
	errNotWanted = errors.New("nobody waits for the activity any more")
	errNotLeader = errors.New("the leadership is not confirmed")
	errCancelled = errors.New("the activity is to be cancelled")
)

// heartbeat is the regular one.
func (e *entry) heartbeat() {
	if e.lapsed || e.orphan {
		e.nextBeat.Store(0)
		return
	}
	err := e.beat()
	switch {
	case err == nil:
	case errors.Is(err, errNotHeard), errors.Is(err, errNotWanted), errors.Is(err, errCancelled):
		e.log().Debug("heartbeat", "error", err)
	default: // Temporal is not reached, or the leadership not confirmed
		e.log().Debug("heartbeat; trying again", "error", err)
		e.nextBeat.Store(time.Now().Add(e.h.cfg.RetryPause).UnixNano())
	}
}

// beat writes the details to Temporal and acts upon the answer. After success
// everything in the details is durable.
func (e *entry) beat() error { return e.note(e.details()) }

// note writes these details, as beat does.
func (e *entry) note(details api.Details) error {
	now := time.Now()
	e.nextBeat.Store(now.Add(e.pace(now)).UnixNano())
	if !e.h.cfg.Leading() {
		return errNotLeader
	}
	ctx, cancel := e.h.call()
	defer cancel()
	err := e.h.cfg.Temporal.RecordActivityHeartbeatByID(ctx, e.h.cfg.Namespace,
		e.key.WorkflowID, e.key.RunID, e.key.ActivityID, details)
	var notFound *serviceerror.NotFound
	switch {
	case err == nil:
		e.notedAt = time.Now()
		e.noted()
		return nil
	case errors.As(err, &notFound), temporal.IsCanceledError(err):
		return e.inquire()
	}
	return err
}

// inquire asks Temporal how the activity stands after an answer that by itself
// means little: NotFound may be a backoff, CanceledError an oversized heartbeat.
func (e *entry) inquire() error {
	stands, _, err := e.h.desc.activity(e.h.ctx, e.key)
	if err != nil {
		return err
	}
	switch stands {
	case standsClosed, standsGone:
		e.abandon()
		return errNotWanted
	case standsCanceled:
		// Nothing can be noted any more, and the results lie in storage. Agents hold
		// back what follows an update that is not acknowledged: the end of the task.
		e.noted()
		e.cancel("cancelled", 0)
		return errCancelled
	case standsBackoff:
		// The results so far lie in storage, and the next attempt looks there.
		e.noted()
		e.awaitAttempt()
		return errNotHeard
	}
	return errNotHeard
}

// awaitAttempt makes room for the attempt that is to come: a leader whose backlog
// is full of such activities would never poll for them.
func (e *entry) awaitAttempt() {
	e.between = true
	e.weigh(0)
}

// noted acknowledges what waited for its results to be noted.
func (e *entry) noted() {
	for _, u := range e.acks {
		e.h.fw.Acknowledge(u)
	}
	e.acks = nil
}

// over acknowledges everything: Temporal has the results, or nobody wants them.
func (e *entry) over() {
	e.acks = append(e.acks, e.held...)
	e.held = nil
	e.noted()
}

// abandon kills what nobody waits for, and forgets the activity.
func (e *entry) abandon() {
	if e.orphan {
		return
	}
	e.orphan = true
	e.nextBeat.Store(0)
	e.killReachable()
	e.packs = nil
	e.over()
	e.h.remove(e)
}

// killReachable ends all packs that nobody waits for. One whose agent does not
// answer is killed when Mesos tells of its return: no kill is heard before, and a
// repeated one could by then be a minute away.
func (e *entry) killReachable() {
	for _, p := range e.packs {
		if p.unreachable.IsZero() {
			e.kill(p, 0)
		}
	}
}

// kill ends a pack, wherever it is. It returns true when nothing of it is or
// will be in Mesos.
func (e *entry) kill(p *pack, grace time.Duration) bool {
	switch p.phase {
	case phasePausing, phaseFenced, phaseHeld:
		return true
	case phaseWaiting:
		return e.h.fw.Withdraw(e.taskID(p))
	case phasePlacing:
		return false // placed asks before it launches
	case phaseEnded:
		return false
	}
	if grace == 0 && e.in != nil {
		grace = e.in.Grace
	}
	p.noticed = true
	e.h.fw.Kill(mesos.TaskRef{TaskID: e.taskID(p), AgentID: p.agent.ID}, grace)
	return false
}

// cancel ends all packs; the activity is completed when the last one has ended.
func (e *entry) cancel(reason string, grace time.Duration) {
	if e.cancelled && e.ranged != nil && e.ranged.gaveUp {
		e.ranged.gaveUp, e.reason = false, reason
	}
	if e.cancelled || e.orphan {
		return
	}
	e.cancelled = true
	e.reason = reason
	e.end(grace)
}

// end kills all packs, and settles what is not in Mesos.
func (e *entry) end(grace time.Duration) {
	for _, p := range slices.Clone(e.packs) {
		if e.kill(p, grace) {
			e.drop(p)
			e.settleKilled(p)
		} else if !p.unreachable.IsZero() {
			e.awaitAgent(p)
		}
	}
	e.settleWaiting()
	e.advance()
}

func (e *entry) finished(partition int) bool {
	if e.ranged != nil {
		return e.ranged.finished(partition)
	}
	_, ok := e.results[partition]
	return ok
}

// done is how many partitions have a result that lasts.
func (e *entry) done() int {
	if e.ranged != nil {
		return e.ranged.done()
	}
	return len(e.results)
}
