package master

import (
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"github.com/baas-batch/baas/embedded/mesos/link"
)

// terminal tells whether a task in this state holds nothing any more.
func terminal(s mesos.TaskState) bool {
	switch s {
	case mesos.TASK_FINISHED, mesos.TASK_FAILED, mesos.TASK_KILLED, mesos.TASK_LOST, mesos.TASK_ERROR,
		mesos.TASK_DROPPED, mesos.TASK_GONE, mesos.TASK_GONE_BY_OPERATOR:
		return true
	}
	return false
}

// masterStatus is a status that the master makes: without uuid, so that it is
// not acknowledged.
func masterStatus(id mesos.TaskID, state mesos.TaskState, message string) mesos.TaskStatus {
	return mesos.TaskStatus{
		TaskID:    id,
		State:     state.Enum(),
		Source:    mesos.SOURCE_MASTER.Enum(),
		Message:   ptr(message),
		Timestamp: ptr(seconds(time.Now())),
	}
}

// taskStatus is a master's status of a task that it knows.
func taskStatus(t *mesos.Task, state mesos.TaskState, message string) mesos.TaskStatus {
	s := masterStatus(t.TaskID, state, message)
	s.AgentID = ptr(t.AgentID)
	s.ExecutorID = t.ExecutorID
	return s
}

func newTask(info *mesos.TaskInfo, framework string, used bag) *task {
	t := &task{used: used, Task: mesos.Task{
		Name:        info.Name,
		TaskID:      info.TaskID,
		FrameworkID: mesos.FrameworkID{Value: framework},
		AgentID:     info.AgentID,
		State:       mesos.TASK_STAGING.Enum(),
		Resources:   info.Resources,
		Labels:      info.Labels,
		Discovery:   info.Discovery,
		Container:   info.Container,
		HealthCheck: info.HealthCheck,
		KillPolicy:  info.KillPolicy,
	}}
	switch {
	case info.Executor != nil:
		t.ExecutorID = ptr(info.Executor.ExecutorID)
		t.User = info.Executor.Command.User
	case info.Command != nil:
		t.User = info.Command.User
	}
	return t
}

// addTask makes a task known and counts its resources unless it has ended.
func (m *Master) addTask(a *agent, f *framework, t *task) {
	fw := t.FrameworkID.Value
	if a.tasks[fw] == nil {
		a.tasks[fw] = map[string]*task{}
	}
	a.tasks[fw][t.TaskID.Value] = t
	if !terminal(*t.State) {
		a.used.add(t.used)
	}
	if f == nil {
		return // it will be recovered with its framework
	}
	f.tasks[t.TaskID.Value] = t
	if !terminal(*t.State) {
		f.allocation(roleOf(t.Resources)).add(t.used)
	}
}

// forward sends a status to its framework and notes which one was sent last.
func (m *Master) forward(f *framework, s mesos.TaskStatus) {
	if t := f.tasks[s.TaskID.Value]; t != nil && s.UUID != nil {
		t.StatusUpdateState = s.State
		t.StatusUpdateUUID = s.UUID
	}
	f.send(&scheduler.Event{Type: scheduler.Event_UPDATE, Update: &scheduler.Event_Update{Status: s}})
}

// Update takes a status update of an agent. The master keeps none of them: the
// agent sends each one again until it is acknowledged.
func (m *Master) Update(u link.StatusUpdate) {
	m.box.post(func() { m.update(u) })
}

func (m *Master) update(u link.StatusUpdate) {
	a := m.agents[u.Agent.Value]
	if a == nil {
		m.log.Warn("master: update of an agent that is not registered ignored", "agent", u.Agent.Value, "task", u.Status.TaskID.Value)
		return
	}
	if len(u.Status.UUID) != 16 || u.Status.State == nil {
		m.log.Warn("master: malformed update ignored", "agent", a.id, "task", u.Status.TaskID.Value)
		return
	}
	if f := m.frameworks[u.Framework.Value]; f != nil && f.stream != nil {
		m.forward(f, u.Status)
	}
	if t := a.tasks[u.Framework.Value][u.Status.TaskID.Value]; t != nil {
		m.setTaskState(t, u.Status, u.Latest)
	}
}

// setTaskState records a status; once the latest state is terminal (or
// unreachable) the resources are free, acknowledged or not.
func (m *Master) setTaskState(t *task, status mesos.TaskStatus, latest mesos.TaskState) {
	ended := func(s mesos.TaskState) bool { return terminal(s) || s == mesos.TASK_UNREACHABLE }
	was := *t.State
	if !terminal(was) {
		t.State = latest.Enum()
	}
	status.Data = nil // may be large, and is nobody's business here
	if n := len(t.Statuses); n > 0 && t.Statuses[n-1].GetState() == status.GetState() {
		t.Statuses = t.Statuses[:n-1]
	}
	t.Statuses = append(t.Statuses, status)
	if ended(was) || !ended(*t.State) {
		return
	}
	if a := m.agents[t.AgentID.Value]; a != nil {
		a.used.sub(t.used)
	}
	if f := m.frameworks[t.FrameworkID.Value]; f != nil {
		f.allocation(roleOf(t.Resources)).sub(t.used)
	}
	m.dirty = true
}

// removeTask forgets a task that has ended and keeps it among the completed ones.
func (m *Master) removeTask(t *task) {
	m.detachTask(t)
	if f := m.frameworks[t.FrameworkID.Value]; f != nil {
		f.completed.put(t.TaskID.Value, t)
	}
}

