package master

import (
	"math/rand/v2"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

// What the allocator offers at least (Mesos' MIN_CPUS and MIN_MEM), in thousandths.
const (
	minCPUs = 10
	minMem  = 32 * unitsPerScalar
)

// Bounds of Filters.refuse_seconds, see mesos.proto.
const (
	defaultRefusal = 5 * time.Second
	longestRefusal = 365 * 24 * time.Hour
)

// offer is what a framework holds of one agent for one role until it answers.
type offer struct {
	id        string
	framework *framework
	agent     *agent
	role      string
	resources bag
	message   mesos.Offer
	timer     *time.Timer
}

func (o *offer) stopTimer() {
	if o.timer != nil {
		o.timer.Stop()
	}
}

// filter keeps an agent's resources from a framework's role, unless there are
// more of them than it refused.
type filter struct {
	agent, role string
	refused     bag
	until       time.Time
}

// refusal is the time for which a Filters message refuses; nil means the default.
func refusal(filters *mesos.Filters) time.Duration {
	s := filters.GetRefuseSeconds()
	switch {
	case s < 0 || s != s:
		return defaultRefusal
	case s > longestRefusal.Seconds():
		return longestRefusal
	}
	return time.Duration(s * float64(time.Second))
}

// refuse sets a filter for resources that come back; zero seconds set none.
// It lasts at least one allocation interval, or it would never be seen.
func (m *Master) refuse(f *framework, role string, a *agent, resources bag, filters *mesos.Filters) {
	d := refusal(filters)
	if d == 0 || resources.empty() {
		return
	}
	f.filters = append(f.filters, filter{
		agent: a.id, role: role, refused: resources,
		until: time.Now().Add(max(d, m.cfg.AllocationInterval)),
	})
}

// dropFilters forgets who has refused an agent: it is gone, or another one now.
func (m *Master) dropFilters(agent string) {
	for _, f := range m.frameworks {
		f.filters = slices.DeleteFunc(f.filters, func(x filter) bool { return x.agent == agent })
	}
}

// takeBack withdraws an offer without a word: its resources are free again.
func (m *Master) takeBack(o *offer) {
	o.stopTimer()
	delete(m.offers, o.id)
	delete(o.framework.offers, o.id)
	delete(o.agent.offers, o.id)
	o.agent.offered.sub(o.resources)
	o.framework.allocation(o.role).sub(o.resources)
	m.dirty = true
}

func (m *Master) rescind(o *offer) {
	o.framework.send(&scheduler.Event{
		Type:    scheduler.Event_RESCIND,
		Rescind: &scheduler.Event_Rescind{OfferID: mesos.OfferID{Value: o.id}},
	})
	m.takeBack(o)
}

func (m *Master) decline(f *framework, call *scheduler.Call_Decline) {
	for _, id := range call.OfferIDs {
		o := f.offers[id.Value]
		if o == nil {
			m.log.Debug("master: decline of an offer that is no longer valid", "offer", id.Value)
			continue
		}
		m.takeBack(o)
		m.refuse(f, o.role, o.agent, o.resources, call.Filters)
	}
}

// callRoles are the roles that a REVIVE or SUPPRESS means; false if one of them
// is none of the framework's, which voids the whole call.
func (f *framework) callRoles(named []string) ([]string, bool) {
	roles := frameworkRoles(&f.info)
	if len(named) == 0 {
		return roles, true
	}
	for _, role := range named {
		if !slices.Contains(roles, role) {
			return nil, false
		}
	}
	return named, true
}

func (m *Master) revive(f *framework, named []string) {
	roles, ok := f.callRoles(named)
	if !ok {
		m.log.Warn("master: REVIVE dropped: not the framework's role", "framework", f.id, "roles", named)
		return
	}
	for _, role := range roles {
		delete(f.suppressed, role)
	}
	f.filters = slices.DeleteFunc(f.filters, func(x filter) bool { return slices.Contains(roles, x.role) })
	m.dirty = true
	m.allocate() // at once, as Mesos does for REVIVE
}

func (m *Master) suppress(f *framework, named []string) {
	roles, ok := f.callRoles(named)
	if !ok {
		m.log.Warn("master: SUPPRESS dropped: not the framework's role", "framework", f.id, "roles", named)
		return
	}
	for _, role := range roles {
		f.suppressed[role] = true
	}
}

// allocate offers what is free: each agent's rest goes, whole, to the framework
// with the smallest dominant share in the role with the smallest dominant share
// (DRF), among those that want it.
func (m *Master) allocate() {
	if m.expireFilters(); !m.dirty {
		return
	}
	m.dirty = false
	made := map[*framework][]mesos.Offer{}
	agents := make([]*agent, 0, len(m.agents))
	for _, a := range m.agents {
		agents = append(agents, a)
	}
	rand.Shuffle(len(agents), func(i, j int) { agents[i], agents[j] = agents[j], agents[i] })
	for _, a := range agents {
		if !a.active {
			continue
		}
		free := a.free()
		if free.scalars["cpus"] < minCPUs && free.scalars["mem"] < minMem {
			continue
		}
		if f, role := m.choose(a, free); f != nil {
			made[f] = append(made[f], m.offer(f, role, a, free))
		}
	}
	for f, offers := range made {
		f.send(&scheduler.Event{Type: scheduler.Event_OFFERS, Offers: &scheduler.Event_Offers{Offers: offers}})
	}
}

func (m *Master) expireFilters() {
	t := time.Now()
	for _, f := range m.frameworks {
		n := len(f.filters)
		f.filters = slices.DeleteFunc(f.filters, func(x filter) bool { return !x.until.After(t) })
		if len(f.filters) < n {
			m.dirty = true
		}
	}
}

// choose finds who is offered what is free on an agent; nil for nobody.
func (m *Master) choose(a *agent, free bag) (best *framework, bestRole string) {
	var bestShares [2]float64
	roles := map[string]float64{}
	roleShare := func(role string) float64 {
		share, ok := roles[role]
		if !ok {
			sum := newBag()
			for _, f := range m.frameworks {
				sum.add(f.allocated[role])
			}
			share = sum.share(m.total)
			roles[role] = share
		}
		return share
	}
	for _, f := range m.frameworks {
		if f.stream == nil || (a.hasGPUs() && !f.can(mesos.FrameworkInfo_Capability_GPU_RESOURCES)) {
			continue
		}
		for _, role := range frameworkRoles(&f.info) {
			if f.suppressed[role] || f.filtered(a.id, role, free) {
				continue
			}
			shares := [2]float64{roleShare(role), f.allocated[role].share(m.total)}
			if best == nil || slices.Compare(shares[:], bestShares[:]) < 0 {
				best, bestRole, bestShares = f, role, shares
			}
		}
	}
	return best, bestRole
}

func (f *framework) filtered(agent, role string, free bag) bool {
	return slices.ContainsFunc(f.filters, func(x filter) bool {
		return x.agent == agent && x.role == role && x.refused.contains(free)
	})
}

func (m *Master) offer(f *framework, role string, a *agent, free bag) mesos.Offer {
	o := &offer{id: m.newOfferID(), framework: f, agent: a, role: role, resources: free}
	allocatedTo := ""
	if f.can(mesos.FrameworkInfo_Capability_MULTI_ROLE) {
		allocatedTo = role
		o.message.AllocationInfo = &mesos.Resource_AllocationInfo{Role: ptr(role)}
	}
	o.message.ID = mesos.OfferID{Value: o.id}
	o.message.FrameworkID = mesos.FrameworkID{Value: f.id}
	o.message.AgentID = mesos.AgentID{Value: a.id}
	o.message.Hostname = a.info.Hostname
	o.message.URL = a.url()
	o.message.Domain = a.info.Domain
	o.message.Attributes = a.info.Attributes
	o.message.Resources = free.resources(allocatedTo, !f.can(mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT))
	for id := range a.executors[f.id] {
		o.message.ExecutorIDs = append(o.message.ExecutorIDs, mesos.ExecutorID{Value: id})
	}
	m.offers[o.id], f.offers[o.id], a.offers[o.id] = o, o, o
	a.offered.add(free)
	f.allocation(role).add(free)
	if m.cfg.OfferTimeout > 0 {
		o.timer = m.after(m.cfg.OfferTimeout, func() {
			if m.offers[o.id] == o {
				m.rescind(o)
			}
		})
	}
	return o.message
}
