package fault

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

// crashTransport makes points of the framework's calls and of the events that it
// reads.
type crashTransport struct {
	next    http.RoundTripper
	crasher *crasher
}

func (t *crashTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/scheduler") {
		return t.next.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil {
		return nil, err
	}
	var call scheduler.Call
	if err := call.Unmarshal(body); err != nil {
		return nil, fmt.Errorf("call to Mesos: %w", err)
	}
	subject := t.crasher.callSubject(&call)
	t.crasher.pass(CrashPoint("before " + subject))
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	resp, err := t.next.RoundTrip(r)
	if err != nil || resp.StatusCode > http.StatusAccepted {
		return resp, err
	}
	t.crasher.pass(CrashPoint("after " + subject))
	if call.Type == scheduler.Call_SUBSCRIBE {
		resp.Body = &crashStream{Closer: resp.Body, in: bufio.NewReader(resp.Body), crasher: t.crasher}
	}
	return resp, nil
}

// callSubject names a call: its type, and what of it matters to the hand-off.
func (c *crasher) callSubject(call *scheduler.Call) string {
	switch {
	case call.Acknowledge != nil:
		c.mu.Lock()
		defer c.mu.Unlock()
		return "ACKNOWLEDGE of " + c.updates[string(call.Acknowledge.UUID)]
	case call.Reconcile != nil && len(call.Reconcile.Tasks) > 0:
		return "RECONCILE of tasks"
	}
	return call.Type.String()
}

// eventSubject names an event.
func (c *crasher) eventSubject(record []byte) (string, error) {
	var event scheduler.Event
	if err := event.Unmarshal(record); err != nil {
		return "", fmt.Errorf("event of Mesos: %w", err)
	}
	if event.Update == nil {
		return event.Type.String(), nil
	}
	status := event.Update.Status
	of := "an end"
	switch {
	case len(status.UUID) == 0:
		return "UPDATE as an answer", nil
	case live(status.GetState()) && bytes.Contains(status.Data, []byte(`"segment":{`)):
		of = "a segment"
	case live(status.GetState()):
		of = "a start"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.updates[string(status.UUID)] = of
	return "UPDATE of " + of, nil
}

func live(state mesos.TaskState) bool {
	switch state {
	case mesos.TASK_STAGING, mesos.TASK_STARTING, mesos.TASK_RUNNING, mesos.TASK_KILLING, mesos.TASK_UNREACHABLE:
		return true
	}
	return false
}

// crashStream hands events out one at a time, so that it knows when the reader is
// done with one: when it asks for more.
type crashStream struct {
	io.Closer
	in      *bufio.Reader
	crasher *crasher

	out     []byte // of the event that is being handed out
	subject string
}

func (s *crashStream) Read(p []byte) (int, error) {
	if len(s.out) == 0 {
		if s.subject != "" {
			s.crasher.pass(CrashPoint("handled " + s.subject))
			s.subject = ""
		}
		if err := s.fetch(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

// fetch reads one record: its length in decimal, a line feed, and the bytes.
func (s *crashStream) fetch() error {
	line, err := s.in.ReadString('\n')
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return fmt.Errorf("length of an event: %w", err)
	}
	record := make([]byte, n)
	if _, err := io.ReadFull(s.in, record); err != nil {
		return err
	}
	if s.subject, err = s.crasher.eventSubject(record); err != nil {
		return err
	}
	s.crasher.pass(CrashPoint("read " + s.subject))
	s.out = append([]byte(line), record...)
	return nil
}
