package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/agent/internal/checkpoint"
	"github.com/baas-batch/baas/embedded/mesos/agent/internal/container"
)

// newStatus makes an update of the agent's own.
func (a *Agent) newStatus(task mesos.TaskID, state mesos.TaskState, reason mesos.TaskStatus_Reason, message string) mesos.TaskStatus {
	id := uuid.New()
	now := float64(time.Now().UnixNano()) / 1e9
	return mesos.TaskStatus{
		TaskID: task, State: &state, Reason: &reason, Message: &message,
		Source: mesos.SOURCE_AGENT.Enum(), AgentID: a.info.ID, UUID: id[:], Timestamp: &now,
	}
}

func (a *Agent) framework(info mesos.FrameworkInfo) (*framework, error) {
	if f := a.frameworks[*info.ID]; f != nil {
		return f, nil
	}
	if err := checkpoint.ValidName(info.ID.Value); err != nil {
		return nil, err
	}
	f := &framework{info: info, executors: map[mesos.ExecutorID]*executorRun{}}
	if info.GetCheckpoint() {
		if err := a.store.SaveFramework(info); err != nil {
			return nil, err
		}
	}
	for i, old := range a.completed {
		if old.id() == f.id() {
			f.completed = old.completed
			a.completed = append(a.completed[:i:i], a.completed[i+1:]...)
			break
		}
	}
	a.frameworks[f.id()] = f
	return f, nil
}

// updateFramework takes changed capabilities, roles and so on.
func (a *Agent) updateFramework(info mesos.FrameworkInfo) {
	f := a.frameworks[*info.ID] // the master sets it
	if f == nil || f.terminating {
		return
	}
	f.info = info
	if info.GetCheckpoint() {
		if err := a.store.SaveFramework(info); err != nil {
			a.log.Error("framework's information is not kept", "framework", info.ID.Value, "error", err)
		}
	}
}

// runTask hands a task to its executor, and starts that first if it must.
func (a *Agent) runTask(info mesos.FrameworkInfo, task mesos.TaskInfo, launchExecutor bool) {
	log := a.log.With("framework", info.GetID().GetValue(), "task", task.TaskID.Value)
	if info.ID == nil || a.state == recovering || a.state == terminating || a.info.ID == nil || task.AgentID != *a.info.ID {
		log.Warn("task is ignored", "state", a.state, "meant for", task.AgentID.Value)
		return
	}
	f, err := a.framework(info)
	if err != nil {
		log.Error("task is ignored", "error", err)
		return
	}
	if f.terminating {
		log.Warn("task is ignored: its framework is terminating")
		return
	}
	if why := unsupported(task); why != "" {
		a.agentUpdate(f, a.newStatus(task.TaskID, mesos.TASK_ERROR, mesos.REASON_TASK_INVALID, why))
		if launchExecutor && task.Executor != nil {
			a.neverLaunched(f, task)
		}
		return
	}
	if f.executorOf(task.TaskID) != nil {
		log.Error("task is ignored: one by this ID is here")
		return
	}
	e := f.executors[task.Executor.ExecutorID]
	switch {
	case e != nil && launchExecutor:
		a.notTwice(f, e, task)
		return
	case e == nil && !launchExecutor: // it has ended, and the master is yet to learn of it
		a.drop(f, task, "No executor is expected to launch and there is none running")
		return
	case e == nil:
		if e, err = a.addExecutor(f, *task.Executor); err != nil {
			a.drop(f, task, err.Error())
			a.neverLaunched(f, task)
			return
		}
	}
	switch e.state {
	case executorTerminating:
		a.drop(f, task, "Executor terminating")
	case executorTerminated:
		a.drop(f, task, "Executor terminated")
	default:
		a.enqueue(f, e, task)
	}
}

// notTwice drops a task for which the master wants an executor started that is
// still here: ended, with updates that wait for acknowledgement, or unknown to
// the master. So that the two agree again it is not to live on.
func (a *Agent) notTwice(f *framework, e *executorRun, task mesos.TaskInfo) {
	a.drop(f, task, "Master wants to launch executor, but one already exists")
	switch e.state {
	case executorTerminated:
		a.neverLaunched(f, task)
	case executorRegistering, executorRunning:
		a.endExecutor(e)
	}
}

// neverLaunched has the master forget the executor that it counts for a task.
func (a *Agent) neverLaunched(f *framework, task mesos.TaskInfo) {
	if a.state == running {
		a.master.ExecutorExited(*a.info.ID, f.id(), task.Executor.ExecutorID, container.UnknownStatus)
	}
}

