package master

import (
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/link"
)

// Reregister brings back an agent that has an ID: one that was disconnected, was
// unreachable, or was registered with this master's predecessor.
func (m *Master) Reregister(l link.Agent, state link.AgentState) {
	m.box.post(func() { m.reregister(l, state) })
}

func (m *Master) reregister(l link.Agent, state link.AgentState) {
	id := state.Info.GetID().GetValue()
	total, ok := bagOf(state.Info.Resources, "")
	if id == "" || !ok || validateResources(state.Info.Resources) != nil {
		m.log.Error("master: re-registration refused: no ID, or invalid resources", "host", state.Info.Hostname)
		return
	}
	if _, gone := m.gone[id]; gone {
		l.Shutdown("Agent has been marked gone")
		return
	}
	if m.down(state.Info) {
		return
	}
	a := m.agents[id]
	if a != nil && a.info.Hostname != state.Info.Hostname {
		l.Shutdown("Agent attempted to reregister with different IP / hostname")
		return
	}
	if err := m.registry.admit(state.Info); err != nil {
		m.log.Error("master: agent not admitted", "agent", id, "error", err) // it asks again
		return
	}
	if a != nil {
		m.reconnectAgent(a, l, state, total)
	} else {
		a = m.readmitAgent(l, state, total)
	}
	m.log.Info("master: agent re-registered", "agent", id, "tasks", len(state.Tasks), "executors", len(state.Executors))
	m.syncFrameworks(a, state.Frameworks)
	m.drain(a)
	m.allocate()
}

// reconnectAgent reconciles what the master knows of an agent that it never gave up.
func (m *Master) reconnectAgent(a *agent, l link.Agent, state link.AgentState, total bag) {
	if !slices.EqualFunc(a.info.Attributes, state.Info.Attributes, func(x, y mesos.Attribute) bool { return x.Equal(y) }) {
		m.dropFilters(a.id)
	}
	a.link, a.info, a.reregisteredAt = l, state.Info, time.Now()
	total.add(a.revocable) // the agent is to tell what of it is still there
	if !a.total.equal(total) {
		for _, o := range a.offers {
			m.rescind(o)
		}
		m.total.sub(a.total)
		m.total.add(total)
		a.total = total
	}
	if a.exitTimer != nil {
		a.exitTimer.Stop()
	}
	a.connected, a.active, a.pinged, a.missed = true, true, false, 0
	m.dirty = true

	there := map[link.TaskRef]bool{}
	for _, t := range state.Tasks {
		there[link.TaskRef{Framework: t.FrameworkID, Task: t.TaskID}] = true
	}
	var missing []link.TaskRef
	for _, tasks := range a.tasks {
		for _, t := range tasks {
			if ref := (link.TaskRef{Framework: t.FrameworkID, Task: t.TaskID}); !there[ref] {
				missing = append(missing, ref)
			}
		}
	}
	l.Reregistered(mesos.AgentID{Value: a.id}, missing)
	m.dropExecutors(a, state.Executors)
	for _, t := range state.Tasks {
		if !terminal(t.GetState()) && a.killed[link.TaskRef{Framework: t.FrameworkID, Task: t.TaskID}] {
			l.KillTask(t.FrameworkID, t.TaskID, nil)
		}
	}
}

// dropExecutors forgets the executors that an agent no longer has.
func (m *Master) dropExecutors(a *agent, alive []link.ExecutorState) {
	keep := map[[2]string]bool{}
	for _, e := range alive {
		keep[[2]string{e.Framework.Value, e.Info.ExecutorID.Value}] = true
	}
	for fw, executors := range a.executors {
		for id := range executors {
			if !keep[[2]string{fw, id}] {
				m.removeExecutor(a, fw, id)
			}
		}
	}
}

// readmitAgent takes in an agent that this master does not hold, with all its
// tasks. Frameworks learn the state of those that they were told unreachable.
func (m *Master) readmitAgent(l link.Agent, state link.AgentState, total bag) *agent {
	id := state.Info.ID.Value
	_, recovered := m.recoveredAgents[id]
	_, unreachable := m.unreachable[id]
	a := newAgent(l, state.Info, total)
	a.id, a.registeredAt, a.reregisteredAt = id, time.Now(), time.Now()
	for _, ref := range m.unreachableTasks[id] {
		if f := m.frameworks[ref.Framework.Value]; f != nil {
			f.unreachable.remove(ref.Task.Value)
		}
	}
	delete(m.unreachableTasks, id)
	delete(m.recoveredAgents, id)
	delete(m.unreachable, id)
	m.addAgent(a)
	for _, e := range state.Executors {
		if m.completed.has(e.Framework.Value) {
			continue
		}
		m.addExecutor(a, m.frameworks[e.Framework.Value], e.Info, m.held(e.Info.Resources))
	}
	message := "Unknown agent reregistered"
	if unreachable {
		message = "Unreachable agent re-reregistered"
	}
	for i := range state.Tasks {
		t := &task{Task: state.Tasks[i], used: m.held(state.Tasks[i].Resources)}
		t.Statuses = slices.Clone(t.Statuses) // the agent's own is not to be appended to
		if m.completed.has(t.FrameworkID.Value) || t.State == nil {
			continue
		}
		f := m.frameworks[t.FrameworkID.Value]
		m.addTask(a, f, t)
		if f == nil || recovered {
			continue
		}
		f.completed.remove(t.TaskID.Value)
		s := taskStatus(&t.Task, *t.State, message)
		s.Reason = mesos.REASON_AGENT_REREGISTERED.Enum()
		m.forward(f, s)
	}
	l.Reregistered(mesos.AgentID{Value: id}, nil)
	m.ping(a)
	return a
}

// held sums up what an agent reports as in use.
func (m *Master) held(resources []mesos.Resource) bag {
	b, ok := bagOf(resources, "")
	if !ok {
		m.log.Error("master: an agent reports resources that were never offered")
		return newBag()
	}
	return b
}

// syncFrameworks tells an agent the present description of its frameworks, learns
// those that are not known yet, and ends those that have been removed.
func (m *Master) syncFrameworks(a *agent, infos []mesos.FrameworkInfo) {
	for _, info := range infos {
		id := info.GetID().GetValue()
		switch f := m.frameworks[id]; {
		case f != nil:
			a.link.UpdateFramework(f.info)
		case m.completed.has(id):
			a.link.ShutdownFramework(mesos.FrameworkID{Value: id})
		case id != "":
			m.recoverFramework(info)
		}
	}
}

// addExecutor counts an executor's resources for as long as it lives; f may not
// be known yet.
func (m *Master) addExecutor(a *agent, f *framework, info mesos.ExecutorInfo, used bag) {
	fw := info.FrameworkID.GetValue()
	if a.executors[fw] == nil {
		a.executors[fw] = map[string]*executor{}
	}
	a.executors[fw][info.ExecutorID.Value] = &executor{info: info, used: used}
	a.used.add(used)
	if f != nil {
		f.allocation(roleOf(info.Resources)).add(used)
	}
}

func (m *Master) removeExecutor(a *agent, fw, id string) {
	e := a.executors[fw][id]
	a.used.sub(e.used)
	if f := m.frameworks[fw]; f != nil {
		f.allocation(roleOf(e.info.Resources)).sub(e.used)
	}
	delete(a.executors[fw], id)
	if len(a.executors[fw]) == 0 {
		delete(a.executors, fw)
	}
	m.dirty = true
}
