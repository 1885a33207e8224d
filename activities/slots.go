package activities

import (
	"context"
	"sync"

	"go.temporal.io/sdk/worker"
)

// slots is a worker.SlotSupplier that lets the launch worker poll only while the
// backlog is under its bound. An activity that waits for Mesos has long given
// its slot back, so the backlog counts, not the slots in use.
type slots struct {
	limit   int
	backlog func() int

	mu       sync.Mutex
	reserved int
	changed  chan struct{}
}

var _ worker.SlotSupplier = (*slots)(nil)

func newSlots(limit int, backlog func() int) *slots {
	return &slots{limit: limit, backlog: backlog, changed: make(chan struct{})}
}

// ReserveSlot waits until there is room.
func (s *slots) ReserveSlot(ctx context.Context, _ worker.SlotReservationInfo) (*worker.SlotPermit, error) {
	for {
		permit, changed := s.try()
		if permit != nil {
			return permit, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// TryReserveSlot never waits.
func (s *slots) TryReserveSlot(worker.SlotReservationInfo) *worker.SlotPermit {
	permit, _ := s.try()
	return permit
}

func (s *slots) try() (*worker.SlotPermit, <-chan struct{}) {
	backlog := s.backlog()
	s.mu.Lock()
	defer s.mu.Unlock()
	if backlog+s.reserved >= s.limit {
		return nil, s.changed
	}
	s.reserved++
	return &worker.SlotPermit{}, nil
}

// MarkSlotUsed does nothing: a slot counts from its reservation on.
func (s *slots) MarkSlotUsed(worker.SlotMarkUsedInfo) {}

// ReleaseSlot gives a slot back.
func (s *slots) ReleaseSlot(worker.SlotReleaseInfo) {
	s.mu.Lock()
	s.reserved--
	s.mu.Unlock()
	s.wake()
}

// MaxSlots is the bound of the backlog.
func (s *slots) MaxSlots() int { return s.limit }

// wake lets waiters look again.
func (s *slots) wake() {
	s.mu.Lock()
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
}