// unsupported says what this agent lacks for a task.
func unsupported(task mesos.TaskInfo) string {
	switch {
	case task.Executor == nil:
		return "this agent has no command executor: the task must have an ExecutorInfo"
	case task.Executor.Type == mesos.ExecutorInfo_DEFAULT:
		return "this agent has no default executor: use one of type CUSTOM"
	case task.Executor.Command == nil:
		return "ExecutorInfo has no command"
	}
	return ""
}

// drop answers for a task that never got as far as its executor.
func (a *Agent) drop(f *framework, task mesos.TaskInfo, why string) {
	status := a.newStatus(task.TaskID, f.either(mesos.TASK_DROPPED), mesos.REASON_EXECUTOR_TERMINATED, why)
	status.ExecutorID = &task.Executor.ExecutorID
	a.agentUpdate(f, status)
}

func (a *Agent) enqueue(f *framework, e *executorRun, task mesos.TaskInfo) {
	if e.log != nil {
		if err := e.log.Task(newTask(task, f.id(), mesos.TASK_STAGING)); err != nil {
			a.drop(f, task, "Failed to checkpoint the task: "+err.Error())
			return
		}
	}
	e.queued = append(e.queued, task)
	if limit, ok := task.Limits["mem"]; ok {
		e.limits[task.TaskID] = limit.Value
	}
	a.raiseMemory(e)
	if e.container == nil && e.state == executorRegistering && !e.launching {
		a.launch(f, e)
	}
	if e.state == executorRunning {
		a.sendQueued(e)
	}
}

func (a *Agent) raiseMemory(e *executorRun) {
	if e.raiseMemory() {
		a.saveContainer(e)
	}
}

// saveContainer keeps what the agent knows of a container beyond its processes.
// Before its start nothing is kept: launched does it.
func (a *Agent) saveContainer(e *executorRun) {
	if e.container == nil {
		return
	}
	record := e.container.Record()
	record.Memory, record.Sent = e.memory, e.everSent
	if err := a.store.SaveContainer(record); err != nil {
		a.log.Error("container's record is not kept", "container", record.ID, "error", err)
	}
}

// addExecutor makes the sandbox and checkpoints the executor. Its errors are
// those for which Mesos drops the task: an unknown user among them.
func (a *Agent) addExecutor(f *framework, info mesos.ExecutorInfo) (*executorRun, error) {
	if err := checkpoint.ValidName(info.ExecutorID.Value); err != nil {
		return nil, fmt.Errorf("executor: %w", err)
	}
	if info.FrameworkID == nil {
		id := f.id()
		info.FrameworkID = &id
	}
	credential, err := a.credential(f.info, info)
	if err != nil {
		return nil, err
	}
	id := uuid.NewString()
	dir := filepath.Join(a.runsDir(f.id(), info.ExecutorID), id)
	if err := makeSandbox(dir, credential); err != nil {
		return nil, fmt.Errorf("failed to create executor directory: %w", err)
	}
	e := newExecutor(f.id(), info, id, dir)
	if f.info.GetCheckpoint() {
		if e.log, err = a.store.SaveExecutor(f.id(), info, id); err != nil {
			return nil, err
		}
	}
	f.executors[e.id()] = e
	a.log.Info("executor added", "framework", f.id().Value, "executor", e.id().Value, "directory", dir)
	return e, nil
}

// runsDir is where the sandboxes of all runs of an executor lie.
func (a *Agent) runsDir(framework mesos.FrameworkID, executor mesos.ExecutorID) string {
	return filepath.Join(a.cfg.WorkDir, "slaves", a.info.ID.Value,
		"frameworks", framework.Value, "executors", executor.Value, "runs")
}

func makeSandboxRoot(workDir string) error {
	return os.MkdirAll(filepath.Join(workDir, "slaves"), 0o755)
}

// makeSandbox makes a directory that only its user can enter, and has the link
// latest show it.
func makeSandbox(dir string, owner *credential) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		return err
	}
	if owner.container != nil {
		if err := os.Chown(dir, int(owner.container.UID), int(owner.container.GID)); err != nil {
			return err
		}
	}
	link := filepath.Join(filepath.Dir(dir), "latest")
	_ = os.Remove(link + ".new")
	if err := os.Symlink(filepath.Base(dir), link+".new"); err != nil {
		return err
	}
	return os.Rename(link+".new", link)
}
