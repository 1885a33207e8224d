package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
)

// A Range on the rig, with an executor that the test plays.

func rangeInput(first, count int, change ...func(*api.LaunchInput)) api.LaunchInput {
	in := input()
	in.Many = true
	in.Outputs = []tasklet.Output{{Name: "sum", Type: tasklet.TypeInt}}
	in.Range = &api.Range{
		First: first, Count: count, MaxFailed: -1, MaxDetails: 64 << 10, MaxOutputs: 1 << 20,
		Retry: flow.Retry{Attempts: 1}, Items: api.Items{From: 100},
	}
	for _, f := range change {
		f(&in)
	}
	return in
}

func attempts(n int, backoff time.Duration) func(*api.LaunchInput) {
	return func(in *api.LaunchInput) {
		in.Range.Retry = flow.Retry{Attempts: n, Backoff: flow.Duration(backoff), Factor: 1}
	}
}

// firstPack is how many partitions the first packs have.
const firstPack = 4

// running is a task that the test runs.
type running struct {
	tasklet.Launch
	id       tasklet.TaskID
	segments int
	updates  int
	over     bitmap
}

// next gives a place to the oldest task that waits.
func (r *rig) next() *running {
	r.Helper()
	var id string
	r.eventually("a task waits", func() bool {
		r.mu2.Lock()
		defer r.mu2.Unlock()
		ids := []string{}
		for one := range r.tasks {
			ids = append(ids, one)
		}
		slices.SortFunc(ids, func(a, b string) int {
			x, _ := tasklet.ParseTaskID(a)
			y, _ := tasklet.ParseTaskID(b)
			return x.Generation - y.Generation
		})
		if len(ids) > 0 {
			id = ids[0]
		}
		return len(ids) > 0
	})
	t, ok := r.tryNext(id)
	if !ok {
		r.Fatalf("%s was refused", short(id))
	}
	return t
}

// tryNext gives a place to a task; false if it is refused.
func (r *rig) tryNext(id string) (*running, bool) {
	r.Helper()
	parsed, err := tasklet.ParseTaskID(id)
	if err != nil {
		r.Fatal(err)
	}
	launch := r.offer(parsed.First, parsed.Generation)
	if launch.Err != nil {
		return nil, false
	}
	t := &running{id: parsed}
	if err := json.Unmarshal(launch.Data, &t.Launch); err != nil {
		r.Fatal(err)
	}
	return t, true
}

// results of some of a task's partitions, by position.
func (t *running) results(outcome func(partition int) tasklet.Result, positions ...int) (list []tasklet.Result) {
	for _, at := range positions {
		one := outcome(t.Partitions[at].Index)
		one.Partition, one.Attempt, one.Ended = t.Partitions[at].Index, t.Attempt, time.Now()
		one.Usage = tasklet.Usage{CPUSeconds: 1, PeakMemory: int64(one.Partition)}
		list = append(list, one)
	}
	return list
}

func (t *running) rest() (positions []int) {
	for at := range t.Partitions {
		if !t.over.has(at) {
			positions = append(positions, at)
		}
	}
	return positions
}

// storeSegment puts a segment into storage, and says what its update would.
func (r *rig) storeSegment(t *running, results []tasklet.Result) *tasklet.Segment {
	r.Helper()
	return r.storeIn(r.store, t, results)
}

func (r *rig) storeIn(store storage.Store, t *running, results []tasklet.Result) *tasklet.Segment {
	r.Helper()
	var object bytes.Buffer
	w := lines.NewWriter(&object, 0)
	s := &tasklet.Segment{Number: t.segments, Done: make([]byte, (len(t.Partitions)+7)/8), Seconds: float64(len(results)) / 100}
	for _, one := range results {
		if err := w.Add(one); err != nil {
			r.Fatal(err)
		}
		at := slices.IndexFunc(t.Partitions, func(p tasklet.Partition) bool { return p.Index == one.Partition })
		(*bitmap)(&s.Done).set(at)
		t.over.set(at)
		if one.Outcome != tasklet.Succeeded {
			s.Failed = append(s.Failed, one)
		}
	}
	var err error
	if s.Size, err = w.Close(); err != nil {
		r.Fatal(err)
	}
	key := t.Segments.Targets[min(t.segments, len(t.Segments.Targets)-1)].Key
	if t.segments >= len(t.Segments.Targets) {
		key = api.SegmentKey(stepPrefix, r.key.ActivityID, t.id.First, t.id.Generation, t.segments)
	}
	if _, err := storage.PutBytes(context.Background(), store, key, object.Bytes()); err != nil {
		r.Fatal(err)
	}
	t.segments++
	return s
}

