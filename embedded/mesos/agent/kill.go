package agent

import (
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
)

// killTask asks the task's executor, or answers at once for a task that never
// reached it.
func (a *Agent) killTask(framework mesos.FrameworkID, task mesos.TaskID, policy *mesos.KillPolicy) {
	log := a.log.With("framework", framework.Value, "task", task.Value)
	f := a.frameworks[framework]
	if a.state == recovering || a.state == terminating || f == nil || f.terminating {
		log.Warn("kill is ignored", "state", a.state)
		return
	}
	e := f.executorOf(task)
	switch {
	case e == nil:
		status := a.newStatus(task, f.either(mesos.TASK_DROPPED), mesos.REASON_EXECUTOR_TERMINATED, "Cannot find executor")
		a.agentUpdate(f, status)
	case e.state == executorTerminating || e.state == executorTerminated:
		log.Warn("kill is ignored: the executor is ending", "executor", e.id().Value)
	case e.queuedAt(task) >= 0:
		status := a.newStatus(task, mesos.TASK_KILLED, mesos.REASON_TASK_KILLED_DURING_LAUNCH,
			"Killed before delivery to the executor")
		id := e.id()
		status.ExecutorID = &id
		a.agentUpdate(f, status)
	case e.state == executorRegistering:
		// Recovered, and not back yet: the framework asks again.
		log.Warn("kill is ignored: the executor is not connected", "executor", e.id().Value)
	default:
		a.send(e, &executor.Event{
			Type: executor.Event_KILL,
			Kill: &executor.Event_Kill{TaskID: task, KillPolicy: policy},
		})
	}
}

// frameworkMessage passes on what a framework has to say, if its executor is
// there to hear it.
func (a *Agent) frameworkMessage(framework mesos.FrameworkID, id mesos.ExecutorID, data []byte) {
	f := a.frameworks[framework]
	if a.state != running || f == nil || f.terminating {
		return
	}
	if e := f.executors[id]; e != nil && e.state == executorRunning {
		a.send(e, &executor.Event{Type: executor.Event_MESSAGE, Message: &executor.Event_Message{Data: data}})
	}
}

// executorMessage passes on what an executor has to say.
func (a *Agent) executorMessage(f *framework, e *executorRun, data []byte) {
	if a.state != running || f.terminating {
		a.log.Warn("message of an executor is dropped", "state", a.state, "executor", e.id().Value)
		return
	}
	a.master.ExecutorMessage(*a.info.ID, f.id(), e.id(), data)
}

func (a *Agent) shutdownExecutor(framework mesos.FrameworkID, id mesos.ExecutorID) {
	f := a.frameworks[framework]
	if a.state == recovering || a.state == disconnected || f == nil || f.terminating {
		return
	}
	if e := f.executors[id]; e != nil && (e.state == executorRegistering || e.state == executorRunning) {
		a.endExecutor(e)
	}
}

// endExecutor asks an executor to end, and kills it after its grace period. One
// that has not subscribed does not hear it, and is given the time all the same.
func (a *Agent) endExecutor(e *executorRun) {
	a.log.Info("shutting executor down", "framework", e.framework.Value, "executor", e.id().Value)
	e.state = executorTerminating
	if e.events != nil {
		a.send(e, &executor.Event{Type: executor.Event_SHUTDOWN})
	}
	grace := a.cfg.ExecutorShutdownGracePeriod
	if p := e.info.ShutdownGracePeriod; p != nil {
		grace = time.Duration(p.Nanoseconds)
	}
	a.box.after(grace, func() {
		if e.state == executorTerminating {
			a.destroy(e)
		}
	})
}

func (a *Agent) shutdownFramework(id mesos.FrameworkID) {
	if a.state == recovering || a.state == disconnected {
		return
	}
	if f := a.frameworks[id]; f != nil {
		a.endFramework(f)
		a.checkIdle()
	}
}

// endFramework shuts all executors of a framework down. From now on nobody
// acknowledges its updates.
func (a *Agent) endFramework(f *framework) {
	if f.terminating {
		return
	}
	f.terminating = true
	for _, e := range f.executors {
		switch e.state {
		case executorRegistering, executorRunning:
			a.endExecutor(e)
		case executorTerminated:
			a.removeExecutor(f, e)
		}
	}
	a.removeIdle(f)
}
