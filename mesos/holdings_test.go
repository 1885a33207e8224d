package mesos

import (
	"fmt"
	"testing"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"github.com/baas-batch/baas/mesos/placement"
	"github.com/baas-batch/baas/tasklet"
)

// A task goes where its largest input was written, then where another task has
// fetched it.
func TestPlacedNearItsInputs(t *testing.T) {
	r, m, s := connect(t, nil)
	first := testTask("first", 1, 100)
	r.Submit(first)
	s.send(offersEvent(testOffer("o1", "far", 1.6, 200)))
	x := launches(m.want(scheduler.Call_ACCEPT))[0].Executor.ExecutorID.Value
	r.Holds("far", x, Content{"sha", 20 * mb})

	reader := testTask("reader", 1, 100)
	reader.Reads = []Content{{"sha", 20 * mb}, {"other", 10 * mb}}
	// Best fit would choose the other agent.
	s.send(offersEvent(testOffer("o2", "near", 1, 100, x), testOffer("o3", "far", 8, 8000, x)))
	eventually(t, "the offers", func() bool { return r.Census().Offers == 2 })
	r.Submit(reader)
	if info := launches(m.want(scheduler.Call_ACCEPT))[0]; info.AgentID.Value != "far" {
		t.Errorf("placed on %s", info.AgentID.Value)
	}
	if row, _ := r.Task("reader"); row.Near != 20*mb || r.Metrics().Near.Load() != 1 {
		t.Errorf("the table says %+v, the counter %d", row, r.Metrics().Near.Load())
	}

	// The reader has fetched the other input to the same agent.
	third := testTask("third", 1, 100)
	third.Reads = []Content{{"other", 10 * mb}}
	s.send(offersEvent(testOffer("o4", "far", 7, 7000, x)))
	eventually(t, "the offers", func() bool { return r.Census().Offers == 2 })
	r.Submit(third)
	if info := launches(m.want(scheduler.Call_ACCEPT))[0]; info.AgentID.Value != "far" {
		t.Errorf("the third is placed on %s", info.AgentID.Value)
	}
}

func TestHoldingsAreBounded(t *testing.T) {
	h := newHoldings()
	for i := range maxHeld + 10 {
		h.add(fmt.Sprint(i), holder{"a", "x"})
		h.add("kept", holder{fmt.Sprint(i), "x"})
	}
	if len(h.byID) != maxHeld || h.order.Len() != maxHeld {
		t.Errorf("%d contents, %d in order, want %d", len(h.byID), h.order.Len(), maxHeld)
	}
	if h.byID["kept"] == nil || h.byID["0"] != nil {
		t.Error("not the oldest is forgotten")
	}
	holders := h.byID["kept"].Value.(*holding).holders
	if len(holders) != maxHolders || holders[0].agent != fmt.Sprint(maxHeld+9) {
		t.Errorf("holders are %v", holders)
	}
}

func TestExecutorsWithoutCachesHoldNothing(t *testing.T) {
	r, _, _ := connect(t, func(c *Config) { c.ExecutorEnv = map[string]string{tasklet.EnvCacheSize: "0"} })
	r.Holds("a", "x", Content{"sha", 20 * mb})
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.holdings.byID); n != 0 {
		t.Errorf("%d contents", n)
	}
}

// What an executor has kept is gone with it.
func TestNearNeedsTheExecutor(t *testing.T) {
	s := newScene(t)
	s.submit("t", "team", 0, 1, gb)
	w := s.queue.tasks["t"]
	w.Reads = []Content{{"one", 10}, {"two", 30}}
	x := w.executor.id
	for agent, contents := range map[string][]Content{"a": {{ID: "one"}}, "b": {{ID: "two"}}, "c": {{ID: "one"}, {ID: "two"}}, "never seen": {{ID: "two"}}} {
		s.Holds(agent, x, contents...)
	}
	s.Holds("a", "of another owner", Content{ID: "two"})
	expect := func(want ...placement.Near) {
		t.Helper()
		if got := s.near(w); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("near %v, want %v", got, want)
		}
	}
	expect()
	for _, id := range []string{"a", "b", "c"} {
		s.table.agent(id).executor(x, s.now).started = true
	}
	s.table.agent("a").executor("of another owner", s.now).started = true
	expect(placement.Near{Agent: "c", Executor: x, Bytes: 40}, placement.Near{Agent: "b", Executor: x, Bytes: 30}, placement.Near{Agent: "a", Executor: x, Bytes: 10})
	s.table.executorLost("c", x)
	s.table.agents["b"].executors[x].stopping = s.now
	expect(placement.Near{Agent: "a", Executor: x, Bytes: 10})
}
