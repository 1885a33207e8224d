package fault

import (
	"os"
	"testing"
	"time"

	"github.com/baas-batch/baas/tests/harness"
)

const delay = 50 * time.Millisecond

// The master forgets all that it does not learn again from its registry and agents.
func TestRestartMaster(t *testing.T) {
	t.Parallel()
	w := New(t, Config{})
	r := w.Start(Standard())
	r.UnderWay(4, 6)
	r.allBegun("once")
	living := gated(r.Flow, r.Ledger().Living())
	w.RestartMaster()
	r.Open()
	w.Verify(r)
	survived(t, r, living)
}

// allBegun waits until all tasks of a step have begun: one that runs at most once and
// is being launched when a master dies may have run for all that anybody knows.
func (r *Run) allBegun(step string) {
	r.w.Helper()
	s, _ := r.Flow.step(step)
	r.Await("not all tasks of step "+step+" begin", func(l Ledger) bool {
		begun := map[int]bool{}
		for _, e := range l.Of(Began) {
			if e.Step == step {
				begun[e.Index] = true
			}
		}
		return len(begun) == s.Tasks
	})
}

// Another master leads, which workers learn from the one that they know.
func TestFailoverMaster(t *testing.T) { ways(t, testFailoverMaster) }

func testFailoverMaster(t *testing.T, as way) {
	w := New(t, Config{Masters: 3})
	r, once := w.Start(as(Standard())), w.Start(as(delicate()))
	r.UnderWay(4, 6)
	r.allBegun("once")
	once.UnderWay(0, once.Flow.Tasks())
	living, held := gated(r.Flow, r.Ledger().Living()), once.Ledger().Living()
	before := w.Cluster.Leader()
	w.do(w.Cluster.FailoverMaster(t.Context()))
	if now := w.Cluster.Leader(); now == before {
		t.Errorf("master %d still leads", now)
	}
	r.Open()
	w.Verify(r)
	once.Open()
	w.Verify(once)
	survived(t, r, living)
	survived(t, once, held)
}

// The event stream ends in the middle of an update.
func TestCutInRecord(t *testing.T) {
	t.Parallel()
	w := New(t, Config{})
	r := w.Start(Standard())
	r.UnderWay(4, 6)
	living := gated(r.Flow, r.Ledger().Living())
	link := w.Leader().Masters[0]
	link.CutWithin([]byte(r.started.Instance))
	r.Open()
	harness.Eventually(t, "no connection is cut", func() bool { return link.Stats().Cut == 1 })
	w.Verify(r)
	survived(t, r, living)
}

// outage is how long Temporal is out of reach: longer than all of its time-outs.
// BAAS_FAULT_OUTAGE replaces it.
func outage(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("BAAS_FAULT_OUTAGE")
	if text == "" {
		return Heartbeat + 2*time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// No worker reaches Temporal, for longer than its time-outs, and tasks end
// meanwhile: nothing is told, nothing is lost.
func TestTemporalOutOfReach(t *testing.T) { ways(t, testTemporalOutOfReach) }

func testTemporalOutOfReach(t *testing.T, as way) {
	w := New(t, Config{})
	r := w.Start(as(Standard()))
	r.UnderWay(4, 6)
	waiting := len(gated(r.Flow, r.Ledger().Living()))
	for _, v := range w.Workers {
		v.Temporal.BlackHole()
	}
	from := time.Now()
	r.Open()
	r.Await("no tasks end", func(l Ledger) bool { return len(gated(r.Flow, l.Of(Ended))) >= waiting })
	select {
	case <-time.After(time.Until(from.Add(outage(t)))):
	case <-t.Context().Done():
	}
	to := time.Now()
	for _, v := range w.Workers {
		v.Temporal.Pass()
		if v.Temporal.Stats().Held == 0 {
			t.Errorf("worker %s did not try to reach Temporal", v.Name)
		}
	}
	w.Verify(r)
	history, err := r.History(t.Context())
	w.do(err)
	for _, a := range history.Accepted {
		// What was on its way is accepted a little later. What lies in a segment lasts
		// without Temporal.
		if a.Seen == 0 && a.At.After(from.Add(time.Second)) && a.At.Before(to) {
			t.Errorf("the result of %s was accepted at %s, in the outage from %s to %s", a.Partition, a.At, from, to)
		}
	}
}

// Temporal itself dies, and comes back.
func TestKillTemporal(t *testing.T) {
	t.Parallel()
	w := New(t, Config{})
	r := w.Start(Standard())
	r.UnderWay(4, 6)
	living := gated(r.Flow, r.Ledger().Living())
	w.do(w.Temporal.Kill())
	r.Open()
	r.Await("no tasks end", func(l Ledger) bool { return len(gated(r.Flow, l.Of(Ended))) >= len(living) })
	w.StartTemporal()
	w.Verify(r)
	survived(t, r, living)
}

// The gateway of storage fails in each of its ways while inputs and results pass.
func TestGateway(t *testing.T) { ways(t, testGateway) }

func testGateway(t *testing.T, as way) {
	w := New(t, Config{})
	w.Leader()
	fewer := 1 // requests
	if as(Flow{}).Ranges {
		fewer = 4
	}
	for _, f := range []struct {
		name  string
		fault StorageFault
		until int // so many requests are struck
	}{
		{"slow", StorageFault{Delay: 300 * time.Millisecond}, 40},
		{"unavailable", StorageFault{Status: 503}, 30},
		{"full", StorageFault{Method: "PUT", Status: 507}, 20},
		{"breaking", StorageFault{Every: 2, Break: true}, 20},
	} {
		t.Log("the gateway is", f.name)
		r := w.Start(as(Standard()))
		before := w.Gateway.Struck()
		w.Gateway.Set(f.fault)
		r.Open()
		harness.Eventually(t, "the fault does not strike", func() bool { return w.Gateway.Struck() >= before+f.until/fewer })
		w.Gateway.Heal()
		w.Verify(r)
	}
}
