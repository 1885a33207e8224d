package master

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli/apierrors"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master/calls"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

// rawStream is a subscription that is only read when the test says so.
type rawStream struct {
	resp        *http.Response
	in          *bufio.Reader
	frameworkID string
	streamID    string
}

func rawSubscribe(t *testing.T, m *Master, info *mesos.FrameworkInfo) *rawStream {
	t.Helper()
	body, err := json.Marshal(calls.Subscribe(info))
	if err != nil {
		t.Fatal(err)
	}
	resp := post(t, m.URL()+"/api/v1/scheduler", string(body), "Content-Type", mediaJSON, "Accept", mediaJSON)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != mediaJSON {
		t.Fatalf("SUBSCRIBE: %s %v", resp.Status, resp.Header)
	}
	s := &rawStream{resp: resp, in: bufio.NewReader(resp.Body), streamID: resp.Header.Get(headerStreamID)}
	s.frameworkID = s.next(t).Subscribed.FrameworkID.Value
	return s
}

func (s *rawStream) next(t *testing.T) *scheduler.Event {
	t.Helper()
	line, err := s.in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(s.in, data); err != nil {
		t.Fatal(err)
	}
	ev := &scheduler.Event{}
	if err := json.Unmarshal(data, ev); err != nil {
		t.Fatal(err)
	}
	return ev
}

// expectCut reads what is there and wants anything but a proper end.
func (s *rawStream) expectCut(t *testing.T) {
	t.Helper()
	if _, err := io.Copy(io.Discard, s.in); err == nil {
		t.Error("the stream ended in good order")
	}
}

func post(t *testing.T, url, body string, headers ...string) *http.Response {
	t.Helper()
	return do(t, http.MethodPost, url, body, headers...)
}

func do(t *testing.T, method, url, body string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestSchedulerErrors(t *testing.T) {
	m := startMaster(t, testConfig())
	s := rawSubscribe(t, m, mesostest.Framework())
	id := `"framework_id":{"value":"` + s.frameworkID + `"}`
	js := []string{"Content-Type", mediaJSON}
	withStream := append(js[:2:2], headerStreamID, s.streamID)
	subscribe := `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n"}}}`
	for _, c := range []struct {
		name, method, body string
		headers            []string
		status             int
		says               string
	}{
		{"GET", "GET", "", js, 405, "POST"},
		{"no content type", "POST", "{}", nil, 400, "Content-Type"},
		{"text", "POST", "{}", []string{"Content-Type", "text/plain"}, 415, "application/json"},
		{"not JSON", "POST", "{", js, 400, "JSON"},
		{"not an object", "POST", "[]", js, 400, "JSON"},
		{"not protobuf", "POST", "\xff\xff", []string{"Content-Type", mediaProtobuf}, 400, "protobuf"},
		{"no type", "POST", "{}", js, 400, "type"},
		{"unknown type", "POST", `{"type":"NONSENSE"}`, js, 400, ""},
		{"subscribe missing", "POST", `{"type":"SUBSCRIBE"}`, js, 400, "'subscribe'"},
		{"required field missing", "POST", `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"name":"n"}}}`, js, 400, "subscribe.framework_info.user"},
		{"IDs differ", "POST", `{"type":"SUBSCRIBE",` + id + `,"subscribe":{"framework_info":{"user":"u","name":"n"}}}`, js, 400, "framework_id"},
		{"accepts only XML", "POST", subscribe, append(js[:2:2], "Accept", "text/xml"), 406, "Accept"},
		{"SUBSCRIBE with stream", "POST", subscribe, withStream, 400, "Mesos-Stream-Id"},
		{"no framework ID", "POST", `{"type":"REVIVE"}`, js, 400, "framework_id"},
		{"unknown framework", "POST", `{"type":"REVIVE","framework_id":{"value":"nobody"}}`, js, 400, "Framework cannot be found"},
		{"no stream ID", "POST", `{"type":"REVIVE",` + id + `}`, js, 400, "Mesos-Stream-Id"},
		{"wrong stream ID", "POST", `{"type":"REVIVE",` + id + `}`, append(js[:2:2], headerStreamID, "x"), 400, "stream ID"},
		{"kill missing", "POST", `{"type":"KILL",` + id + `}`, withStream, 400, "'kill'"},
		{"task ID missing", "POST", `{"type":"KILL",` + id + `,"kill":{}}`, withStream, 400, "kill.task_id"},
		{"UUID malformed", "POST", `{"type":"ACKNOWLEDGE",` + id + `,"acknowledge":{"agent_id":{"value":"a"},"task_id":{"value":"t"},"uuid":"AAAA"}}`, withStream, 400, "UUID"},
		{"REVIVE", "POST", `{"type":"REVIVE",` + id + `}`, withStream, 202, ""},
		{"REQUEST", "POST", `{"type":"REQUEST",` + id + `,"request":{"requests":[]}}`, withStream, 202, ""},
		{"DECLINE_INVERSE_OFFERS", "POST", `{"type":"DECLINE_INVERSE_OFFERS",` + id + `,"decline_inverse_offers":{"inverse_offer_ids":[{"value":"x"}]}}`, withStream, 202, ""},
		{"MESSAGE to nobody", "POST", `{"type":"MESSAGE",` + id + `,"message":{"agent_id":{"value":"a"},"executor_id":{"value":"e"},"data":"eA=="}}`, withStream, 202, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp := do(t, c.method, m.URL()+"/api/v1/scheduler", c.body, c.headers...)
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status || !strings.Contains(string(body), c.says) {
				t.Errorf("%s %q, want %d and %q", resp.Status, body, c.status, c.says)
			}
		})
	}
}

