package agent

import (
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/link"
)

// masterLink is the agent as one instance of a master sees it. What comes over
// the link to an earlier master is dropped, as Mesos drops what is not from the
// current one.
type masterLink struct{ agent *Agent }

var _ link.Agent = (*masterLink)(nil)

func (l *masterLink) post(f func(a *Agent)) {
	l.agent.box.post(func() {
		if l.agent.link == l {
			f(l.agent)
		}
	})
}

func (l *masterLink) Registered(id mesos.AgentID) {
	l.post(func(a *Agent) { a.registered(id) })
}

func (l *masterLink) Reregistered(id mesos.AgentID, reconcile []link.TaskRef) {
	l.post(func(a *Agent) { a.reregistered(id, reconcile) })
}

func (l *masterLink) Shutdown(reason string) {
	l.post(func(a *Agent) { a.removed(reason) })
}

func (l *masterLink) RunTask(framework mesos.FrameworkInfo, task mesos.TaskInfo, launchExecutor bool) {
	l.post(func(a *Agent) { a.runTask(framework, task, launchExecutor) })
}

func (l *masterLink) KillTask(framework mesos.FrameworkID, task mesos.TaskID, policy *mesos.KillPolicy) {
	l.post(func(a *Agent) { a.killTask(framework, task, policy) })
}

func (l *masterLink) ShutdownExecutor(framework mesos.FrameworkID, executor mesos.ExecutorID) {
	l.post(func(a *Agent) { a.shutdownExecutor(framework, executor) })
}

func (l *masterLink) ShutdownFramework(framework mesos.FrameworkID) {
	l.post(func(a *Agent) { a.shutdownFramework(framework) })
}

func (l *masterLink) UpdateFramework(framework mesos.FrameworkInfo) {
	l.post(func(a *Agent) { a.updateFramework(framework) })
}

func (l *masterLink) FrameworkMessage(framework mesos.FrameworkID, executor mesos.ExecutorID, data []byte) {
	l.post(func(a *Agent) { a.frameworkMessage(framework, executor, data) })
}

func (l *masterLink) Acknowledge(framework mesos.FrameworkID, task mesos.TaskID, uuid []byte) {
	l.post(func(a *Agent) { a.acknowledge(framework, task, uuid) })
}

func (l *masterLink) Drain(config *mesos.DrainConfig) {
	l.post(func(a *Agent) { a.drain(config) })
}

func (l *masterLink) Ping(connected bool) {
	l.post(func(a *Agent) { a.pinged(connected) })
}
