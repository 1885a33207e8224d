package conformance

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"
)

const (
	mediaJSON     = "application/json"
	mediaProtobuf = "application/x-protobuf"
)

func request(t *testing.T, method, path, body string, headers map[string]string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if target.options.Principal != "" {
		req.SetBasicAuth(target.options.Principal, target.options.Secret)
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// rawSubscribe answers the framework's ID and the stream's.
func rawSubscribe(t *testing.T) (id, stream string) {
	t.Helper()
	body, err := json.Marshal(calls.Subscribe(framework(t)))
	if err != nil {
		t.Fatal(err)
	}
	resp := request(t, http.MethodPost, "/api/v1/scheduler", string(body), map[string]string{"Content-Type": mediaJSON, "Accept": mediaJSON})
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != mediaJSON || len(resp.TransferEncoding) != 1 || resp.TransferEncoding[0] != "chunked" {
		t.Fatalf("SUBSCRIBE: %s %v %v", resp.Status, resp.Header, resp.TransferEncoding)
	}
	in := bufio.NewReader(resp.Body)
	line, err := in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	size, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	record := make([]byte, size)
	if _, err := io.ReadFull(in, record); err != nil {
		t.Fatal(err)
	}
	var ev scheduler.Event
	if err := json.Unmarshal(record, &ev); err != nil {
		t.Fatal(err)
	}
	return ev.Subscribed.FrameworkID.Value, resp.Header.Get("Mesos-Stream-Id")
}

func TestHTTPErrors(t *testing.T) {
	id, stream := rawSubscribe(t)
	fw := fmt.Sprintf(`"framework_id":{"value":%q}`, id)
	sub := `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n"}}}`
	js := map[string]string{"Content-Type": mediaJSON}
	and := func(key, value string) map[string]string {
		return map[string]string{"Content-Type": mediaJSON, key: value}
	}
	withStream := and("Mesos-Stream-Id", stream)
	for _, c := range []struct {
		name, method, body string
		headers            map[string]string
		status             int
	}{
		{"GET", http.MethodGet, "", js, 405},
		{"Content-Type text/plain", http.MethodPost, sub, map[string]string{"Content-Type": "text/plain"}, 415},
		{"no Content-Type", http.MethodPost, sub, nil, 400},
		{"Accept text/xml", http.MethodPost, sub, and("Accept", "text/xml"), 406},
		{"broken JSON", http.MethodPost, "{", js, 400},
		{"broken protobuf", http.MethodPost, "\xff\xff\xff", map[string]string{"Content-Type": mediaProtobuf}, 400},
		{"no type", http.MethodPost, "{}", js, 400},
		{"unknown type", http.MethodPost, `{"type":"NO_SUCH_CALL"}`, js, 400},
		{"subscribe missing", http.MethodPost, `{"type":"SUBSCRIBE"}`, js, 400},
		{"user missing", http.MethodPost, `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"name":"n"}}}`, js, 400},
		{"IDs differ", http.MethodPost, `{"type":"SUBSCRIBE",` + fw + `,"subscribe":{"framework_info":{"user":"u","name":"n"}}}`, js, 400},
		{"SUBSCRIBE with a stream ID", http.MethodPost, sub, withStream, 400},
		{"framework_id missing", http.MethodPost, `{"type":"REVIVE"}`, withStream, 400},
		{"framework unknown", http.MethodPost, `{"type":"REVIVE","framework_id":{"value":"nobody"}}`, withStream, 400},
		{"stream ID missing", http.MethodPost, `{"type":"REVIVE",` + fw + `}`, js, 400},
		{"stream ID wrong", http.MethodPost, `{"type":"REVIVE",` + fw + `}`, and("Mesos-Stream-Id", "x"), 400},
		{"kill missing", http.MethodPost, `{"type":"KILL",` + fw + `}`, withStream, 400},
		{"task_id missing", http.MethodPost, `{"type":"KILL",` + fw + `,"kill":{}}`, withStream, 400},
		{"malformed uuid", http.MethodPost, `{"type":"ACKNOWLEDGE",` + fw + `,"acknowledge":{"agent_id":{"value":"a"},"task_id":{"value":"t"},"uuid":"AAAA"}}`, withStream, 400},
		{"REVIVE", http.MethodPost, `{"type":"REVIVE",` + fw + `}`, withStream, 202},
		{"SUPPRESS", http.MethodPost, `{"type":"SUPPRESS",` + fw + `}`, withStream, 202},
		{"REQUEST", http.MethodPost, `{"type":"REQUEST",` + fw + `,"request":{"requests":[]}}`, withStream, 202},
		{"MESSAGE to a missing executor", http.MethodPost, `{"type":"MESSAGE",` + fw + `,"message":{"agent_id":{"value":"a"},"executor_id":{"value":"e"},"data":"eA=="}}`, withStream, 202},
		{"TEARDOWN", http.MethodPost, `{"type":"TEARDOWN",` + fw + `}`, withStream, 202},
		{"after TEARDOWN", http.MethodPost, `{"type":"REVIVE",` + fw + `}`, withStream, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp := request(t, c.method, "/api/v1/scheduler", c.body, c.headers)
			if resp.StatusCode != c.status {
				body, _ := io.ReadAll(resp.Body)
				t.Errorf("%s %q, want %d", resp.Status, body, c.status)
			}
		})
	}
}
