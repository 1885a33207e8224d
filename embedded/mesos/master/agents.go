package master

import (
	"net"
	"strconv"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"github.com/baas-batch/baas/embedded/mesos/link"
)

// agent is a registered agent. A disconnected one (its process is gone for the
// moment) keeps its tasks and gets no offers; one that is removed is none of the
// master's agents any more.
type agent struct {
	id        string
	info      mesos.AgentInfo
	link      link.Agent
	connected bool
	active    bool

	total, used, offered bag
	revocable            bag          // of total: what may be taken back
	closedAs             *closedAgent // out of use; nil: in use

	tasks     map[string]map[string]*task     // by framework
	executors map[string]map[string]*executor // by framework
	offers    map[string]*offer
	killed    map[link.TaskRef]bool // asked to be killed, for when it re-registers

	pinged         bool
	missed         int
	pingTimer      *time.Timer
	exitTimer      *time.Timer
	registeredAt   time.Time
	reregisteredAt time.Time
}

// executor is an executor that the master believes alive.
type executor struct {
	info mesos.ExecutorInfo
	used bag
}

func (a *agent) free() bag {
	free := a.total.clone()
	free.sub(a.used)
	free.sub(a.offered)
	return free
}

func (a *agent) hasGPUs() bool { return a.total.scalars["gpus"] > 0 }

// address is host:port, "" if the agent gives no port.
func (a *agent) address() string {
	if a.info.Port == nil {
		return ""
	}
	return net.JoinHostPort(a.info.Hostname, strconv.Itoa(int(a.info.GetPort())))
}

// url is where frameworks find the agent, path as that of a Mesos agent process. As
// in Mesos, the master takes its own scheme for the agent's.
func (a *agent) url(scheme string) *mesos.URL {
	address := mesos.Address{Hostname: ptr(a.info.Hostname), Port: a.info.GetPort()}
	if net.ParseIP(a.info.Hostname) != nil {
		address.IP = ptr(a.info.Hostname)
	} else if a.info.Hostname == "localhost" {
		address.IP = ptr("127.0.0.1")
	}
	return &mesos.URL{Scheme: scheme, Address: address, Path: ptr("/slave(1)")}
}

func (a *agent) stopTimers() {
	for _, t := range []*time.Timer{a.pingTimer, a.exitTimer} {
		if t != nil {
			t.Stop()
		}
	}
}

// Register admits a new agent and gives it its ID.
func (m *Master) Register(l link.Agent, info mesos.AgentInfo) {
	m.box.post(func() { m.register(l, info) })
}

func (m *Master) register(l link.Agent, info mesos.AgentInfo) {
	total, ok := bagOf(info.Resources, "")
	if err := validateResources(info.Resources); err != nil || !ok {
		m.log.Error("master: agent refused: its resources are invalid or reserved", "host", info.Hostname, "error", err)
		return
	}
	if m.down(info) {
		return
	}
	next := newAgent(l, info, total)
	for _, a := range m.agents {
		if a.link == l {
			l.Registered(mesos.AgentID{Value: a.id}) // it asks again
			return
		}
	}
	for _, a := range m.agents {
		if a.address() != "" && a.address() == next.address() {
			m.unregister(a, "a new agent registered at the same address")
		}
	}
	next.id = m.newAgentID()
	next.info.ID = &mesos.AgentID{Value: next.id}
	if err := m.registry.admit(next.info); err != nil {
		m.log.Error("master: agent not admitted", "error", err) // it asks again
		return
	}
	next.registeredAt = time.Now()
	m.addAgent(next)
	m.log.Info("master: agent registered", "agent", next.id, "host", info.Hostname, "resources", total)
	l.Registered(*next.info.ID)
	m.ping(next)
	m.allocate()
}

func newAgent(l link.Agent, info mesos.AgentInfo, total bag) *agent {
	return &agent{
		info: info, link: l, connected: true, active: true,
		total: total, used: newBag(), offered: newBag(), revocable: newBag(),
		tasks:     map[string]map[string]*task{},
		executors: map[string]map[string]*executor{},
		offers:    map[string]*offer{},
		killed:    map[link.TaskRef]bool{},
	}
}

func (m *Master) addAgent(a *agent) {
	m.agents[a.id] = a
	a.closedAs = m.registry.closed(a.id)
	m.total.add(a.total)
	m.dirty = true
}

