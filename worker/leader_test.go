package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/baas-batch/baas/activities"
	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
)

// heartbeatClient is a Temporal client that can do nothing but heartbeat.
type heartbeatClient struct {
	client.Client
	answer func() error
}

func (c heartbeatClient) RecordActivityHeartbeat(context.Context, []byte, ...any) error {
	return c.answer()
}

func accept() error { return nil }
func refuse() error { return serviceerror.NewNotFound("activity already timed out") }

// master is a Mesos master that answers SUBSCRIBE as it is told, and counts.
type master struct {
	*httptest.Server
	subscribed atomic.Int32
	asked      chan struct{}
}

func newMaster(t *testing.T, subscribe http.HandlerFunc) *master {
	m := &master{asked: make(chan struct{}, 16)}
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v1", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not for you", http.StatusForbidden) })
	mux.HandleFunc("/api/v1/scheduler", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server would not notice a client that goes
		m.subscribed.Add(1)
		m.asked <- struct{}{}
		subscribe(w, r)
	})
	m.Server = httptest.NewServer(mux)
	t.Cleanup(m.Close)
	return m
}

// removed is the answer to a framework that failed over too late.
func removed(w http.ResponseWriter, _ *http.Request) {
	event, err := (&scheduler.Event{
		Type:  scheduler.Event_ERROR,
		Error: &scheduler.Event_Error{Message: "Framework has been removed"},
	}).Marshal()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Header().Set("Mesos-Stream-Id", "1")
	fmt.Fprintf(w, "%d\n%s", len(event), event)
}

func testLeader(c client.Client, masters ...string) *leader {
	return newLeader(Config{
		Client: c, Framework: "test", Identity: "tester", Logger: slog.New(slog.DiscardHandler), StopTimeout: time.Second,
		Mesos: mesos.Config{Masters: masters, ExecutorURI: "http://127.0.0.1:1/executor"},
	})
}

// lead runs the leadership activity to its end.
func lead(t *testing.T, l *leader) (result api.LeadResult, err error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.SetTestTimeout(30 * time.Second)
	env.RegisterActivity(l.LeadFramework)
	value, err := env.ExecuteActivity(l.LeadFramework, api.LeadInput{Framework: "test", FrameworkID: "f"})
	if err == nil {
		err = value.Get(&result)
	}
	if l.leading() {
		t.Error("leads after the end")
	}
	return result, err
}

func handedOver(t *testing.T, err error) {
	t.Helper()
	var failure *temporal.ApplicationError
	if !errors.As(err, &failure) || failure.Type() != "LeadershipEnded" || failure.NonRetryable() || failure.NextRetryDelay() > time.Second {
		t.Errorf("the next worker does not lead at once: %v", err)
	}
}

func TestNothingIsSubscribedWithoutTheLease(t *testing.T) {
	m := newMaster(t, removed)
	_, err := lead(t, testLeader(heartbeatClient{answer: refuse}, m.URL))
	handedOver(t, err)
	if n := m.subscribed.Load(); n != 0 {
		t.Errorf("%d subscriptions", n)
	}
}

func TestRemovedFrameworkEndsTheLeadershipWithAResult(t *testing.T) {
	m := newMaster(t, removed)
	result, err := lead(t, testLeader(heartbeatClient{answer: accept}, m.URL))
	if err != nil || !result.Removed || result.Reason == "" {
		t.Errorf("result %+v, error %v", result, err)
	}
}

func TestRefusedFrameworkIsAnError(t *testing.T) {
	m := newMaster(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such role", http.StatusBadRequest) })
	result, err := lead(t, testLeader(heartbeatClient{answer: accept}, m.URL))
	if err == nil || result.Removed {
		t.Errorf("result %+v, error %v", result, err)
	}
}

// Temporal tries a refused framework again and again: it is said once.
func TestRefusalIsSaidOnce(t *testing.T) {
	m := newMaster(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusUnauthorized) })
	l := testLeader(heartbeatClient{answer: accept}, m.URL)
	var logged bytes.Buffer
	l.log = slog.New(slog.NewTextHandler(&logged, nil))
	for range 3 {
		_, err := lead(t, l)
		var failure *temporal.ApplicationError
		if !errors.As(err, &failure) || failure.NextRetryDelay() != refusedPause || failure.NonRetryable() {
			t.Errorf("the next try comes otherwise: %v", err)
		}
	}
	if n := m.subscribed.Load(); n != 3 {
		t.Errorf("%d subscriptions", n)
	}
	if n := strings.Count(logged.String(), "level=ERROR"); n != 1 || !strings.Contains(logged.String(), "without credentials") {
		t.Errorf("said %d times:\n%s", n, logged.String())
	}
}

func TestResignedLeader(t *testing.T) {
	t.Run("in its term", func(t *testing.T) {
		m := newMaster(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		l := testLeader(heartbeatClient{answer: accept}, m.URL)
		go func() {
			<-m.asked
			if l.leading() {
				t.Error("leads before it has subscribed")
			}
			l.resign()
			l.resign()
		}()
		_, err := lead(t, l)
		handedOver(t, err)
	})
	t.Run("does not begin another", func(t *testing.T) {
		m := newMaster(t, removed)
		l := testLeader(heartbeatClient{answer: accept}, m.URL)
		l.resign()
		_, err := lead(t, l)
		handedOver(t, err)
		if n := m.subscribed.Load(); n != 0 {
			t.Errorf("%d subscriptions", n)
		}
	})
}

func TestLeadingNeedsSubscriptionAndLease(t *testing.T) {
	l := testLeader(nil)
	if l.leading() {
		t.Error("leads without a term")
	}
	handoff := activities.New(activities.Config{})
	defer handoff.Close()
	lease := newLease(inTurn(refuse()), nil, time.Hour, nil)
	l.term = &term{lease: lease, handoff: handoff}
	if l.leading() {
		t.Error("leads before it has subscribed")
	}
	handoff.Subscribed(mesos.Subscription{})
	if !l.leading() {
		t.Error("does not lead with subscription and lease")
	}
	if err := lease.Confirm(t.Context()); !errors.Is(err, mesos.ErrLeaseLost) {
		t.Fatal(err)
	}
	if l.leading() {
		t.Error("leads without the lease")
	}
}
