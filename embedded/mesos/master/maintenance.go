package master

import (
	"net"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/allocator"
	"github.com/mesos/mesos-go/api/v1/lib/maintenance"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

// inverseOffer asks a framework to leave an agent before its maintenance.
type inverseOffer struct {
	id        string
	framework *framework
	agent     *agent
}

// inverseAnswer is a framework's last answer for an agent. It is asked again after
// the time of its filter.
type inverseAnswer struct {
	status allocator.InverseOfferStatus
	until  time.Time
}

// machine is how a maintenance schedule names the agent's machine.
func (a *agent) machine() mesos.MachineID {
	id := mesos.MachineID{Hostname: ptr(a.info.Hostname)}
	switch {
	case net.ParseIP(a.info.Hostname) != nil:
		id.IP = ptr(a.info.Hostname)
	case a.info.Hostname == "localhost":
		id.IP = ptr("127.0.0.1")
	}
	return id
}

func sameMachine(a, b mesos.MachineID) bool {
	return a.GetHostname() == b.GetHostname() && a.GetIP() == b.GetIP()
}

func among(list []mesos.MachineID, id mesos.MachineID) bool {
	return slices.ContainsFunc(list, func(x mesos.MachineID) bool { return sameMachine(x, id) })
}

// unavailability is when an agent is to be maintained; nil if it is not.
func (m *Master) unavailability(a *agent) *mesos.Unavailability {
	return m.windowOf(a.machine())
}

func (m *Master) windowOf(id mesos.MachineID) *mesos.Unavailability {
	for _, w := range m.registry.content.Schedule {
		if among(w.MachineIDs, id) {
			u := w.Unavailability
			return &u
		}
	}
	return nil
}

// updateSchedule carries UPDATE_MAINTENANCE_SCHEDULE out.
func (m *Master) updateSchedule(schedule maintenance.Schedule) error {
	var all []mesos.MachineID
	for _, w := range schedule.Windows {
		if len(w.MachineIDs) == 0 {
			return badRequest("List of machines in the maintenance window is empty")
		}
		if w.Unavailability.Duration.GetNanoseconds() < 0 {
			return badRequest("Unavailability 'duration' is negative")
		}
		for _, id := range w.MachineIDs {
			if id.GetHostname() == "" && id.GetIP() == "" {
				return badRequest("Both 'hostname' and 'ip' for a machine are empty")
			}
			if among(all, id) {
				return badRequest("Machine '%s' appears more than once in the schedule", id.GetHostname())
			}
			all = append(all, id)
		}
	}
	for _, id := range m.registry.content.Down {
		if !among(all, id) {
			return badRequest("Machine '%s' is deactivated and cannot be removed from the schedule", id.GetHostname())
		}
	}
	before := map[*agent]*mesos.Unavailability{}
	for _, a := range m.agents {
		before[a] = m.unavailability(a)
	}
	if err := m.registry.change(func(c *registryContent) { c.Schedule = schedule.Windows }); err != nil {
		return err
	}
	for a, was := range before {
		if !was.Equal(m.unavailability(a)) {
			m.windowChanged(a)
		}
	}
	return nil
}

// windowChanged withdraws what has been said of an agent's maintenance.
func (m *Master) windowChanged(a *agent) {
	for _, o := range a.offers {
		m.rescind(o)
	}
	m.dropInverse(func(o *inverseOffer) bool { return o.agent == a }, true)
	for key := range m.answers {
		if key[1] == a.id {
			delete(m.answers, key)
		}
	}
	m.dirty = true
}

// dropInverse forgets inverse offers, with a word to their frameworks or without.
func (m *Master) dropInverse(which func(*inverseOffer) bool, tell bool) {
	for id, o := range m.inverse {
		if !which(o) {
			continue
		}
		delete(m.inverse, id)
		if tell {
			o.framework.send(&scheduler.Event{
				Type:                scheduler.Event_RESCIND_INVERSE_OFFER,
				RescindInverseOffer: &scheduler.Event_RescindInverseOffer{InverseOfferID: mesos.OfferID{Value: id}},
			})
		}
	}
}

// inviteToLeave sends inverse offers to frameworks that have something on an agent
// which is to be maintained, and have not been asked of late.
func (m *Master) inviteToLeave() {
	if len(m.registry.content.Schedule) == 0 {
		return
	}
	asked := map[[2]string]bool{}
	for _, o := range m.inverse {
		asked[[2]string{o.framework.id, o.agent.id}] = true
	}
	for _, a := range m.agents {
		u := m.unavailability(a)
		if u == nil || !a.active {
			continue
		}
		for _, id := range unionKeys(a.tasks, a.executors) {
			f, key := m.frameworks[id], [2]string{id, a.id}
			if f == nil || f.stream == nil || asked[key] || time.Now().Before(m.answers[key].until) {
				continue
			}
			o := &inverseOffer{id: m.newOfferID(), framework: f, agent: a}
			m.inverse[o.id] = o
			f.send(&scheduler.Event{Type: scheduler.Event_INVERSE_OFFERS, InverseOffers: &scheduler.Event_InverseOffers{
				InverseOffers: []mesos.InverseOffer{{
					OfferID: mesos.OfferID{Value: o.id}, URL: a.url(m.scheme()), FrameworkID: mesos.FrameworkID{Value: f.id},
					AgentID: &mesos.AgentID{Value: a.id}, Unavailability: *u,
				}},
			}})
		}
	}
}

// answerInverse takes a framework's answer to inverse offers.
func (m *Master) answerInverse(f *framework, ids []mesos.OfferID, accepted bool, filters *mesos.Filters) {
	status := allocator.InverseOfferStatus_DECLINE
	if accepted {
		status = allocator.InverseOfferStatus_ACCEPT
	}
	for _, id := range ids {
		o := m.inverse[id.Value]
		if o == nil || o.framework != f {
			m.log.Debug("master: answer to an inverse offer that is no longer valid", "offer", id.Value)
			continue
		}
		delete(m.inverse, id.Value)
		m.answers[[2]string{f.id, o.agent.id}] = inverseAnswer{
			status: allocator.InverseOfferStatus{Status: status.Enum(), FrameworkID: mesos.FrameworkID{Value: f.id}, Timestamp: now()},
			until:  time.Now().Add(refusal(filters)),
		}
	}
}

// startMaintenance carries START_MAINTENANCE out: the machines' agents are removed,
// with all that runs there.
func (m *Master) startMaintenance(ids []mesos.MachineID) error {
	for _, id := range ids {
		switch {
		case m.windowOf(id) == nil:
			return badRequest("Machine '%s' is not part of a maintenance schedule", id.GetHostname())
		case among(m.registry.content.Down, id):
			return badRequest("Machine '%s' is not in DRAINING mode and cannot be brought down", id.GetHostname())
		}
	}
	if err := m.registry.change(func(c *registryContent) { c.Down = append(slices.Clone(c.Down), ids...) }); err != nil {
		return err
	}
	const cause = "Operator initiated 'Machine DOWN'"
	for _, a := range m.agents {
		if among(ids, a.machine()) {
			a.link.Shutdown(cause)
			m.unregister(a, cause)
		}
	}
	return nil
}

// stopMaintenance carries STOP_MAINTENANCE out: the machines' agents may register,
// and the machines are out of the schedule.
func (m *Master) stopMaintenance(ids []mesos.MachineID) error {
	for _, id := range ids {
		if !among(m.registry.content.Down, id) {
			return badRequest("Machine '%s' is not in DOWN mode and cannot be brought up", id.GetHostname())
		}
	}
	return m.registry.change(func(c *registryContent) {
		up := func(id mesos.MachineID) bool { return among(ids, id) }
		c.Down = slices.DeleteFunc(slices.Clone(c.Down), up)
		var windows []maintenance.Window
		for _, w := range c.Schedule {
			w.MachineIDs = slices.DeleteFunc(slices.Clone(w.MachineIDs), up)
			if len(w.MachineIDs) > 0 {
				windows = append(windows, w)
			}
		}
		c.Schedule = windows
	})
}

// down tells whether an agent's machine is in maintenance, so that it may not
// register.
func (m *Master) down(info mesos.AgentInfo) bool {
	if among(m.registry.content.Down, (&agent{info: info}).machine()) {
		m.log.Info("master: agent not admitted: its machine is in maintenance", "host", info.Hostname)
		return true
	}
	return false
}

func (m *Master) maintenanceStatus() *mastercalls.Response_GetMaintenanceStatus {
	out := &mastercalls.Response_GetMaintenanceStatus{}
	out.Status.DownMachines = slices.Clone(m.registry.content.Down)
	for _, w := range m.registry.content.Schedule {
		for _, id := range w.MachineIDs {
			if among(m.registry.content.Down, id) {
				continue
			}
			draining := maintenance.ClusterStatus_DrainingMachine{ID: id}
			for key, answer := range m.answers {
				if a := m.agents[key[1]]; a != nil && sameMachine(a.machine(), id) {
					draining.Statuses = append(draining.Statuses, answer.status)
				}
			}
			out.Status.DrainingMachines = append(out.Status.DrainingMachines, draining)
		}
	}
	return out
}
