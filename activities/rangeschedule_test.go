package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

// Random schedules of faults for a Range. Its executors store segments, fail some
// partitions, and die between a segment and its update.

const worldAttempts = 3

func newRangeWorld(t *testing.T, seed uint64, partitions int) *world {
	w := newWorld(t, seed, 0)
	w.in.Partitions, w.in.Outputs = nil, nil
	w.in.Range = &api.Range{
		Count: partitions, MaxFailed: -1, MaxDetails: 32 << 10,
		Retry: flow.Retry{Attempts: worldAttempts, Backoff: flow.Duration(time.Millisecond), Factor: 1},
	}
	return w
}

// acceptPack begins a task. With mu held.
func (w *world) acceptPack(id tasklet.TaskID, data []byte) {
	run := &running{id: id}
	if err := json.Unmarshal(data, &run.Launch); err != nil {
		w.Error(err)
		return
	}
	var members []int
	for _, p := range run.Partitions {
		members = append(members, p.Index)
	}
	w.note("%s has %v, attempt %d", short(id.String()), members, run.Attempt)
	for _, s := range w.tasks {
		if s.run == nil || s.over || s.lost {
			continue
		}
		for at, p := range s.run.Partitions {
			if !s.run.over.has(at) && slices.ContainsFunc(run.Partitions, func(q tasklet.Partition) bool { return q.Index == p.Index }) {
				w.violated("partition %d of %s runs beside %s", p.Index, short(id.String()), name(s.id))
			}
		}
	}
	for _, p := range run.Partitions {
		if before := w.done[p.Index]; before != "" {
			w.violated("partition %d runs in %s though it was done in %s", p.Index, short(id.String()), before)
		}
	}
	if run.Attempt > worldAttempts {
		w.violated("attempt %d", run.Attempt)
	}
	w.tasks[id.String()] = &simTask{id: id, run: run}
}

// segment has a task store some results and tell of them.
func (w *world) segment(id string) {
	w.mu.Lock()
	s := w.tasks[id]
	if s == nil || s.run == nil || s.over || s.last != nil {
		w.mu.Unlock()
		return
	}
	rest := s.run.rest()
	if len(rest) == 0 {
		w.mu.Unlock()
		return
	}
	stored := w.storeSome(s, rest[:1+w.draw(len(rest))], false)
	u := s.running(stored)
	s.last = &u
	told := !s.away && w.draw(3) > 0
	w.mu.Unlock()
	if told {
		w.leader.Load().h.Update(u)
	}
}

func (s *simTask) running(segment *tasklet.Segment) mesos.Update {
	u := mesos.Update{TaskID: s.id.String(), State: mesos.Running, AgentID: "a1", ExecutorID: "x1", Source: "EXECUTOR",
		UUID: fmt.Append(nil, "segment ", segment.Number)}
	u.Data, _ = json.Marshal(tasklet.StatusData{Segment: segment})
	return u
}

// storeSome stores results. With mu held.
func (w *world) storeSome(s *simTask, positions []int, kill bool) *tasklet.Segment {
	results := s.run.results(func(i int) tasklet.Result {
		switch {
		case kill && w.draw(2) == 0:
			return tasklet.Result{Outcome: tasklet.Killed}
		case w.draw(5) == 0:
			return badly(i)
		case w.draw(20) == 0:
			return tasklet.Result{Outcome: tasklet.Platform}
		}
		return tasklet.Result{Outcome: tasklet.Succeeded}
	}, positions...)
	rig := &rig{T: w.T, key: w.key}
	segment := rig.storeIn(w.store.Store, s.run, results)
	w.note("%s stores %d of %v %v", short(s.id.String()), segment.Number, positions, len(segment.Failed))
	for _, r := range results {
		if r.Outcome == tasklet.Succeeded && !s.lost {
			w.done[r.Partition] = short(s.id.String())
		}
	}
	return segment
}

