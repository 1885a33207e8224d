package fault

import (
	"strings"
	"testing"

	"github.com/baas-batch/baas/tests/harness"
)

// The leader dies, and the storage gateway in its process with it.
func TestKillTheLeader(t *testing.T) { ways(t, testKillTheLeader) }

func testKillTheLeader(t *testing.T, as way) {
	w := New(t, Config{OwnGateways: true})
	r := w.Start(as(Standard()))
	r.UnderWay(6, 6)
	old := w.Leader()
	living := r.Ledger().Living()
	w.do(old.Kill())
	next, took := w.LeaderOtherThan(old)
	t.Logf("worker %s leads after %s", next.Name, took)
	survive(t, gated(r.Flow, living))
	r.Open()
	w.Verify(r)
}

// The leader sleeps for longer than its lease: when it wakes up another one leads,
// and it must not act.
func TestPauseTheLeader(t *testing.T) { ways(t, testPauseTheLeader) }

func testPauseTheLeader(t *testing.T, as way) {
	w := New(t, Config{})
	r := w.Start(as(Standard()))
	r.UnderWay(6, 6)
	old := w.Leader()
	w.do(old.Pause())
	next, took := w.LeaderOtherThan(old)
	t.Logf("worker %s leads after %s", next.Name, took)
	name, attempt, err := harness.Leader(t.Context(), w.Client)
	w.do(err)

	w.do(old.Resume())
	harness.Eventually(t, "the old leader does not quit", func() bool { return strings.Contains(old.Log(), "no longer leading") })
	r.Open()
	w.Verify(r)
	if now, after, err := harness.Leader(t.Context(), w.Client); err != nil || now != name || after != attempt {
		t.Errorf("worker %s leads in attempt %d (%v), it was %s in attempt %d", now, after, err, name, attempt)
	}
}

// A worker that does not lead holds workflow tasks and the cache of workflows.
func TestKillTheStandby(t *testing.T) {
	t.Parallel()
	w := New(t, Config{})
	r, doomed := w.Start(Standard()), w.Start(Doomed())
	r.UnderWay(6, 6)
	w.do(w.Standby().Kill())
	r.Open()
	doomed.Open()
	w.Verify(r)
	w.Verify(doomed)
}

// The leader's own calls of storage fail, every other one, and take their time.
func TestLeaderWithoutStorage(t *testing.T) { ways(t, testLeaderWithoutStorage) }

func testLeaderWithoutStorage(t *testing.T, as way) {
	w := New(t, Config{})
	r := w.Start(as(Standard()))
	r.UnderWay(1, 3)
	leader := w.Leader()
	w.do(leader.Store.Set(StoreFault{Every: 2, Delay: delay}))
	// The results of its tasks are in the updates; those of tasks whose executor is
	// killed are only in storage.
	w.KillExecutors(0)
	r.Open()
	harness.Eventually(t, "no call of the leader's fails", func() bool { return leader.Store.Struck() > 10 })
	w.do(leader.Store.Heal())
	w.Verify(r)
}

// gated gives the entries of tasks that wait at the gate.
func gated(f Flow, l Ledger) Ledger {
	var some Ledger
	for _, e := range l {
		if s, _ := f.step(e.Step); s.Gated > 0 && e.Index%s.Gated == 0 {
			some = append(some, e)
		}
	}
	return some
}

// survive checks that the processes of tasks live.
func survive(t *testing.T, tasks Ledger) {
	t.Helper()
	if len(tasks) == 0 {
		t.Error("no task was there to survive")
	}
	for _, e := range tasks {
		if _, ok := harness.LookUp(e.PID); !ok {
			t.Errorf("not alive any more: %s", e)
		}
	}
}
