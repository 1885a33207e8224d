package agent

import (
	"slices"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// Revoke is what Mesos' resource estimator and QoS controller do when the rightful
// user of revocable resources comes back: the agent offers no more of them than
// left, and kills the containers of the executors that use any, SIGKILL without a
// word before. With gently, the executors are asked to end first, and have their
// grace period for it; that is not Mesos' own controller's way.
func (a *Agent) Revoke(left []mesos.Resource, gently bool) {
	a.box.call(func() {
		a.revocable = append([]mesos.Resource{}, left...) // none at all is news too
		a.oversubscribe()
		for _, f := range a.frameworks {
			for _, e := range f.executors {
				if e.usesRevocable() {
					a.preempt(f, e, gently)
				}
			}
		}
	})
}

// oversubscribe tells the master of the revocable resources.
func (a *Agent) oversubscribe() {
	if a.state != running || a.revocable == nil {
		return
	}
	var list []mesos.Resource
	for _, r := range a.revocable {
		r.Revocable = &mesos.Resource_RevocableInfo{}
		list = append(list, r)
	}
	a.master.Oversubscribe(*a.info.ID, list)
}

func (e *executorRun) usesRevocable() bool {
	return slices.ContainsFunc(e.resources(), func(r mesos.Resource) bool { return r.Revocable != nil })
}

// preempt ends an executor whose resources are taken back.
func (a *Agent) preempt(f *framework, e *executorRun, gently bool) {
	if e.state == executorTerminating || e.state == executorTerminated {
		return
	}
	a.log.Info("executor is preempted", "framework", f.id().Value, "executor", e.id().Value)
	lost := mesos.TASK_LOST
	if f.partitionAware() {
		lost = mesos.TASK_GONE
	}
	e.died = &termination{state: lost, reason: mesos.REASON_CONTAINER_PREEMPTED, message: "Container preempted by QoS correction"}
	if gently {
		a.endExecutor(e)
		return
	}
	e.state = executorTerminating
	a.destroy(e)
}
