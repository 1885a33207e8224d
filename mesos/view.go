package mesos

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/baas-batch/baas/mesos/placement"
)

// View is a look at what the framework holds, for operators. The lists that were
// not asked for are empty.
type View struct {
	FrameworkID string    `json:"framework_id"`
	Master      string    `json:"master,omitempty"` // "" while not subscribed
	Since       time.Time `json:"since"`            // connected or not
	Trouble     string    `json:"trouble,omitempty"`

	Agents  []AgentInfo   `json:"agents,omitempty"`
	Offers  []OfferInfo   `json:"offers,omitempty"`
	Tasks   []TaskInfo    `json:"tasks,omitempty"`
	Waiting []WaitingInfo `json:"waiting,omitempty"`
	Roles   []RoleInfo    `json:"roles,omitempty"`
	// States counts all tasks by their state, WAITING those in the queue.
	States map[State]int `json:"states,omitempty"`
	// More counts the rows that were left out.
	More int `json:"more,omitempty"`
}

// WaitingState is the state, in View.States, of tasks that wait for a place.
const WaitingState State = "WAITING"

// OfferInfo is one offer in hand, or on its way into an ACCEPT.
type OfferInfo struct {
	ID        string    `json:"id"`
	AgentID   string    `json:"agent_id"`
	Hostname  string    `json:"hostname,omitempty"`
	Role      string    `json:"role,omitempty"`
	Resources Resources `json:"resources"`
	Since     time.Time `json:"since"`
	// Why it is held: for tasks to come, or for those that are being written ahead.
	Why string `json:"why"`
}

// WaitingInfo is one task in the queue, and why it waits.
type WaitingInfo struct {
	TaskID    string    `json:"task_id"`
	Name      string    `json:"name,omitempty"`
	Owner     string    `json:"owner,omitempty"`
	Role      string    `json:"role,omitempty"`
	Priority  int       `json:"priority,omitempty"` // higher first
	Resources Resources `json:"resources"`
	Since     time.Time `json:"since"`
	Why       string    `json:"why,omitempty"`
}

// RoleInfo is one role of the framework.
type RoleInfo struct {
	Name       string    `json:"name"`
	Joined     bool      `json:"joined"`            // the master has taken it
	Refused    string    `json:"refused,omitempty"` // why it has not
	Suppressed bool      `json:"suppressed,omitempty"`
	Waiting    int       `json:"waiting,omitempty"` // tasks
	Tasks      int       `json:"tasks,omitempty"`   // placed and not ended
	Held       Resources `json:"held"`              // by these, without their executors
	Offers     int       `json:"offers,omitempty"`  // in hand
	// Limit is its quota, of what is limited; as last asked for.
	Limit map[string]float64 `json:"limit,omitempty"`
}

// view begins one. f.mu is held, here and below.
func (f *Framework) view() View {
	v := View{FrameworkID: f.cfg.FrameworkID, Since: f.link.since}
	switch {
	case f.session != nil:
		v.Master = f.session.master
	case f.link.err != nil:
		v.Trouble = clip(f.link.err.Error(), MaxExplain)
	default:
		v.Trouble = "connecting"
	}
	return v
}

// first keeps at most limit rows, and counts the others.
func first[T any](v *View, rows []T, limit int) []T {
	if over := len(rows) - limit; over > 0 {
		v.More += over
		return rows[:limit]
	}
	return rows
}

// ViewAgents looks at the agents; see Agents.
func (f *Framework) ViewAgents(limit int) View {
	agents := f.Agents()
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.view()
	v.Agents = first(&v, agents, limit)
	return v
}

// ViewOffers looks at the offers, by agent.
func (f *Framework) ViewOffers(limit int) View {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.view()
	var rows []OfferInfo
	for _, o := range f.offers.byID {
		why := "no task waits: it goes back after " + f.cfg.Timings.OfferHold.String()
		if len(f.queue.tasks) > 0 {
			why = "fits no task that waits: it goes back after " + f.cfg.Timings.OfferHold.String()
		}
		rows = append(rows, o.row(why))
	}
	for id, fl := range f.flights {
		for _, o := range fl.offers {
			if o.id.Value == id {
				rows = append(rows, o.row("its tasks are being written ahead"))
			}
		}
	}
	slices.SortFunc(rows, func(a, b OfferInfo) int {
		return cmp.Or(cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.AgentID, b.AgentID), cmp.Compare(a.ID, b.ID))
	})
	v.Offers = first(&v, rows, limit)
	return v
}

