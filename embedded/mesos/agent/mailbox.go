package agent

import (
	"sync"
	"time"
)

// mailbox runs functions one after the other, in the order they came. All of an
// agent's state belongs to whoever runs in it, so that state needs no locks.
type mailbox struct {
	mu     sync.Mutex
	queue  []func()
	closed bool
	wake   chan struct{}
	done   chan struct{} // closed when nothing runs any more
}

func newMailbox() *mailbox {
	m := &mailbox{wake: make(chan struct{}, 1), done: make(chan struct{})}
	go m.run()
	return m
}

// post queues f and returns at once. After close it is dropped.
func (m *mailbox) post(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.queue = append(m.queue, f)
	m.signal()
}

func (m *mailbox) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// call runs f and waits for it; false when the mailbox closed before it ran.
func (m *mailbox) call(f func()) bool {
	ran := make(chan struct{})
	m.post(func() { f(); close(ran) })
	select {
	case <-ran:
		return true
	case <-m.done:
		select {
		case <-ran:
			return true
		default:
			return false
		}
	}
}

// after posts f when the time has passed.
func (m *mailbox) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { m.post(f) })
}

// close drops what is queued and waits for what runs. Not to be called from
// within.
func (m *mailbox) close() {
	m.mu.Lock()
	m.closed, m.queue = true, nil
	m.signal()
	m.mu.Unlock()
	<-m.done
}

func (m *mailbox) run() {
	defer close(m.done)
	for range m.wake {
		for {
			m.mu.Lock()
			if m.closed {
				m.mu.Unlock()
				return
			}
			if len(m.queue) == 0 {
				m.mu.Unlock()
				break
			}
			next := m.queue[0]
			m.queue[0] = nil
			m.queue = m.queue[1:]
			m.mu.Unlock()
			next()
		}
	}
}
