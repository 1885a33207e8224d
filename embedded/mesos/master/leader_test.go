package master

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master/calls"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

// standby starts a master that does not lead; it answers before its election.
func standby(t *testing.T, cfg Config) *Master {
	t.Helper()
	cfg.Standby = true
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	return m
}

func serve(m *Master, method, path string) (status int, location string) {
	w := httptest.NewRecorder()
	m.handler().ServeHTTP(w, httptest.NewRequest(method, path, http.NoBody))
	return w.Code, w.Header().Get("Location")
}

func TestStandby(t *testing.T) {
	m := standby(t, testConfig())
	const leader = "//127.0.0.1:5999"
	for _, c := range []struct {
		method, path string
		location     string // what follows the leading master's address; "-": the standby answers itself
	}{
		{http.MethodPost, "/api/v1/scheduler", "/master/api/v1/scheduler"},
		{http.MethodPost, "/master/api/v1/scheduler", "/master/api/v1/scheduler"},
		{http.MethodPost, "/api/v1", "/master/api/v1"},
		{http.MethodGet, "/api/v1?a=b", "/master/api/v1?a=b"}, // before the method is looked at
		{http.MethodGet, "/redirect", ""},
		{http.MethodGet, "/master/redirect", ""},
		{http.MethodGet, "/health", "-"},
		{http.MethodGet, "/master/health", "-"},
		{http.MethodGet, "/version", "-"},
	} {
		wantAlone, wantLed, wantLocation := http.StatusServiceUnavailable, http.StatusTemporaryRedirect, leader+c.location
		if c.location == "-" {
			wantAlone, wantLed, wantLocation = http.StatusOK, http.StatusOK, ""
		}
		m.Follow("")
		if status, location := serve(m, c.method, c.path); status != wantAlone || location != "" {
			t.Errorf("%s without a leader: %d to %q, want %d", c.path, status, location, wantAlone)
		}
		m.Follow("http:" + leader)
		if status, location := serve(m, c.method, c.path); status != wantLed || location != wantLocation {
			t.Errorf("%s: %d to %q, want %d to %q", c.path, status, location, wantLed, wantLocation)
		}
	}
}

func TestElection(t *testing.T) {
	m := standby(t, testConfig())
	m.Elect()
	m.Elect()
	m.Follow("http://127.0.0.1:5999")
	waitReady(t, m)
	mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	resp, err := mesostest.Operator(t.Context(), m.URL(), mesostest.Options{}, mastercalls.GetMaster())
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.GetMaster; got.GetElectedTime() < got.GetStartTime() || got.MasterInfo.ID != m.ID() {
		t.Errorf("%v", got)
	}
	if status, location := serve(m, http.MethodGet, "/redirect"); status != http.StatusTemporaryRedirect || "http:"+location != m.URL() {
		t.Errorf("/redirect of the leading master: %d to %q", status, location)
	}
}

// Of two masters that both believe that they lead, the one elected last holds the
// registry, and the other ends when it learns of that.
func TestDemotedMasterEnds(t *testing.T) {
	cfg := testConfig()
	cfg.Registry = OpenRegistry(filepath.Join(t.TempDir(), "registry"))
	first := startMaster(t, cfg)
	s := rawSubscribe(t, first, mesostest.Framework())
	second := startMaster(t, cfg)
	a := addAgent(t, second, "host1")
	first.Register(a, a.info) // refused: nothing answers
	s.expectCut(t)
	first.Stop() // waits for the end that it brings on itself
	if err := first.registry.admit(a.info); !errors.Is(err, ErrDemoted) {
		t.Errorf("%v", err)
	}
	third := startMaster(t, cfg)
	if got := len(third.recoveredAgents); got != 1 {
		t.Errorf("%d agents in the registry, want the one of the second master", got)
	}
}

func TestStandbyStops(t *testing.T) {
	m := standby(t, testConfig())
	m.Stop()
	m.Elect()
	if err := m.call(t.Context(), func() {}); !errors.Is(err, errStopped) {
		t.Errorf("call after Stop: %v", err)
	}
}
