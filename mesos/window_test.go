package mesos_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/allocator"
	"github.com/mesos/mesos-go/api/v1/lib/maintenance"
	"github.com/mesos/mesos-go/api/v1/lib/master"

	embedded "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
	"github.com/baas-batch/baas/mesos"
)

// A task that is preemptible goes to revocable resources first and to plain ones
// when those are used up; one that is not never goes there.
func TestPreemptibleTasks(t *testing.T) {
	agent := roomy(2)
	agent.Revocable = []api.Resource{mesostest.Scalar("cpus", 1.2), mesostest.Scalar("mem", 2048)}
	c := clusterOf(t, agent)
	oversubscribed(t, c)
	s := run(t, c, "run", holds, nil)
	brave, ids := ofOwner("brave", 3, func(task *mesos.Task) { task.Preemptible = true })
	s.Submit(brave...)
	s.awaitAll(ids, mesos.Running)
	plain, fixed := ofOwner("fixed", 2, nil)
	s.Submit(plain...)
	s.awaitAll(fixed, mesos.Running)

	kinds := map[bool]map[string]int{true: {}, false: {}}
	executors := map[string]bool{}
	for _, task := range ask(t, c, master.Call_GET_TASKS).GetTasks.Tasks {
		owner, _, _ := strings.Cut(task.TaskID.Value, "-")
		taken := task.Resources[0].Revocable != nil
		kinds[taken][owner]++
		if before, known := executors[task.ExecutorID.Value]; known && before != taken {
			t.Errorf("executor %s has tasks on resources of both kinds", task.ExecutorID.Value)
		}
		executors[task.ExecutorID.Value] = taken
	}
	if kinds[true]["brave"] != 2 || kinds[false]["brave"] != 1 || kinds[true]["fixed"] != 0 {
		t.Errorf("on revocable resources %v, on others %v", kinds[true], kinds[false])
	}

	if err := c.Revoke(c.Agents()[0].ID, nil, false); err != nil {
		t.Fatal(err)
	}
	s.await("2 tasks preempted", func() bool {
		n := 0
		for _, id := range ids {
			if u := s.last[id]; u.State == mesos.Gone && u.Reason == "CONTAINER_PREEMPTED" && u.Source == "AGENT" {
				n++
			}
		}
		return n == 2
	})
	if s.running(append(ids, fixed...)) != 3 {
		t.Errorf("the tasks on plain resources are %v", s.last)
	}
}

// oversubscribed waits until the master knows what an agent gives beyond its own
// resources, which it tells after its registration.
func oversubscribed(t *testing.T, c *embedded.Cluster) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		for _, a := range ask(t, c, master.Call_GET_AGENTS).GetAgents.Agents {
			if slices.ContainsFunc(a.TotalResources, func(r api.Resource) bool { return r.Revocable != nil }) {
				return
			}
		}
	}
	t.Fatalf("no agent has revocable resources within %s", patience)
}

// window has a host maintained in some time.
func windowIn(t *testing.T, c *embedded.Cluster, host string, in time.Duration) {
	t.Helper()
	mesostest.Operate(t, c.MasterURL(), mesostest.Options{}, &master.Call{
		Type: master.Call_UPDATE_MAINTENANCE_SCHEDULE,
		UpdateMaintenanceSchedule: &master.Call_UpdateMaintenanceSchedule{Schedule: maintenance.Schedule{Windows: []maintenance.Window{{
			MachineIDs:     []api.MachineID{{Hostname: &host, IP: &host}},
			Unavailability: api.Unavailability{Start: api.TimeInfo{Nanoseconds: time.Now().Add(in).UnixNano()}},
		}}}},
	})
}

