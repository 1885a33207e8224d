package activities

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

func TestRangePacksGrowWithTheirPace(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, 15000), api.Details{}, 1)
	first := r.next()
	if n := len(first.Partitions); n != firstPack {
		t.Errorf("the first pack has %d partitions", n)
	}
	s := r.storeSegment(first, first.results(well, 0, 1, 2, 3))
	s.Seconds = 0.004
	r.tell(first, mesos.Finished, s)
	r.until("ack 0.1 FINISHED")
	r.look(func(e *entry) {
		if len(e.packs) != window {
			t.Errorf("%d packs wait", len(e.packs))
		}
	})
	// What was cut before grows with its launch.
	if n := len(r.next().Partitions); n < 1000 || n > maxPack {
		t.Errorf("a pack has %d partitions of 1 ms", n)
	}
	slow := newRig(t)
	slow.deliver(rangeInput(0, 15000), api.Details{}, 1)
	task := slow.next()
	s = slow.storeSegment(task, task.results(well, 0, 1, 2, 3))
	s.Seconds = 240
	slow.tell(task, mesos.Finished, s)
	slow.until("ack 0.1 FINISHED")
	if n := len(slow.next().Partitions); n != 1 {
		t.Errorf("a pack has %d partitions of a minute", n)
	}
}

// Where very many tasks run, each is longer and tells less often what it has done.
func TestRangeOnALargeCluster(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, maxRange), api.Details{}, 1)
	r.next()
	sizes := map[int]int{}
	for _, placed := range []int{1, 1000, 10_000, 40_000} {
		r.look(func(e *entry) {
			e.ranged.pace.add(0.5, 1)
			e.h.backlog.mu.Lock()
			was := e.h.backlog.load.Placed
			e.h.backlog.load.Placed = placed
			e.h.backlog.mu.Unlock()
			sizes[placed] = e.packSize(1)
			e.h.backlog.mu.Lock()
			e.h.backlog.load.Placed = was
			e.h.backlog.mu.Unlock()
		})
	}
	if want := (map[int]int{1: 10, 1000: 10, 10_000: 50, 40_000: 200}); !maps.Equal(sizes, want) {
		t.Errorf("partitions of half a second in a pack, by tasks in place: %v, want %v", sizes, want)
	}
	for placed, want := range map[int]time.Duration{1: segmentEvery, 2000: segmentEvery, 160_000: 160 * time.Second} {
		if d := every(placed); d != want {
			t.Errorf("with %d tasks in place a segment every %s, want %s", placed, d, want)
		}
	}
}

// Nobody knows yet whether partitions take hours: each has a task of its own.
func TestRangeBeginsWithSinglePartitions(t *testing.T) {
	r := newRig(t, func(c *Config) { c.FirstPack = 0 })
	r.deliver(rangeInput(0, 40), api.Details{}, 1)
	for range 40 {
		if task := r.next(); len(task.Partitions) != 1 {
			t.Fatalf("%d partitions in a task", len(task.Partitions))
		}
	}
}

// Where details have no room for more tasks, no more are cut than there is room for.
func TestRangeWithShortDetails(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, 400, func(in *api.LaunchInput) { in.Range.MaxDetails, in.Range.MaxOutputs = 420, 0 }), api.Details{}, 1)
	refused := 0
	for r.count("complete 7") == 0 {
		r.settle()
		r.mu2.Lock()
		ids := slices.Collect(maps.Keys(r.tasks))
		r.mu2.Unlock()
		var launched []*running
		for _, id := range ids {
			if task, ok := r.tryNext(id); ok {
				launched = append(launched, task)
			} else {
				refused++
			}
		}
		for _, task := range launched {
			r.finish(task, well)
		}
		r.after(time.Millisecond)
	}
	if got := r.result.Range; got.Succeeded != 400 || refused == 0 {
		t.Errorf("result %+v, %d refused", got, refused)
	}
}

