package master

import (
	"cmp"
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

// grant is what one allocation gives to a framework in a role.
type grant struct {
	framework *framework
	role      string
}

// allocation is one run of the allocator.
type allocation struct {
	m      *Master
	tree   *roleTree
	agents []*agent
	rest   map[*agent]bag // free, and not granted yet
	free   bag            // sum of rest
	grants map[*agent]map[grant]bag
	given  map[grant]bag // sum of grants
}

// allocate offers what is free, each agent's rest whole as far as quota allows:
// first to roles whose guarantee is not met, then to all, keeping free what is
// guaranteed and not yet asked for. Among those that want it, the framework with
// the smallest dominant share gets it, in the role that compares lowest (DRF).
func (m *Master) allocate() {
	if m.expireFilters(); !m.dirty {
		return
	}
	m.dirty = false
	a := &allocation{m: m, tree: m.roleTree(), rest: map[*agent]bag{}, free: newBag(), grants: map[*agent]map[grant]bag{}, given: map[grant]bag{}}
	for _, x := range m.agents {
		if x.active && !x.closed() {
			a.agents = append(a.agents, x)
			a.rest[x] = x.free()
			a.free.add(a.rest[x])
		}
	}
	rand.Shuffle(len(a.agents), func(i, j int) { a.agents[i], a.agents[j] = a.agents[j], a.agents[i] })
	if len(m.quotas) > 0 {
		a.stage(a.guaranteed)
	}
	a.stage(a.spare)
	made := map[*framework][]mesos.Offer{}
	for _, x := range a.agents {
		for g, b := range a.grants[x] {
			made[g.framework] = append(made[g.framework], m.offer(g.framework, g.role, x, b))
		}
	}
	for f, offers := range made {
		f.send(&scheduler.Event{Type: scheduler.Event_OFFERS, Offers: &scheduler.Event_Offers{Offers: offers}})
	}
}

// stage grants the rest of each agent, part for part, until nobody takes more.
func (a *allocation) stage(part func(role string, rest bag) bag) {
	for _, x := range a.agents {
		for allocatable(a.rest[x]) {
			g, b, found := a.choose(x, part)
			if !found {
				break
			}
			if a.grants[x] == nil {
				a.grants[x] = map[grant]bag{}
			}
			if _, has := a.grants[x][g]; !has {
				a.grants[x][g] = newBag()
			}
			a.grants[x][g].add(b)
			if _, has := a.given[g]; !has {
				a.given[g] = newBag()
			}
			a.given[g].add(b)
			a.rest[x].sub(b)
			a.free.sub(b)
			a.tree.add(g.role, b)
		}
	}
}

// guaranteed is what a role gets of an agent while its guarantee is not met: of
// what is guaranteed only that, of other resources all that is nobody else's.
func (a *allocation) guaranteed(role string, rest bag) bag {
	owed := a.tree.owed(role)
	if len(owed) == 0 {
		return newBag()
	}
	b := a.spare(role, rest)
	for name, missing := range owed {
		b.scalars[name] = min(rest.scalars[name], missing)
	}
	a.tree.limit(role, b)
	return b
}

// spare is what a role gets of an agent beyond guarantees.
func (a *allocation) spare(role string, rest bag) bag {
	b := rest.clone()
	for name, kept := range a.tree.headroom() {
		b.scalars[name] = min(b.scalars[name], a.free.scalars[name]-kept)
	}
	b.trim()
	a.tree.limit(role, b)
	return b
}

// allocatable tells whether there is enough of something to be offered.
func allocatable(b bag) bool {
	return b.scalars["cpus"]+b.scalars["cpus"+revocableMark] >= minCPUs ||
		b.scalars["mem"]+b.scalars["mem"+revocableMark] >= minMem
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

// choose finds who gets a part of an agent's rest.
func (a *allocation) choose(x *agent, part func(string, bag) bag) (best grant, what bag, found bool) {
	for _, f := range a.m.frameworks {
		if f.stream == nil || (x.hasGPUs() && !f.can(mesos.FrameworkInfo_Capability_GPU_RESOURCES)) {
			continue
		}
		for _, role := range frameworkRoles(&f.info) {
			if f.suppressed[role] || found && a.compare(grant{f, role}, best) >= 0 {
				continue
			}
			b := part(role, a.rest[x])
			if !f.can(mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES) {
				b.dropRevocable()
			}
			if !allocatable(b) || f.filtered(x.id, role, b) {
				continue
			}
			best, what, found = grant{f, role}, b, true
		}
	}
	return best, what, found
}

func (a *allocation) compare(g, h grant) int {
	share := func(g grant) float64 {
		held := newBag()
		held.add(g.framework.allocated[g.role])
		held.add(a.given[g])
		return held.share(a.m.total)
	}
	return cmp.Or(a.tree.compare(g.role, h.role), cmp.Compare(share(g), share(h)))
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
	o.message.URL = a.url(m.scheme())
	o.message.Domain = a.info.Domain
	o.message.Attributes = a.info.Attributes
	o.message.Unavailability = m.unavailability(a)
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
