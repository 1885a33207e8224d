package s3

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage/storagetest"
)

// fake opens a store whose server is a handler.
func fake(t *testing.T, h http.HandlerFunc, connections func(net.Conn, http.ConnState)) *Store {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ConnState = connections
	server.Start()
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	return storagetest.Open(t, "s3://bucket?path_style=true&endpoint="+server.URL).(*Store)
}

// A refusal that has nothing to do with the clocks is told as such, at once.
func TestRefusalWithSkew(t *testing.T) {
	var calls atomic.Int64
	s := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("Date", time.Now().Add(20*time.Minute).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusForbidden)
	}, nil)
	for range 2 {
		before := calls.Load()
		_, err := s.Stat(t.Context(), "key")
		if err == nil || strings.Contains(err.Error(), "clock") || !strings.Contains(err.Error(), hints["Forbidden"]) {
			t.Errorf("Stat: %v", err)
		}
		if made := calls.Load() - before; made > 2 {
			t.Errorf("%d calls, want one by our clock and one by the server's", made)
		}
	}
	if calls.Load() < 3 {
		t.Errorf("%d calls: the first one was not repeated by the server's clock", calls.Load())
	}
}

// What the SDK would do with a client of its own kind for AWS_DEFAULTS_MODE.
func TestConnections(t *testing.T) {
	t.Setenv("AWS_DEFAULTS_MODE", "standard")
	opened, closed := make(chan net.Conn, 10), make(chan net.Conn, 10)
	s := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
	}, func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			opened <- c
		case http.StateClosed:
			closed <- c
		}
	})
	used, ok := s.client.Options().HTTPClient.(watched)
	if !ok || used.HTTPClient != s.http {
		t.Fatalf("calls go by %#v", s.client.Options().HTTPClient)
	}
	transport := s.http.Transport.(*http.Transport)
	conn, err := transport.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.o.Endpoint, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%T", conn); got != "*remote.stallConn" {
		t.Errorf("connections are %s: they do not end when they stand still", got)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	<-opened
	<-closed
	if _, err := s.Stat(t.Context(), "key"); err == nil {
		t.Error("Stat found something")
	}
	<-opened
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("Close has left the connection open")
	}
}
