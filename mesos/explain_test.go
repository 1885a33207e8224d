package mesos

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/mesos/placement"
)

// scene is a framework whose knowledge is set by hand.
type scene struct {
	*Framework
	t   *testing.T
	now time.Time
}

func newScene(t *testing.T) *scene {
	t.Helper()
	f, err := New(Config{Masters: []string{"m"}, FrameworkID: testFramework, User: "tester"}, newHandler(), leads)
	if err != nil {
		t.Fatal(err)
	}
	f.session = &session{f: f, sender: newSender(nil)}
	f.link.since, f.link.lastOffer = epoch, epoch.Add(time.Minute)
	return &scene{Framework: f, t: t, now: epoch.Add(time.Minute)}
}

func size(cpus, gb float64) placement.Vector {
	return placement.Vector{placement.CPUs: placement.Milli(cpus), placement.Mem: placement.Milli(gb * 1e9 / mb), placement.Disk: placement.Milli(1 << 20)}
}

// agent adds one whose total the master has told.
func (s *scene) agent(id string, total, free placement.Vector) *agentRecord {
	a := s.table.agent(id)
	a.Hostname, a.total, a.surveyed = id+".example", total, epoch
	a.spare(free, s.now.Add(time.Hour))
	return a
}

func (s *scene) submit(id, owner string, priority int, cpus float64, mem int64) Task {
	t := Task{ID: id, Owner: owner, Priority: priority, Resources: Resources{CPUs: cpus, Mem: mem}, Submitted: epoch}
	s.Submit(t)
	return t
}

func (s *scene) expect(want string) {
	s.t.Helper()
	got := clip(s.explain("t", s.now), 1000)
	if got != want {
		s.t.Errorf("it says\n%s\nwant\n%s", got, want)
	}
	if len(got) > MaxExplain {
		s.t.Errorf("%d bytes", len(got))
	}
	for range 5 { // maps are behind it
		if again := clip(s.explain("t", s.now), 1000); again != got {
			s.t.Errorf("said again it is\n%s", again)
		}
	}
}

const gb = 1e9

func TestExplainGrounds(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(s *scene)
		want string
	}{
		{"not subscribed", func(s *scene) {
			s.session, s.link.err, s.link.settled = nil, errors.New("no leading master:\nhttp://m:5050: connection refused"), epoch
		}, "no connection to a Mesos master since 03:04:05 UTC: no leading master: http://m:5050: connection refused"},
		{"not subscribed since yesterday", func(s *scene) {
			s.session, s.now, s.link.settled = nil, epoch.Add(24*time.Hour), epoch
		}, "no connection to a Mesos master since 2026-01-02 03:04:05 UTC: connecting"},
		{"never subscribed", func(s *scene) {
			s.session, s.link.err = nil, errors.New("zk://z:2181/mesos: no master leads: none is running, or none has reached ZooKeeper")
		}, "no Mesos master found yet, tried since 03:04:05 UTC: zk://z:2181/mesos: no master leads: none is running, or none has reached ZooKeeper"},
		{"no offers", func(s *scene) { s.link.lastOffer = time.Time{} },
			"no offers at all since 03:04:05 UTC, when the framework subscribed"},
		{"no offers since the last subscription", func(s *scene) {
			s.link.lastOffer = epoch.Add(-time.Hour)
			s.agent("a", size(4, 16), size(0, 0))
		}, "no offers at all since 03:04:05 UTC, when the framework subscribed; the master knows of 1 agent"},
		{"too early to tell", func(s *scene) { s.now = epoch.Add(time.Second) }, "waits for an offer"},
		{"too large", func(s *scene) {
			s.agent("a", size(4, 1), size(4, 1))
			s.agent("b", size(2, 1.5), size(2, 0.5))
		}, "no agent with 2 GB of memory: the largest has 1.5 GB in all, 1 GB free"},
		{"too large, as far as offers tell", func(s *scene) {
			s.agent("a", size(4, 1), size(4, 1)).surveyed = time.Time{}
		}, "no agent with 2 GB of memory has been seen: the most that one has offered is 1 GB"},
		{"too large by its executor", func(s *scene) { s.agent("a", size(4, 2.002), size(4, 2.002)) },
			"no agent with 2 GB of memory besides the 33.6 MB of an executor: the largest has 2 GB in all, 2 GB free"},
		{"too large together", func(s *scene) {
			s.agent("a", size(8, 1), size(8, 1))
			s.agent("b", size(1, 8), size(1, 8))
		}, "no agent has 2.1 CPUs and 2.03 GB of memory together, though each alone can be had"},
		{"the one for it is drained", func(s *scene) {
			s.agent("a", size(1, 8), size(1, 8))
			s.agent("b", size(8, 8), size(8, 8)).closed = "being drained"
		}, "no agent with 2 CPUs: the largest has 1 CPU in all, 1 CPU free; b.example would do, but is being drained"},
		{"all busy", func(s *scene) {
			s.agent("a", size(8, 8), size(1.5, 8))
			s.agent("b", size(8, 8), size(0.5, 8))
			s.agent("small", size(1, 8), size(1, 8))
		}, "busy: it needs 2.1 CPUs, the most free on one is 1.5 CPUs (2 of 3 agents are large enough)"},
		{"all busy, and nothing is offered", func(s *scene) {
			s.agent("a", size(8, 8), size(0, 0))
			s.now = epoch.Add(time.Hour)
		}, "busy: it needs 2.1 CPUs, the most free on one is 0 CPUs (the only agent is large enough); no offer since 03:05:05 UTC"},
		{"free, but not at once", func(s *scene) {
			s.agent("a", size(8, 8), size(8, 1))
			s.agent("b", size(8, 8), size(1, 8))
		}, "busy: none has all that it needs free at once (all 2 agents are large enough)"},
		{"avoided", func(s *scene) {
			s.agent("a", size(8, 8), size(8, 8))
			s.agent("b", size(8, 8), size(8, 8))
			s.agent("c", size(8, 8), size(8, 8))
			for _, id := range []string{"c", "b", "a"} {
				s.table.blame(id, "executor killed", s.now, s.cfg.Timings)
			}
		}, "all 3 agents that are large enough are avoided: a.example until 03:05:07 UTC after 1 loss (executor killed); " +
			"b.example until 03:05:07 UTC after 1 loss (executor killed); and 1 more"},
		{"some avoided", func(s *scene) {
			s.agent("a", size(8, 8), size(1, 8))
			s.agent("b", size(8, 8), size(8, 8))
			s.table.blame("b", "executor killed", s.now, s.cfg.Timings)
		}, "busy: it needs 2.1 CPUs, the most free on one is 1 CPU (1 of 2 agents is large enough); 1 agent avoided after losses"},
		{"the executor leaves", func(s *scene) {
			a := s.agent("a", size(8, 8), size(8, 8))
			x := a.executor(s.queue.tasks["t"].executor.id, epoch)
			x.started, x.stopping = true, epoch
		}, "its executor on a.example is being shut down; a new one starts when that has ended"},
		{"no GPUs", func(s *scene) { s.queue.tasks["t"].need[placement.GPUs] = 1000 },
			"it asks for GPUs, and this framework is not set up to be offered any"},
		{"behind others", func(s *scene) {
			s.agent("a", size(8, 8), size(8, 8))
			for i := range 4120 {
				s.submit(fmt.Sprint("h", i), "urgent", 5, 1, gb)
			}
			s.submit("p", "poor", 0, 1, gb)
			s.table.held["team"] = placement.Vector{placement.CPUs: 5000}
			s.Submit(Task{ID: "s", Owner: "team", Resources: Resources{CPUs: 1, Mem: gb}, Submitted: epoch.Add(-1)})
		}, "its turn has not come (the only agent is large enough); tasks before it: 4,120 of higher priority, " +
			"1 of owners that hold less (owner team has 62% of the cluster), 1 older of owner team"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t)
			s.submit("t", "team", 0, 2, 2*gb)
			c.set(s)
			s.expect(c.want)
		})
	}
}

