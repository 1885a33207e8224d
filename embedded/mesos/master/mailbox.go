package master

import "sync"

// mailbox is an unbounded queue of work for one goroutine. Posting never waits,
// which package link asks for.
type mailbox struct {
	mu     sync.Mutex
	queue  []func()
	wake   chan struct{}
	closed bool
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// post queues fn and reports whether the mailbox was still open.
func (b *mailbox) post(fn func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.queue = append(b.queue, fn)
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return true
}

func (b *mailbox) take() []func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	work := b.queue
	b.queue = nil
	return work
}

// close drops what is queued; later posts are refused.
func (b *mailbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.queue = true, nil
}