// endPack ends a task; its executor may die before it has told of its last segment.
// With mu held.
func (w *world) endPack(s *simTask, state mesos.State, store bool) *mesos.Update {
	if s.last != nil && state == mesos.KilledState {
		s.dying = true // it goes on when that is acknowledged
		return nil
	}
	u := mesos.Update{TaskID: s.id.String(), State: state, AgentID: "a1", ExecutorID: "x1", Source: "EXECUTOR", UUID: fmt.Append(nil, state)}
	switch rest := s.run.rest(); {
	case state == mesos.FailedState || s.last != nil:
		if s.last == nil && store || s.last == nil && w.draw(2) == 0 && len(rest) > 0 {
			w.storeSome(s, rest[:1+w.draw(len(rest))], false)
		}
		u.State, u.UUID = mesos.FailedState, []byte("died")
		executorTerminated(&u)
	case len(rest) > 0 || s.run.segments == 0:
		segment := w.storeSome(s, rest, state == mesos.KilledState)
		if len(segment.Failed) > 0 && state == mesos.Finished {
			u.State = mesos.FailedState
		}
		u.Data, _ = json.Marshal(tasklet.StatusData{Segment: segment})
	}
	s.over = true
	w.note("%s %s", name(s.id), u.State)
	if s.last != nil {
		s.then = &u
		return nil
	}
	s.last = &u
	if s.away || w.draw(3) == 0 {
		return nil
	}
	return &u
}

// acknowledgedSegment watches that what is acknowledged is stored. With mu held.
func (w *world) acknowledgedSegment(u mesos.Update) {
	var data tasklet.StatusData
	id, _ := tasklet.ParseTaskID(u.TaskID)
	if len(u.Data) == 0 || json.Unmarshal(u.Data, &data) != nil || data.Segment == nil || !w.pending {
		return
	}
	key := api.SegmentKey(stepPrefix, w.key.ActivityID, id.First, id.Generation, data.Segment.Number)
	if _, err := w.store.Store.Stat(context.Background(), key); err != nil {
		w.violated("segment %d of %s is acknowledged and not stored", data.Segment.Number, short(u.TaskID))
	}
}

// checkRange compares the manifest with what lies in storage.
func (w *world) checkRange() {
	got := w.result.Range
	if got == nil {
		if !w.killed {
			w.Error("no result")
		}
		return
	}
	n := w.in.Range.Count
	if got.Succeeded+got.Failed+got.Killed+got.NotRun != n || !w.killed && got.Succeeded+got.Failed != n {
		w.Errorf("result %+v of %d partitions", got, n)
	}
	rig := &rig{T: w.T, result: &w.result}
	list := rig.manifestIn(w.store.Store)
	ok := make([]int, n) // lowest generation that did it
	h := w.leader.Load().h
	all, err := listSegments(context.Background(), w.store.Store, stepPrefix, w.key.ActivityID, "")
	for _, s := range all {
		err = errors.Join(err, readSegment(context.Background(), h.cfg.Store, s, func(_ int, r tasklet.Result, _ []byte) error {
			if r.Outcome == tasklet.Succeeded && (ok[r.Partition] == 0 || s.generation < ok[r.Partition]) {
				ok[r.Partition] = s.generation
			}
			return nil
		}))
	}
	if err != nil {
		w.Error(err)
	}
	for i, r := range list {
		switch {
		case r.Outcome == tasklet.Succeeded && ok[i] == 0:
			w.Errorf("partition %d counts as done, and no segment says so", i)
		case r.Outcome != tasklet.Succeeded && w.done[i] != "":
			w.Errorf("partition %d was done in %s, the manifest has %+v", i, w.done[i], r)
		case r.Outcome == tasklet.Failed && r.Attempt != worldAttempts && !w.killed:
			w.Errorf("partition %d has failed after attempt %d", i, r.Attempt)
		}
	}
}

func TestRandomRangeSchedules(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed int) {
		w := newRangeWorld(t, uint64(seed), 1+seed%40)
		w.mortal = seed%3 == 0
		if seed%5 < 2 {
			w.in.UnreachableTimeout = time.Millisecond
		}
		w.schedule()
	})
}
