package activities

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

// part makes an agent unreachable, or lets it return.
func (w *world) part(id string, away bool) {
	w.mu.Lock()
	s := w.tasks[id]
	if s == nil || s.away == away {
		w.mu.Unlock()
		return
	}
	s.away, s.lost = away, true
	w.note("%s away %v", name(s.id), away)
	u := s.reconciled()
	u.Reason = ""
	w.mu.Unlock()
	if u.State.Live() {
		w.leader.Load().h.Update(u)
	}
}

// fades lets tasks of the earlier run outlast most of a schedule.
func (s *simTask) fades(w *world) bool { return w.healed || w.draw(12) == 0 }

// back lets all agents return.
func (w *world) back() {
	w.mu.Lock()
	ids := slices.DeleteFunc(slices.Sorted(maps.Keys(w.tasks)), func(id string) bool {
		s := w.tasks[id]
		return s.earlier() && !s.fades(w)
	})
	w.mu.Unlock()
	for _, id := range ids {
		w.part(id, false)
	}
}

// some picks a task that runs.
func (w *world) some() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var live []string
	for id, s := range w.tasks {
		if !s.over && (!s.earlier() || s.fades(w)) {
			live = append(live, id)
		}
	}
	if len(live) == 0 {
		return ""
	}
	slices.Sort(live)
	return live[w.draw(len(live))]
}

func (w *world) step(healthy bool) {
	n := w.draw(23)
	switch {
	case w.in.Range != nil && w.draw(4) == 0:
		w.segment(w.some())
	case n < 6:
		w.place()
	case n < 9:
		w.deliver()
	case n < 11:
		w.end(w.some(), mesos.Finished, true)
	case n < 13:
		w.resend()
	case healthy:
		w.mu.Lock()
		if w.started && time.Since(w.beat) > 300*time.Millisecond {
			w.note("timed out")
			w.lost()
		}
		w.mu.Unlock()
		time.Sleep(time.Millisecond) // no synchronisation: timers and heartbeats are to get their turn
	case n < 14:
		w.end(w.some(), mesos.FailedState, false)
	case n < 15:
		w.end(w.some(), mesos.Finished, false)
	case n < 16:
		w.lead()
	case n < 17:
		w.mu.Lock()
		w.note("timed out")
		if w.started {
			w.lost()
		}
		w.mu.Unlock()
	case n < 18:
		w.mu.Lock()
		w.away = !w.away
		w.note("Temporal away %v", w.away)
		w.mu.Unlock()
	case n < 19:
		w.part(w.some(), true)
	case n < 20:
		w.back()
	case n < 21 && w.mortal && w.draw(10) == 0:
		w.kill()
	case n < 22:
		w.store.down.Store(!w.store.down.Load())
	default:
		time.Sleep(time.Millisecond)
	}
}

// schedule runs one seed to the end of the activity.
func (w *world) schedule() {
	w.lead()
	defer func() { w.leader.Load().h.Close() }()
	for range 150 {
		w.step(false)
	}
	w.mu.Lock()
	w.away, w.healed = false, true
	w.note("healed")
	w.mu.Unlock()
	w.store.down.Store(false)
	w.lead()
	w.back()
	over := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return !w.pending && len(w.tasks) == 0
	}
	for deadline := time.Now().Add(20 * time.Second); !over() || len(w.leader.Load().h.all()) > 0; {
		w.step(true)
		if time.Now().After(deadline) {
			w.mu.Lock()
			w.violated("no end: pending %v, %d tasks, %d entries", w.pending, len(w.tasks), len(w.leader.Load().h.all()))
			w.mu.Unlock()
			return
		}
	}
	if w.in.Range != nil {
		w.checkRange()
		return
	}
	if w.killed {
		return
	}
	for i, r := range w.result.Results {
		if r.Partition != i || r.Outcome != tasklet.Succeeded {
			w.Errorf("result %d: %+v", i, r)
		}
	}
	if len(w.result.Results) != len(w.in.Partitions) {
		w.Errorf("%d results", len(w.result.Results))
	}
}

// eachSeed runs a test for random seeds until it fails. BAAS_SEEDS sets how many,
// BAAS_SEED the first one.
func eachSeed(t *testing.T, test func(t *testing.T, seed int)) {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
			return n
		}
		return otherwise
	}
	first := number("BAAS_SEED", rand.IntN(1<<30))
	for i := range number("BAAS_SEEDS", 20) {
		seed := first + i
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { test(t, seed) })
		if t.Failed() {
			break
		}
	}
}

// Random schedules of faults.
func TestRandomSchedules(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed int) {
		w := newWorld(t, uint64(seed), 1+seed%3)
		w.mortal = seed%2 == 0
		if seed%4 == 1 {
			w.haunted()
		}
		if seed%5 < 2 {
			w.in.UnreachableTimeout = time.Millisecond
		}
		w.schedule()
	})
}
