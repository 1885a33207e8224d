package agent

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"

	"github.com/mesos/mesos-go/api/v1/lib/encoding"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/recordio"
)

// eventStream queues events for one connection of an executor, so that the agent
// never waits for it.
type eventStream struct {
	json bool

	mu     sync.Mutex
	queue  bytes.Buffer
	closed bool
	wake   chan struct{}
}

func newEventStream(json bool) *eventStream {
	return &eventStream{json: json, wake: make(chan struct{}, 1)}
}

func marshal(m encoding.Marshaler, json bool) ([]byte, error) {
	if json {
		return m.MarshalJSON()
	}
	return m.Marshal()
}

// send queues an event; after close it is lost.
func (s *eventStream) send(event *executor.Event) error {
	data, err := marshal(event, s.json)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	defer s.signal()
	return recordio.NewWriter(&s.queue).WriteFrame(data)
}

// close ends the connection when what is queued has been written.
func (s *eventStream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.signal()
}

func (s *eventStream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// pump writes events until the stream is closed or the connection breaks.
func (s *eventStream) pump(ctx context.Context, w io.Writer, flush http.Flusher) {
	for {
		s.mu.Lock()
		data := s.queue.Bytes()
		s.queue = bytes.Buffer{} // data is ours now
		closed := s.closed
		s.mu.Unlock()
		if len(data) > 0 {
			if _, err := w.Write(data); err != nil {
				return
			}
			flush.Flush()
			continue
		}
		if closed {
			return
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
	}
}
