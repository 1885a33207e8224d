package activities

import (
	"context"
	"sync"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
)

// backlog bounds what the leader has in hand (rule 10 of the hand-off). It counts
// tasks, not activities: one activity may be a range of many. What has a place is
// bounded by the cluster; what waits is bounded here, and the rest stays in
// Temporal, which orders it by priority and owner.
type backlog struct {
	limit int // of waiting tasks: at or over it, nothing is polled for but for a probe
	most  int // of all tasks in hand

	mu       sync.Mutex
	waiting  map[*entry]struct{} // those with waiting tasks
	ranks    map[rank]int        // waiting tasks of each
	arrivals uint64
	load     Load
	arriving int // handed over by Temporal, and not in waiting yet
}

// Load is what a leader has in hand.
type Load struct {
	Waiting int `json:"waiting"` // tasks without a place
	Placed  int `json:"placed"`  // tasks in Mesos or on their way there
}

// rank is what decides about the turn of a task, besides its age.
type rank struct {
	priority int // 1 is the highest
	owner    string
}

// claim is what one activity has in hand.
type claim struct {
	rank    rank
	waiting int
	placed  int
	whole   bool   // nothing of it has left this process: it can be given back
	arrival uint64 // number, from 1
}

func newBacklog(limit, most int) *backlog {
	return &backlog{limit: limit, most: most, waiting: make(map[*entry]struct{}), ranks: make(map[rank]int)}
}

func rankOf(in *api.LaunchInput) rank {
	r := rank{in.Priority, in.Owner}
	if r.priority == 0 {
		r.priority = flow.DefaultPriority
	}
	return r
}

// room is how many tasks more may wait. It is not more than the bound of all
// tasks allows; full tells that this is reached.
func (b *backlog) room() (n int, full bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.most - b.load.Waiting - b.load.Placed - b.arriving
	return min(left, b.limit-b.load.Waiting-b.arriving), left <= 0
}

// set notes what an activity has in hand now, and that so many tasks of it have
// arrived that admit or expect has announced. It tells whether room was made.
func (b *backlog) set(e *entry, c claim, arrived int) (room bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.arriving -= arrived
	old := e.claim
	if c.waiting > 0 {
		if c.arrival = old.arrival; c.arrival == 0 {
			b.arrivals++
			c.arrival = b.arrivals
		}
		b.waiting[e] = struct{}{}
	} else {
		delete(b.waiting, e)
	}
	e.claim = c
	b.add(old.rank, -old.waiting)
	b.add(c.rank, c.waiting)
	b.load.Waiting += c.waiting - old.waiting
	b.load.Placed += c.placed - old.placed
	return c.waiting < old.waiting+arrived || c.waiting+c.placed < old.waiting+old.placed+arrived
}

func (b *backlog) add(r rank, n int) {
	if b.ranks[r] += n; b.ranks[r] == 0 {
		delete(b.ranks, r)
	}
}

// expect takes n tasks on, whatever there is room for.
func (b *backlog) expect(n int) {
	b.mu.Lock()
	b.arriving += n
	b.mu.Unlock()
}

// verdict is what becomes of an activity that Temporal hands over.
type verdict struct {
	admitted bool
	better   bool   // than what waits here: there may be more of it
	instead  *entry // to be given back in return; may be nil
}

// admit decides about n tasks that Temporal hands over. Under the bound all are
// welcome, and a little above it, since several polls may be under way. Beyond,
// only what goes before something that waits here: tasks of a higher priority, and
// tasks of an owner that has fewer waiting than another one. Without that, one
// owner could keep everybody else out for as long as its tasks find no place.
func (b *backlog) admit(r rank, n int) verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.load.Waiting+b.arriving < b.limit+b.limit/4 {
		b.arriving += n
		return verdict{admitted: true}
	}
	last := b.last()
	if !b.before(r, n, last) || b.load.Waiting+b.arriving >= 2*b.limit {
		return verdict{}
	}
	b.arriving += n
	v := verdict{admitted: true, better: true, instead: b.newest(last)}
	if v.instead != nil {
		v.instead.yielding = true
	}
	return v
}

// last is the rank whose tasks can wait best: the lowest priority, and there the
// owner with the most.
func (b *backlog) last() (last rank) {
	for r, n := range b.ranks {
		if r.priority > last.priority || r.priority == last.priority && n > b.ranks[last] {
			last = r
		}
	}
	return last
}

