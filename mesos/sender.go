package mesos

import (
	"context"
	"errors"
	"sync"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

// errSessionEnded is the result of a call that was never sent.
var errSessionEnded = errors.New("the subscription has ended")

// sender makes the calls of one subscription, one after the other in the order in
// which they were queued, so that nobody waits for HTTP.
type sender struct {
	send func(context.Context, *scheduler.Call) error

	mu     sync.Mutex
	queue  []queuedCall
	closed bool
	wake   chan struct{}
}

type queuedCall struct {
	call *scheduler.Call
	done func(error) // may be nil
}

func newSender(send func(context.Context, *scheduler.Call) error) *sender {
	return &sender{send: send, wake: make(chan struct{}, 1)}
}

// enqueue never blocks. done is called exactly once, without any lock held, and
// not before enqueue has returned.
func (s *sender) enqueue(call *scheduler.Call, done func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		if done != nil {
			go done(errSessionEnded)
		}
		return
	}
	s.queue = append(s.queue, queuedCall{call, done})
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run sends until ctx ends; what is queued then is answered with errSessionEnded.
func (s *sender) run(ctx context.Context) {
	var batch []queuedCall
	defer func() {
		s.mu.Lock()
		s.closed = true
		batch = append(batch, s.queue...)
		s.queue = nil
		s.mu.Unlock()
		for _, c := range batch {
			c.finish(errSessionEnded)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		s.mu.Lock()
		batch, s.queue = s.queue, nil
		s.mu.Unlock()
		for len(batch) > 0 {
			if ctx.Err() != nil {
				return
			}
			c := batch[0]
			batch = batch[1:]
			c.finish(s.send(ctx, c.call))
		}
	}
}

func (c queuedCall) finish(err error) {
	if c.done != nil {
		c.done(err)
	}
}