// Before a maintenance window only what surely ends before it is placed, and inverse
// offers are answered by what runs there.
func TestMaintenanceWindow(t *testing.T) {
	agent := roomy(4)
	agent.Host = "127.0.0.2"
	c := clusterOf(t, agent)
	windowIn(t, c, agent.Host, 2*time.Hour)
	s := run(t, c, "run", holds, func(cfg *mesos.Config) {
		cfg.Timings.Puzzle, cfg.Timings.Refuse, cfg.Timings.OfferHold = time.Millisecond, 100*time.Millisecond, 50*time.Millisecond
	})
	task := func(id string, timeout time.Duration) mesos.Task {
		return mesos.Task{ID: id, Owner: "ops", Resources: mesos.Resources{CPUs: 0.1, Mem: 32 << 20}, Timeout: timeout,
			Executor: mesos.ExecutorSpec{Owner: "ops"}}
	}
	s.Submit(task("short", time.Hour), task("long", 3*time.Hour), task("endless", 0))
	s.awaitAll([]string{"short"}, mesos.Running)
	answered := func(want allocator.InverseOfferStatus_Status) func() bool {
		return func() bool {
			machines := ask(t, c, master.Call_GET_MAINTENANCE_STATUS).GetMaintenanceStatus.Status.DrainingMachines
			return len(machines) == 1 && len(machines[0].Statuses) == 1 && *machines[0].Statuses[0].Status == want
		}
	}
	s.await("an inverse offer accepted: all ends before", answered(allocator.InverseOfferStatus_ACCEPT))
	for _, id := range []string{"long", "endless"} {
		s.await("a reason for "+id, func() bool {
			return strings.HasPrefix(s.Explain(id), "127.0.0.2 is to be maintained from ")
		})
		t.Log(s.Explain(id))
	}

	windowIn(t, c, agent.Host, 5*time.Hour)
	s.awaitAll([]string{"long"}, mesos.Running)
	windowIn(t, c, agent.Host, 50*time.Hour)
	s.awaitAll([]string{"endless"}, mesos.Running)
	windowIn(t, c, agent.Host, 2*time.Hour)
	s.await("an inverse offer declined: long and endless may last longer", answered(allocator.InverseOfferStatus_DECLINE))
}

// Nothing is placed on an agent that is drained, what runs there is killed with a
// reason that says so, and it is used again when it may be.
func TestDrainedAgentIsLeft(t *testing.T) {
	c := clusterOf(t, roomy(2), roomy(2))
	s := run(t, c, "run", holds, func(cfg *mesos.Config) {
		cfg.Timings.Survey, cfg.Timings.Puzzle = 50*time.Millisecond, time.Millisecond
	})
	first, ids := ofOwner("ops", 2, nil)
	s.Submit(first...)
	s.awaitAll(ids, mesos.Running)
	drained := s.places[ids[0]].Agent.ID
	mesostest.Operate(t, c.MasterURL(), mesostest.Options{}, mesostest.Drain(api.AgentID{Value: drained}))
	s.await("the task's end", func() bool {
		u := s.last[ids[0]]
		return u.State == mesos.KilledState && u.Reason == "AGENT_DRAINING" && len(u.UUID) > 0
	})
	more, next := ofOwner("sales", 3, func(task *mesos.Task) { task.Resources.CPUs = 0.8 })
	s.Submit(more...)
	s.await("room for no more", func() bool { return s.running(next) >= 1 && s.running(next) < 3 })
	for _, id := range next {
		if p, placed := s.places[id]; placed && p.Agent.ID == drained {
			t.Errorf("%s was placed on a drained agent", id)
		}
	}
	s.await("drained", func() bool {
		for _, a := range ask(t, c, master.Call_GET_AGENTS).GetAgents.Agents {
			if a.AgentInfo.ID.Value == drained {
				return a.DrainInfo.GetState() == api.DrainState_DRAINED
			}
		}
		return false
	})
	mesostest.Operate(t, c.MasterURL(), mesostest.Options{}, mesostest.Reactivate(api.AgentID{Value: drained}))
	s.awaitAll(next, mesos.Running)
}