// before tells whether n tasks of rank r should wait here rather than as many of
// the last one.
func (b *backlog) before(r rank, n int, last rank) bool {
	if r.priority != last.priority {
		return r.priority < last.priority
	}
	return r != last && b.ranks[r]+n <= b.ranks[last]-n
}

// newest finds the activity of a rank that came last and can be given back.
func (b *backlog) newest(r rank) (found *entry) {
	for e := range b.waiting {
		if e.claim.rank == r && e.claim.whole && !e.yielding && (found == nil || e.claim.arrival > found.claim.arrival) {
			found = e
		}
	}
	return found
}

func (b *backlog) now() Load {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Load{Waiting: b.load.Waiting + b.arriving, Placed: b.load.Placed}
}

// weigh tells the backlog what the activity has in hand; see set.
func (e *entry) weigh(arrived int) {
	var c claim
	ended := 0
	for _, p := range e.packs {
		switch p.phase {
		case phasePlacing, phasePlaced, phaseAttaching, phaseHeld:
			c.placed++ // what is held must not shut others out
		case phaseEnded:
			ended++
		}
	}
	// Between two attempts it does not count: the attempt to come must find room.
	if e.in != nil && !e.between && !e.orphan && !e.retired {
		c.rank = rankOf(&e.in.LaunchInput)
		c.waiting = max(0, e.total-len(e.results)-c.placed)
		c.whole = c.waiting == e.total && ended == 0 && e.returnable()
		if e.ranged != nil {
			c.waiting = e.waitingPacks()
			c.whole = c.placed+ended+e.done() == 0 && e.returnable()
		}
	}
	if e.h.backlog.set(e, c, arrived) {
		e.h.slots.wake()
	}
}

// returnable tells whether Temporal would lose nothing if it had the activity back.
func (e *entry) returnable() bool {
	return e.token != nil && !e.lapsed && !e.cancelled && len(e.acks)+len(e.held)+len(e.losses) == 0
}

// handBackPause is how long Temporal keeps what was handed back before it offers
// it again.
const handBackPause = 5 * time.Second

const noRoom = "the leader has as many tasks waiting as it takes; Temporal keeps the others, by priority and owner, until there is room"

// errNoRoom gives an activity back that was polled for in vain.
func errNoRoom() error {
	return temporal.NewApplicationErrorWithOptions(noRoom, handedBack, temporal.ApplicationErrorOptions{
		NextRetryDelay: handBackPause, Category: temporal.ApplicationErrorCategoryBenign,
	})
}

// stays ends what a verdict has begun.
func (b *backlog) stays(e *entry) {
	b.mu.Lock()
	e.yielding = false
	b.mu.Unlock()
}

// yield gives the activity back, to make room for one that goes before it.
func (e *entry) yield() {
	defer e.h.backlog.stays(e)
	if !e.claim.whole { // only this entry's events change it
		return
	}
	ctx, cancel := e.h.call()
	defer cancel()
	if e.release(ctx, noRoom, handBackPause) {
		e.retire()
	}
}

// retire forgets an activity that Temporal has back.
func (e *entry) retire() {
	e.packs = nil
	e.h.remove(e)
}

// release gives the activity back to Temporal when nothing of it is in Mesos. It
// tells whether it did; the call itself may fail, and is not made again: Temporal
// hands the activity over anyway when its heartbeats have stayed away.
func (e *entry) release(ctx context.Context, why string, pause time.Duration) bool {
	if e.in == nil || e.orphan || e.cancelled || len(e.acks)+len(e.held)+len(e.results) > 0 || e.undecided() {
		return false
	}
	for _, p := range e.packs {
		if p.phase != phaseWaiting && p.phase != phasePausing && p.phase != phaseFenced {
			return false
		}
	}
	for i, p := range e.packs {
		if p.phase == phaseWaiting && !e.h.fw.Withdraw(e.taskID(p)) {
			// On its way to Mesos: it stays, and so do the others.
			for _, q := range e.packs[:i] {
				if q.phase == phaseWaiting {
					e.submit(q)
				}
			}
			return false
		}
	}
	e.lapsed = true
	e.nextBeat.Store(0)
	e.giveBack(ctx, why, pause)
	return true
}