func (o *offer) row(why string) OfferInfo {
	return OfferInfo{
		ID: o.id.Value, AgentID: o.agent.ID, Hostname: o.agent.Hostname, Role: o.role,
		Resources: resourcesOf(o.free), Since: o.at, Why: why,
	}
}

// explainMost bounds the waiting tasks that are explained in one view: each looks
// at all agents.
const explainMost = 50

// ViewTasks looks at the tasks: first those that wait, in the order of service, with
// the reasons of the first ones, and then the others. Where there are too many of
// both, each kind has half of the rows.
func (f *Framework) ViewTasks(limit int) View {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, now := f.view(), time.Now()
	v.States = make(map[State]int)
	if n := len(f.queue.tasks); n > 0 {
		v.States[WaitingState] = n
	}
	list := f.queue.list()
	for i, w := range first(&v, list, max(limit/2, limit-len(f.table.tasks))) {
		row := WaitingInfo{
			TaskID: w.ID, Name: w.Name, Owner: w.Owner, Role: f.cfg.roleOf(w.Owner), Priority: w.Priority,
			Resources: w.Resources, Since: w.Submitted,
		}
		if i < explainMost {
			row.Why = clip(f.explain(w.ID, now), MaxExplain)
		}
		v.Waiting = append(v.Waiting, row)
	}
	records := slices.SortedFunc(maps.Values(f.table.tasks), func(a, b *record) int { return cmp.Compare(a.id, b.id) })
	for _, r := range records {
		v.States[r.state]++
	}
	for _, r := range first(&v, records, limit-len(v.Waiting)) {
		v.Tasks = append(v.Tasks, f.taskRow(r))
	}
	return v
}

// ViewRoles looks at the roles.
func (f *Framework) ViewRoles(limit int) View {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.view()
	rows := make(map[string]*RoleInfo)
	row := func(name string) *RoleInfo {
		if rows[name] == nil {
			rows[name] = &RoleInfo{Name: name}
		}
		return rows[name]
	}
	for name, r := range f.roles {
		i := row(name)
		i.Joined, i.Suppressed = r.joined, r.suppressed
		if r.refused != nil {
			i.Refused = clip(r.refused.Error(), MaxExplain)
		}
	}
	for name, n := range f.waitingIn() {
		row(name).Waiting = n
	}
	held := make(map[string]placement.Vector)
	for _, r := range f.table.tasks {
		if r.state.Live() {
			name := f.cfg.roleOf(r.owner)
			row(name).Tasks++
			held[name] = held[name].Add(r.need)
		}
	}
	for _, o := range f.offers.byID {
		row(o.role).Offers++
	}
	for i := range f.quotas {
		q := &f.quotas[i]
		limits := make(map[string]float64)
		for name, dimension := range limited {
			if limit, has := q.limit[dimension]; has {
				limits[name] = float64(limit) / 1000
			}
		}
		row(q.role).Limit = limits
	}
	var list []RoleInfo
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		rows[name].Held = resourcesOf(held[name])
		list = append(list, *rows[name])
	}
	v.Roles = first(&v, list, limit)
	return v
}

// Census counts what the framework holds.
type Census struct {
	Connected bool
	States    map[State]int // of the tasks that Mesos holds, or is about to
	Waiting   int           // tasks in the queue
	Offers    int           // in hand
	Agents    int           // known
	Avoided   int           // of these, avoided for their losses
}

// Census counts, for metrics.
func (f *Framework) Census() Census {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := Census{
		Connected: f.session != nil, States: make(map[State]int), Waiting: len(f.queue.tasks),
		Offers: len(f.offers.byID), Agents: len(f.table.agents), Avoided: len(f.table.avoided),
	}
	for _, r := range f.table.tasks {
		c.States[r.state]++
	}
	return c
}
