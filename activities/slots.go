package activities

import (
	"context"
	"sync"
	"time"

	"go.temporal.io/sdk/worker"
)

// slots is a worker.SlotSupplier that lets the launch worker poll only while the
// backlog is under its bound. An activity that waits for Mesos has long given
// its slot back, so the backlog counts, not the slots in use.
//
// While the backlog is full, one poll goes out now and then: a probe, which gets
// what Temporal would serve first. Is it of more urgency than what waits here, it
// takes the place of that (see backlog.admit).
type slots struct {
	backlog *backlog
	pace    func(quiet int) time.Duration // before the next probe, after so many in vain

	mu       sync.Mutex
	reserved int // without probes
	probing  bool
	quiet    int       // probes in a row that have brought nothing of urgency
	since    time.Time // the backlog is full, or the last probe has ended
	changed  chan struct{}
}

var _ worker.SlotSupplier = (*slots)(nil)

// probe marks the permit of one.
type probe struct{}

// The pace of probes: often enough that what is urgent does not wait long, seldom
// enough that Temporal's order among equals is hardly disturbed, as what is handed
// back lines up again.
const (
	probeMin = 2 * time.Second
	probeMax = 30 * time.Second
)

func probePace(quiet int) time.Duration { return min(probeMin<<min(quiet, 8), probeMax) }

func newSlots(b *backlog) *slots {
	return &slots{backlog: b, pace: probePace, changed: make(chan struct{}), since: time.Now()}
}

// ReserveSlot waits until there is room, or it is time for a probe.
func (s *slots) ReserveSlot(ctx context.Context, _ worker.SlotReservationInfo) (*worker.SlotPermit, error) {
	for {
		permit, changed, wait := s.try(time.Now())
		if permit != nil {
			return permit, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// TryReserveSlot never waits.
func (s *slots) TryReserveSlot(worker.SlotReservationInfo) *worker.SlotPermit {
	permit, _, _ := s.try(time.Now())
	return permit
}

// try gives a permit, or else what to wait for and for how long at most.
func (s *slots) try(now time.Time) (*worker.SlotPermit, <-chan struct{}, time.Duration) {
	room, full := s.backlog.room()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reserved < room {
		s.reserved++
		s.since, s.quiet = now, 0
		return &worker.SlotPermit{}, nil, 0
	}
	wait := s.since.Add(s.pace(s.quiet)).Sub(now)
	if full || s.probing {
		return nil, s.changed, probeMax
	}
	if wait > 0 {
		return nil, s.changed, wait
	}
	s.probing = true
	return &worker.SlotPermit{UserData: probe{}}, nil, 0
}

// urgent tells what a probe, or a poll beside it, has brought.
func (s *slots) urgent(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quiet++; yes {
		s.quiet = 0
		s.since = time.Time{} // there may be more of it
	}
}

// MarkSlotUsed does nothing: a slot counts from its reservation on.
func (s *slots) MarkSlotUsed(worker.SlotMarkUsedInfo) {}

// ReleaseSlot gives a slot back.
func (s *slots) ReleaseSlot(info worker.SlotReleaseInfo) {
	_, probed := info.Permit().UserData.(probe)
	s.mu.Lock()
	switch {
	case !probed:
		s.reserved--
	case s.since.IsZero():
		s.probing = false
	default:
		s.probing, s.since = false, time.Now()
	}
	s.mu.Unlock()
	s.wake()
}

// MaxSlots has no answer: probes come on top of the backlog's bound.
func (s *slots) MaxSlots() int { return 0 }

// wake lets waiters look again.
func (s *slots) wake() {
	s.mu.Lock()
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
}
