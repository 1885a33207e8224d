package mesos

import (
	"sync/atomic"

	api "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/link"
)

// wire is the connection between one agent process and one master process. Cut,
// it drops everything in both directions, as a network partition does.
type wire struct {
	link.Master // the master that the agent talks to
	faults      Faults
	onReady     func(api.AgentID) // the agent has been told that it is (re-)registered
	severed     atomic.Bool
}

func (w *wire) cut() { w.severed.Store(true) }

func (w *wire) up() bool { return !w.severed.Load() }

func (w *wire) Register(a link.Agent, info api.AgentInfo) {
	if w.up() {
		w.Master.Register(agentEnd{a, w}, info)
	}
}

func (w *wire) Reregister(a link.Agent, state link.AgentState) {
	if w.up() {
		w.Master.Reregister(agentEnd{a, w}, state)
	}
}

func (w *wire) Unregister(id api.AgentID) {
	if w.up() {
		w.Master.Unregister(id)
	}
}

func (w *wire) Pong(id api.AgentID) {
	if w.up() {
		w.Master.Pong(id)
	}
}

func (w *wire) Oversubscribe(id api.AgentID, revocable []api.Resource) {
	if w.up() {
		w.Master.Oversubscribe(id, revocable)
	}
}

func (w *wire) Update(u link.StatusUpdate) {
	var fate link.Fate
	if w.faults.Update != nil && w.up() {
		fate = w.faults.Update(u)
	}
	w.pass(fate, func() { w.Master.Update(u) })
}

// pass carries a message over the wire if that is whole by then.
func (w *wire) pass(fate link.Fate, send func()) {
	fate.Deliver(func() {
		if w.up() {
			send()
		}
	})
}

func (w *wire) fateOf(m Message) (fate link.Fate) {
	if w.faults.Message != nil && w.up() {
		fate = w.faults.Message(m)
	}
	return fate
}

func (w *wire) ExecutorMessage(a api.AgentID, f api.FrameworkID, e api.ExecutorID, data []byte) {
	fate := w.fateOf(Message{Framework: f, Executor: e, Data: data})
	w.pass(fate, func() { w.Master.ExecutorMessage(a, f, e, data) })
}

func (w *wire) ExecutorExited(a api.AgentID, f api.FrameworkID, e api.ExecutorID, status int32) {
	if w.up() {
		w.Master.ExecutorExited(a, f, e, status)
	}
}

// agentEnd is an agent as the master sees it over a wire. Two ends of one agent
// and wire are equal, which the master relies on.
type agentEnd struct {
	agent link.Agent
	wire  *wire
}

var _ link.Agent = agentEnd{}

func (e agentEnd) Registered(id api.AgentID) {
	if e.wire.up() {
		e.agent.Registered(id)
		e.wire.onReady(id)
	}
}

func (e agentEnd) Reregistered(id api.AgentID, reconcile []link.TaskRef) {
	if e.wire.up() {
		e.agent.Reregistered(id, reconcile)
		e.wire.onReady(id)
	}
}

func (e agentEnd) Shutdown(reason string) {
	if e.wire.up() {
		e.agent.Shutdown(reason)
	}
}

func (e agentEnd) RunTask(f api.FrameworkInfo, t api.TaskInfo, launchExecutor bool) {
	if e.wire.up() {
		e.agent.RunTask(f, t, launchExecutor)
	}
}

func (e agentEnd) KillTask(f api.FrameworkID, t api.TaskID, p *api.KillPolicy) {
	if e.wire.up() {
		e.agent.KillTask(f, t, p)
	}
}

func (e agentEnd) ShutdownExecutor(f api.FrameworkID, x api.ExecutorID) {
	if e.wire.up() {
		e.agent.ShutdownExecutor(f, x)
	}
}

func (e agentEnd) ShutdownFramework(f api.FrameworkID) {
	if e.wire.up() {
		e.agent.ShutdownFramework(f)
	}
}

func (e agentEnd) UpdateFramework(f api.FrameworkInfo) {
	if e.wire.up() {
		e.agent.UpdateFramework(f)
	}
}

func (e agentEnd) FrameworkMessage(f api.FrameworkID, x api.ExecutorID, data []byte) {
	fate := e.wire.fateOf(Message{Framework: f, Executor: x, Data: data, ToExecutor: true})
	e.wire.pass(fate, func() { e.agent.FrameworkMessage(f, x, data) })
}

func (e agentEnd) Acknowledge(f api.FrameworkID, t api.TaskID, uuid []byte) {
	if e.wire.up() {
		e.agent.Acknowledge(f, t, uuid)
	}
}

func (e agentEnd) Drain(config *api.DrainConfig) {
	if e.wire.up() {
		e.agent.Drain(config)
	}
}

func (e agentEnd) Ping(connected bool) {
	if e.wire.up() {
		e.agent.Ping(connected)
	}
}