func TestRangeParallel(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, 100, func(in *api.LaunchInput) { in.Range.Parallel = 3 }), api.Details{}, 1)
	a := r.next()
	r.next()
	r.tell(a, mesos.Running, nil)
	r.look(func(e *entry) {
		if len(e.packs) != 3 {
			t.Errorf("%d packs with 3 partitions at a time", len(e.packs))
		}
	})
	if got := r.h.Load(); got.Placed != 2 || got.Waiting != 1 {
		t.Errorf("load %+v", got)
	}
}

// A thousand packs in flight, some with gaps: their details stay within the bound,
// and name them all.
func TestRangeDetailsFit(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, 15000), api.Details{}, 1)
	r.until("submit 0.1")
	r.look(func(e *entry) {
		e.packs = nil
		for n := range 1000 {
			p := &pack{first: n * 15, generation: n + 1, attempt: 1 + n%3, phase: phasePlaced, state: mesos.Running,
				agent: api.AgentDetail{ID: fmt.Sprintf("5b9f1d2c-1c5e-4c6e-9d4f-%012d-S%d", n%40, n%40), Host: fmt.Sprint("host-", n%40), Endpoint: "h:5051"}}
			for i := range 15 {
				if n%10 > 0 || i%3 > 0 {
					p.members = append(p.members, int32(n*15+i))
				}
			}
			e.packs = append(e.packs, p)
			e.use(0, p.generation)
		}
		d, whole := e.describe()
		if size := jsonSize(d); !whole || size > 64<<10 {
			t.Errorf("%d bytes, whole %v", size, whole)
		} else {
			t.Logf("%d bytes", size)
		}
		back := roundTrip(t, d)
		if len(back.Tasks) != 1000 || back.Range.Sequence < 1000 {
			t.Fatalf("%d tasks", len(back.Tasks))
		}
		for n, task := range back.Tasks {
			if got := membersOf(task, e.ranged); !slices.Equal(got, e.packs[n].members) || task.Generation != n+1 {
				t.Fatalf("task %d: %v, was %v", n, got, e.packs[n].members)
			}
		}
		e.packs = nil
	})
}

func TestRangeThatCannotRun(t *testing.T) {
	r := newRig(t)
	in := rangeInput(5, 20)
	in.CPUs = 0
	got, err := r.h.Take(Attempt{Key: r.key, Input: in})
	if err != nil || got.Range == nil || got.Range.Failed != 20 || len(got.Range.Failures) != api.MaxFailures {
		t.Fatalf("%+v, %v", got, err)
	}
	r.result = &got
	if list := r.manifest(); len(list) != 20 || list[0].Outcome != tasklet.Invalid {
		t.Errorf("manifest %v", list[0])
	}
}

// Tasks that are placed together and have no room in the details together are launched
// one after the other, and not refused together for ever.
func TestRangePlacedTogetherWithShortDetails(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, 400, func(in *api.LaunchInput) { in.Range.MaxDetails, in.Range.MaxOutputs = 260, 0 }), api.Details{}, 1)
	launched, refused := 0, 0
	r.eventually("a task is launched", func() bool {
		r.settle()
		pl := mesos.Placement{Agent: mesos.Agent{ID: "a1", Hostname: "host", Endpoint: "host:5051"}, Executor: "x1"}
		r.set(func() {
			for id, one := range r.tasks {
				pl.Tasks = append(pl.Tasks, one)
				delete(r.tasks, id)
			}
		})
		for _, l := range r.h.Placed(r.Context(), pl) {
			if l.Err == nil {
				launched++
			} else {
				refused++
			}
		}
		r.look(func(e *entry) { e.ranged.max += 4 }) // until one has room
		return launched > 0
	})
	if refused == 0 {
		t.Error("all had room")
	}
	r.look(func(e *entry) {
		if _, placed := e.split(); placed != launched || e.ranged.most != launched {
			t.Errorf("%d launched, %d placed, room for %d", launched, placed, e.ranged.most)
		}
	})
}

