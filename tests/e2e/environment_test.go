package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	mesosproto "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/images"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/worker"
)

// wire passes the scheduler's calls on to the master, and keeps what was launched.
type wire struct {
	mu    sync.Mutex
	proxy *httptest.Server
	tasks []mesosproto.TaskInfo
}

func newWire(t *testing.T, master string) *wire {
	t.Helper()
	to, err := url.Parse(master)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{}
	through := httputil.NewSingleHostReverseProxy(to)
	through.FlushInterval = -1
	w.proxy = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var call scheduler.Call
		if r.URL.Path == "/api/v1/scheduler" && call.Unmarshal(body) == nil && call.Accept != nil {
			w.mu.Lock()
			for _, o := range call.Accept.Operations {
				if o.Launch != nil {
					w.tasks = append(w.tasks, o.Launch.TaskInfos...)
				}
			}
			w.mu.Unlock()
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		through.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.proxy.Close)
	t.Cleanup(w.proxy.CloseClientConnections)
	return w
}

// launched gives what the master received for a step.
func (w *wire) launched(t *testing.T, step string) (found []mesosproto.TaskInfo) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, task := range w.tasks {
		if strings.HasPrefix(task.Name, step) {
			found = append(found, task)
		}
	}
	if len(found) == 0 {
		t.Fatalf("the master has received nothing of step %s", step)
	}
	return found
}

// newRepository starts a registry. Push stores a small image as NAME:1.2, in place of
// the one before, and gives its digest.
func newRepository(t *testing.T) (name string, push func(comment string) (digest string)) {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	put := func(method, path, mediaType, body string) string {
		t.Helper()
		sum := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(body)))
		req, err := http.NewRequest(method, server.URL+"/v2/team/tool/"+strings.ReplaceAll(path, "SUM", sum), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", mediaType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("%s: %s", path, resp.Status)
		}
		return sum
	}
	return strings.TrimPrefix(server.URL, "http://") + "/team/tool", func(comment string) string {
		t.Helper()
		config := fmt.Sprintf(`{"os": "linux", "architecture": "amd64", "comment": %q}`, comment)
		sum := put(http.MethodPost, "blobs/uploads/?digest=SUM", "application/octet-stream", config)
		const manifest = "application/vnd.docker.distribution.manifest.v2+json"
		return put(http.MethodPut, "manifests/1.2", manifest, fmt.Sprintf(
			`{"schemaVersion": 2, "mediaType": %q, "layers": [], "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": %d, "digest": %q}}`,
			manifest, len(config), sum))
	}
}

// startBehind starts a platform whose worker reaches the master through a wire.
func startBehind(t *testing.T, change func(*worker.Config)) (target, *wire) {
	t.Helper()
	p := start(t, func(c *platform.Config) { c.NoWorker = true })
	w := newWire(t, p.Cluster.MasterURL())
	config := p.WorkerConfig()
	config.Mesos.Masters = []string{w.proxy.URL}
	change(&config)
	running, err := worker.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(running.Stop)
	return of(p), w
}

// The image is pinned when the run starts, and Mesos is told the digest at every try,
// also after the tag has moved. The embedded agent runs no images, and the run says so.
func TestImageIsPinned(t *testing.T) {
	image, push := newRepository(t)
	digest := push("first")
	p, w := startBehind(t, func(c *worker.Config) { c.Images = images.New(images.Config{}) })
	l, g := newLedger(t), newGate(t)
	r := run(t, p, map[string]string{"flow.yaml": `
name: f
params: {ledger: string, gate: string}
steps:
  wait:
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.gate }}'}
    run: echo "began wait" >>"$BAAS_INPUT_LEDGER"; read x <"$BAAS_INPUT_GATE"
  a: {needs: [wait], run: x, image: '` + image + `:1.2'}
`}, map[string]string{"ledger": l.path, "gate": g.path})
	l.first(t, "began")
	if push("second") == digest {
		t.Fatal("the tag has not moved")
	}
	g.open(t)
	last := ended(t, p, r, patience)
	tries := w.launched(t, "a")
	if len(tries) < 2 {
		t.Errorf("%d tries", len(tries))
	}
	for _, task := range tries {
		c := task.Executor.GetContainer()
		if c.GetType() != mesosproto.ContainerInfo_MESOS || c.GetMesos().GetImage().GetDocker().GetName() != image+"@"+digest || c.GetMesos().GetImage().GetDocker().GetConfig() != nil {
			t.Errorf("container %v", c)
		}
	}
	if s, _ := last.Step("a"); last.Status != api.StatusFailed || !strings.Contains(s.Reason, "image") {
		t.Errorf("%s", show(last))
	}
	missing := ended(t, p, run(t, p, map[string]string{"flow.yaml": "name: g\nsteps: {a: {run: x, image: '" + image + ":9'}}\n"}, nil), patience)
	if missing.Status != api.StatusFailed || !strings.Contains(missing.Reason, "step a: image "+image+":9: there is no such image") {
		t.Errorf("%s", show(missing))
	}
}

// What a step has fetched is there, each task has an executor of its own, and runs
// as the user that it names, if the operator allows it.
func TestExecutionEnvironment(t *testing.T) {
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "file %s", r.URL.Path) }))
	t.Cleanup(files.Close)
	p, w := startBehind(t, func(c *worker.Config) { c.Users = []string{"adhoc=4711:4712"} })
	last := succeeded(t, p, run(t, p, map[string]string{"flow.yaml": `
name: f
params: {files: string}
steps:
  a:
    for_each: {from: 1, to: 2}
    isolation: task
    user: '4711:4712'
    fetch: [{uri: '` + files.URL + `/x', name: model}, {uri: '` + files.URL + `/y', cache: false, executable: true}]
    outputs: {text: string, who: string}
    run: |
      echo "$(cat "$BAAS_FETCHED/model"), $(cat "$BAAS_FETCHED/y")" >"$BAAS_OUTPUTS/text"
      echo "$(id -u):$(id -g)" >"$BAAS_OUTPUTS/who"
`}, map[string]string{"files": files.URL}), patience)
	equal(t, output(t, last, "a", "text"), []any{"file /x, file /y", "file /x, file /y"})
	equal(t, output(t, last, "a", "who"), []any{"4711:4712", "4711:4712"})
	executors := map[string]bool{}
	launched := w.launched(t, "a")
	for _, task := range launched {
		executors[task.Executor.ExecutorID.Value] = true
		uris := task.Executor.Command.URIs
		if n := len(uris); n != 3 || !uris[0].GetCache() || uris[1].GetOutputFile() != "fetched/model" || !uris[1].GetCache() ||
			uris[2].GetOutputFile() != "fetched/y" || uris[2].GetCache() || !uris[2].GetExecutable() || uris[2].GetExtract() {
			t.Errorf("URIs %v", uris)
		}
		if task.Executor.Container != nil {
			t.Errorf("container %v", task.Executor.Container)
		}
	}
	if len(launched) < 2 || len(executors) != len(launched) {
		t.Errorf("%d executors for %d tasks", len(executors), len(launched))
	}
	refused := ended(t, p, run(t, p, map[string]string{"flow.yaml": "name: g\nsteps: {a: {run: x, user: daemon}}\n"}, nil), patience)
	if s, _ := refused.Step("a"); !strings.Contains(s.Reason, `owner "adhoc" may not run tasks as user "daemon"`) {
		t.Errorf("%s", show(refused))
	}
}