func TestUpdateFrameworkCall(t *testing.T) {
	m := startMaster(t, testConfig())
	s := rawSubscribe(t, m, mesostest.Framework())
	send := func(change string) *http.Response {
		body := `{"type":"UPDATE_FRAMEWORK","framework_id":{"value":"` + s.frameworkID + `"},"update_framework":{"framework_info":{` +
			change + `"name":"n","checkpoint":true,"id":{"value":"` + s.frameworkID + `"}}}}`
		return post(t, m.URL()+"/api/v1/scheduler", body, "Content-Type", mediaJSON, headerStreamID, s.streamID)
	}
	if resp := send(`"user":"root",`); resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "" {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
	if resp := send(`"user":"other",`); resp.StatusCode != 400 {
		t.Errorf("a changed user: %s", resp.Status)
	}
}

// A client that goes away without a word counts as disconnected.
func TestCallAfterDisconnectIsForbidden(t *testing.T) {
	m := startMaster(t, testConfig())
	s := rawSubscribe(t, m, mesostest.Framework())
	s.resp.Body.Close()
	eventually(t, m, "disconnected", func() bool { return m.frameworks[s.frameworkID].stream == nil })
	resp := post(t, m.URL()+"/api/v1/scheduler", `{"type":"REVIVE","framework_id":{"value":"`+s.frameworkID+`"}}`,
		"Content-Type", mediaJSON, headerStreamID, s.streamID)
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("%s", resp.Status)
	}
}

func TestCredentials(t *testing.T) {
	cfg := testConfig()
	cfg.Credentials = map[string]string{"p": "secret", "q": "other"}
	m := startMaster(t, cfg)
	for _, auth := range [][2]string{{"", ""}, {"p", "wrong"}, {"nobody", "secret"}} {
		_, err := mesostest.Open(t.Context(), m.URL(), mesostest.Framework(), mesostest.Options{Principal: auth[0], Secret: auth[1]})
		if !apierrors.CodeNotAuthenticated.Matches(err) {
			t.Errorf("%v: %v", auth, err)
		}
	}
	resp := post(t, m.URL()+"/api/v1/scheduler", "")
	if got := resp.Header.Get("WWW-Authenticate"); got != `Basic realm="mesos-master-scheduler"` {
		t.Errorf("challenge %q", got)
	}
	info := mesostest.Framework()
	info.Principal = ptr("q")
	if _, err := mesostest.Open(t.Context(), m.URL(), info, mesostest.Options{Principal: "p", Secret: "secret"}); !apierrors.CodeMalformedRequest.Matches(err) {
		t.Errorf("another's principal: %v", err)
	}
	info.Principal = nil
	mesostest.Subscribe(t, m.URL(), info, mesostest.Options{Principal: "p", Secret: "secret"})
	got, err := mesostest.Operator(t.Context(), m.URL(), mesostest.Options{Principal: "q", Secret: "other"}, mastercalls.GetFrameworks())
	if err != nil {
		t.Fatal(err)
	}
	if p := got.GetFrameworks.Frameworks[0].FrameworkInfo.GetPrincipal(); p != "p" {
		t.Errorf("principal filled in: %q", p)
	}
}

func TestRecovering(t *testing.T) {
	load := make(chan struct{})
	cfg := testConfig()
	cfg.Registry = &Registry{store: store{
		load: func() ([]byte, error) { <-load; return nil, nil },
		save: func([]byte) error { return nil },
	}}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Stop()
	resp := post(t, m.URL()+"/api/v1/scheduler", "{}")
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusServiceUnavailable || string(body) != "Master has not finished recovery" {
		t.Errorf("%s %q", resp.Status, body)
	}
	close(load)
	waitReady(t, m)
	mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
}

// A master without its registry must not lead.
func TestDamagedRegistry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig()
	cfg.Registry = OpenRegistry(path)
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Stop()
	if resp := post(t, m.URL()+"/api/v1", "{}"); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%s", resp.Status)
	}
}

func TestStopIsAbruptAndRepeatable(t *testing.T) {
	m := startMaster(t, testConfig())
	s := rawSubscribe(t, m, mesostest.Framework())
	m.Stop()
	m.Stop()
	s.expectCut(t)
	if err := m.call(t.Context(), func() {}); !errors.Is(err, errStopped) {
		t.Errorf("call after Stop: %v", err)
	}
}
