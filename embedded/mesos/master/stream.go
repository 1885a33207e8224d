package master

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"github.com/baas-batch/baas/embedded/mesos/link"
)

// stream is one subscription: events queue here and the goroutine of its HTTP
// request writes them as RecordIO. A subscriber that lets more than limit bytes
// pile up is cut off, so that it can never hold the master up.
type stream struct {
	id       string
	json     bool
	limit    int
	deadline time.Duration // for one batch
	onEvent  func(mesos.FrameworkID, *scheduler.Event) link.Fate

	mu       sync.Mutex
	queue    []*scheduler.Event
	size     int
	finished bool // no event comes after those in the queue
	cut      bool // nothing more is written
	wake     chan struct{}
	rc       *http.ResponseController
}

func (m *Master) newStream(asJSON bool) *stream {
	return &stream{
		id:       uuid.NewString(),
		json:     asJSON,
		limit:    m.cfg.MaxStreamBacklog,
		deadline: m.cfg.SubscriberWriteDeadline,
		onEvent:  m.cfg.OnEvent,
		wake:     make(chan struct{}, 1),
	}
}

// deliver sends an event unless a test decides otherwise.
func (s *stream) deliver(framework string, ev *scheduler.Event) {
	if s.onEvent == nil {
		s.send(ev)
		return
	}
	s.onEvent(mesos.FrameworkID{Value: framework}, ev).Deliver(func() { s.send(ev) })
}

// send queues an event, which nobody may change from then on. It reports false
// if the stream has ended or has just been cut because its client does not read.
func (s *stream) send(ev *scheduler.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finished || s.cut {
		return false
	}
	s.queue = append(s.queue, ev)
	s.size += ev.Size()
	if s.size > s.limit {
		s.cutLocked()
		return false
	}
	s.signal()
	return true
}

// finish lets the stream end once its queue is written.
func (s *stream) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = true
	s.signal()
}

func (s *stream) cutLocked() {
	s.cut, s.queue, s.size = true, nil, 0
	if s.rc != nil {
		_ = s.rc.SetWriteDeadline(time.Now()) // ends a write that is stuck
	}
	s.signal()
}

func (s *stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// next takes the queued events; more is false when none can follow them.
func (s *stream) next() (events []*scheduler.Event, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return nil, false
	}
	events, s.queue, s.size = s.queue, nil, 0
	if len(events) > 0 || s.finished {
		_ = s.rc.SetWriteDeadline(time.Now().Add(s.deadline))
	}
	return events, !s.finished
}

// run writes the events until the stream is finished (nil), or the client, the
// context or a cut ends it.
func (s *stream) run(ctx context.Context, w http.ResponseWriter, heartbeat time.Duration) error {
	s.mu.Lock()
	s.rc = http.NewResponseController(w)
	s.mu.Unlock()
	if err := s.rc.Flush(); err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		events, more := s.next()
		if err := s.write(out, events); err != nil {
			return err
		}
		if !more {
			return s.ending()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		case <-ticker.C:
			s.send(heartbeatEvent)
		}
	}
}

func (s *stream) ending() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return errSlowSubscriber
	}
	return nil
}

func (s *stream) write(out *bufio.Writer, events []*scheduler.Event) error {
	if len(events) == 0 {
		return nil
	}
	for _, ev := range events {
		data, err := s.encode(ev)
		if err != nil {
			return err
		}
		out.WriteString(strconv.Itoa(len(data)))
		out.WriteByte('\n')
		if _, err := out.Write(data); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return s.rc.Flush()
}

func (s *stream) encode(ev *scheduler.Event) ([]byte, error) {
	if s.json {
		return json.Marshal(ev)
	}
	return ev.Marshal()
}

var heartbeatEvent = &scheduler.Event{Type: scheduler.Event_HEARTBEAT}

func errorEvent(message string) *scheduler.Event {
	return &scheduler.Event{Type: scheduler.Event_ERROR, Error: &scheduler.Event_Error{Message: message}}
}
