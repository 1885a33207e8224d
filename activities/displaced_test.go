package activities

import (
	"testing"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
)

// A task that has to go, since its agent is drained or its resources are taken back,
// is placed again at once, however often, and nothing is held against it or the agent.
func TestDisplacedTasksAreNotCharged(t *testing.T) {
	for _, reason := range []string{"AGENT_DRAINING", "CONTAINER_PREEMPTED"} {
		t.Run(reason, func(t *testing.T) {
			r := newRig(t)
			r.deliver(input(0), api.Details{}, 1)
			times := r.h.cfg.MaxLosses + 2
			for generation := 1; generation <= times; generation++ {
				task := r.lose(0, generation, "a1", true, func(u *mesos.Update) {
					u.State, u.Source, u.Reason = mesos.Gone, "AGENT", reason
				})
				if len(task.AvoidAgents) > 0 || task.Executor.Isolation != "" {
					t.Fatalf("placement %d: %+v", generation, task)
				}
			}
			task := r.lose(0, times+1, "a1", true) // a loss of the ordinary kind still is one
			if task.Executor.Isolation != "" {
				t.Errorf("isolated before its executor died: %+v", task)
			}
			if task = r.lose(0, times+2, "a2", true); len(task.AvoidAgents) != 1 || task.Executor.Isolation == "" {
				t.Errorf("after the death of its executor: %+v", task)
			}
		})
	}
}