func (m *Master) detachTask(t *task) {
	fw, id := t.FrameworkID.Value, t.TaskID.Value
	if a := m.agents[t.AgentID.Value]; a != nil {
		delete(a.killed, link.TaskRef{Framework: t.FrameworkID, Task: t.TaskID})
		delete(a.tasks[fw], id)
		if len(a.tasks[fw]) == 0 {
			delete(a.tasks, fw)
		}
		defer m.checkDrained(a)
	}
	if f := m.frameworks[fw]; f != nil {
		delete(f.tasks, id)
	}
}

// acknowledge passes an acknowledgement on; that of a terminal update ends the
// master's knowledge of the task.
func (m *Master) acknowledge(f *framework, call *scheduler.Call_Acknowledge) {
	a := m.agents[call.AgentID.Value]
	if a == nil || !a.connected {
		m.log.Warn("master: acknowledgement dropped: agent not registered or disconnected",
			"agent", call.AgentID.Value, "task", call.TaskID.Value)
		return
	}
	if t := a.tasks[f.id][call.TaskID.Value]; t != nil {
		if t.StatusUpdateState == nil {
			return // not sent by this master; the agent sends it again
		}
		if terminal(*t.StatusUpdateState) && string(t.StatusUpdateUUID) == string(call.UUID) {
			m.removeTask(t)
		}
	}
	a.link.Acknowledge(mesos.FrameworkID{Value: f.id}, call.TaskID, call.UUID)
}

func (m *Master) kill(f *framework, call *scheduler.Call_Kill) {
	t := f.tasks[call.TaskID.Value]
	if t == nil {
		m.reconcile(f, []scheduler.Call_Reconcile_Task{{TaskID: call.TaskID, AgentID: call.AgentID}})
		return
	}
	if call.AgentID != nil && call.AgentID.Value != t.AgentID.Value {
		m.log.Warn("master: KILL dropped: the task belongs to another agent", "task", t.TaskID.Value)
		return
	}
	a := m.agents[t.AgentID.Value]
	a.killed[link.TaskRef{Framework: t.FrameworkID, Task: t.TaskID}] = true
	if a.connected {
		a.link.KillTask(t.FrameworkID, t.TaskID, call.KillPolicy)
	}
}

// reconcile answers with the latest state of the tasks named, or of all that the
// framework has if none is named.
func (m *Master) reconcile(f *framework, tasks []scheduler.Call_Reconcile_Task) {
	if len(tasks) == 0 {
		for _, t := range f.tasks {
			m.sendStatus(f, knownStatus(t))
		}
		return
	}
	for _, q := range tasks {
		if t := f.tasks[q.TaskID.Value]; t != nil {
			m.sendStatus(f, knownStatus(t))
		} else if s, ok := m.unknownStatus(f, q); ok {
			m.sendStatus(f, s)
		}
	}
}

func (m *Master) sendStatus(f *framework, s mesos.TaskStatus) {
	s.Reason = mesos.REASON_RECONCILIATION.Enum()
	f.send(&scheduler.Event{Type: scheduler.Event_UPDATE, Update: &scheduler.Event_Update{Status: s}})
}

// knownStatus tells the state of the last update that was sent on.
func knownStatus(t *task) mesos.TaskStatus {
	state := *t.State
	if t.StatusUpdateState != nil {
		state = *t.StatusUpdateState
	}
	s := taskStatus(&t.Task, state, "Reconciliation: Latest task state")
	if n := len(t.Statuses); n > 0 {
		last := t.Statuses[n-1]
		s.Healthy, s.CheckStatus, s.ContainerStatus = last.Healthy, last.CheckStatus, last.ContainerStatus
	}
	return s
}

// unknownStatus answers for a task that the master does not hold; nothing while
// it may still run on an agent that has not re-registered since this master started.
func (m *Master) unknownStatus(f *framework, q scheduler.Call_Reconcile_Task) (mesos.TaskStatus, bool) {
	state, message := mesos.TASK_UNKNOWN, "Reconciliation: Task is unknown"
	var since *mesos.TimeInfo
	if q.AgentID == nil {
		if len(m.recoveredAgents) > 0 {
			return mesos.TaskStatus{}, false
		}
	} else {
		id := q.AgentID.Value
		if _, ok := m.recoveredAgents[id]; ok {
			return mesos.TaskStatus{}, false
		}
		if m.agents[id] != nil {
			state, message = mesos.TASK_GONE, "Reconciliation: Task is unknown to the agent"
		} else if t, ok := m.unreachable[id]; ok {
			state, message, since = mesos.TASK_UNREACHABLE, "Reconciliation: Task is unreachable", &t
		} else if _, ok := m.gone[id]; ok {
			state, message = mesos.TASK_GONE_BY_OPERATOR, "Reconciliation: Task is gone"
		}
	}
	s := masterStatus(q.TaskID, f.lostOr(state), message)
	s.AgentID = q.AgentID
	s.UnreachableTime = since
	return s, true
}

// message passes bytes to an executor; they vanish if it is not there.
func (m *Master) message(f *framework, call *scheduler.Call_Message) {
	if a := m.agents[call.AgentID.Value]; a != nil && a.connected {
		a.link.FrameworkMessage(mesos.FrameworkID{Value: f.id}, call.ExecutorID, call.Data)
	}
}

func (m *Master) shutdownExecutor(f *framework, call *scheduler.Call_Shutdown) {
	if a := m.agents[call.AgentID.Value]; a != nil {
		a.link.ShutdownExecutor(mesos.FrameworkID{Value: f.id}, call.ExecutorID)
	}
}
