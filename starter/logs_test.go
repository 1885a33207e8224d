package starter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
)

const testRun = "a-0123456789abcdef-00000000"

var testPrefix = api.StepPrefix("a", testRun, "work")

// scene is one look at a run: what the run says, and what is to happen first.
type scene struct {
	before func()
	run    Run
}

// theatre plays scenes to a follower; the last one goes on.
type theatre struct {
	t      *testing.T
	store  storage.Store
	agent  map[string][]byte // files by path
	scenes []scene
	at     int
}

func newTheatre(t *testing.T) *theatre {
	t.Helper()
	store, err := file.Open(t.TempDir(), file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return &theatre{t: t, store: store, agent: map[string][]byte{}}
}

func (h *theatre) describe(context.Context, string) (Run, error) {
	s := h.scenes[min(h.at, len(h.scenes)-1)]
	h.at++
	if s.before != nil {
		s.before()
	}
	return s.run, nil
}

// read answers as an agent does: at most 16 pages, as JSON text.
func (h *theatre) read(_ context.Context, endpoint, path string, offset, length int64) ([]byte, error) {
	content, ok := h.agent[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if endpoint != "agent:5051" {
		return nil, fmt.Errorf("no agent at %s", endpoint)
	}
	end := min(int64(len(content)), offset+length)
	return asAgent(content[min(offset, end):end]), nil
}

func (h *theatre) archive(partition, attempt, generation int, content string) {
	h.t.Helper()
	if _, err := storage.PutBytes(h.t.Context(), h.store, api.LogKey(testPrefix, partition, attempt, generation), []byte(content)); err != nil {
		h.t.Fatal(err)
	}
}

// logs plays all scenes and gives what was printed, by partition.
func (h *theatre) logs(o LogOptions) (map[int]string, error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	o.Every = time.Millisecond
	got := map[int]string{}
	f := newFollower(o, h.describe, h.store, h.read)
	f.yield = func(chunk LogChunk) error {
		got[chunk.Partition] += string(chunk.Data)
		return nil
	}
	err := f.run(ctx, testRun)
	return got, err
}

func runState(status api.Status, partitions int, activities ...Activity) Run {
	r := Run{Activities: activities}
	r.Run, r.App, r.Status = testRun, "a", status
	r.Steps = []api.StepState{{ID: "work", Status: status, Started: time.Unix(1, 0), Partitions: partitions}}
	return r
}

// placed is an activity whose tasks run, one for each partition.
func placed(attempt, generation int, partitions ...int) Activity {
	a := Activity{ID: "work-1", Step: "work"}
	a.Details = api.Details{
		Prefix: testPrefix, Attempt: attempt,
		Agents: []api.AgentDetail{{Endpoint: "agent:5051", Sandbox: "/box"}},
	}
	for _, p := range partitions {
		a.Details.Tasks = append(a.Details.Tasks, api.TaskDetail{First: p, Count: 1, Generation: generation, Log: "logs/task/%d.log"})
	}
	return a
}

func live(partition int) string { return fmt.Sprintf("/box/logs/task/%d.log", partition) }

func TestFollowMovesFromAgentToStorage(t *testing.T) {
	h := newTheatre(t)
	long := strings.Repeat("0123456789abcde\n", 20_000) // several reads of an agent
	whole := "one\ntwö\n" + long + "end\n"
	h.scenes = []scene{
		{nil, runState(api.StatusRunning, 1)},                  // not placed
		{nil, runState(api.StatusRunning, 1, placed(1, 1, 0))}, // no file yet
		{func() { h.agent[live(0)] = []byte(whole[:5]) }, runState(api.StatusRunning, 1, placed(1, 1, 0))},
		{func() { h.agent[live(0)] = []byte(whole[:7]) }, runState(api.StatusRunning, 1, placed(1, 1, 0))}, // half of an ö
		{func() { h.agent[live(0)] = []byte(whole[:len(whole)-4]) }, runState(api.StatusRunning, 1, placed(1, 1, 0))},
		{func() { h.archive(0, 1, 1, whole) }, runState(api.StatusRunning, 1, placed(1, 1, 0))}, // both places have it
		{func() { delete(h.agent, live(0)) }, runState(api.StatusSucceeded, 1)},
	}
	got, err := h.logs(LogOptions{Step: "work", Partition: AllPartitions, Follow: true})
	if err != nil || got[0] != whole {
		t.Errorf("got %d bytes, want %d; %v", len(got[0]), len(whole), err)
	}
	if h.at != len(h.scenes) {
		t.Errorf("ended after %d looks, want %d", h.at, len(h.scenes))
	}
}

func TestFollowGivesEveryAttemptOnce(t *testing.T) {
	h := newTheatre(t)
	h.archive(0, 1, 1, "first\n")
	h.scenes = []scene{
		{func() { h.agent[live(0)] = []byte("sec") }, runState(api.StatusRunning, 1, placed(2, 1, 0))},
		{func() { h.agent[live(0)] = []byte("second, other placement\n") }, runState(api.StatusRunning, 1, placed(2, 3, 0))},
		{func() { h.archive(0, 2, 3, "second, other placement\n") }, runState(api.StatusSucceeded, 1)},
	}
	got, err := h.logs(LogOptions{Step: "work", Partition: 0, Follow: true})
	if want := "first\nsecsecond, other placement\n"; err != nil || got[0] != want {
		t.Errorf("got %q, %v; want %q", got[0], err, want)
	}
}

func TestLogThatWasCutAtItsEnd(t *testing.T) {
	h := newTheatre(t)
	head, middle, tail := strings.Repeat("h", 50)+"\n", strings.Repeat("m", 200), strings.Repeat("t", 50)+"\n"
	mark := "\n[... 200 bytes left out ...]\n"
	h.scenes = []scene{
		{func() { h.agent[live(0)] = []byte(head + middle) }, runState(api.StatusRunning, 1, placed(1, 1, 0))},
		{func() { h.archive(0, 1, 1, head+mark+tail) }, runState(api.StatusSucceeded, 1)},
	}
	got, err := h.logs(LogOptions{Partition: AllPartitions, Follow: true})
	if want := head + middle + mark + tail; err != nil || got[0] != want {
		t.Errorf("got %q, %v; want %q", got[0], err, want)
	}
}

func TestLogsWithoutFollowing(t *testing.T) {
	h := newTheatre(t)
	for i := range 12 {
		h.archive(i, 1, 1, fmt.Sprintf("log %d\n", i))
	}
	h.agent[live(12)] = []byte("so far\n")
	h.agent[live(13)] = []byte("too\n")
	h.scenes = []scene{{nil, runState(api.StatusRunning, 14, placed(1, 1, 12, 13))}}

	got, err := h.logs(LogOptions{Partition: AllPartitions})
	if err != nil || len(got) != 14 || got[11] != "log 11\n" || got[12] != "so far\n" || got[13] != "too\n" {
		t.Errorf("all: got %v, %v", got, err)
	}
	got, err = h.logs(LogOptions{Step: "work", Partition: 1})
	if err != nil || len(got) != 1 || got[1] != "log 1\n" {
		t.Errorf("one: got %v, %v", got, err)
	}
	if h.at != 2 {
		t.Errorf("looked %d times, want 2", h.at)
	}
}

func TestLogsOfAnAgentThatDoesNotAnswer(t *testing.T) {
	h := newTheatre(t)
	h.agent[live(0)] = []byte("x")
	lost := placed(1, 1, 0)
	lost.Details.Agents[0].Endpoint = "other:1"
	h.scenes = []scene{
		{nil, runState(api.StatusRunning, 1, lost)},
		{func() { h.archive(0, 1, 1, "all\n") }, runState(api.StatusSucceeded, 1)},
	}
	var unreachable *UnreachableError
	if _, err := h.logs(LogOptions{Partition: AllPartitions}); !errors.As(err, &unreachable) || unreachable.Address != "other:1" {
		t.Errorf("once: got %v", err)
	}
	h.at = 0
	got, err := h.logs(LogOptions{Partition: AllPartitions, Follow: true})
	if err != nil || got[0] != "all\n" {
		t.Errorf("following: got %q, %v", got[0], err)
	}
}

func TestLogsOfWhatIsNotThere(t *testing.T) {
	h := newTheatre(t)
	h.scenes = []scene{{nil, runState(api.StatusRunning, 2)}}
	for _, o := range []LogOptions{{Step: "wrok", Partition: AllPartitions}, {Step: "work", Partition: 2}} {
		if _, err := h.logs(o); !errors.Is(err, ErrNotFound) {
			t.Errorf("%+v: got %v", o, err)
		}
	}
	if _, err := h.logs(LogOptions{Step: "wrok"}); err == nil || !strings.Contains(err.Error(), `did you mean "work"?`) {
		t.Errorf("no suggestion in: %v", err)
	}
}

func TestLogKeysAreReadBack(t *testing.T) {
	id, ok := parseLogKey(testPrefix, "work", api.LogKey(testPrefix, 7, 2, 13))
	if !ok || id.partition != 7 || id.attempt != 2 || id.generation != 13 {
		t.Errorf("got %+v, %v", id, ok)
	}
	for _, key := range []string{"other/logs/1/00001.00001.log", testPrefix + "logs/1", testPrefix + "logs/x/00001.00001.log", testPrefix + "logs/1/00001.log"} {
		if id, ok := parseLogKey(testPrefix, "work", key); ok {
			t.Errorf("%s: got %+v", key, id)
		}
	}
}

// TestWholeRunes reads bytes of all kinds through an agent's answers, with growing
// files: the position stays that of the file.
func TestWholeRunes(t *testing.T) {
	content := []byte("aö€😀\xff\xfeb\x80\uFFFDc" + strings.Repeat("ü", 10) + "\xf0\x9f\x98zzzzzzzzzzzz")
	for step := 1; step < 9; step++ {
		var got []byte
		offset := 0
		for size := 0; size < len(content)+step; size += step {
			available := content[:min(size, len(content))]
			for {
				text, n, _ := wholeRunes(asAgent(available[offset:]))
				if n == 0 {
					break
				}
				got = append(got, text...)
				offset += n
			}
		}
		if offset != len(content) {
			t.Errorf("step %d: at %d, want %d", step, offset, len(content))
		}
		if !utf8.Valid(got) || !bytes.HasPrefix(got, []byte("aö€😀")) || !bytes.HasSuffix(got, []byte("zzz")) {
			t.Errorf("step %d: got %q", step, got)
		}
	}
}

// asAgent replaces each byte that is no UTF-8, as encoding/json does.
func asAgent(b []byte) []byte {
	var out []byte
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		out = utf8.AppendRune(out, r)
		b = b[n:]
	}
	return out
}
