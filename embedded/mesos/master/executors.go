package master

import (
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

// ExecutorExited frees what an executor held and tells its framework. The
// updates of its tasks come from the agent by themselves.
func (m *Master) ExecutorExited(id mesos.AgentID, fw mesos.FrameworkID, executor mesos.ExecutorID, status int32) {
	m.box.post(func() {
		a := m.agents[id.Value]
		if a == nil || a.executors[fw.Value][executor.Value] == nil {
			m.log.Debug("master: exit of an unknown executor ignored", "agent", id.Value, "executor", executor.Value)
			return
		}
		m.removeExecutor(a, fw.Value, executor.Value)
		if f := m.frameworks[fw.Value]; f != nil {
			f.send(&scheduler.Event{
				Type:    scheduler.Event_FAILURE,
				Failure: &scheduler.Event_Failure{AgentID: &id, ExecutorID: &executor, Status: &status},
			})
		}
	})
}

// ExecutorMessage passes bytes from an executor to its framework; they are lost
// if it is not connected.
func (m *Master) ExecutorMessage(id mesos.AgentID, fw mesos.FrameworkID, executor mesos.ExecutorID, data []byte) {
	m.box.post(func() {
		f := m.frameworks[fw.Value]
		if m.agents[id.Value] == nil || f == nil {
			return
		}
		f.send(&scheduler.Event{
			Type:    scheduler.Event_MESSAGE,
			Message: &scheduler.Event_Message{AgentID: id, ExecutorID: executor, Data: data},
		})
	})
}