// A pack that details have no room for is cut.
func TestRangePackTooWide(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, 400), api.Details{}, 1)
	r.until("submit 0.1")
	r.look(func(e *entry) {
		waits, p := e.ranged.n[partWaits], e.packs[0]
		e.tooWide(p)
		if p.count() != firstPack/2 || p.most != p.count() || e.ranged.n[partWaits] != waits+firstPack/2 {
			t.Errorf("%d partitions of a pack, %d wait, %d did", p.count(), e.ranged.n[partWaits], waits)
		}
	})
	if n := len(r.next().Partitions); n != firstPack/2 {
		t.Errorf("launched with %d", n)
	}
}

// A pack is in so many pieces at most, whatever lies between.
func TestRangePackInPieces(t *testing.T) {
	r := newRig(t, func(c *Config) { c.FirstPack = 300 })
	r.deliver(rangeInput(0, 300), api.Details{}, 1)
	r.until("submit 0.1")
	r.look(func(e *entry) {
		for i := 1; i < 300; i += 2 {
			e.ranged.decide(decided(i, tasklet.Killed, "killed"))
		}
	})
	task := r.next()
	if n := len(task.Partitions); n != maxSpans {
		t.Errorf("%d pieces", n)
	}
	r.finish(task, well)
	r.runAll(func(_ *running, partition int) tasklet.Result { return well(partition) })
	if got := r.result.Range; got.Succeeded != 150 || got.Killed != 150 {
		t.Errorf("result %+v", got)
	}
}

// The parts of a divided pack keep to the bound of the step too.
func TestRangeParallelOfParts(t *testing.T) {
	r := newRig(t, func(c *Config) { c.FirstPack = 32 })
	r.deliver(rangeInput(0, 64, func(in *api.LaunchInput) { in.Range.Parallel = 1 }), api.Details{}, 1)
	task := r.next()
	r.tell(task, mesos.Running, nil)
	r.tell(task, mesos.FailedState, nil, executorTerminated)
	small := 0
	for r.count("complete 7") == 0 {
		r.settle()
		waiting := 0
		r.set(func() { waiting = len(r.tasks) })
		r.look(func(e *entry) {
			busy := 0
			for _, p := range e.packs {
				if p.phase == phaseWaiting || p.phase == phasePlaced {
					busy++
				}
			}
			if busy > 1 {
				t.Fatalf("%d tasks at a time", busy)
			}
		})
		if waiting == 0 {
			r.after(time.Millisecond)
			continue
		}
		one := r.next()
		if len(one.Partitions) <= 32/divisor {
			small++
		}
		r.finish(one, well)
	}
	if got := r.result.Range; got.Succeeded != 64 || small < divisor {
		t.Errorf("result %+v, %d parts", got, small)
	}
}

// What is stored in the place of an executor says nothing of the number of its own.
func TestRangeSegmentsOfLeadersDoNotCount(t *testing.T) {
	r := newRig(t)
	for _, number := range []int{0, 1, maxSegments + 1} {
		key := api.SegmentKey(stepPrefix, r.key.ActivityID, 0, 1, number)
		if err := r.h.putSegment(r.Context(), key, []tasklet.Result{{Partition: 0, Outcome: tasklet.Failed}}); err != nil {
			t.Fatal(err)
		}
	}
	found, err := r.h.look(stepPrefix, r.key.ActivityID)
	if err != nil || found.segments[1] != 2 || len(found.results) != 3 {
		t.Errorf("%+v, %v", found, err)
	}
}

// Who does not lead stores no results.
func TestRangeStoresNothingWithoutTheLead(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, 40), api.Details{}, 1)
	r.until("submit 0.1")
	r.set(func() { r.leading = false })
	r.look(func(e *entry) {
		e.killed(39)
		if err := e.flush(); !errors.Is(err, errNotLeader) {
			t.Errorf("flush: %v", err)
		}
		if _, err := e.keep(e.packs[0], []tasklet.Result{{Partition: 0, Outcome: tasklet.Failed}}); !errors.Is(err, errNotLeader) {
			t.Errorf("keep: %v", err)
		}
	})
	found, err := r.h.look(stepPrefix, r.key.ActivityID)
	if err != nil || len(found.results) > 0 {
		t.Errorf("%+v, %v", found, err)
	}
}
