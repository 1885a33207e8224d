package agent

import (
	"fmt"
	"math"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/agent/internal/checkpoint"
	"github.com/baas-batch/baas/embedded/mesos/agent/internal/container"
)

// framework is what runs here of one framework.
type framework struct {
	info        mesos.FrameworkInfo
	terminating bool
	executors   map[mesos.ExecutorID]*executorRun
	completed   []*executorRun // the newest maxCompletedExecutors
}

// How much is remembered of what is over, as in Mesos.
const (
	maxCompletedFrameworks = 50
	maxCompletedExecutors  = 150
	maxCompletedTasks      = 200
)

func (f *framework) id() mesos.FrameworkID { return *f.info.ID }

func (f *framework) partitionAware() bool {
	for _, c := range f.info.Capabilities {
		if c.Type == mesos.FrameworkInfo_Capability_PARTITION_AWARE {
			return true
		}
	}
	return false
}

// either gives the state that a framework without PARTITION_AWARE knows.
func (f *framework) either(state mesos.TaskState) mesos.TaskState {
	if f.partitionAware() {
		return state
	}
	return mesos.TASK_LOST
}

// executorOf finds the executor of a task that is not complete.
func (f *framework) executorOf(task mesos.TaskID) *executorRun {
	for _, e := range f.executors {
		if e.has(task) {
			return e
		}
	}
	return nil
}

func (a *Agent) taskOf(key streamKey) *mesos.Task {
	f := a.frameworks[key.framework]
	if f == nil {
		return nil
	}
	for _, e := range f.executors {
		if t := e.launched[key.task]; t != nil {
			return t
		}
		if t := e.terminated[key.task]; t != nil {
			return t
		}
	}
	return nil
}

type executorState int

const (
	executorRegistering executorState = iota
	executorRunning
	executorTerminating
	executorTerminated // its updates may still wait for acknowledgement
)

// executorRun is one run of an executor.
type executorRun struct {
	framework   mesos.FrameworkID
	info        mesos.ExecutorInfo
	containerID string
	directory   string
	state       executorState
	everSent    bool // a task, to the executor

	queued     []mesos.TaskInfo // not yet sent to it
	launched   map[mesos.TaskID]*mesos.Task
	terminated map[mesos.TaskID]*mesos.Task // some update is not acknowledged
	completed  []mesos.Task                 // the newest maxCompletedTasks

	log       *checkpoint.Log // nil: not checkpointed
	container *container.Container
	launching bool
	cancel    func() // of the launch
	doomed    bool   // to be killed, by destroy
	events    *eventStream
	heartbeat *time.Timer

	limits map[mesos.TaskID]float64 // TaskInfo.limits of memory, in MB
	memory int64                    // bytes that the container may use; 0: none known, so no limit
	died   *termination
}

// termination is why a container ended, where the agent knows more than that it
// did.
type termination struct {
	state      mesos.TaskState
	reason     mesos.TaskStatus_Reason
	message    string
	limitation *mesos.TaskResourceLimitation
}

func newExecutor(framework mesos.FrameworkID, info mesos.ExecutorInfo, containerID, directory string) *executorRun {
	return &executorRun{
		framework: framework, info: info, containerID: containerID, directory: directory,
		launched: map[mesos.TaskID]*mesos.Task{}, terminated: map[mesos.TaskID]*mesos.Task{},
		limits: map[mesos.TaskID]float64{}, cancel: func() {},
	}
}

func (e *executorRun) id() mesos.ExecutorID { return e.info.ExecutorID }

func (e *executorRun) queuedAt(task mesos.TaskID) int {
	for i := range e.queued {
		if e.queued[i].TaskID == task {
			return i
		}
	}
	return -1
}

func (e *executorRun) has(task mesos.TaskID) bool {
	return e.launched[task] != nil || e.terminated[task] != nil || e.queuedAt(task) >= 0
}

func (e *executorRun) incomplete() bool {
	return len(e.queued)+len(e.launched)+len(e.terminated) > 0
}

// check tells why an update cannot be applied (Executor::updateTaskState).
func (e *executorRun) check(status mesos.TaskStatus) error {
	switch task := status.TaskID; {
	case e.launched[task] != nil:
		return nil
	case e.terminated[task] != nil:
		return fmt.Errorf("task is already terminated with state %s", e.terminated[task].GetState())
	case e.queuedAt(task) < 0:
		return fmt.Errorf("task is unknown")
	case !terminal(*status.State):
		return fmt.Errorf("cannot send non-terminal update for queued task")
	}
	return nil
}

