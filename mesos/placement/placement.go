// Package placement decides which waiting tasks go to which agents: by priority,
// then fairly between owners, then by age, each on the agent that it fills best.
// It is pure: no Mesos, no clock, no I/O.
package placement

import (
	"cmp"
	"container/heap"
	"slices"
)

// Task is one task that waits for a place.
type Task struct {
	Owner    string
	Priority int   // higher first
	Age      int64 // lower is older
	Need     Vector
	// Executor serves the task; Overhead is what it needs itself, counted once per
	// agent and only where it does not live yet.
	Executor string
	Overhead Vector
	// Avoid are agent IDs that are taken only when no other agent of the batch
	// fits, and not even then if Strict is set.
	Avoid  []string
	Strict bool
	// LastResort lets the task go to agents that are Avoided.
	LastResort bool
	// Role is the Mesos role that the task's resources must be offered to.
	Role string
	// Rather are ways to run the task that are tried first, in this order.
	Rather []Way
	// Lasts is how long the task may take, in nanoseconds; 0 if nobody knows.
	Lasts int64
	// Rules say which agents the task may go to; nil for all.
	Rules *Rules
	// Near are the agents that have some of its inputs, the most bytes first. One of
	// them is taken before those that the task would fill better, but the task does
	// not wait for it.
	Near []Near
}

// Agent is what one agent has to give in this batch.
type Agent struct {
	ID   string
	Role string // that its resources are offered to
	Free Vector
	// Left is the time until the agent goes away, in nanoseconds; 0 if it stays.
	// Only tasks that surely end before are placed there.
	Left int64
	// Avoided agents take only tasks for which they are the last resort.
	Avoided bool
	// Executors that live there, and whether they take tasks.
	Executors map[string]Executor
	// Values of the keys of constraints; see Constraint.
	Values map[string]string
}

// Executor is the state of an executor on an agent.
type Executor int

const (
	// Absent executors have to be started.
	Absent Executor = iota
	// Alive executors take tasks without overhead.
	Alive
	// Leaving executors are being shut down: no task may go to them, and no new
	// one of the same ID can start beside them.
	Leaving
)

// Round is the input of one match. Place changes neither Tasks nor Agents.
type Round struct {
	Tasks  []Task
	Agents []Agent
	// Held is what each owner holds already; Total is what the cluster has, as far
	// as known. Both only weigh owners against each other.
	Held  map[string]Vector
	Total Vector
}

// Assignment puts one task on one agent; both are indices into the Round.
type Assignment struct {
	Task, Agent int
	// Way is 0 for the task's own Need and Executor, or n for its n-th of Rather.
	Way int
	// Starts tells that this task's executor has to be started there: set on the
	// first task of each new executor.
	Starts bool
	// Near is how many bytes of the task's inputs are there; see Task.Near.
	Near int64
}

// Placer matches rounds. It keeps its scratch memory between them, so one Placer
// serves one goroutine.
type Placer struct {
	round  *Round
	order  []int // tasks by priority, then age
	owners ownerHeap
	byName map[string]*owner
	agents []agent
	scale  Vector // most that any agent has to give, to compare dimensions
	failed map[class]struct{}
	scopes map[*Rules]*scope

	byAgent map[string][]int // lots of the round by agent; nil until asked for
}

// class is what two tasks have in common that fit or do not fit together.
type class struct {
	need, overhead Vector
	executor, role string
	lasts          int64
	lastResort     bool
	scope          *scope
	placed         int // of the scope, where a placement may open agents
}

type agent struct {
	free    Vector
	avoided bool
	started map[string]bool // executors of this round
}

// owner is one owner's tasks of the priority that is being served.
type owner struct {
	tasks []Task
	queue []int // indices of tasks, oldest first
	held  Vector
	share float64
}

func (o *owner) oldest() int64 { return o.tasks[o.queue[0]].Age }

// Place matches. The assignments come in the order in which they were decided.
func (p *Placer) Place(r *Round) []Assignment {
	p.start(r)
	var out []Assignment
	for first := 0; first < len(p.order); {
		last := first + 1
		for last < len(p.order) && r.Tasks[p.order[last]].Priority == r.Tasks[p.order[first]].Priority {
			last++
		}
		out = p.level(p.order[first:last], out)
		first = last
	}
	p.round = nil
	return out
}

func (p *Placer) start(r *Round) {
	p.round = r
	p.order = slices.Grow(p.order[:0], len(r.Tasks))[:len(r.Tasks)]
	for i := range p.order {
		p.order[i] = i
	}
	slices.SortFunc(p.order, func(a, b int) int {
		s, t := &r.Tasks[a], &r.Tasks[b]
		return cmp.Or(cmp.Compare(t.Priority, s.Priority), cmp.Compare(s.Age, t.Age), cmp.Compare(a, b))
	})
	p.agents = slices.Grow(p.agents[:0], len(r.Agents))[:len(r.Agents)]
	p.scale = Vector{}
	for i := range r.Agents {
		clear(p.agents[i].started)
		p.agents[i].free, p.agents[i].avoided = r.Agents[i].Free, r.Agents[i].Avoided
		p.scale = p.scale.Max(r.Agents[i].Free)
	}
	if p.byName == nil {
		p.byName = make(map[string]*owner)
		p.failed = make(map[class]struct{})
		p.scopes = make(map[*Rules]*scope)
	}
	clear(p.byName)
	clear(p.failed)
	clear(p.scopes)
	p.byAgent = nil
}

