package starter

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
)

// said is what one attempt of a partition has logged.
type said struct {
	partition, attempt int
	text               string
}

// segment stores one as an executor does: logs with something between them, then
// the results.
func (h *theatre) segment(activity string, first, generation, number int, all ...said) []tasklet.Result {
	h.t.Helper()
	key := api.SegmentKey(testPrefix, activity, first, generation, number)
	var object bytes.Buffer
	var results []tasklet.Result
	for _, one := range all {
		object.WriteString("an output")
		r := tasklet.Result{Partition: one.partition, Attempt: one.attempt, Outcome: tasklet.Failed}
		ref := tasklet.NewFileRef(key, int64(len(one.text)), "", "log")
		ref.Offset = int64(object.Len())
		r.Log = &ref
		object.WriteString(one.text)
		results = append(results, r)
	}
	h.put(key, object.String(), results)
	return results
}

// manifest stores that of an activity that has ended.
func (h *theatre) manifest(activity string, results []tasklet.Result) {
	h.t.Helper()
	h.put(api.ManifestKey(testPrefix, activity, results[0].Partition, 0x17ab), "", results)
}

func (h *theatre) put(key, before string, results []tasklet.Result) {
	h.t.Helper()
	var object bytes.Buffer
	object.WriteString(before)
	w := lines.NewWriter(&object, int64(len(before)))
	for _, r := range results {
		if err := w.Add(r); err != nil {
			h.t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		h.t.Fatal(err)
	}
	if _, err := storage.PutBytes(h.t.Context(), h.store, key, object.Bytes()); err != nil {
		h.t.Fatal(err)
	}
}

// segmented is a step of many partitions: running, or ended.
func segmented(status api.Status, activities ...Activity) Run {
	r := runState(status, 1000, activities...)
	r.Steps[0].ForEach = true
	return r
}

func TestLogsInSegments(t *testing.T) {
	h := newTheatre(t)
	a := h.segment("work-1", 0, 1, 0, said{0, 1, "zero\n"}, said{1, 1, "one fails\n"}, said{2, 1, ""})
	b := h.segment("work-1", 0, 1, 1, said{3, 1, "three\n"})
	again := h.segment("work-1", 1, 3, 0, said{1, 2, "one again\n"})
	c := h.segment("work-2", 4, 1, 0, said{4, 1, "four\n"}, said{5, 1, strings.Repeat("long\n", 50_000)})
	h.manifest("work-1", []tasklet.Result{a[0], again[0], a[2], b[0]})
	h.scenes = []scene{{run: segmented(api.StatusSucceeded)}}

	all := map[int]string{0: "zero\n", 1: "one fails\none again\n", 3: "three\n", 4: "four\n", 5: strings.Repeat("long\n", 50_000)}
	check := func(when string) {
		t.Helper()
		have, err := h.logs(LogOptions{Partition: AllPartitions})
		if err != nil {
			t.Fatal(err)
		}
		for p, text := range all {
			if have[p] != text {
				t.Errorf("%s: the log of %d is %.60q, want %.60q", when, p, have[p], text)
			}
		}
		for p := range 6 {
			have, err := h.logs(LogOptions{Step: "work", Partition: p})
			if err != nil {
				t.Fatal(err)
			}
			if have[p] != all[p] || len(have) > 1 {
				t.Errorf("%s: the log of %d alone is %.60q of %d, want %.60q", when, p, have[p], len(have), all[p])
			}
		}
	}
	check("the second activity runs")
	h.manifest("work-2", c)
	check("all have ended")
}

// The log of a partition that was first read from its agent goes on where that ended.
func TestLogsLiveThenInSegments(t *testing.T) {
	h := newTheatre(t)
	activity := Activity{ID: "work-1", Step: "work", Details: api.Details{
		Prefix: testPrefix, Attempt: 1, Agents: []api.AgentDetail{{Endpoint: "agent:5051", Sandbox: "/box"}},
		Tasks: []api.TaskDetail{{First: 7, Count: 3, Generation: 2, State: "TASK_RUNNING", Log: "logs/%d.log"}},
	}}
	h.agent["/box/logs/8.log"] = []byte("live, ")
	h.scenes = []scene{
		{run: segmented(api.StatusRunning, activity)},
		{run: segmented(api.StatusRunning, activity), before: func() {
			h.segment("work-1", 7, 2, 0, said{7, 1, "seven\n"}, said{8, 1, "live, and then stored\n"}, said{9, 1, "nine\n"})
			delete(h.agent, "/box/logs/8.log")
		}},
		{run: segmented(api.StatusSucceeded)},
	}
	have, err := h.logs(LogOptions{Partition: AllPartitions, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[int]string{7: "seven\n", 8: "live, and then stored\n", 9: "nine\n"} {
		if have[p] != want {
			t.Errorf("the log of %d is %q, want %q", p, have[p], want)
		}
	}
}

// What one segment holds is read with one request, however many logs that is.
func TestSegmentIsReadAtOnce(t *testing.T) {
	h := newTheatre(t)
	var all []said
	for i := range 500 {
		all = append(all, said{i, 1, fmt.Sprintf("partition %d\n", i)})
	}
	h.segment("work-1", 0, 1, 0, all...)
	h.scenes = []scene{{run: segmented(api.StatusSucceeded)}}
	counted := &countingStore{Store: h.store}
	h.store = counted
	have, err := h.logs(LogOptions{Partition: AllPartitions})
	if err != nil || len(have) != 500 || have[499] != "partition 499\n" {
		t.Fatalf("%v, %d logs", err, len(have))
	}
	if counted.gets > 5 {
		t.Errorf("%d reads for one segment", counted.gets)
	}
}

type countingStore struct {
	storage.Store
	gets int
}

func (c *countingStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	c.gets++
	return c.Store.Get(ctx, key, offset, length)
}

// The files of an output that is no list are fetched by its manifests.
func TestDownloadOfMany(t *testing.T) {
	h := newTheatre(t)
	put := func(key, text string) tasklet.FileRef {
		if _, err := storage.PutBytes(t.Context(), h.store, key, []byte(text)); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(text))
		return tasklet.NewFileRef(key, int64(len(text)), hex.EncodeToString(sum[:]), "page.txt")
	}
	many := flow.NewMany("page", 4, nil)
	for m, texts := range [][]string{{"zero", ""}, {"two", "three"}} {
		var results []tasklet.Result
		for i, text := range texts {
			r := tasklet.Result{Partition: 2*m + i, Outcome: tasklet.Failed}
			if text != "" {
				raw, err := json.Marshal(put("runs/a/"+text, text))
				if err != nil {
					t.Fatal(err)
				}
				r.Outcome, r.Outputs = tasklet.Succeeded, map[string]json.RawMessage{"page": raw}
			}
			results = append(results, r)
		}
		activity := fmt.Sprint("work-", m)
		h.manifest(activity, results)
		key := api.ManifestKey(testPrefix, activity, 2*m, 0x17ab)
		info, err := h.store.Stat(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		many.Manifests = append(many.Manifests, tasklet.LinesRef{Key: key, Size: info.Size, N: len(results)})
	}
	value, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	r := runState(api.StatusSucceeded, 4)
	r.Steps[0].Outputs = map[string]json.RawMessage{"page": value}
	outputs := r.Outputs()
	if len(outputs) != 1 || outputs[0].Many == nil || outputs[0].Many.N != 4 {
		t.Fatalf("outputs are %+v", outputs)
	}
	dir := t.TempDir()
	c := New(Config{Store: h.store})
	written, err := c.Download(t.Context(), outputs[0], dir)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	for _, path := range written {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			t.Fatal(err)
		}
		have[name] = string(text)
	}
	want := map[string]string{
		"work/page/0000000-page.txt": "zero", "work/page/0000002-page.txt": "two", "work/page/0000003-page.txt": "three",
	}
	if !reflect.DeepEqual(have, want) {
		t.Errorf("fetched %v, want %v", have, want)
	}
}
