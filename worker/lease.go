package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/mesos"
)

// heartbeater is what a lease needs of a Temporal client. The call is fenced by
// the attempt that the token belongs to.
type heartbeater interface {
	RecordActivityHeartbeat(ctx context.Context, taskToken []byte, details ...any) error
}

// lease is one term of leadership: the attempt of the leadership activity that
// Temporal gave to this worker. It holds as long as Temporal accepts its
// heartbeats; nothing else tells, since a process may sleep through its end.
type lease struct {
	temporal heartbeater
	token    []byte
	timeout  time.Duration // after which Temporal gives it to another worker
	details  func() any    // of each heartbeat; nil for none

	mu        sync.Mutex
	confirmed time.Time // start of the last heartbeat that was accepted
	ended     error
	lost      chan struct{}
}

var _ mesos.Lease = (*lease)(nil)

func newLease(t heartbeater, token []byte, timeout time.Duration, details func() any) *lease {
	return &lease{
		temporal: t, token: token, timeout: timeout, details: details,
		confirmed: time.Now(), // the attempt has just begun
		lost:      make(chan struct{}),
	}
}

// Confirm heartbeats now. mesos.ErrLeaseLost when Temporal refuses; another error
// when it cannot be asked.
func (l *lease) Confirm(ctx context.Context) error {
	if err := l.err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout/2)
	defer cancel()
	var details any
	if l.details != nil {
		details = l.details()
	}
	asked := time.Now()
	err := l.temporal.RecordActivityHeartbeat(ctx, l.token, details)
	var notFound *serviceerror.NotFound
	switch {
	case err == nil:
		l.mu.Lock()
		if asked.After(l.confirmed) { // two may have asked at the same time
			l.confirmed = asked
		}
		l.mu.Unlock()
		return nil
	case errors.As(err, &notFound), temporal.IsCanceledError(err),
		errors.Is(err, activity.ErrActivityPaused), errors.Is(err, activity.ErrActivityReset):
		// After a pause or a reset, which an operator asks for, Temporal waits for
		// this attempt to end.
		return l.end(fmt.Errorf("%w: %v", mesos.ErrLeaseLost, err))
	}
	return fmt.Errorf("leadership not confirmed: %w", err)
}

// Valid tells whether the lease was confirmed within its time-out. Go's clock
// goes on while a process is stopped, so a process that slept knows it.
func (l *lease) Valid() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended == nil && time.Since(l.confirmed) < l.timeout
}

// Lost is closed when Temporal has refused a heartbeat.
func (l *lease) Lost() <-chan struct{} { return l.lost }

func (l *lease) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

func (l *lease) end(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil {
		l.ended = err
		close(l.lost)
	}
	return l.ended
}

// keep heartbeats until ctx ends or the lease is lost.
func (l *lease) keep(ctx context.Context, silent func(error)) {
	tick := time.NewTicker(l.timeout / 4)
	defer tick.Stop()
	said := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.lost:
			return
		case <-tick.C:
		}
		err := l.Confirm(ctx)
		if err != nil && ctx.Err() == nil && !said {
			silent(err)
		}
		said = err != nil
	}
}
