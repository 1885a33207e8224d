package executor

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
)

// requests lists what the leader was asked for, by role.
func (r *rig) requests(role tasklet.Role) (found []tasklet.Request) {
	r.agent.mu.Lock()
	defer r.agent.mu.Unlock()
	for _, rep := range r.agent.reports {
		if rep.Request != nil && rep.Request.Role == role {
			found = append(found, *rep.Request)
		}
	}
	return found
}

func TestExpiredURLsAreRenewed(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("cat $BAAS_INPUT_DOC > $BAAS_OUTPUTS/copy; cat tool.txt; mkdir $BAAS_CHECKPOINT/c; echo c > $BAAS_CHECKPOINT/commit", 5)
	l.Partitions[0].Inputs = map[string]tasklet.Input{"doc": {Files: []tasklet.Source{r.store.put("doc", []byte("content"))}}}
	bundle := r.bundle(tarGz(entry{name: "tool.txt", content: "tool\n"}))
	l.Bundle = &bundle
	r.output(l, "copy", tasklet.TypeFile)
	r.store.expire()
	state, results := r.run(l)
	if state != mesos.TASK_FINISHED {
		t.Fatalf("%s %+v", state, results)
	}
	for _, role := range []tasklet.Role{tasklet.RoleBundle, tasklet.RoleInput, tasklet.RoleOutput, tasklet.RoleLog, tasklet.RoleCheckpoint, tasklet.RoleResult} {
		if len(r.requests(role)) == 0 {
			t.Errorf("no %s was asked for", role)
		}
	}
	if data, _ := r.store.get(l.Partitions[0].Outputs["copy"].Key); string(data) != "content" {
		t.Errorf("output %q", data)
	}
	if r.logOf(l, 0) != "tool\n" {
		t.Errorf("log %q", r.logOf(l, 0))
	}
}

func TestResultWaitsForTheReturnOfStorageAndLeader(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("echo done > " + r.shared() + "/done; echo 1 > $BAAS_OUTPUTS/n; echo x > $BAAS_OUTPUTS/f")
	r.output(l, "f", tasklet.TypeFile)
	r.store.set(func() { r.store.silent = true })
	r.store.stop()
	r.launch(l)
	r.waitFile(r.shared() + "/done")
	// The executor asks, and asks again under the same ID, and hears nothing.
	r.agent.wait("repeated request", func() bool {
		count := map[string]int{}
		for _, rep := range r.agent.reports {
			if rep.Request != nil {
				count[rep.Request.ID]++
			}
		}
		return slices.Max(append(slices.Collect(maps.Values(count)), 0)) >= 3
	})
	r.store.expire() // what comes back knows nothing of the old URLs
	r.store.start()
	r.store.set(func() { r.store.silent = false })
	if state, results := r.finish(l); state != mesos.TASK_FINISHED || results[0].Outcome != tasklet.Succeeded {
		t.Errorf("%s %+v", state, results)
	}
}

func TestInputsThatCannotBeHad(t *testing.T) {
	r := newRig(t, setup{})
	good := r.store.put("good", []byte("good"))
	gone := good
	gone.Key, gone.URL = "gone", r.store.sign("gone")
	wrong := good
	wrong.SHA256 = strings.Repeat("0", 64)
	short := good
	short.Size = 10
	for name, c := range map[string]struct {
		src    tasklet.Source
		denied string
		reason string
	}{
		"gone":   {src: gone, reason: "404"},
		"short":  {src: short, reason: "416"},
		"wrong":  {src: wrong, reason: "content has SHA-256"},
		"denied": {src: gone, denied: "not in my table", reason: "not in my table"},
	} {
		l := r.job("true")
		l.Partitions[0].Inputs = map[string]tasklet.Input{"doc": {Files: []tasklet.Source{c.src}}}
		r.store.set(func() {
			delete(r.store.denied, tasklet.RoleInput)
			if c.denied != "" {
				r.store.denied[tasklet.RoleInput] = c.denied
			}
		})
		res := r.one(l)
		if res.Outcome != tasklet.Platform || !strings.HasPrefix(res.Reason, "input doc: ") || !strings.Contains(res.Reason, c.reason) {
			t.Errorf("%s: %+v", name, res)
		}
	}
}

