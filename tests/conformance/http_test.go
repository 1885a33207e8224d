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
	authorise(req)
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

// rawStream is a subscription in JSON, read without mesos-go, whose decoder does not
// know what masters newer than itself say of themselves.
type rawStream struct {
	id     string // Mesos-Stream-Id
	events *bufio.Reader
}

func rawSubscribe(t *testing.T) *rawStream {
	t.Helper()
	body, err := json.Marshal(calls.Subscribe(framework(t)))
	if err != nil {
		t.Fatal(err)
	}
	resp := request(t, http.MethodPost, "/api/v1/scheduler", string(body), map[string]string{"Content-Type": mediaJSON, "Accept": mediaJSON})
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != mediaJSON || len(resp.TransferEncoding) != 1 || resp.TransferEncoding[0] != "chunked" {
		t.Fatalf("SUBSCRIBE: %s %v %v", resp.Status, resp.Header, resp.TransferEncoding)
	}
	return &rawStream{id: resp.Header.Get("Mesos-Stream-Id"), events: bufio.NewReader(resp.Body)}
}

func (s *rawStream) next(t *testing.T) node {
	t.Helper()
	line, err := s.events.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	size, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	record := make([]byte, size)
	if _, err := io.ReadFull(s.events, record); err != nil {
		t.Fatal(err)
	}
	return parse(t, record)
}

// await reads events up to one of a type.
func (s *rawStream) await(t *testing.T, kind string) node {
	t.Helper()
	for {
		if ev := s.next(t); ev.text("type") == kind {
			return ev
		}
	}
}

// node is a part of a JSON document.
type node struct{ value any }

func parse(t *testing.T, data []byte) node {
	t.Helper()
	var n node
	if err := json.Unmarshal(data, &n.value); err != nil {
		t.Fatalf("%v in %q", err, data)
	}
	return n
}

// at follows the names of fields; what is missing is an empty node.
func (n node) at(path ...string) node {
	for _, name := range path {
		fields, _ := n.value.(map[string]any)
		n = node{fields[name]}
	}
	return n
}

func (n node) text(path ...string) string    { s, _ := n.at(path...).value.(string); return s }
func (n node) number(path ...string) float64 { f, _ := n.at(path...).value.(float64); return f }
func (n node) truth(path ...string) bool     { b, _ := n.at(path...).value.(bool); return b }

func (n node) list(path ...string) (items []node) {
	values, _ := n.at(path...).value.([]any)
	for _, v := range values {
		items = append(items, node{v})
	}
	return items
}

func TestHTTPErrors(t *testing.T) {
	subscription := rawSubscribe(t)
	id, stream := subscription.await(t, "SUBSCRIBED").text("subscribed", "framework_id", "value"), subscription.id
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
