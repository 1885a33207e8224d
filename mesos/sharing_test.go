package mesos_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/master"

	embedded "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
	"github.com/baas-batch/baas/mesos"
)

// roomy is an agent for several of the test's large executors.
func roomy(cpus float64) embedded.AgentConfig {
	return embedded.AgentConfig{Resources: []api.Resource{mesostest.Scalar("cpus", cpus), mesostest.Scalar("mem", 8192)}}
}

func ofOwner(owner string, n int, change func(*mesos.Task)) (tasks []mesos.Task, ids []string) {
	for i := range n {
		task := mesos.Task{
			ID: fmt.Sprintf("%s-%d", owner, i), Owner: owner, Resources: mesos.Resources{CPUs: 0.5, Mem: 32 << 20},
			Executor: mesos.ExecutorSpec{Owner: owner},
		}
		if change != nil {
			change(&task)
		}
		tasks, ids = append(tasks, task), append(ids, task.ID)
	}
	return tasks, ids
}

func ask(t *testing.T, c *embedded.Cluster, kind master.Call_Type) *master.Response {
	t.Helper()
	resp, err := mesostest.Operator(t.Context(), c.MasterURL(), mesostest.Options{}, &master.Call{Type: kind})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func (s *scheduler) running(ids []string) (n int) {
	for _, id := range ids {
		if s.last[id].State == mesos.Running {
			n++
		}
	}
	return n
}

func owners(cfg *mesos.Config) {
	cfg.Role = "baas"
	cfg.Timings.OfferHold, cfg.Timings.Survey, cfg.Timings.Puzzle = 100*time.Millisecond, 50*time.Millisecond, time.Millisecond
	cfg.Timings.Refuse, cfg.Timings.Revive = 200*time.Millisecond, 50*time.Millisecond
}

// Each owner has a role of its own, which comes with its first task; the limit of
// one does not hold another back, and the waiting tasks say what they wait for.
func TestOwnersHaveRolesAndQuota(t *testing.T) {
	c := clusterOf(t, roomy(8))
	mesostest.Operate(t, c.MasterURL(), mesostest.Options{}, mesostest.Quota("baas/ops", 2))
	s := run(t, c, "run", holds, owners)
	s.await("subscription", func() bool { return s.subscribed == 1 })
	limited, opsIDs := ofOwner("ops", 8, nil)
	free, salesIDs := ofOwner("sales", 6, nil)
	most := 0.0
	s.mu.Lock()
	s.onUpdate = func(mesos.Update) { most = max(most, held(t, c, "baas/ops")) }
	s.mu.Unlock()
	s.Submit(limited...)
	s.Submit(free...)
	s.awaitAll(salesIDs, mesos.Running)
	s.await("3 tasks of ops", func() bool { return s.running(opsIDs) == 3 }) // 1.5 CPUs and 0.1 for the executor
	waiting := opsIDs[slices.IndexFunc(opsIDs, func(id string) bool { return s.last[id].State == "" })]
	var why string
	s.await("a reason", func() bool {
		why = s.Explain(waiting)
		return strings.HasPrefix(why, "the quota of role baas/ops is used up: it may hold 2 CPUs and holds 1.6 CPUs, and the task needs 0.5 CPUs")
	})
	t.Log(why)

	for _, task := range ask(t, c, master.Call_GET_TASKS).GetTasks.Tasks {
		owner, _, _ := strings.Cut(task.TaskID.Value, "-")
		if role := task.Resources[0].GetAllocationInfo().GetRole(); role != "baas/"+owner {
			t.Errorf("task %s runs in role %s", task.TaskID.Value, role)
		}
	}
	for _, x := range ask(t, c, master.Call_GET_EXECUTORS).GetExecutors.Executors {
		owner := x.ExecutorInfo.Labels.Labels[0].GetValue()
		if role := x.ExecutorInfo.Resources[0].GetAllocationInfo().GetRole(); role != "baas/"+owner {
			t.Errorf("the executor of %s has role %s", owner, role)
		}
	}
	// One ends, one follows; in the end all have run, and never too many at once.
	for n := range opsIDs {
		s.await("another task of ops", func() bool { return s.running(opsIDs) > 0 && len(s.history) >= n })
		s.mu.Lock()
		id := opsIDs[slices.IndexFunc(opsIDs, func(id string) bool { return s.last[id].State == mesos.Running })]
		s.mu.Unlock()
		s.Kill(mesos.TaskRef{TaskID: id}, 0)
		s.await("its end", func() bool { return s.last[id].State == mesos.KilledState })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if most > 2 || most < 1.6 {
		t.Errorf("role baas/ops held %v CPUs at most, want up to its limit of 2", most)
	}
}

// held is what tasks, executors and offers of a role hold, in CPUs.
func held(t *testing.T, c *embedded.Cluster, role string) (cpus float64) {
	for _, r := range ask(t, c, master.Call_GET_ROLES).GetRoles.Roles {
		if r.Name != role {
			continue
		}
		for _, res := range r.Resources {
			if res.Name == "cpus" {
				cpus += res.Scalar.Value
			}
		}
	}
	return cpus
}

// A role without work is not offered anything, while another one is served.
func TestRolesAreSuppressedOneByOne(t *testing.T) {
	c := clusterOf(t, roomy(2))
	s := run(t, c, "run", holds, owners)
	first, ids := ofOwner("ops", 1, nil)
	s.Submit(first...)
	s.awaitAll(ids, mesos.Running)
	s.await("silence", func() bool { return held(t, c, "baas") == 0.6 })
	before := s.Metrics().Offers.Load()
	second, more := ofOwner("sales", 1, nil)
	s.Submit(second...)
	s.awaitAll(more, mesos.Running)
	s.await("silence", func() bool { return held(t, c, "baas") == 1.2 })
	if held(t, c, "baas/ops") != 0.6 || held(t, c, "baas/sales") != 0.6 {
		t.Error("a role with nothing waiting holds an offer")
	}
	third, back := ofOwner("ops", 2, func(task *mesos.Task) { task.ID = "again-" + task.ID; task.Resources.CPUs = 0.2 })
	s.Submit(third...)
	s.awaitAll(back, mesos.Running)
	t.Logf("%d offers for the second owner and after, %d SUPPRESS, %d REVIVE",
		s.Metrics().Offers.Load()-before, s.Metrics().Suppresses.Load(), s.Metrics().Revives.Load())
	if s.Metrics().Revives.Load() == 0 {
		t.Error("work came to a suppressed role, and no REVIVE")
	}
}

// The next leader knows no roles to begin with, adopts the tasks of all of them and
// asks for their roles when there is work.
func TestNextLeaderKeepsTasksOfAllRoles(t *testing.T) {
	c := clusterOf(t, roomy(4))
	first := run(t, c, "run", holds, owners)
	a, ids := ofOwner("ops", 2, nil)
	b, more := ofOwner("sales", 2, nil)
	first.Submit(append(a, b...)...)
	first.awaitAll(append(ids, more...), mesos.Running)
	first.cancel()
	<-first.result
	next := run(t, c, "run", holds, owners)
	next.await("all tasks", func() bool { return len(next.Tasks()) == 4 })
	last, again := ofOwner("sales", 1, func(task *mesos.Task) { task.ID = "next" })
	next.Submit(last...)
	next.awaitAll(again, mesos.Running)
	for _, id := range append(ids, more...) {
		if row, ok := next.Task(id); !ok || row.State != mesos.Running {
			t.Errorf("task %s: %+v", id, row)
		}
	}
}
