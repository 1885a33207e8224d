package agent

import (
	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// drain kills all tasks of the agent, with no more grace than the operator gives,
// and has their ends say why; nil ends that. The master repeats it whenever the
// agent is back, so nothing of it is kept here.
func (a *Agent) drain(config *mesos.DrainConfig) {
	a.draining = config
	if config == nil {
		return
	}
	a.log.Info("draining", "mark_gone", config.GetMarkGone())
	for _, f := range a.frameworks {
		for _, e := range f.executors {
			a.drainExecutor(f, e)
		}
	}
}

// drainExecutor kills the tasks of one executor. One that is not connected hears of
// it when it is.
func (a *Agent) drainExecutor(f *framework, e *executorRun) {
	if a.draining == nil {
		return
	}
	tasks := make(map[mesos.TaskID]*mesos.KillPolicy, len(e.launched)+len(e.queued))
	for id, t := range e.launched {
		tasks[id] = t.KillPolicy
	}
	for i := range e.queued {
		tasks[e.queued[i].TaskID] = e.queued[i].KillPolicy
	}
	for id, policy := range tasks {
		a.killTask(f.id(), id, a.withoutMoreGrace(policy))
	}
}

// withoutMoreGrace bounds a task's grace period by that of the drain.
func (a *Agent) withoutMoreGrace(policy *mesos.KillPolicy) *mesos.KillPolicy {
	most := a.draining.MaxGracePeriod
	if most == nil || policy.GetGracePeriod() != nil && policy.GracePeriod.Nanoseconds <= most.Nanoseconds {
		return policy
	}
	return &mesos.KillPolicy{GracePeriod: most}
}

// drained has a kill say that the agent is drained, whoever asked for it, as in
// Mesos (Slave::statusUpdate). Where the agent goes for good, so does the task.
func (a *Agent) drained(f *framework, status *mesos.TaskStatus) {
	if a.draining == nil {
		return
	}
	switch status.GetState() {
	case mesos.TASK_KILLED:
		if a.draining.GetMarkGone() && f.partitionAware() {
			status.State = mesos.TASK_GONE_BY_OPERATOR.Enum()
		}
	case mesos.TASK_KILLING:
	default:
		return
	}
	status.Reason = mesos.REASON_AGENT_DRAINING.Enum()
}
