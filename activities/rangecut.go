package activities

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/baas-batch/baas/api"
)

const (
	// window is how many packs of a Range wait for a place at least, if it has as
	// many; more only where as many have one already.
	window = 16
	// packTime is how long a pack is to last, in seconds; minPackTime what it lasts
	// at least where partitions are few and are shared out.
	packTime    = 5.0
	minPackTime = 0.25
	maxPack     = 4096 // partitions
	// packRate is how many tasks of the framework are to end in a second: where so
	// many have a place that more would, packs last longer.
	packRate = 400.0
	// maxRetryPack bounds packs whose partitions may each have a checkpoint.
	maxRetryPack = 64
	// maxSpans bounds the spans of partitions that details name of a pack: the
	// smallest details have room for one pack.
	maxSpans = 64
)

// cut makes packs of partitions that wait, as many as there is room for.
func (e *entry) cut() {
	r := e.ranged
	if r == nil || !r.open || !r.loaded || e.in == nil || e.orphan || e.lapsed || e.cancelled {
		return
	}
	e.submitParts()
	for room := e.room(); room > 0; room-- {
		members, attempt := r.pick(e.packSize, time.Now())
		if len(members) == 0 {
			break
		}
		p := &pack{first: int(members[0]), members: members, attempt: attempt, phase: phasePausing}
		e.packs = append(e.packs, p)
		e.submit(p)
	}
	e.wake()
}

// room is how many more packs may wait.
func (e *entry) room() int {
	waiting, placed := e.split()
	room := max(window, placed) - waiting
	for _, most := range []int{e.in.Range.Parallel, e.ranged.most} {
		if most > 0 {
			room = min(room, most-waiting-placed)
		}
	}
	return room
}

// split counts packs without and with a place.
func (e *entry) split() (waiting, placed int) {
	for _, p := range e.packs {
		switch p.phase {
		case phasePausing, phaseFenced, phaseWaiting:
			waiting++
		case phaseEnded:
		default:
			placed++
		}
	}
	return waiting, placed
}

// waitingPacks is what the backlog counts: packs without a place, and one for
// partitions that are in none.
func (e *entry) waitingPacks() int {
	waiting, placed := e.split()
	if waiting+placed == 0 && e.ranged.n[partWaits]+e.ranged.n[partPauses] > 0 {
		return 1
	}
	return waiting
}

// wake looks again when the next backoff is over.
func (e *entry) wake() {
	r := e.ranged
	if len(r.due) == 0 {
		return
	}
	at := time.Unix(0, r.due[0].at)
	if !r.wakes.IsZero() && !at.Before(r.wakes) {
		return
	}
	r.wakes = at
	e.later(time.Until(at), func() {
		if r.wakes.Equal(at) {
			r.wakes = time.Time{}
		}
		e.cut()
	})
}

// packSize is how many partitions the next pack takes: so many that it lasts some
// seconds, but not so many that the last ones of the range are left to a few packs.
func (e *entry) packSize(attempt int) int {
	if e.in.AtMostOnce {
		return 1
	}
	most := maxPack
	if attempt > 1 {
		most = maxRetryPack
	}
	seconds := e.ranged.pace.get()
	if seconds == 0 {
		return min(e.h.cfg.FirstPack, most)
	}
	size := func(lasts float64) int { return int(math.Ceil(min(lasts/seconds, float64(most)))) }
	_, placed := e.split()
	share := e.ranged.n[partWaits] / (2 * max(4, placed))
	lasts := max(packTime, float64(e.h.backlog.now().Placed)/packRate)
	return max(1, min(size(lasts), max(share, size(minPackTime))))
}

// resize gives a pack that is about to be launched the size that suits now: while it
// waited for its place, more may have become known of the pace. One that was lost
// stays as it is.
func (e *entry) resize(p *pack) []int {
	r, wanted := e.ranged, e.unfinished(p)
	if len(wanted) == 0 || e.losses[p.first] != nil {
		return wanted
	}
	n := e.packSize(p.attempt)
	if p.most > 0 {
		n = min(n, p.most)
	}
	for _, i := range wanted[min(n, len(wanted)):] {
		r.set(i, partWaits)
	}
	wanted = wanted[:min(n, len(wanted))]
	last := wanted[len(wanted)-1]
	for at := max(r.next, last-r.first+1); at < len(r.parts) && len(wanted) < n; at++ {
		if one := r.parts[at]; one.state == partWaits && int(one.tries)+1 == p.attempt && !one.killing {
			r.set(r.first+at, partTaken)
			wanted = append(wanted, r.first+at)
		}
	}
	p.members, p.over = e.members(wanted), nil
	return wanted
}

