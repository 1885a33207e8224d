package fault

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// What a normal run of the tests plays: so many schedules, but no more than the
// least number once the time is over.
const (
	usualSchedules = 20
	leastSchedules = 6
	scheduleBound  = 3 * time.Minute
	// worldLife is how many schedules one World sees.
	worldLife = 20
)

// Schedules of random faults; see the package's README for how to play many, or one
// again.
func TestSchedules(t *testing.T) {
	t.Parallel()
	p := planned(t)
	t.Logf("schedules from BAAS_SEED=%d", p.next)
	t.Run("played", func(t *testing.T) {
		for lane := range number(t, "BAAS_FAULT_WORLDS", 2) {
			t.Run(strconv.Itoa(lane), func(t *testing.T) {
				t.Parallel()
				for p.more() {
					t.Run("world", func(t *testing.T) { playWorld(t, p) })
				}
			})
		}
	})
	t.Log(p)
	if _, kinds := p.injected(); p.done >= leastSchedules && kinds < 8 {
		t.Errorf("only %d kinds of faults were injected", kinds)
	}
}

func planned(t *testing.T) *plan {
	t.Helper()
	if os.Getenv("BAAS_FAULT_SCHEDULES") == "" && os.Getenv("BAAS_SEED") == "" {
		return newPlan(seed(t), usualSchedules, leastSchedules, scheduleBound)
	}
	n := number(t, "BAAS_FAULT_SCHEDULES", 1)
	text := os.Getenv("BAAS_FAULT_TIME")
	if text == "" {
		return newPlan(seed(t), n, n, 0)
	}
	bound, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("BAAS_FAULT_TIME: %v", err)
	}
	return newPlan(seed(t), n, 1, bound)
}

func number(t *testing.T, name string, other int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return other
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is not a positive number", name, text)
	}
	return n
}

// playWorld plays schedules in one World until one of them fails.
func playWorld(t *testing.T, p *plan) {
	first, ok := p.seed()
	if !ok {
		return
	}
	s := newTestbed(t, first)
	for n, seed := 1, first; ok; n++ {
		if !t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) { playSchedule(t, s, p, seed) }) || n == worldLife {
			return
		}
		seed, ok = p.seed()
	}
}

func playSchedule(t *testing.T, s *testbed, p *plan, seed uint64) {
	sc := newSchedule(seed)
	began := time.Now()
	violations := []string{"it was not played to its end"}
	defer func() {
		p.add(sc, s.givenUp, s.unfetched, violations)
		t.Logf("BAAS_SEED=%d: ranges: %t, %s, %d violations: %s", seed, sc.inRanges(), time.Since(began).Round(time.Second/10), len(violations), sc.names())
		if t.Failed() {
			t.Log(sc)
		}
	}()
	violations = s.play(t, sc)
	for _, v := range violations {
		t.Errorf("BAAS_SEED=%d: %s", seed, v)
	}
}

// A seed gives the same schedule each time, and of many schedules the flows have
// all that a flow can have.
func TestScheduleOfSeed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for seed := range uint64(200) {
		one, other := newSchedule(seed), newSchedule(seed)
		if one.String() != other.String() || one.faults[0].rand.Uint64() != other.faults[0].rand.Uint64() {
			t.Fatalf("two schedules of seed %d:\n%s\n%s", seed, one, other)
		}
		for _, in := range one.faults {
			seen[in.kind.name] = true
		}
		for _, f := range one.flows {
			if n := f.Tasks(); n < 10 || n > 40 {
				t.Errorf("seed %d: a flow of %d tasks", seed, n)
			}
			for _, s := range f.Steps {
				seen["needs"] = seen["needs"] || len(s.Needs) > 0
				seen["fails"] = seen["fails"] || s.Fails > 0 && !s.Doomed()
				seen["doomed"] = seen["doomed"] || s.Doomed()
				seen["checkpoints"] = seen["checkpoints"] || s.Checkpoints
				seen["at most once"] = seen["at most once"] || s.AtMostOnce
			}
		}
	}
	if want := len(faultKinds()) + 5; len(seen) != want {
		t.Errorf("%d kinds of faults and traits of flows seen, want %d: %v", len(seen), want, seen)
	}
}
