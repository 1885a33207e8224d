// Package mesostest holds a small scheduler, on mesos-go's own client, that
// tests of any v1 Mesos master drive by hand: it records every event and leaves
// each answer, also each acknowledgement, to the test.
package mesostest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/encoding"
	"github.com/mesos/mesos-go/api/v1/lib/encoding/codecs"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli/httpmaster"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli/httpsched"
	"github.com/mesos/mesos-go/api/v1/lib/master"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master/calls"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"
)

// Patience is how long Await waits.
const Patience = time.Minute

// Session is one subscription of a framework.
type Session struct {
	FrameworkID string

	streamID string
	caller   calls.Caller
	cancel   context.CancelFunc
	done     chan struct{}

	mu      sync.Mutex
	events  []*scheduler.Event // those that no Await has taken
	err     error
	changed chan struct{}
}

// Options of a session; the zero value is protobuf without credentials.
type Options struct {
	JSON              bool
	Principal, Secret string
}

// Framework describes a framework with the capabilities that BAAS uses.
func Framework(roles ...string) *mesos.FrameworkInfo {
	if len(roles) == 0 {
		roles = []string{mesos.DefaultRole}
	}
	return &mesos.FrameworkInfo{
		User: "root", Name: "test", Roles: roles,
		FailoverTimeout: ptr(60.0), Checkpoint: ptr(true),
		Capabilities: []mesos.FrameworkInfo_Capability{
			{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE},
			{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE},
			{Type: mesos.FrameworkInfo_Capability_TASK_KILLING_STATE},
			{Type: mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT},
		},
	}
}

// StreamID is the Mesos-Stream-Id of the subscription.
func (s *Session) StreamID() string { return s.streamID }

func client(url string, o Options, wrap func(http.RoundTripper) http.RoundTripper) *httpcli.Client {
	codec := codecs.ByMediaType[codecs.MediaTypeProtobuf]
	if o.JSON {
		codec = codecs.ByMediaType[codecs.MediaTypeJSON]
	}
	config := []httpcli.ConfigOpt{httpcli.Timeout(0), httpcli.WrapRoundTripper(wrap)}
	if o.Principal != "" {
		config = append(config, httpcli.BasicAuth(o.Principal, o.Secret))
	}
	return httpcli.New(httpcli.Endpoint(url), httpcli.Codec(codec), httpcli.Do(httpcli.With(config...)))
}

// Open subscribes and returns once the stream stands; the SUBSCRIBED event is
// for the test to await. The caller must Close it.
func Open(ctx context.Context, url string, info *mesos.FrameworkInfo, o Options) (*Session, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &Session{cancel: cancel, done: make(chan struct{}), changed: make(chan struct{})}
	wrap := func(rt http.RoundTripper) http.RoundTripper {
		return &streamIDReader{RoundTripper: rt, to: &s.streamID}
	}
	s.caller = httpsched.NewCaller(client(url+"/api/v1/scheduler", o, wrap), httpsched.EndpointCandidates(func() string { return "" }))
	s.FrameworkID = info.GetID().GetValue()
	call := calls.Subscribe(info)
	if s.FrameworkID != "" {
		call = call.With(calls.SubscribeTo(s.FrameworkID))
	}
	resp, err := s.caller.Call(ctx, call)
	if err != nil {
		cancel()
		return nil, err
	}
	go s.read(resp)
	return s, nil
}

// streamIDReader notes the stream ID; only the answer to SUBSCRIBE has one.
type streamIDReader struct {
	http.RoundTripper
	to *string
}

func (r *streamIDReader) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.RoundTripper.RoundTrip(req)
	if err == nil && resp.Header.Get("Mesos-Stream-Id") != "" {
		*r.to = resp.Header.Get("Mesos-Stream-Id")
	}
	return resp, err
}

func (s *Session) read(resp mesos.Response) {
	defer close(s.done)
	defer resp.Close()
	for {
		ev := &scheduler.Event{}
		err := resp.Decode(encoding.Unmarshaler(ev))
		s.mu.Lock()
		if err != nil {
			s.err = err
		} else {
			s.events = append(s.events, ev)
		}
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Close cuts the connection without a word.
func (s *Session) Close() {
	s.cancel()
	<-s.done
}

// Call sends a call for the session's framework and closes the answer.
func (s *Session) Call(ctx context.Context, call *scheduler.Call) error {
	resp, err := s.caller.Call(ctx, call.With(calls.Framework(s.FrameworkID)))
	if resp != nil {
		resp.Close()
	}
	return err
}

// Must sends a call that has to be accepted.
func (s *Session) Must(t testing.TB, call *scheduler.Call) {
	t.Helper()
	if err := s.Call(t.Context(), call); err != nil {
		t.Fatalf("%s: %v", call.Type, err)
	}
}

// Await takes the first event that matches, past or to come, and fails the test
// if none comes.
func (s *Session) Await(t testing.TB, what string, match func(*scheduler.Event) bool) *scheduler.Event {
	t.Helper()
	ev, err := s.AwaitFor(Patience, match)
	if err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
	return ev
}

// ErrNoEvent tells that no event that matches has come in time.
var ErrNoEvent = errors.New("no such event")

// AwaitFor takes the first event that matches, past or to come. Errors:
// ErrNoEvent, and that with which the stream ended.
func (s *Session) AwaitFor(patience time.Duration, match func(*scheduler.Event) bool) (*scheduler.Event, error) {
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		for i, ev := range s.events {
			if match(ev) {
				s.events = append(s.events[:i:i], s.events[i+1:]...)
				s.mu.Unlock()
				return ev, nil
			}
		}
		changed, ended, seen := s.changed, s.err, describe(s.events)
		s.mu.Unlock()
		if ended != nil {
			return nil, fmt.Errorf("the stream ended (%w); events: %s", ended, seen)
		}
		select {
		case <-changed:
		case <-deadline:
			return nil, fmt.Errorf("%w in %s; events: %s", ErrNoEvent, patience, seen)
		}
	}
}

// Pending tells how many events that match have come and were not taken.
func (s *Session) Pending(match func(*scheduler.Event) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, ev := range s.events {
		if match(ev) {
			n++
		}
	}
	return n
}

// Ended waits for the end of the stream.
func (s *Session) Ended(t testing.TB) error {
	t.Helper()
	select {
	case <-s.done:
		return s.err
	case <-time.After(Patience):
		t.Fatalf("the stream has not ended in %s", Patience)
		return nil
	}
}

func describe(events []*scheduler.Event) string {
	out := ""
	for _, ev := range events {
		out += " " + ev.Type.String()
		if st := ev.GetUpdate(); st != nil {
			out += fmt.Sprintf("(%s %s %q)", st.Status.TaskID.Value, st.Status.GetState(), st.Status.GetMessage())
		}
		if e := ev.GetError(); e != nil {
			out += fmt.Sprintf("(%q)", e.Message)
		}
	}
	if out == "" {
		return "none"
	}
	return out[1:]
}

// Operator sends a call of the operator API.
func Operator(ctx context.Context, url string, o Options, call *master.Call) (*master.Response, error) {
	send := httpmaster.NewSender(client(url+"/api/v1", o, nil).Send)
	resp, err := send.Send(ctx, mastercalls.NonStreaming(call))
	if err != nil {
		return nil, err
	}
	defer resp.Close()
	out := &master.Response{}
	if err := resp.Decode(out); err != nil {
		return nil, errors.Join(errors.New("decode"), err)
	}
	return out, nil
}

func ptr[T any](v T) *T { return &v }