// ping counts the pings that an agent leaves unanswered (Mesos' SlaveObserver).
func (m *Master) ping(a *agent) {
	a.link.Ping(a.connected)
	a.pinged = true
	a.pingTimer = m.after(m.cfg.AgentPingTimeout, func() {
		if m.agents[a.id] != a {
			return
		}
		if a.pinged {
			if a.missed++; a.missed >= m.cfg.MaxAgentPingTimeouts {
				m.markUnreachable(a, "health check timed out")
				return
			}
		}
		m.ping(a)
	})
}

// Pong answers a ping.
func (m *Master) Pong(id mesos.AgentID) {
	m.box.post(func() {
		if a := m.agents[id.Value]; a != nil {
			a.pinged, a.missed = false, 0
		}
	})
}

// AgentExited tells that the connection to an agent broke because its process is
// gone. Its tasks may live on: it has AgentReregisterTimeout, and its pings, to
// come back.
func (m *Master) AgentExited(id mesos.AgentID) {
	m.box.post(func() {
		if a := m.agents[id.Value]; a != nil && a.connected {
			m.agentExited(a)
		}
	})
}

func (m *Master) agentExited(a *agent) {
	m.log.Info("master: agent disconnected", "agent", a.id)
	a.connected, a.active = false, false
	for _, o := range a.offers {
		m.rescind(o)
	}
	for _, fw := range unionKeys(a.tasks, a.executors) {
		if f := m.frameworks[fw]; f != nil && !f.info.GetCheckpoint() {
			m.loseFrameworkOnAgent(a, f)
		}
	}
	a.exitTimer = m.after(m.cfg.AgentReregisterTimeout, func() {
		if m.agents[a.id] == a && !a.connected {
			m.markUnreachable(a, "agent did not reregister within "+m.cfg.AgentReregisterTimeout.String()+" after disconnecting")
		}
	})
}

// loseFrameworkOnAgent gives up what a framework without checkpointing had on an
// agent whose process ended: nothing of it can be recovered.
func (m *Master) loseFrameworkOnAgent(a *agent, f *framework) {
	for _, t := range a.tasks[f.id] {
		s := taskStatus(&t.Task, mesos.TASK_LOST, "Agent "+a.info.Hostname+" disconnected")
		s.Reason = mesos.REASON_AGENT_DISCONNECTED.Enum()
		m.setTaskState(t, s, mesos.TASK_LOST)
		m.removeTask(t)
		m.forward(f, s)
	}
	for id := range a.executors[f.id] {
		m.removeExecutor(a, f.id, id)
	}
}

// Unregister removes an agent that ends on purpose.
func (m *Master) Unregister(id mesos.AgentID) {
	m.box.post(func() {
		if a := m.agents[id.Value]; a != nil {
			m.unregister(a, "the agent unregistered")
		}
	})
}

func (m *Master) unregister(a *agent, cause string) {
	if err := m.registry.remove(a.id); err != nil {
		m.log.Error("master: agent not removed from the registry", "agent", a.id, "error", err)
	}
	m.removeAgent(a, removal{
		verdict: func(*framework) (mesos.TaskState, mesos.TaskStatus_Reason) {
			return mesos.TASK_LOST, mesos.REASON_AGENT_REMOVED
		},
		message: "Agent " + a.info.Hostname + " removed: " + cause,
	})
}

func (m *Master) markUnreachable(a *agent, cause string) {
	t := now()
	if err := m.registry.markUnreachable(a.id, t); err != nil {
		m.log.Error("master: agent not marked unreachable in the registry", "agent", a.id, "error", err)
	}
	m.unreachable[a.id] = t
	m.removeAgent(a, removal{
		verdict: func(f *framework) (mesos.TaskState, mesos.TaskStatus_Reason) {
			return f.lostOr(mesos.TASK_UNREACHABLE), mesos.REASON_AGENT_REMOVED
		},
		message:     cause,
		unreachable: &t,
	})
}

// removal says how the tasks of an agent that is removed end for their frameworks.
type removal struct {
	verdict     func(*framework) (mesos.TaskState, mesos.TaskStatus_Reason)
	message     string
	unreachable *mesos.TimeInfo // set: the agent may come back with its tasks
}

