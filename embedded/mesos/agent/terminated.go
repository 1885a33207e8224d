package agent

import (
	"os"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// terminated handles the end of a container: nothing of it lives any more. All
// tasks that had not ended get a terminal update, those still queued too.
func (a *Agent) terminated(e *executorRun, status int32) {
	f := a.frameworks[e.framework]
	if f == nil || f.executors[e.id()] != e || e.state == executorTerminated {
		return
	}
	log := a.log.With("framework", e.framework.Value, "executor", e.id().Value)
	log.Info("executor has ended", "status", status)
	e.state = executorTerminated
	e.cancel()
	e.disconnect()
	if err := a.store.RemoveContainer(e.containerID); err != nil {
		log.Error("container's record is not removed", "error", err)
	}
	if !f.terminating {
		for _, id := range e.unfinished() {
			a.agentUpdate(f, a.terminationStatus(e, id))
		}
	}
	if a.state == running {
		a.master.ExecutorExited(*a.info.ID, f.id(), e.id(), status)
	}
	if a.state == terminating || f.terminating || !e.incomplete() {
		a.removeExecutor(f, e)
	}
	a.removeIdle(f)
	a.checkRecovered()
}

// unfinished lists the tasks that have no terminal state yet.
func (e *executorRun) unfinished() []mesos.TaskID {
	var ids []mesos.TaskID
	for id := range e.launched {
		ids = append(ids, id)
	}
	for _, t := range e.queued {
		ids = append(ids, t.TaskID)
	}
	return ids
}

func (a *Agent) terminationStatus(e *executorRun, task mesos.TaskID) mesos.TaskStatus {
	why := termination{
		state: mesos.TASK_FAILED, reason: mesos.REASON_EXECUTOR_TERMINATED, message: "Executor terminated",
	}
	if e.died != nil {
		why = *e.died
	}
	status := a.newStatus(task, why.state, why.reason, why.message)
	id := e.id()
	status.ExecutorID, status.Limitation = &id, why.limitation
	return status
}

// removeExecutor lets go of an executor that has ended. Its sandbox stays until
// it is collected.
func (a *Agent) removeExecutor(f *framework, e *executorRun) {
	log := a.log.With("framework", f.id().Value, "executor", e.id().Value)
	if e.log != nil {
		e.log.Close()
		e.log = nil
		if err := a.store.RemoveExecutor(f.id(), e.id()); err != nil {
			log.Error("executor's checkpoint is not removed", "error", err)
		}
	}
	for key, s := range a.streams { // only a terminating framework has some left
		if key.framework == f.id() && e.has(key.task) {
			s.end()
		}
	}
	now := time.Now()
	if err := os.Chtimes(e.directory, now, now); err != nil && !os.IsNotExist(err) {
		log.Warn("sandbox is not touched", "error", err)
	}
	delete(f.executors, e.id())
	f.completed = append(f.completed, e)
	if over := len(f.completed) - maxCompletedExecutors; over > 0 {
		f.completed = f.completed[over:]
	}
}

// removeIdle lets go of a framework that has no executors. Updates that no
// executor stands for keep it: a Mesos agent would forget to repeat them.
func (a *Agent) removeIdle(f *framework) {
	if len(f.executors) > 0 || a.frameworks[f.id()] != f {
		return
	}
	for key, s := range a.streams {
		if key.framework != f.id() {
			continue
		}
		if !f.terminating {
			return
		}
		s.end()
	}
	a.log.Info("framework removed", "framework", f.id().Value)
	delete(a.frameworks, f.id())
	if f.info.GetCheckpoint() {
		if err := a.store.RemoveFramework(f.id()); err != nil {
			a.log.Error("framework's checkpoint is not removed", "framework", f.id().Value, "error", err)
		}
	}
	a.completed = append(a.completed, f)
	if over := len(a.completed) - maxCompletedFrameworks; over > 0 {
		a.completed = a.completed[over:]
	}
	a.checkIdle()
}
