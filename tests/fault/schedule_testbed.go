package fault

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/tests/harness"
)

// testbed is a World on which schedules are played, one after the other.
type testbed struct {
	*World
	tricks *tricks
	disks  disks
	read   map[string]int // bytes of each worker's log that have been looked through

	// Of the schedule of the moment.
	runs    []*playedRun
	busy    map[string]bool     // parts that a fault has in hand
	killing map[*playedRun]bool // a kill has been asked for, perhaps in vain
	killed  map[*playedRun]bool
	hidden  bool // the executor's binary, at some time
	// Of the runs that have been judged.
	givenUp   int // steps that run at most once
	unfetched int // runs that failed for want of the executor's binary
}

// playedRun is a run whose end is waited for in the background.
type playedRun struct {
	*Run
	done chan struct{}
}

func (r *playedRun) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// newTestbed starts a World for schedules.
func newTestbed(t testing.TB, seed uint64) *testbed {
	s := &testbed{tricks: newTricks(seed), read: map[string]int{}}
	s.World = New(t, Config{
		Seed: seed, Masters: 2, Faults: s.tricks.faults(),
		Mesos: func(cfg *embeddedmesos.Config) {
			s.disks = mountDisks(t, cfg.Dir, len(cfg.Agents))
			cfg.Master.AgentReregisterTimeout = 6 * time.Second
			cfg.Agent.FetcherCacheSize = 1 // nothing is kept: binaries are fetched each time
			cfg.Agent.GCDelay = 30 * time.Second
		},
	})
	return s
}

// name names one of several like parts, as a key of testbed.busy.
func name(part string, i int) string { return fmt.Sprintf("%s %d", part, i) }

// some chooses one of n like parts that no fault has in hand.
func (s *testbed) some(in *injection, part string, n int) (i int, keys []string, ok bool) {
	for _, i := range in.rand.Perm(n) {
		if key := name(part, i); !s.busy[key] {
			return i, []string{key}, true
		}
	}
	return 0, nil, false
}

// someWorker chooses the worker that leads, or one that does not.
func (s *testbed) someWorker(in *injection, leading bool) (i int, keys []string, ok bool) {
	leader, known := s.leading()
	for _, i := range in.rand.Perm(len(s.Workers)) {
		if key := name("worker", i); !s.busy[key] && (!known || (i == leader) == leading) {
			return i, []string{key}, true
		}
	}
	return 0, nil, false
}

// leading tells which worker leads, if Temporal tells.
func (s *testbed) leading() (int, bool) {
	ctx, cancel := s.soon()
	defer cancel()
	name, _, err := harness.Leader(ctx, s.Client)
	for i, v := range s.Workers {
		if err == nil && v.Name == name {
			return i, true
		}
	}
	return 0, false
}

// soon bounds calls of Temporal, which may not be there.
func (s *testbed) soon() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.Context(), 500*time.Millisecond)
}

// doubt notes that a call of the leader's may get lost: it cannot know then whether
// a task has been launched, so one that runs at most once may be given up.
func (s *testbed) doubt() { s.Harm(-1) }

// play plays a schedule in a test of its own, and judges how its runs have ended.
func (s *testbed) play(t testing.TB, sc *schedule) (violations []string) {
	outer := s.World.TB
	s.World.TB = t
	defer func() { s.World.TB = outer }()
	s.mu.Lock()
	s.harms = nil
	s.mu.Unlock()
	s.runs, s.busy = nil, map[string]bool{}
	s.hidden, s.givenUp, s.unfetched = false, 0, 0
	s.killing, s.killed = map[*playedRun]bool{}, map[*playedRun]bool{}
	for _, f := range sc.flows {
		s.runs = append(s.runs, s.await(s.Start(f)))
	}
	s.strike(sc)
	s.recover()
	for _, r := range s.runs {
		s.finish(r)
		violations = append(violations, s.judge(r)...)
	}
	return append(violations, s.crashes()...)
}