func (r *rig) tell(t *running, state mesos.State, s *tasklet.Segment, change ...func(*mesos.Update)) {
	t.updates++
	r.update(t.id.First, t.id.Generation, state, append([]func(*mesos.Update){func(u *mesos.Update) {
		u.UUID = fmt.Append(nil, t.id.Generation, " ", t.updates)
		u.Data, _ = json.Marshal(tasklet.StatusData{Segment: s})
	}}, change...)...)
}

// finish ends a task with all results that are left.
func (r *rig) finish(t *running, outcome func(partition int) tasklet.Result) {
	r.Helper()
	results := t.results(outcome, t.rest()...)
	state := mesos.Finished
	for _, one := range results {
		if one.Outcome != tasklet.Succeeded {
			state = mesos.FailedState
		}
	}
	r.tell(t, state, r.storeSegment(t, results))
}

func well(partition int) tasklet.Result {
	return tasklet.Result{Outcome: tasklet.Succeeded, Outputs: map[string]json.RawMessage{"sum": fmt.Append(nil, partition*2)}}
}

func badly(int) tasklet.Result {
	return tasklet.Result{Outcome: tasklet.Failed, ExitCode: 3, Reason: "exit code 3"}
}

// runAll runs tasks until the activity is completed.
func (r *rig) runAll(outcome func(t *running, partition int) tasklet.Result) (tasks int) {
	r.Helper()
	r.playUntil("complete 7", func(t *running) {
		tasks++
		r.finish(t, func(partition int) tasklet.Result { return outcome(t, partition) })
	})
	return tasks
}

// playUntil gives one task after the other a place, and has it played, until
// something has happened.
func (r *rig) playUntil(event string, play func(t *running)) {
	r.Helper()
	for r.count(event) == 0 {
		r.settle()
		r.mu2.Lock()
		waiting := len(r.tasks)
		r.mu2.Unlock()
		if waiting == 0 {
			r.after(2 * time.Millisecond)
			continue
		}
		play(r.next())
	}
}

// manifest reads what the activity was completed with.
func (r *rig) manifest() (list []tasklet.Result) {
	r.Helper()
	return r.manifestIn(r.store)
}

func (r *rig) manifestIn(store storage.Store) (list []tasklet.Result) {
	r.Helper()
	ref := r.result.Range.Manifest
	l, err := lines.Open(r.Context(), storage.Section(store, ref.Key), ref.Size)
	if err != nil {
		r.Fatal(err)
	}
	for one, err := range lines.As[tasklet.Result](l.Values(r.Context(), 0, l.Len())) {
		if err != nil {
			r.Fatal(err)
		}
		list = append(list, one)
	}
	if len(list) != ref.N {
		r.Fatalf("%d results, told of %d", len(list), ref.N)
	}
	for i, one := range list {
		if one.Partition != list[0].Partition+i {
			r.Fatalf("result %d is of partition %d", i, one.Partition)
		}
	}
	return list
}

// takenOver is the next leader, on the same storage and with the details written last.
func (r *rig) takenOver(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	r.h.Close()
	next := newRig(t, append([]func(*Config){func(c *Config) { c.Store = r.store }}, change...)...)
	next.store = r.store
	r.mu2.Lock()
	defer r.mu2.Unlock()
	if r.details != nil {
		d := *r.details
		next.details = &d
	}
	return next
}

func (r *rig) putLines(key string, values ...any) tasklet.LinesRef {
	r.Helper()
	var object bytes.Buffer
	w := lines.NewWriter(&object, 0)
	for _, v := range values {
		if err := w.Add(v); err != nil {
			r.Fatal(err)
		}
	}
	size, err := w.Close()
	if err == nil {
		_, err = storage.PutBytes(r.Context(), r.store, key, object.Bytes())
	}
	if err != nil {
		r.Fatal(err)
	}
	return tasklet.LinesRef{Key: key, Size: size, N: len(values)}
}
