package conformance

import (
	"io"
	"net/http"
	"strings"
	"testing"

	api "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

// to sends a request to a master, and follows no redirect.
func to(t *testing.T, base, method, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(`{"type":"GET_HEALTH"}`))
	if err != nil {
		t.Fatal(err)
	}
	authorise(req)
	req.Header.Set("Content-Type", mediaJSON)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp
}

// redirects wants a 307 to the leading master; its host may have another name
// there than here.
func redirects(t *testing.T, base, method, path, wantPath string) {
	t.Helper()
	resp := to(t, base, method, path)
	location := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusTemporaryRedirect || !strings.HasPrefix(location, "//") {
		t.Errorf("%s%s: %s to %q", base, path, resp.Status, location)
		return
	}
	u, err := resp.Location()
	if err != nil || u.Path != wantPath {
		t.Errorf("%s%s: to %q, want the path %q", base, path, location, wantPath)
	}
}

// What is for the leading master, a standby redirects to it; whether it is healthy,
// and which version it has, it tells itself.
func TestStandbyRedirects(t *testing.T) {
	standbys := 0
	for _, base := range target.masters {
		leading, err := askLeader(base)
		if err != nil {
			t.Fatal(err)
		}
		if leading == base {
			continue
		}
		standbys++
		redirects(t, base, http.MethodPost, "/api/v1/scheduler", "/master/api/v1/scheduler")
		redirects(t, base, http.MethodPost, "/api/v1", "/master/api/v1")
		redirects(t, base, http.MethodGet, "/redirect", "")
		for _, path := range []string{"/health", "/version"} {
			if resp := to(t, base, http.MethodGet, path); resp.StatusCode != http.StatusOK {
				t.Errorf("%s%s: %s", base, path, resp.Status)
			}
		}
	}
	if standbys == 0 {
		t.Skip("BAAS_TEST_MESOS names no standby")
	}
}

// The leading master dies and a standby takes over: tasks live on, streams end and
// their IDs are worth nothing, and the framework is known from its agents.
func TestMasterFailover(t *testing.T) {
	if target.cluster == nil {
		t.Skip("killing the leading master needs the hooks of the embedded cluster")
	}
	info := framework(t)
	s := subscribe(t, info)
	at := launch(t, s, "t1").AgentID
	dead := target.cluster.Leader()
	if err := target.cluster.FailoverMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	target.url = target.cluster.MasterURL()
	s.Ended(t)
	oldStream := s.StreamID()
	s = subscribe(t, info)
	if s.StreamID() == oldStream {
		t.Error("the new leader gave the old stream ID")
	}
	resp := request(t, http.MethodPost, "/api/v1/scheduler", `{"type":"REVIVE","framework_id":{"value":"`+s.FrameworkID+`"}}`,
		map[string]string{"Content-Type": mediaJSON, "Mesos-Stream-Id": oldStream})
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a call with the old stream ID: %s", resp.Status)
	}
	if err := target.cluster.AwaitAgents(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"t1": at.Value, "never": at.Value})))
	s.AwaitStatus(t, "t1", api.TASK_RUNNING)
	s.AwaitStatus(t, "never", api.TASK_GONE)
	s.Must(t, calls.Kill("t1", ""))
	s.Acknowledge(t, s.AwaitStatus(t, "t1", api.TASK_KILLED))

	if err := target.cluster.ReviveMaster(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	redirects(t, target.masters[dead], http.MethodPost, "/api/v1/scheduler", "/master/api/v1/scheduler")
	if n := s.Pending(mesostest.Type(scheduler.Event_FAILURE)); n > 0 {
		t.Error("the failover was announced as a failure")
	}
}