// await waits for a run's end in the background.
func (s *testbed) await(r *Run) *playedRun {
	p := &playedRun{r, make(chan struct{})}
	ctx := s.Context()
	go func() {
		for ctx.Err() == nil {
			if _, err := s.Runs.Wait(ctx, r.ID); err == nil {
				close(p.done)
				return
			}
			select {
			case <-time.After(100 * ms): // Temporal may not be there
			case <-ctx.Done():
			}
		}
	}()
	return p
}

// strike injects the faults when they are due, until all are over or can befall
// nothing any more.
func (s *testbed) strike(sc *schedule) {
	began := time.Now()
	tick := time.NewTicker(20 * ms)
	defer tick.Stop()
	for left := true; left; {
		left = false
		entries := 0
		ended := true
		for _, r := range s.runs {
			entries += len(r.Ledger())
			ended = ended && r.ended()
		}
		for _, in := range sc.faults {
			switch {
			case in.state == active && time.Now().After(in.until):
				s.end(in)
			case in.state == pending && !ended && in.due(time.Since(began), entries):
				s.begin(in)
			}
			left = left || in.state == active || in.state == pending && !ended && time.Since(began) < 2*horizon
		}
		s.restart()
		select {
		case <-tick.C:
		case <-s.Context().Done():
			return
		}
	}
}

func (in *injection) due(after time.Duration, entries int) bool {
	if in.entries > 0 {
		return entries >= in.entries
	}
	return after >= in.at
}

func (s *testbed) begin(in *injection) {
	e, ok := in.kind.begin(s, in)
	if !ok {
		return
	}
	in.effect = e
	for _, key := range e.keys {
		s.busy[key] = true
	}
	if in.state, in.until = active, time.Now().Add(in.lasts); in.kind.most == 0 {
		s.end(in)
	}
}

func (s *testbed) end(in *injection) {
	if in.effect.end != nil {
		in.effect.end()
	}
	for _, key := range in.keys {
		delete(s.busy, key)
	}
	in.state = over
}

// blows counts how often a fault has struck.
func (in *injection) blows() int {
	switch {
	case in.state != over:
		return 0
	case in.effect.struck == nil:
		return 1
	default:
		return in.effect.struck()
	}
}

// restart starts workers that have ended by themselves, as a supervisor does.
func (s *testbed) restart() {
	for i, v := range s.Workers {
		if !v.Running() && !s.busy[name("worker", i)] {
			s.Logf("worker %s has ended by itself:\n%s", v.Name, v.Tail(5))
			s.do(v.Launch())
		}
	}
}

// recover waits until all parts are there again.
func (s *testbed) recover() {
	ctx, cancel := context.WithTimeout(s.Context(), harness.Patience)
	defer cancel()
	if err := s.Cluster.AwaitAgents(ctx); err != nil {
		s.Fatalf("not all agents have come back: %v", err)
	}
	for _, v := range s.Workers {
		s.do(v.Await(nil))
	}
}

// finish waits for a run's end for as long as its tasks enter something in the
// ledger now and then: on a loaded machine a run takes minutes.
func (s *testbed) finish(r *playedRun) {
	tick := time.NewTicker(50 * ms)
	defer tick.Stop()
	entries, since := 0, time.Now()
	for !r.ended() {
		if n := len(r.Ledger()); n > entries {
			entries, since = n, time.Now()
		}
		if time.Since(since) > harness.Patience {
			s.Fatalf("run %s does not end: nothing has happened for %s", r.ID, harness.Patience)
		}
		select {
		case <-tick.C:
		case <-s.Context().Done():
			return
		}
	}
}

// crashes looks for what no worker may write, whatever befalls it.
func (s *testbed) crashes() (found []string) {
	for _, p := range s.Workers {
		log := p.Log()
		for line := range strings.Lines(log[s.read[p.Name]:]) {
			if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.Contains(line, "WARNING: DATA RACE") {
				found = append(found, p.Name+": "+strings.TrimSpace(line))
			}
		}
		s.read[p.Name] = len(log)
	}
	return found
}
