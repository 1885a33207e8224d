package agent

import (
	"net"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
)

// agentUpdate handles an update of the agent's own.
func (a *Agent) agentUpdate(f *framework, status mesos.TaskStatus) {
	a.statusUpdate(f, status, nil)
}

// executorUpdate handles an update that an executor sent; what validateCall
// demands is given.
func (a *Agent) executorUpdate(f *framework, sender *executorRun, status mesos.TaskStatus) {
	id := sender.id()
	status.AgentID, status.ExecutorID = a.info.ID, &id
	status.Source = mesos.SOURCE_EXECUTOR.Enum()
	if status.Timestamp == nil {
		now := float64(time.Now().UnixNano()) / 1e9
		status.Timestamp = &now
	}
	a.statusUpdate(f, status, sender)
}

// statusUpdate checkpoints an update, acknowledges it to its sender, and passes
// it to the task's stream (Slave::statusUpdate and what follows it). For a
// framework that is terminating nobody would acknowledge it: it is dropped.
func (a *Agent) statusUpdate(f *framework, status mesos.TaskStatus, sender *executorRun) {
	log := a.log.With("framework", f.id().Value, "task", status.TaskID.Value, "state", status.GetState())
	if f.terminating {
		log.Warn("update is ignored: its framework is terminating")
		return
	}
	a.drained(f, &status)
	e := f.executorOf(status.TaskID)
	if e == nil {
		// From the agent, of a task that it does not know; or from an executor,
		// of a task that is complete. Both are passed on.
		if s := a.stream(f.id(), status.TaskID, nil); !s.known[string(status.UUID)] {
			s.add(status)
		}
		a.acknowledgeTo(sender, status)
		return
	}
	key := streamKey{f.id(), status.TaskID}
	if s := a.streams[key]; s != nil && s.known[string(status.UUID)] {
		a.acknowledgeTo(sender, status)
		return
	}
	if err := e.check(status); err != nil {
		log.Warn("update cannot be applied", "error", err)
		a.acknowledgeTo(sender, status) // or it would come again
		return
	}
	if reachedExecutor(e, status) {
		a.addContainerStatus(e, &status)
	}
	if e.log != nil {
		if err := e.log.Update(status); err != nil {
			log.Error("update is not kept", "error", err)
			if sender != nil { // it will bring the update again
				sender.disconnect()
				return
			}
		}
	}
	e.apply(status)
	a.stream(f.id(), status.TaskID, e.log).add(status)
	a.acknowledgeTo(sender, status)
}

func reachedExecutor(e *executorRun, status mesos.TaskStatus) bool {
	if e.queuedAt(status.TaskID) >= 0 {
		return false
	}
	lost := status.GetState() == mesos.TASK_DROPPED || status.GetState() == mesos.TASK_LOST
	return !lost || status.GetSource() != mesos.SOURCE_AGENT
}

func (a *Agent) addContainerStatus(e *executorRun, status *mesos.TaskStatus) {
	var filled mesos.ContainerStatus
	if status.ContainerStatus != nil {
		filled = *status.ContainerStatus
	}
	if filled.ContainerID == nil {
		filled.ContainerID = &mesos.ContainerID{Value: e.containerID}
	}
	if e.container != nil && filled.ExecutorPID == nil {
		pid := uint32(e.container.Record().PID)
		filled.ExecutorPID = &pid
	}
	if len(filled.NetworkInfos) == 0 {
		host, _, _ := net.SplitHostPort(a.addr)
		filled.NetworkInfos = []mesos.NetworkInfo{{IPAddresses: []mesos.NetworkInfo_IPAddress{{IPAddress: &host}}}}
	}
	status.ContainerStatus = &filled
}

// acknowledgeTo tells an executor that its update is safe with the agent.
func (a *Agent) acknowledgeTo(e *executorRun, status mesos.TaskStatus) {
	if e == nil {
		return
	}
	a.send(e, &executor.Event{
		Type:         executor.Event_ACKNOWLEDGED,
		Acknowledged: &executor.Event_Acknowledged{TaskID: status.TaskID, UUID: status.UUID},
	})
}

// send is lost when the executor is not connected, as in Mesos.
func (a *Agent) send(e *executorRun, event *executor.Event) {
	if e.events == nil {
		a.log.Warn("event for an executor that is not connected is dropped",
			"framework", e.framework.Value, "executor", e.id().Value, "event", event.Type)
		return
	}
	if err := e.events.send(event); err != nil {
		a.log.Error("event is not sent", "executor", e.id().Value, "error", err)
	}
}

// sendQueued hands over what waited for the executor.
func (a *Agent) sendQueued(e *executorRun) {
	queued := e.queued
	e.queued = nil
	for _, info := range queued {
		task := newTask(info, e.framework, mesos.TASK_STAGING)
		e.launched[info.TaskID] = &task
		if !e.everSent {
			e.everSent = true
			a.saveContainer(e)
		}
		a.send(e, &executor.Event{Type: executor.Event_LAUNCH, Launch: &executor.Event_Launch{Task: info}})
	}
}
