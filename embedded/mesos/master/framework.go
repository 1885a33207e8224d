package master

import (
	"net/http"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

// framework is one framework: connected (stream set), disconnected and given
// time to fail over, or recovered, which is known only from agents that
// re-registered with a restarted master.
type framework struct {
	id         string
	info       mesos.FrameworkInfo
	stream     *stream
	recovered  bool
	suppressed map[string]bool // roles

	tasks       map[string]*task // not yet acknowledged to their end
	unreachable *bounded[*task]
	completed   *bounded[*task]
	offers      map[string]*offer
	filters     []filter

	// allocated is what tasks, executors and offers hold, by role.
	allocated map[string]bag

	registeredAt, reregisteredAt, unregisteredAt time.Time
	failover                                     *time.Timer
}

// task is a task that the master knows. The status fields of Task are the last
// update forwarded; State is the newest that the agent reported.
type task struct {
	mesos.Task
	used bag
}

func (m *Master) newFramework(info mesos.FrameworkInfo) *framework {
	f := &framework{
		id:          info.ID.Value,
		info:        info,
		suppressed:  map[string]bool{},
		tasks:       map[string]*task{},
		unreachable: newBounded[*task](m.cfg.MaxUnreachableTasks),
		completed:   newBounded[*task](m.cfg.MaxCompletedTasks),
		offers:      map[string]*offer{},
		allocated:   map[string]bag{},
	}
	m.frameworks[f.id] = f
	return f
}

func (f *framework) can(c mesos.FrameworkInfo_Capability_Type) bool {
	return hasCapability(&f.info, c)
}

func (f *framework) partitionAware() bool {
	return f.can(mesos.FrameworkInfo_Capability_PARTITION_AWARE)
}

// lostOr is TASK_LOST for frameworks that do not know the finer states.
func (f *framework) lostOr(s mesos.TaskState) mesos.TaskState {
	if f.partitionAware() {
		return s
	}
	return mesos.TASK_LOST
}

func (f *framework) allocation(role string) bag {
	b, ok := f.allocated[role]
	if !ok {
		b = newBag()
		f.allocated[role] = b
	}
	return b
}

// send delivers an event if the framework is connected.
func (f *framework) send(ev *scheduler.Event) {
	if f.stream != nil {
		f.stream.deliver(f.id, ev)
	}
}

func (f *framework) stopTimer() {
	if f.failover != nil {
		f.failover.Stop()
		f.failover = nil
	}
}

// subscribe connects a framework with its new stream, or ends the stream with an ERROR.
func (m *Master) subscribe(s *stream, info mesos.FrameworkInfo, suppressed []string) {
	refuse := func(message string) {
		m.log.Info("master: subscription refused", "framework", info.Name, "reason", message)
		s.send(errorEvent(message))
		s.finish()
	}
	if err := validateFramework(&info); err != nil {
		refuse(err.Error())
		return
	}
	if roles := frameworkRoles(&info); !m.mayUse(info.GetPrincipal(), roles) {
		refuse(notAuthorized(roles))
		return
	}
	id := info.GetID().GetValue()
	if m.completed.has(id) {
		refuse("Framework has been removed")
		return
	}
	if err := validateSuppressed(frameworkRoles(&info), suppressed); err != nil {
		refuse(err.Error())
		return
	}
	if id == "" {
		info.ID = &mesos.FrameworkID{Value: m.newFrameworkID()}
	}
	f := m.frameworks[info.ID.Value]
	if f == nil {
		f = m.newFramework(info)
		f.registeredAt = time.Now()
	}
	keepImmutable(&f.info, &info)
	if err := validateUpdate(&f.info, &info); err != nil {
		refuse(err.Error())
		return
	}
	m.updateFramework(f, info, suppressed)
	m.connect(f, s)
	if id != "" {
		m.tellAgents(f)
	}
	m.allocate()
}

// connect makes s the framework's only stream: an older one ends.
func (m *Master) connect(f *framework, s *stream) {
	f.stopTimer()
	if old := f.stream; old != nil {
		old.send(errorEvent("Framework failed over"))
		old.finish()
	}
	for _, o := range f.offers {
		m.takeBack(o)
	}
	if f.recovered {
		f.recovered = false
		f.registeredAt = time.Now()
	}
	f.reregisteredAt = time.Now()
	f.stream = s
	m.dirty = true
	m.log.Info("master: framework subscribed", "framework", f.id, "name", f.info.Name, "stream", s.id)
	info := m.info
	s.send(&scheduler.Event{
		Type: scheduler.Event_SUBSCRIBED,
		Subscribed: &scheduler.Event_Subscribed{
			FrameworkID:              &mesos.FrameworkID{Value: f.id},
			HeartbeatIntervalSeconds: ptr(m.cfg.HeartbeatInterval.Seconds()),
			MasterInfo:               &info,
		},
	})
	s.send(heartbeatEvent)
}

// streamEnded is called once the HTTP response of a subscription has ended.
func (m *Master) streamEnded(s *stream) {
	for _, f := range m.frameworks {
		if f.stream == s {
			m.disconnect(f)
			return
		}
	}
}

// disconnect rescinds the framework's offers and gives it its failover timeout.
func (m *Master) disconnect(f *framework) {
	f.stream = nil
	f.filters = nil
	m.dropInverse(func(o *inverseOffer) bool { return o.framework == f }, false)
	for _, o := range f.offers {
		m.takeBack(o)
	}
	timeout := time.Duration(f.info.GetFailoverTimeout() * float64(time.Second))
	m.log.Info("master: framework disconnected", "framework", f.id, "failover_timeout", timeout)
	subscribed := f.reregisteredAt
	f.failover = m.after(timeout, func() {
		if m.frameworks[f.id] == f && f.stream == nil && f.reregisteredAt.Equal(subscribed) {
			m.log.Warn("master: framework did not fail over in time", "framework", f.id)
			m.removeFramework(f)
		}
	})
}

// updateFramework takes over a new FrameworkInfo and list of suppressed roles.
func (m *Master) updateFramework(f *framework, info mesos.FrameworkInfo, suppressed []string) {
	f.info = info
	roles := frameworkRoles(&info)
	next := map[string]bool{}
	for _, role := range suppressed {
		next[role] = true
	}
	f.filters = slices.DeleteFunc(f.filters, func(x filter) bool {
		return !slices.Contains(roles, x.role) || (f.suppressed[x.role] && !next[x.role])
	})
	f.suppressed = next
	for _, o := range f.offers {
		if !slices.Contains(roles, o.role) {
			m.rescind(o)
		}
	}
	m.dirty = true
}

func (m *Master) updateFrameworkCall(f *framework, call *scheduler.Call_UpdateFramework) error {
	info := call.FrameworkInfo
	if err := validateFramework(&info); err != nil {
		return badRequest("Supplied FrameworkInfo is not valid: %v", err)
	}
	if err := validateUpdate(&f.info, &info); err != nil {
		return badRequest("FrameworkInfo update is not valid: %v", err)
	}
	if roles := frameworkRoles(&info); !m.mayUse(info.GetPrincipal(), roles) {
		return httpErrorf(http.StatusForbidden, "%s", notAuthorized(roles))
	}
	if err := validateSuppressed(frameworkRoles(&info), call.SuppressedRoles); err != nil {
		return badRequest("'UpdateFramework' call is not valid: %v", err)
	}
	m.updateFramework(f, info, call.SuppressedRoles)
	m.tellAgents(f)
	return nil
}

// tellAgents brings the framework's present description to all agents, as they
// may run executors of it.
func (m *Master) tellAgents(f *framework) {
	for _, a := range m.agents {
		a.link.UpdateFramework(f.info)
	}
}

// removeFramework ends a framework for good: its tasks are shut down everywhere
// and count as killed, without an update, as nobody is there to take it.
func (m *Master) removeFramework(f *framework) {
	m.log.Info("master: framework removed", "framework", f.id)
	m.dropInverse(func(o *inverseOffer) bool { return o.framework == f }, false)
	f.stopTimer()
	for _, o := range f.offers {
		m.takeBack(o)
	}
	for _, a := range m.agents {
		a.link.ShutdownFramework(mesos.FrameworkID{Value: f.id})
	}
	for _, t := range f.tasks {
		m.setTaskState(t, m.removedStatus(f, t), mesos.TASK_KILLED)
		m.removeTask(t)
	}
	for _, t := range f.unreachable.all() {
		m.setTaskState(t, m.removedStatus(f, t), mesos.TASK_KILLED)
		f.completed.put(t.TaskID.Value, t)
		f.unreachable.remove(t.TaskID.Value)
	}
	for _, a := range m.agents {
		for id := range a.executors[f.id] {
			m.removeExecutor(a, f.id, id)
		}
	}
	if f.stream != nil {
		f.stream.finish()
		f.stream = nil
	}
	f.unregisteredAt = time.Now()
	delete(m.frameworks, f.id)
	m.completed.put(f.id, f)
}

func (m *Master) removedStatus(f *framework, t *task) mesos.TaskStatus {
	s := taskStatus(&t.Task, mesos.TASK_KILLED, "Framework "+f.id+" removed")
	s.Reason = mesos.REASON_FRAMEWORK_REMOVED.Enum()
	return s
}

// recoverFramework makes a framework known that a re-registering agent names.
func (m *Master) recoverFramework(info mesos.FrameworkInfo) {
	f := m.newFramework(info)
	f.recovered = true
	m.log.Info("master: framework recovered", "framework", f.id)
	for _, a := range m.agents {
		for _, t := range a.tasks[f.id] {
			f.tasks[t.TaskID.Value] = t
			if !terminal(*t.State) {
				f.allocation(roleOf(t.Resources)).add(t.used)
			}
		}
		for _, e := range a.executors[f.id] {
			f.allocation(roleOf(e.info.Resources)).add(e.used)
		}
	}
}