func (m *Master) removeAgent(a *agent, how removal) {
	m.log.Warn("master: agent removed", "agent", a.id, "reason", how.message)
	a.active = false
	for fw, tasks := range a.tasks {
		f := m.frameworks[fw]
		if f == nil {
			continue // the agent named a task of a framework that it did not describe
		}
		state, reason := how.verdict(f)
		for _, t := range tasks {
			s := taskStatus(&t.Task, state, how.message)
			s.Reason = reason.Enum()
			s.UnreachableTime = how.unreachable
			m.setTaskState(t, s, *s.State)
			if how.unreachable != nil {
				m.detachTask(t)
				f.unreachable.put(t.TaskID.Value, t)
				m.unreachableTasks[a.id] = append(m.unreachableTasks[a.id], link.TaskRef{Framework: t.FrameworkID, Task: t.TaskID})
			} else {
				m.removeTask(t)
			}
			m.forward(f, s)
		}
	}
	for fw, executors := range a.executors {
		for id := range executors {
			m.removeExecutor(a, fw, id)
		}
	}
	for _, o := range a.offers {
		m.rescind(o)
	}
	m.dropFilters(a.id)
	m.dropInverse(func(o *inverseOffer) bool { return o.agent == a }, true)
	a.stopTimers()
	delete(m.agents, a.id)
	m.total.sub(a.total)
	m.announceLost(a.id)
}

// announceLost sends FAILURE for an agent to every framework.
func (m *Master) announceLost(id string) {
	for _, f := range m.frameworks {
		f.send(&scheduler.Event{
			Type:    scheduler.Event_FAILURE,
			Failure: &scheduler.Event_Failure{AgentID: &mesos.AgentID{Value: id}},
		})
	}
}

// recoveredAgentsTimeout gives up the agents of the registry that have not
// re-registered since this master started.
func (m *Master) recoveredAgentsTimeout() {
	for id := range m.recoveredAgents {
		if _, gone := m.gone[id]; gone {
			continue
		}
		t := now()
		if err := m.registry.markUnreachable(id, t); err != nil {
			m.log.Error("master: agent not marked unreachable in the registry", "agent", id, "error", err)
		}
		m.unreachable[id] = t
		delete(m.recoveredAgents, id)
		m.announceLost(id)
	}
}

// markGone carries MARK_AGENT_GONE out.
func (m *Master) markGone(id string) error {
	if _, gone := m.gone[id]; gone {
		return nil
	}
	a := m.agents[id]
	_, recovered := m.recoveredAgents[id]
	_, unreachable := m.unreachable[id]
	if a == nil && !recovered && !unreachable {
		return httpErrorf(404, "Agent '%s' not found", id)
	}
	t := now()
	if err := m.registry.markGone(id, t); err != nil {
		return err
	}
	m.gone[id] = t
	if recovered {
		// As in Mesos (MESOS-9739) it stays among the recovered ones: what is asked
		// of its tasks gets no answer before the next master.
		return nil
	}
	delete(m.unreachable, id)
	const message = "Agent has been marked gone"
	if a == nil {
		m.goneUnreachableTasks(id, message)
		return nil
	}
	a.link.Shutdown(message)
	m.removeAgent(a, removal{verdict: goneByOperator, message: message})
	return nil
}

// goneByOperator is what becomes of the tasks of an agent that is marked gone.
func goneByOperator(f *framework) (mesos.TaskState, mesos.TaskStatus_Reason) {
	if f.partitionAware() {
		return mesos.TASK_GONE_BY_OPERATOR, mesos.REASON_AGENT_REMOVED_BY_OPERATOR
	}
	return mesos.TASK_LOST, mesos.REASON_AGENT_REMOVED
}

func (m *Master) goneUnreachableTasks(id, message string) {
	for _, ref := range m.unreachableTasks[id] {
		f := m.frameworks[ref.Framework.Value]
		if f == nil {
			continue
		}
		t, ok := f.unreachable.get(ref.Task.Value)
		if !ok {
			continue
		}
		state, reason := goneByOperator(f)
		s := taskStatus(&t.Task, state, message)
		s.Reason = reason.Enum()
		m.setTaskState(t, s, *s.State)
		f.unreachable.remove(ref.Task.Value)
		f.completed.put(ref.Task.Value, t)
		m.forward(f, s)
	}
	delete(m.unreachableTasks, id)
}