// apply sets a task's newest state.
func (e *executorRun) apply(status mesos.TaskStatus) {
	id := status.TaskID
	task := e.launched[id]
	if i := e.queuedAt(id); i >= 0 {
		t := newTask(e.queued[i], e.framework, mesos.TASK_STAGING)
		task = &t
		e.queued = append(e.queued[:i:i], e.queued[i+1:]...)
	}
	status.Data = nil // may be large, and nobody reads it here
	if n := len(task.Statuses); n > 0 && task.Statuses[n-1].GetState() == status.GetState() {
		task.Statuses = task.Statuses[:n-1]
	}
	task.Statuses = append(task.Statuses, status)
	task.State = status.State
	if status.GetSource() == mesos.SOURCE_EXECUTOR {
		e.everSent = true
	}
	if terminal(*status.State) {
		delete(e.launched, id)
		e.terminated[id] = task
	}
}

// complete lets go of a terminated task.
func (e *executorRun) complete(id mesos.TaskID) {
	task := e.terminated[id]
	if task == nil {
		return
	}
	delete(e.terminated, id)
	delete(e.limits, id)
	e.completed = append(e.completed, *task)
	if over := len(e.completed) - maxCompletedTasks; over > 0 {
		e.completed = e.completed[over:]
	}
	if e.log != nil {
		// Not kept, the task's updates would only be read once more.
		_ = e.log.Complete(id)
	}
}

// resources are the executor's own and those of its live tasks.
func (e *executorRun) resources() []mesos.Resource {
	list := append([]mesos.Resource{}, e.info.Resources...)
	for _, t := range e.queued {
		list = append(list, t.Resources...)
	}
	for _, t := range e.launched {
		list = append(list, t.Resources...)
	}
	return list
}

func sum(resources []mesos.Resource, name string) float64 {
	var total float64
	for _, r := range resources {
		if r.Name == name && r.Scalar != nil {
			total += r.Scalar.Value
		}
	}
	return total
}

// minMemory is the least limit that a container gets, in MB (MIN_MEMORY).
const minMemory = 32

// unlimited memory, once a container has had it, is for good.
const unlimited = -1

// raiseMemory adapts the container's limit to its tasks, and tells whether it
// has changed. As in Mesos it only grows: a task's end must not make the others
// look greedy. A container without any memory in its resources has no limit.
func (e *executorRun) raiseMemory() bool {
	mb := sum(e.info.Resources, "mem")
	add := func(id mesos.TaskID, resources []mesos.Resource) {
		if limit, ok := e.limits[id]; ok {
			mb += limit
			return
		}
		mb += sum(resources, "mem")
	}
	for _, t := range e.queued {
		add(t.TaskID, t.Resources)
	}
	for id, t := range e.launched {
		add(id, t.Resources)
	}
	before := e.memory
	switch {
	case e.memory == unlimited:
	case math.IsInf(mb, 1):
		e.memory = unlimited
	case mb > 0:
		e.memory = max(e.memory, int64(max(mb, minMemory)*(1<<20)))
	}
	return e.memory != before
}

func terminal(state mesos.TaskState) bool {
	switch state {
	case mesos.TASK_FINISHED, mesos.TASK_FAILED, mesos.TASK_KILLED, mesos.TASK_LOST, mesos.TASK_ERROR,
		mesos.TASK_DROPPED, mesos.TASK_GONE, mesos.TASK_GONE_BY_OPERATOR:
		return true
	}
	return false
}

// newTask describes a task without its command and data (protobuf::createTask).
func newTask(t mesos.TaskInfo, framework mesos.FrameworkID, state mesos.TaskState) mesos.Task {
	task := mesos.Task{
		Name: t.Name, TaskID: t.TaskID, FrameworkID: framework, AgentID: t.AgentID, State: &state,
		Resources: t.Resources, Labels: t.Labels, Discovery: t.Discovery, Container: t.Container,
		HealthCheck: t.HealthCheck, KillPolicy: t.KillPolicy,
	}
	if t.Executor != nil {
		task.ExecutorID = &t.Executor.ExecutorID
		if t.Executor.Command != nil {
			task.User = t.Executor.Command.User
		}
	}
	return task
}