// level serves the tasks of one priority: again and again the oldest task of the
// owner with the smallest dominant share.
func (p *Placer) level(tasks []int, out []Assignment) []Assignment {
	p.fill(tasks)
	for len(p.owners) > 0 {
		o := p.owners[0]
		i := o.queue[0]
		o.queue = o.queue[1:]
		if a, ok := p.place(i); ok {
			out = append(out, a)
			o.held = o.held.Add(p.round.Tasks[i].need(a.Way))
			o.share = o.held.Share(p.round.Total)
		}
		if len(o.queue) == 0 {
			heap.Pop(&p.owners)
		} else {
			heap.Fix(&p.owners, 0)
		}
	}
	return out
}

func (p *Placer) fill(tasks []int) {
	p.owners = p.owners[:0]
	for _, i := range tasks {
		name := p.round.Tasks[i].Owner
		o := p.byName[name]
		if o == nil {
			o = &owner{tasks: p.round.Tasks, held: p.round.Held[name]}
			o.share = o.held.Share(p.round.Total)
			p.byName[name] = o
		}
		if len(o.queue) == 0 {
			o.queue = o.queue[:0]
			p.owners = append(p.owners, o)
		}
		o.queue = append(o.queue, i)
	}
	heap.Init(&p.owners)
}

// fit puts task i, as t describes it, on the agent that it fills best.
func (p *Placer) fit(i int, t *Task) (Assignment, bool) {
	// What is free only shrinks within a round, and a started executor costs at
	// least what it saves later, so a class that did not fit will not fit again.
	s := p.scope(t.Rules)
	c := class{need: t.Need, overhead: t.Overhead, executor: t.Executor, role: t.Role, lasts: t.Lasts, lastResort: t.LastResort, scope: s}
	if s != nil {
		c.placed = s.placed
	}
	if len(t.Avoid) == 0 {
		if _, failed := p.failed[c]; failed {
			return Assignment{}, false
		}
	}
	best, near := p.nearest(t, s)
	if best < 0 {
		best = p.best(t, s, true)
	}
	if best < 0 && len(t.Avoid) > 0 && !t.Strict {
		best = p.best(t, s, false)
	}
	if best < 0 {
		if len(t.Avoid) == 0 {
			p.failed[c] = struct{}{}
		}
		return Assignment{}, false
	}
	s.take(best)
	cost, state := p.cost(t, best)
	a := &p.agents[best]
	a.free = a.free.Sub(cost)
	if state == Absent {
		if a.started == nil {
			a.started = make(map[string]bool)
		}
		a.started[t.Executor] = true
	}
	return Assignment{Task: i, Agent: best, Starts: state == Absent, Near: near}, true
}

// scope gives what rules mean in this round; nil for none.
func (p *Placer) scope(r *Rules) *scope {
	if r == nil || len(r.Constraints) == 0 {
		return nil
	}
	s := p.scopes[r]
	if s == nil {
		s = newScope(r, p.round.Agents)
		p.scopes[r] = s
	}
	return s
}

// best gives the agent with the fewest tasks to spread, among equals one with a
// living executor, and among those the one that has least left afterwards; -1 if
// none fits.
func (p *Placer) best(t *Task, s *scope, avoid bool) int {
	best, bestWarm, bestLeft, bestCrowd := -1, false, 0.0, 0
	for i := range p.agents {
		cost, state, ok := p.fits(t, s, i)
		if !ok || avoid && slices.Contains(t.Avoid, p.round.Agents[i].ID) {
			continue
		}
		warm, crowd := state == Alive, s.crowd(i)
		if best >= 0 && (crowd > bestCrowd || crowd == bestCrowd && bestWarm && !warm) {
			continue
		}
		left := p.left(p.agents[i].free.Sub(cost))
		if best < 0 || crowd < bestCrowd || warm && !bestWarm || left < bestLeft {
			best, bestWarm, bestLeft, bestCrowd = i, warm, left, crowd
		}
	}
	return best
}

// fits tells whether the task may go to agent i, at what cost, and how its executor
// is there.
func (p *Placer) fits(t *Task, s *scope, i int) (cost Vector, state Executor, ok bool) {
	if s != nil && !s.admits(i) {
		return cost, state, false
	}
	a := &p.agents[i]
	if a.avoided && !t.LastResort || !t.Need.Fits(a.free) || !t.mayUse(&p.round.Agents[i]) {
		return cost, state, false // told without a look into maps: most agents of a full cluster
	}
	cost, state = p.cost(t, i)
	return cost, state, state != Leaving && (state != Absent || cost.Fits(a.free))
}

// left measures what remains, each dimension against the largest agent of the
// batch. Unused GPUs weigh as much as all CPUs, which keeps tasks without GPUs
// away from the agents that have them.
func (p *Placer) left(v Vector) float64 {
	sum := 0.0
	for i := range Ports {
		if p.scale[i] > 0 {
			sum += float64(v[i]) / float64(p.scale[i])
		}
	}
	return sum
}

func (p *Placer) cost(t *Task, i int) (Vector, Executor) {
	state := p.round.Agents[i].Executors[t.Executor]
	if state == Absent && p.agents[i].started[t.Executor] {
		state = Alive
	}
	if state == Absent {
		return t.Need.Add(t.Overhead), state
	}
	return t.Need, state
}

// ownerHeap has the owner to be served next on top.
type ownerHeap []*owner

func (h ownerHeap) Len() int { return len(h) }
func (h ownerHeap) Less(i, j int) bool {
	if h[i].share != h[j].share {
		return h[i].share < h[j].share
	}
	return h[i].oldest() < h[j].oldest()
}
func (h ownerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *ownerHeap) Push(x any)   { *h = append(*h, x.(*owner)) }
func (h *ownerHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
