package fault

import (
	"sync"
	"testing"
	"time"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/link"
	"github.com/baas-batch/baas/tests/harness"
)

// Wide is a flow of 500 short tasks.
func Wide() Flow {
	return Flow{Name: "wide", Unreachable: Unreachable, Steps: []Step{
		{Name: "wide", Tasks: 480, Short: 20 * time.Millisecond, Long: 200 * time.Millisecond, Gated: 60, Attempts: 3},
		{Name: "once", Tasks: 20, Short: 100 * time.Millisecond, Long: 300 * time.Millisecond, AtMostOnce: true},
	}}
}

// accepts notes when the masters are sent the first ACCEPT after Watch.
type accepts struct {
	mu    sync.Mutex
	watch bool
	first time.Time
}

func (a *accepts) call(c *scheduler.Call) link.CallFate {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.watch && a.first.IsZero() && c.Type == scheduler.Call_ACCEPT {
		a.first = time.Now()
	}
	return link.CallFate{}
}

// Watch begins; what was sent before does not count.
func (a *accepts) Watch() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watch = true
}

func (a *accepts) First() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.first
}

// The leading master dies in the middle of 500 tasks, and ZooKeeper has another one
// elected when the session of the dead one has timed out.
func TestZooKeeperFailover(t *testing.T) {
	t.Parallel()
	z := harness.StartZooKeeper(t)
	var sent accepts
	w := New(t, Config{
		Masters: 2, Faults: embeddedmesos.Faults{Call: sent.call},
		Worker: func(c *harness.WorkerConfig) { c.Masters = []string{z.URL("/mesos")} },
	})
	election := z.HoldElection(w.Cluster, "/mesos", "")
	r := w.Start(Wide())
	r.Await("too few tasks end", func(l Ledger) bool { return len(l.Of(Ended)) >= 150 })
	old := w.Cluster.Leader()
	election.Kill(old)
	killed := time.Now()
	sent.Watch() // the dead master takes no call any more
	var elected time.Time
	select {
	case <-election.Elected:
		elected = time.Now()
	case <-time.After(harness.Patience):
		t.Fatal("no master is elected")
	}
	if now := w.Cluster.Leader(); now == old {
		t.Errorf("master %d still leads", now)
	}
	harness.Eventually(t, "nothing is launched by way of the new master", func() bool { return !sent.First().IsZero() })
	first := sent.First()
	var began Entry
	r.Await("no task starts after the failover", func(l Ledger) bool {
		for _, e := range l.Of(Began) {
			if e.At.After(first) {
				began = e
				return true
			}
		}
		return false
	})
	if n := len(r.Ledger().Of(Ended)); n >= r.Flow.Tasks() {
		t.Errorf("all %d tasks had ended before the failover was over", n)
	}
	since := func(at, from time.Time) time.Duration { return at.Sub(from).Round(time.Millisecond) }
	t.Logf("first task by way of the new master %s after the kill: elected after %s (session time-out 2s), first ACCEPT %s after that, task started %s after that",
		since(began.At, killed), since(elected, killed), since(first, elected), since(began.At, first))
	r.Open()
	w.Verify(r)
}
