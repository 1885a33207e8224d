package mesos_test

import (
	"testing"
	"time"

	"github.com/baas-batch/baas/mesos"
)

// A sweep brings every live task to the handler again, though its state has not
// changed and the leader has it in its table: a task that nobody wants any more is
// found so, killed, and its place is free.
func TestSweepFindsTasksThatNobodyWants(t *testing.T) {
	c := cluster(t, 1)
	s := run(t, c, "run", holds, func(cfg *mesos.Config) { cfg.Timings.Implicit = 300 * time.Millisecond })
	ids := s.submit("long", 3, 1)
	s.awaitAll(ids, mesos.Running)
	swept := map[string]int{}
	unwanted := ids[0]
	s.mu.Lock()
	s.onUpdate = func(u mesos.Update) {
		if u.Reconciled() && u.State == mesos.Running {
			swept[u.TaskID]++
			if u.TaskID == unwanted {
				s.Kill(mesos.TaskRef{TaskID: u.TaskID, AgentID: u.AgentID}, time.Second)
			}
		}
	}
	s.mu.Unlock()
	s.awaitAll(ids[:1], mesos.KilledState)
	s.await("further sweeps for the others", func() bool { return swept[ids[1]] > 2 && swept[ids[2]] > 2 })
	s.await("its row gone", func() bool { return len(s.Tasks()) == 2 })
	if s.last[ids[1]].State != mesos.Running || s.last[ids[2]].State != mesos.Running {
		t.Errorf("the others are %v", s.last)
	}
}

// An executor that dies again and again keeps new tasks off its agent.
func TestBlamedAgentIsLeftAlone(t *testing.T) {
	c := cluster(t, 2)
	s := run(t, c, "finish", holds, func(cfg *mesos.Config) { cfg.Timings.AvoidMin = time.Hour })
	s.await("both agents", func() bool { return len(s.Agents()) == 2 })
	bad := s.Agents()[0].ID
	s.Blame(bad, "executor killed")
	ids := s.submit("small", 40, 0.5)
	s.awaitAll(ids, mesos.Finished)
	for id, p := range s.places {
		if p.Agent.ID == bad {
			t.Errorf("%s was placed on the agent that is avoided", id)
		}
	}
}

// What the master tells of its agents, embedded or not, makes the reason exact.
func TestExplainKnowsTheWholeAgent(t *testing.T) {
	c := cluster(t, 2)
	s := run(t, c, "run", holds, func(cfg *mesos.Config) { cfg.Timings.Survey = 100 * time.Millisecond })
	s.awaitAll(s.submit("long", 2, 3), mesos.Running) // little of either agent is free
	s.Submit(mesos.Task{ID: "big", Owner: "risk", Resources: mesos.Resources{CPUs: 8, Mem: 32 << 20}})
	want := "no agent with 8 CPUs: the largest has 4 CPUs in all, 0.9 CPUs free"
	s.await(want, func() bool { return s.Explain("big") == want })
}