// trim leaves partitions out that have a result by now. False when none is left;
// then the pack is gone.
func (e *entry) trim(p *pack) bool {
	rest := e.unfinished(p)
	if len(rest) == 0 {
		e.drop(p)
		return false
	}
	if rest[0] != p.first {
		if l := e.losses[p.first]; l != nil {
			delete(e.losses, p.first)
			put(&e.losses, rest[0], l)
		}
	}
	p.members, p.first, p.over = e.members(rest), rest[0], nil
	return true
}

// divide places the rest of a lost pack again in parts: one of its partitions may
// be what takes executors down, and is to be found without the others.
func (e *entry) divide(p *pack, rest []int, l *loss) {
	for chunk := range slices.Chunk(rest, (len(rest)+divisor-1)/divisor) {
		part := *l
		part.alone, part.places = 0, slices.Clone(l.places)
		pause := e.h.cfg.Backoff(max(1, l.count))
		next := &pack{first: chunk[0], members: e.members(chunk), attempt: p.attempt, apart: time.Now().Add(pause)}
		put(&e.losses, next.first, &part)
		e.packs = append(e.packs, next)
		e.later(pause, e.cut)
	}
}

// submitParts places parts of divided packs whose pause is over, as many as may run
// at a time.
func (e *entry) submitParts() {
	var due []*pack
	most := e.in.Range.Parallel
	busy, now := 0, time.Now()
	for _, p := range e.packs {
		switch {
		case p.apart.IsZero() && p.phase != phaseEnded:
			busy++
		case !p.apart.IsZero() && !now.Before(p.apart):
			due = append(due, p)
		}
	}
	for _, p := range due {
		if most > 0 && busy >= most {
			return
		}
		busy++
		p.apart = time.Time{}
		e.submit(p)
	}
}

// tooWide notes that details had no room for a pack that is not placed. Where they
// name no other it is cut: one in many pieces takes more room.
func (e *entry) tooWide(p *pack) {
	_, placed := e.split()
	e.ranged.most = max(1, placed)
	rest := e.unfinished(p)
	if placed > 0 || len(rest) < 2 {
		return
	}
	half := len(rest) / 2
	for _, i := range rest[half:] {
		e.ranged.set(i, partWaits)
	}
	p.members, p.over, p.most = e.members(rest[:half]), nil, half
}

// divisor is into how many parts a suspect is divided.
const divisor = 8

// pace is how long the partitions of one step take, as all its ranges have seen.
type pace struct {
	mu      sync.Mutex
	key     paceKey
	users   int     // guarded by paces
	seconds float64 // of one partition; 0 while not known
}

type paceKey struct{ run, step string }

// weight of what was seen last.
const paceWeight = 0.4

func (p *pace) get() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seconds
}

// add notes that n partitions took so many seconds together.
func (p *pace) add(seconds float64, n int) {
	if n <= 0 || !(seconds >= 0) || math.IsInf(seconds, 0) {
		return
	}
	one := max(seconds/float64(n), 1e-6)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seconds == 0 {
		p.seconds = one
	}
	p.seconds += paceWeight * (one - p.seconds)
}

// paces has those of all steps at hand. The zero value is ready for use.
type paces struct {
	mu  sync.Mutex
	all map[paceKey]*pace
}

// enter gives the pace of a step to one more of its ranges.
func (s *paces) enter(in *api.LaunchInput) *pace {
	key := paceKey{in.Run, in.Step}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.all[key]
	if p == nil {
		if s.all == nil {
			s.all = make(map[paceKey]*pace)
		}
		p = &pace{key: key}
		s.all[key] = p
	}
	p.users++
	return p
}

// leave forgets a step with its last range.
func (s *paces) leave(p *pace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.users--; p.users == 0 {
		delete(s.all, p.key)
	}
}

// leavePace may be called more than once.
func (e *entry) leavePace() {
	if e.ranged != nil && e.ranged.pace != nil {
		e.h.paces.leave(e.ranged.pace)
		e.ranged.pace = nil
	}
}