func TestInterruptedDownloadGoesOn(t *testing.T) {
	r := newRig(t, setup{})
	content := strings.Repeat("0123456789abcdef", 1<<16)
	l := r.job("wc -c < $BAAS_INPUT_DOC")
	l.Partitions[0].Inputs = map[string]tasklet.Input{"doc": {Files: []tasklet.Source{r.store.put("doc", []byte(content))}}}
	var ranges []string
	r.store.set(func() {
		r.store.intercept = func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method != http.MethodGet {
				return false
			}
			r.store.set(func() { ranges = append(ranges, req.Header.Get("Range")) })
			if len(ranges) > 1 {
				return false
			}
			w.Header().Set("Content-Length", "1048576")
			_, _ = w.Write([]byte(content[:1000]))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	if res := r.one(l); res.Outcome != tasklet.Succeeded || !strings.HasSuffix(r.logOf(l, 0), "1048576\n") {
		t.Errorf("%+v %s", res, r.logOf(l, 0))
	}
	if !slices.Equal(ranges, []string{"bytes=0-1048575", "bytes=1000-1048575"}) {
		t.Errorf("ranges %v", ranges)
	}
}

func TestStalledTransferIsRepeated(t *testing.T) {
	r := newRig(t, setup{tune: func(t *Tuning) { t.Stall = 200 * time.Millisecond }})
	var stalled atomic.Bool
	r.store.set(func() {
		r.store.intercept = func(w http.ResponseWriter, req *http.Request) bool {
			if !strings.HasSuffix(req.URL.Path, ".log") || stalled.Swap(true) {
				return false
			}
			_, _ = io.Copy(io.Discard, req.Body) // only then the server sees a client go
			<-req.Context().Done()
			return true
		}
	})
	if res := r.one(r.job("echo x")); res.Log == nil || !stalled.Load() {
		t.Errorf("%+v", res)
	}
}

func TestMultipart(t *testing.T) {
	r := newRig(t, setup{tune: func(t *Tuning) { t.SinglePut = 1 << 20 }})
	l := r.job("mkdir $BAAS_OUTPUTS/big; cd $BAAS_OUTPUTS/big; for i in 0 1 2 3 4; do seq $i 150000 > $i; done; cksum $BAAS_OUTPUTS/big/* | cksum")
	r.output(l, "big", tasklet.TypeFiles)
	var expired atomic.Bool
	r.store.set(func() {
		r.store.partSize = 64 << 10
		r.store.intercept = func(w http.ResponseWriter, req *http.Request) bool {
			// The URLs of a whole batch become worthless under way.
			if strings.HasSuffix(req.URL.Path, "/30") && !expired.Swap(true) {
				r.store.expire()
			}
			return false
		}
	})
	res := r.one(l)
	if res.Outcome != tasklet.Succeeded {
		t.Fatalf("%+v", res)
	}
	var refs []tasklet.FileRef
	if err := json.Unmarshal(res.Outputs["big"], &refs); err != nil {
		t.Fatal(err)
	}
	object, _ := r.store.get(l.Partitions[0].Outputs["big"].Key)
	var total int64
	for _, ref := range refs {
		sum, _ := hashReader(t.Context(), strings.NewReader(string(object[ref.Offset:ref.Offset+ref.Size])), ref.Size)
		if sum != ref.SHA256 || ref.Offset != total {
			t.Errorf("%+v has hash %s", ref, sum)
		}
		total += ref.Size
	}
	if total != int64(len(object)) || total < 4<<20 || !expired.Load() {
		t.Errorf("object of %d bytes, refs of %d", len(object), total)
	}
	signed := 0
	for _, req := range r.requests(tasklet.RoleOutput) {
		signed += len(req.Multipart.Sign)
		if len(req.Multipart.Sign) > signBatch || req.Name != "big" {
			t.Errorf("request %+v", req)
		}
	}
	if parts := int(total+65535) / 65536; signed <= parts {
		t.Errorf("%d URLs for %d parts, none renewed", signed, parts)
	}
}

func TestLostMultipartUploadStartsAgain(t *testing.T) {
	r := newRig(t, setup{tune: func(t *Tuning) { t.SinglePut = 1 << 20 }})
	l := r.job("head -c 3m /dev/urandom > $BAAS_OUTPUTS/big; sha256sum < $BAAS_OUTPUTS/big")
	r.output(l, "big", tasklet.TypeFile)
	var lost atomic.Bool
	r.store.set(func() {
		r.store.intercept = func(w http.ResponseWriter, req *http.Request) bool {
			if strings.HasPrefix(req.URL.Path, "/u/") && !lost.Swap(true) {
				r.store.set(func() { clear(r.store.uploads); r.store.uploads["lost"] = nil })
			}
			return false
		}
	})
	res := r.one(l)
	var ref tasklet.FileRef
	if err := json.Unmarshal(res.Outputs["big"], &ref); err != nil {
		t.Fatalf("%v %+v", err, res)
	}
	if !strings.HasPrefix(r.logOf(l, 0), ref.SHA256) || ref.Size != 3<<20 {
		t.Errorf("%+v", ref)
	}
}

func TestKillEndsAWaitForInputs(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("true")
	l.Partitions[0].Inputs = map[string]tasklet.Input{"doc": {Files: []tasklet.Source{r.store.put("doc", []byte("x"))}}}
	asked := make(chan struct{})
	r.store.set(func() {
		r.store.intercept = func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method == http.MethodGet {
				close(asked)
				<-req.Context().Done()
			}
			return false
		}
	})
	r.launch(l)
	<-asked
	r.agent.kill(l.TaskID, time.Hour)
	if state, results := r.finish(l); state != mesos.TASK_KILLED || results[0].Outcome != tasklet.Killed || results[0].ExitCode != -1 {
		t.Errorf("%s %+v", state, results)
	}
}
