package conformance

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

// post asks the leading master as somebody, or with nil as nobody.
func post(t *testing.T, path, body string, as func(*http.Request)) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaJSON)
	if as != nil {
		as(req)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

// Who has no credential, or a wrong one, gets a 401 that names the realm.
func TestCredentials(t *testing.T) {
	if target.options.Principal == "" {
		t.Skip("BAAS_TEST_MESOS_CREDENTIALS is not set")
	}
	const subscribe = `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n","roles":["*"],"capabilities":[{"type":"MULTI_ROLE"}]}}}`
	for name, as := range map[string]func(*http.Request){
		"none":         nil,
		"wrong secret": func(r *http.Request) { r.SetBasicAuth(target.options.Principal, target.options.Secret+"x") },
		"no secret":    func(r *http.Request) { r.SetBasicAuth(target.options.Principal, "") },
		"stranger":     func(r *http.Request) { r.SetBasicAuth(target.options.Principal+"x", target.options.Secret) },
		"no scheme":    func(r *http.Request) { r.Header.Set("Authorization", target.options.Principal) },
	} {
		resp := post(t, "/api/v1/scheduler", subscribe, as)
		if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized || got != `Basic realm="mesos-master-scheduler"` {
			t.Errorf("%s: SUBSCRIBE: %s, WWW-Authenticate %q", name, resp.Status, got)
		}
	}
}

// A framework's principal is the one of its credential: another is refused, and none
// is filled in.
func TestPrincipal(t *testing.T) {
	if target.options.Principal == "" {
		t.Skip("BAAS_TEST_MESOS_CREDENTIALS is not set")
	}
	info := framework(t)
	other := target.options.Principal + "x"
	info.Principal = &other
	if s, err := mesostest.Open(t.Context(), target.url, info, target.options); err == nil {
		s.Close()
		t.Error("a framework of another principal is let in")
	}
	info = framework(t)
	info.Principal = nil
	s := open(t, info)
	s.FrameworkID = s.Await(t, "SUBSCRIBED", mesostest.Type(scheduler.Event_SUBSCRIBED)).Subscribed.FrameworkID.Value
	if err := s.Call(context.WithoutCancel(t.Context()), &scheduler.Call{Type: scheduler.Call_TEARDOWN}); err != nil {
		t.Error(err)
	}
}
