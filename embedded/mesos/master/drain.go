package master

import (
	"net/http"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master"
)

// closedAgent is an agent that the registry remembers as out of use.
type closedAgent struct {
	ID    string           `json:"id"`
	Drain *mesos.DrainInfo `json:"drain,omitempty"` // nil: only deactivated
	Since mesos.TimeInfo   `json:"since"`
}

// closed tells whether nothing of an agent is offered, as an operator wishes.
func (a *agent) closed() bool { return a.closedAs != nil }

func (a *agent) drainInfo() *mesos.DrainInfo {
	if a.closedAs == nil {
		return nil
	}
	return a.closedAs.Drain
}

// setClosed notes that an agent is out of use, or with nil that it is in use again.
func (r *registry) setClosed(id string, as *closedAgent) error {
	return r.change(func(c *registryContent) {
		c.Closed = slices.DeleteFunc(slices.Clone(c.Closed), func(x closedAgent) bool { return x.ID == id })
		if as != nil {
			c.Closed = append(c.Closed, *as)
		}
	})
}

func (r *registry) closed(id string) *closedAgent {
	for _, c := range r.content.Closed {
		if c.ID == id {
			return &c
		}
	}
	return nil
}

// known tells whether an agent is registered, or may come back.
func (m *Master) known(id string) bool {
	_, recovered := m.recoveredAgents[id]
	_, unreachable := m.unreachable[id]
	return m.agents[id] != nil || recovered || unreachable
}

// drainAgent carries DRAIN_AGENT out: nothing new goes to the agent, and it kills
// its tasks. One that is away begins when it is back.
func (m *Master) drainAgent(call *mastercalls.Call_DrainAgent) error {
	info := &mesos.DrainInfo{State: mesos.DrainState_DRAINING, Config: mesos.DrainConfig{MarkGone: call.MarkGone}}
	if d := call.MaxGracePeriod; d != nil {
		grace := d.Seconds*int64(time.Second) + int64(d.Nanos)
		if grace < 0 {
			return badRequest("Failed to drain agent: 'max_grace_period' is negative")
		}
		info.Config.MaxGracePeriod = &mesos.DurationInfo{Nanoseconds: grace}
	}
	return m.closeAgent(call.AgentID.Value, info)
}

// closeAgent takes an agent out of use, with or without draining it.
func (m *Master) closeAgent(id string, drain *mesos.DrainInfo) error {
	if !m.known(id) {
		return httpErrorf(http.StatusNotFound, "Agent '%s' not found", id)
	}
	as := &closedAgent{ID: id, Drain: drain, Since: now()}
	if old := m.registry.closed(id); old != nil && drain == nil {
		return nil // drained, which is more, or deactivated already
	}
	if err := m.registry.setClosed(id, as); err != nil {
		return err
	}
	m.log.Info("master: agent taken out of use", "agent", id, "drained", drain != nil)
	a := m.agents[id]
	if a == nil {
		return nil
	}
	a.closedAs = as
	for _, o := range a.offers {
		m.rescind(o)
	}
	m.drain(a)
	return nil
}

// drain has an agent drain if it is to. It is repeated whenever the agent is back.
func (m *Master) drain(a *agent) {
	info := a.drainInfo()
	if info == nil || info.State != mesos.DrainState_DRAINING {
		return
	}
	if a.connected {
		a.link.Drain(&info.Config)
	}
	m.checkDrained(a)
}

// checkDrained notes that a draining agent has no tasks left. One that goes for
// good is marked gone then.
func (m *Master) checkDrained(a *agent) {
	info := a.drainInfo()
	if info == nil || info.State != mesos.DrainState_DRAINING || len(a.tasks) > 0 || !a.active || m.agents[a.id] != a {
		return
	}
	done := *a.closedAs
	done.Drain = &mesos.DrainInfo{State: mesos.DrainState_DRAINED, Config: info.Config}
	if err := m.registry.setClosed(a.id, &done); err != nil {
		m.log.Error("master: agent not noted as drained", "agent", a.id, "error", err)
		return
	}
	a.closedAs = &done
	m.log.Info("master: agent drained", "agent", a.id)
	if info.Config.GetMarkGone() {
		if err := m.markGone(a.id); err != nil {
			m.log.Error("master: drained agent not marked gone", "agent", a.id, "error", err)
		}
	}
}

// reactivateAgent carries REACTIVATE_AGENT out.
func (m *Master) reactivateAgent(id string) error {
	as := m.registry.closed(id)
	switch {
	case !m.known(id):
		return httpErrorf(http.StatusNotFound, "Agent '%s' not found", id)
	case as == nil:
		return badRequest("Agent '%s' is not deactivated", id)
	case as.Drain != nil && as.Drain.State == mesos.DrainState_DRAINING:
		return badRequest("Agent '%s' is still in the DRAINING state", id)
	}
	if err := m.registry.setClosed(id, nil); err != nil {
		return err
	}
	if a := m.agents[id]; a != nil {
		a.closedAs = nil
		if a.connected {
			a.link.Drain(nil)
		}
	}
	m.dirty = true
	return nil
}

// Oversubscribe tells what an agent can give beyond its own resources as long as
// nobody else uses it; only revocable scalars count. It replaces what was told.
func (m *Master) Oversubscribe(id mesos.AgentID, resources []mesos.Resource) {
	m.box.post(func() {
		a := m.agents[id.Value]
		extra, ok := bagOf(resources, "")
		if a == nil || !ok {
			m.log.Warn("master: revocable resources ignored", "agent", id.Value)
			return
		}
		own := extra.clone()
		own.dropRevocable()
		extra.sub(own)
		for _, o := range a.offers {
			o.rescindRevocable(m)
		}
		m.total.sub(a.total)
		a.total.sub(a.revocable)
		a.revocable = extra
		a.total.add(extra)
		m.total.add(a.total)
		m.dirty = true
	})
}

// rescindRevocable withdraws an offer that has something revocable in it, which may
// not be there any more.
func (o *offer) rescindRevocable(m *Master) {
	plain := o.resources.clone()
	plain.dropRevocable()
	if !plain.equal(o.resources) {
		m.rescind(o)
	}
}
