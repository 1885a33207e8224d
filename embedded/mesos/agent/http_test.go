package agent

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	proto "github.com/mesos/mesos-go/api/v1/lib/agent"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/executor/calls"
)

func (r *rig) get(path string, query ...string) (int, string) {
	r.t.Helper()
	values := url.Values{}
	for i := 0; i < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	response, err := http.Get("http://" + r.Addr() + path + "?" + values.Encode())
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func (r *rig) post(path, contentType string, body []byte) (int, []byte) {
	r.t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://"+r.Addr()+path, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header["Content-Type"] = []string{contentType}
	if contentType == "" {
		request.Header.Del("Content-Type")
	}
	request.Header.Set("Accept", contentType)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response.StatusCode, data
}

func TestFiles(t *testing.T) {
	cfg := settings(t)
	cfg.LogFile = filepath.Join(t.TempDir(), "agent.log")
	secret := filepath.Join(filepath.Dir(cfg.WorkDir), "secret")
	for path, text := range map[string]string{cfg.LogFile: "log line", secret: "secret"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, cfg)
	r.run(executorInfo("e"), "a", "run")
	r.master.expect(t, "a", "RUNNING")
	latest := r.sandbox("e")
	real, err := filepath.EvalSymlinks(latest)
	if err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("0123456789", 10_000)
	for name, text := range map[string]string{"text": "a\"b\n\xff", "large": large, "d/inner": "x", "empty": ""} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(real, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(real, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"inside": "d/inner", "absolute": filepath.Join(real, "d"), "out": secret, "up": strings.Repeat("../", 30), "dangling": "nowhere",
	} {
		if err := os.Symlink(target, filepath.Join(real, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(real, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	virtual := "/frameworks/framework-1/executors/e/runs/latest"
	most := strconv.Itoa(os.Getpagesize() * 16)

	for _, test := range []struct {
		path, offset, length string
		code                 int
		want                 string
	}{
		{real + "/text", "0", "", 200, "{\"data\":\"a\\\"b\\n\xff\",\"offset\":0}"},
		{latest + "/text", "1", "2", 200, `{"data":"\"b","offset":1}`},
		{virtual + "/text", "", "", 200, `{"data":"","offset":5}`},
		{virtual + "/text", "-1", "-1", 200, `{"data":"","offset":5}`},
		{virtual + "/text", "2", "-1", 200, "{\"data\":\"b\\n\xff\",\"offset\":2}"},
		{virtual + "/text", "99", "1", 200, `{"data":"","offset":99}`},
		{virtual + "/empty", "0", "", 200, `{"data":"","offset":0}`},
		{virtual + "/inside", "0", "", 200, `{"data":"x","offset":0}`},
		{virtual + "/absolute/inner", "0", "", 200, `{"data":"x","offset":0}`},
		{"/slave/log", "0", "", 200, `{"data":"log line","offset":0}`},
		{virtual + "/text", "x", "", 400, "Failed to parse offset"},
		{virtual + "/text", "-2", "", 400, "Negative offset"},
		{virtual + "/text", "0", "-2", 400, "Negative length"},
		{"", "0", "", 400, "Expecting 'path=value'"},
		{virtual, "0", "", 400, "cannot read a directory"},
		{virtual + "/fifo", "0", "", 400, "not a regular file"},
		{virtual + "/none", "0", "", 404, "not found"},
		{virtual + "/dangling", "0", "", 404, "not found"},
		{virtual + "/out", "0", "", 400, "inaccessible"},
		{virtual + "/up/etc/passwd", "0", "", 400, "inaccessible"},
		{virtual + "/../../../../../../../../secret", "0", "", 400, "inaccessible"},
		{real + "/../../../../../../../../../../secret", "0", "", 400, "inaccessible"},
		{"/frameworks/framework-1/executors/e/runs/..", "0", "", 404, "not found"},
		{"/frameworks/../../../meta/x/y/runs/latest", "0", "", 404, "not found"},
		{secret, "0", "", 404, "not found"},
		{"/etc/passwd", "0", "", 404, "not found"},
		{filepath.Join(cfg.WorkDir, "meta/lock"), "0", "", 404, "not found"},
		{filepath.Join(cfg.WorkDir, "slaves/agent-1"), "0", "", 404, "not found"},
		{cfg.LogFile, "0", "", 404, "not found"},
	} {
		query := []string{"path", test.path}
		if test.offset != "" {
			query = append(query, "offset", test.offset)
		}
		if test.length != "" {
			query = append(query, "length", test.length)
		}
		code, body := r.get("/files/read", query...)
		if code != test.code || !strings.Contains(strings.ToLower(body), strings.ToLower(test.want)) {
			t.Errorf("read %v: %d %q, want %d %q", query, code, body, test.code, test.want)
		}
		if strings.Contains(body, "secret\"") || strings.Contains(body, "root:") {
			t.Errorf("read %v leaks: %q", query, body)
		}
	}
	if _, body := r.get("/files/read", "path", virtual+"/large", "offset", "0", "length", "1000000"); strings.Count(body, "")-1 !=
		len(`{"data":"","offset":0}`)+os.Getpagesize()*16 {
		t.Errorf("read of %d bytes, want %s of data", len(body), most)
	}

	code, body := r.get("/files/browse", "path", virtual+"/d")
	var list []struct{ Path, Mode, UID string }
	if err := json.Unmarshal([]byte(body), &list); code != 200 || err != nil || len(list) != 1 ||
		list[0].Path != virtual+"/d/inner" || list[0].Mode != "-rw-r--r--" || list[0].UID == "" {
		t.Errorf("browse: %d %s", code, body)
	}
	for path, want := range map[string]int{virtual + "/up": 400, "/": 404, cfg.WorkDir: 404, virtual + "/..": 400, virtual: 200} {
		if code, body := r.get("/files/browse", "path", path); code != want {
			t.Errorf("browse %s: %d %s", path, code, body)
		}
	}
	if code, body := r.get("/files/download", "path", virtual+"/large"); code != 200 || body != large {
		t.Errorf("download: %d, %d bytes", code, len(body))
	}
	if code, _ := r.get("/files/download", "path", virtual+"/out"); code != 400 {
		t.Errorf("download of what lies outside: %d", code)
	}
	for _, path := range []string{"/health", "/slave(1)/health"} {
		if code, _ := r.get(path); code != 200 {
			t.Errorf("%s: %d", path, code)
		}
	}
	if _, body := r.get("/version"); !strings.Contains(body, Version) {
		t.Errorf("version: %s", body)
	}
}

func TestOperatorAPI(t *testing.T) {
	r := start(t, settings(t))
	r.run(executorInfo("e"), "runs", "run")
	r.run(executorInfo("e"), "done", "finish")
	r.master.expect(t, "runs", "RUNNING")
	r.master.expect(t, "done", "RUNNING FINISHED")
	ask := func(call proto.Call) proto.Response {
		t.Helper()
		body, err := call.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		code, answer := r.post("/api/v1", typeProtobuf, body)
		var response proto.Response
		if err := response.Unmarshal(answer); code != 200 || err != nil {
			t.Fatalf("%s: %d %s %v", call.Type, code, answer, err)
		}
		return response
	}
	if !ask(proto.Call{Type: proto.Call_GET_HEALTH}).GetHealth.Healthy {
		t.Error("not healthy")
	}
	if info := ask(proto.Call{Type: proto.Call_GET_AGENT}).GetAgent.AgentInfo; info.ID.Value != "agent-1" || len(info.Resources) != 2 {
		t.Errorf("agent %+v", info)
	}
	eventually(t, "task completed", func() bool {
		return len(ask(proto.Call{Type: proto.Call_GET_TASKS}).GetTasks.CompletedTasks) == 1
	})
	state := ask(proto.Call{Type: proto.Call_GET_STATE}).GetState
	if len(state.GetTasks.LaunchedTasks) != 1 || len(state.GetExecutors.Executors) != 1 || len(state.GetFrameworks.Frameworks) != 1 {
		t.Errorf("state %+v", state)
	}
	containers := ask(proto.Call{Type: proto.Call_GET_CONTAINERS}).GetContainers.Containers
	if len(containers) != 1 || int(containers[0].ContainerStatus.GetExecutorPID()) != r.pid("e") {
		t.Fatalf("containers %+v", containers)
	}
	s := containers[0].ResourceStatistics
	if s.GetMemRSSBytes() == 0 || s.GetMemLimitBytes() != 256<<20 || s.GetProcesses() < 1 {
		t.Errorf("statistics %+v", s)
	}
	if cpus := s.GetCPUsLimit(); cpus < 0.19 || cpus > 0.21 { // the executor's and that of the task that lives
		t.Errorf("cpus %g", cpus)
	}
	virtual := "/frameworks/framework-1/executors/e/runs/latest"
	read := ask(proto.Call{Type: proto.Call_READ_FILE, ReadFile: &proto.Call_ReadFile{Path: virtual + "/stdout", Length: p(uint64(8))}})
	if string(read.ReadFile.Data) != "executor" || read.ReadFile.Size_ < 8 {
		t.Errorf("read %q of %d", read.ReadFile.Data, read.ReadFile.Size_)
	}
	if n := len(ask(proto.Call{Type: proto.Call_LIST_FILES, ListFiles: &proto.Call_ListFiles{Path: virtual}}).ListFiles.FileInfos); n < 2 {
		t.Errorf("%d files", n)
	}
	for body, want := range map[string]struct {
		code int
		text string
	}{
		`{"type": "GET_VERSION"}`:  {200, Version},
		`{"type": "GET_TASKS"}`:    {200, "TASK_RUNNING"},
		`{"type": "PRUNE_IMAGES"}`: {501, "PRUNE_IMAGES"},
		`{"type": "READ_FILE"}`:    {400, "read_file"},
		`{"type": "READ_FILE", "read_file": {"path": "/etc/passwd", "offset": 0}}`: {404, "not found"},
		`{}`: {400, "type"},
		`{`:  {400, "parse"},
	} {
		if code, answer := r.post("/api/v1", typeJSON, []byte(body)); code != want.code || !strings.Contains(string(answer), want.text) {
			t.Errorf("%s: %d %s", body, code, answer)
		}
	}
	if code, _ := r.get("/api/v1"); code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", code)
	}
}

func TestExecutorAPIRefusals(t *testing.T) {
	cfg := settings(t)
	cfg.AuthenticateExecutors = true
	r := start(t, cfg)
	if code, _ := r.post("/api/v1/executor", typeJSON, []byte(`{"type":"HEARTBEAT","executor_id":{"value":""},"framework_id":{"value":""}}`)); code != 401 {
		t.Errorf("without a token: %d", code)
	}
	r.Stop()
	r.cfg.AuthenticateExecutors = false
	r.begin()
	e := executorInfo("silent")
	e.Command = &mesos.CommandInfo{Value: p("sleep 1000")}
	r.run(e, "a", "run")
	r.run(executorInfo("e"), "b", "run")
	r.master.expect(t, "b", "RUNNING")

	uuid := []byte("0123456789abcdef")
	status := func(change func(*mesos.TaskStatus)) *executor.Call {
		s := mesos.TaskStatus{
			TaskID: mesos.TaskID{Value: "b"}, State: mesos.TASK_RUNNING.Enum(), UUID: uuid, Source: mesos.SOURCE_EXECUTOR.Enum(),
		}
		change(&s)
		return calls.Update(s).With(calls.Framework("framework-1"), calls.Executor("e"))
	}
	from := func(call *executor.Call, framework, executor string) *executor.Call {
		return call.With(calls.Framework(framework), calls.Executor(executor))
	}
	for name, test := range map[string]struct {
		call *executor.Call
		code int
		want string
	}{
		"framework":      {from(calls.Message(nil), "x", "e"), 400, "Framework cannot be found"},
		"executor":       {from(calls.Message(nil), "framework-1", "x"), 400, "Executor cannot be found"},
		"no executor id": {from(calls.Message([]byte("x")), "framework-1", ""), 400, "Expecting 'executor_id' to be present"},
		"not subscribed": {from(calls.Message([]byte("x")), "framework-1", "silent"), 403, "Executor is not subscribed"},
		"no uuid":        {status(func(s *mesos.TaskStatus) { s.UUID = nil }), 400, "Expecting 'uuid' to be present"},
		"short uuid":     {status(func(s *mesos.TaskStatus) { s.UUID = uuid[:3] }), 400, "Not a valid UUID"},
		"source":         {status(func(s *mesos.TaskStatus) { s.Source = nil }), 400, "expecting 'SOURCE_EXECUTOR'"},
		"staging":        {status(func(s *mesos.TaskStatus) { s.State = mesos.TASK_STAGING.Enum() }), 400, "not allowed"},
		"other's": {status(func(s *mesos.TaskStatus) { s.ExecutorID = &mesos.ExecutorID{Value: "x"} }), 400,
			"does not match ExecutorID in TaskStatus"},
		"no type":   {&executor.Call{}, 400, "Expecting"},
		"heartbeat": {calls.Heartbeat(), 202, ""},
		"good":      {status(func(*mesos.TaskStatus) {}), 202, ""},
	} {
		if test.call.Message != nil && test.call.Message.Data == nil {
			test.call.Message.Data = []byte{}
		}
		body, err := test.call.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if code, answer := r.post("/api/v1/executor", typeProtobuf, body); code != test.code || !strings.Contains(string(answer), test.want) {
			t.Errorf("%s: %d %s", name, code, answer)
		}
	}
	for kind, want := range map[string]int{"": 400, "text/plain": 415, typeJSON: 400} {
		if code, answer := r.post("/api/v1/executor", kind, []byte("{")); code != want {
			t.Errorf("content type %q: %d %s", kind, code, answer)
		}
	}
	if code, _ := r.get("/api/v1/executor"); code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", code)
	}
}

// While it recovers, the agent lets executors subscribe and do nothing else.
func TestRecoveringAgentRefuses(t *testing.T) {
	r := start(t, settings(t))
	r.run(executorInfo("e"), "a", "run")
	r.master.expect(t, "a", "RUNNING")
	pid := r.pid("e")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r.Stop()
	a, err := New(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Agent = a
	body, err := calls.Message([]byte("x")).With(calls.Framework("framework-1"), calls.Executor("e")).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if code, answer := r.post("/api/v1/executor", typeProtobuf, body); code != 503 || !strings.Contains(string(answer), "has not finished recovery") {
		t.Errorf("message: %d %s", code, answer)
	}
	if r.ID().Value != "agent-1" {
		t.Errorf("ID %q", r.ID().Value)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	<-r.Ready()
	r.Detected(r.master)
	eventually(t, "registration", func() bool { return r.mode() == running })
}