func TestExplainIsShort(t *testing.T) {
	s := newScene(t)
	s.submit("t", "team", 0, 2, 2*gb)
	s.session, s.link.err = nil, errors.New(strings.Repeat("ärger ", 200))
	text := s.Explain("t")
	if len(text) > MaxExplain || !strings.HasSuffix(text, "…") || strings.Contains(text, "\ufffd") {
		t.Errorf("%d bytes: %s", len(text), text)
	}
}

func TestExplainWhereabouts(t *testing.T) {
	s := newScene(t)
	s.submit("t", "team", 0, 2, 2*gb)
	s.agent("a", size(8, 8), size(8, 8))
	s.table.place(s.queue.tasks["t"], "a", epoch)
	s.queue.remove("t")
	s.expect("is being placed on a.example")
	s.table.launched("t", epoch)
	s.expect("STAGING on a.example since 03:04:05 UTC")
	s.table.observe(Update{TaskID: "t", State: Running, AgentID: "a", ExecutorID: "x"}, epoch.Add(time.Second))
	s.Kill(TaskRef{TaskID: "t"}, 0)
	s.expect("RUNNING on a.example since 03:04:06 UTC; it is being killed")
}

func TestAmounts(t *testing.T) {
	for want, bytes := range map[string]int64{
		"64 GB": 64e9, "137 GB": 128 << 30, "1 GB": 1000e6, "134 MB": 128 << 20, "1.05 MB": 1, "99.6 MB": 99.6e6, "9.44 MB": 9e6, "0 MB": 0,
	} {
		if got := amount(placement.Mem, Resources{Mem: bytes}.vector()[placement.Mem]); got != want {
			t.Errorf("%d bytes are %q, want %q", bytes, got, want)
		}
	}
	for want, n := range map[string]float64{"1 CPU": 1, "0.1 CPUs": 0.1, "2 CPUs": 2} {
		if got := amount(placement.CPUs, placement.Milli(n)); got != want {
			t.Errorf("%g is %q, want %q", n, got, want)
		}
	}
	for want, n := range map[string]int{"0": 0, "999": 999, "1,000": 1000, "12,345,678": 12345678} {
		if got := thousands(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestQueueCountsRanks(t *testing.T) {
	q := newQueue()
	a, b := waitingTask("a", "o"), waitingTask("b", "o")
	q.add(a)
	q.add(b)
	q.add(b) // put back
	if n := q.ranks[rank{0, "o"}]; n != 2 {
		t.Errorf("%d tasks of the rank, want 2", n)
	}
	if !q.remove("a") || q.remove("a") || !q.remove("b") || len(q.ranks) != 0 {
		t.Errorf("ranks left: %v", q.ranks)
	}
}
