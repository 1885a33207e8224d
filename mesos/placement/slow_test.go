package placement

import (
	"cmp"
	"container/heap"
	"slices"
)

// slowPlacer is placement in the plain way, which Placer must agree with: it looks
// at each agent for each task, and keeps no task from one round to the next.
type slowPlacer struct {
	round  *Round
	order  []int // tasks by priority, then age
	owners slowHeap
	byName map[string]*slowOwner
	agents []slowAgent
	scale  Vector // most that any agent has to give, to compare dimensions
	failed map[slowClass]struct{}
	scopes map[*Rules]*scope

	byAgent map[string][]int // lots of the round by agent; nil until asked for
}

// slowClass is what two tasks have in common that fit or do not fit together.
type slowClass struct {
	need, overhead Vector
	executor, role string
	lasts          int64
	lastResort     bool
	scope          *scope
	placed         int // of the scope, where a placement may open agents
}

type slowAgent struct {
	free    Vector
	avoided bool
	started map[string]bool // executors of this round
}

// slowOwner is one slowOwner's tasks of the priority that is being served.
type slowOwner struct {
	tasks []Task
	queue []int // indices of tasks, oldest first
	held  Vector
	share float64
}

func (o *slowOwner) oldest() int64 { return o.tasks[o.queue[0]].Age }

// Place matches. The assignments come in the order in which they were decided.
func (p *slowPlacer) Place(r *Round) []Assignment {
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

func (p *slowPlacer) start(r *Round) {
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
		p.byName = make(map[string]*slowOwner)
		p.failed = make(map[slowClass]struct{})
		p.scopes = make(map[*Rules]*scope)
	}
	clear(p.byName)
	clear(p.failed)
	clear(p.scopes)
	p.byAgent = nil
}

// level serves the tasks of one priority: again and again the oldest task of the
// slowOwner with the smallest dominant share.
func (p *slowPlacer) level(tasks []int, out []Assignment) []Assignment {
	p.fill(tasks)
	for len(p.owners) > 0 {
		o := p.owners[0]
		i := o.queue[0]
		o.queue = o.queue[1:]
		if a, ok := p.place(i); ok {
			out = append(out, a)
			o.held = o.held.Add(p.round.Tasks[i].slowNeed(a.Way))
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

func (p *slowPlacer) fill(tasks []int) {
	p.owners = p.owners[:0]
	for _, i := range tasks {
		name := p.round.Tasks[i].Owner
		o := p.byName[name]
		if o == nil {
			o = &slowOwner{tasks: p.round.Tasks, held: p.round.Held[name]}
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
func (p *slowPlacer) fit(i int, t *Task) (Assignment, bool) {
	// What is free only shrinks within a round, and a started executor costs at
	// least what it saves later, so a slowClass that did not fit will not fit again.
	s := p.scope(t.Rules)
	c := slowClass{need: t.Need, overhead: t.Overhead, executor: t.Executor, role: t.Role, lasts: t.Lasts, lastResort: t.LastResort, scope: s}
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
func (p *slowPlacer) scope(r *Rules) *scope {
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
func (p *slowPlacer) best(t *Task, s *scope, avoid bool) int {
	best, bestWarm, bestLeft, bestCrowd := -1, false, int64(0), 0
	for i := range p.agents {
		cost, state, ok := p.fits(t, s, i)
		if !ok || avoid && slices.Contains(t.Avoid, p.round.Agents[i].ID) {
			continue
		}
		warm, crowd := state == Alive, 0
		if s != nil {
			crowd = s.crowd(i)
		}
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
func (p *slowPlacer) fits(t *Task, s *scope, i int) (cost Vector, state Executor, ok bool) {
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

// left is what remains, in whole numbers as Placer counts it.
func (p *slowPlacer) left(v Vector) int64 {
	sum := int64(0)
	for i := range Ports {
		if p.scale[i] > 0 {
			sum += v[i] * ((1 << weightBits) / p.scale[i])
		}
	}
	return sum
}

func (p *slowPlacer) cost(t *Task, i int) (Vector, Executor) {
	state := p.round.Agents[i].Executors[t.Executor]
	if state == Absent && p.agents[i].started[t.Executor] {
		state = Alive
	}
	if state == Absent {
		return t.Need.Add(t.Overhead), state
	}
	return t.Need, state
}

// slowHeap has the slowOwner to be served next on top.
type slowHeap []*slowOwner

func (h slowHeap) Len() int { return len(h) }
func (h slowHeap) Less(i, j int) bool {
	if h[i].share != h[j].share {
		return h[i].share < h[j].share
	}
	return h[i].oldest() < h[j].oldest()
}
func (h slowHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *slowHeap) Push(x any)   { *h = append(*h, x.(*slowOwner)) }
func (h *slowHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// need is what a task takes that goes a way; see Assignment.Way.
func (t *Task) slowNeed(way int) Vector {
	if way == 0 {
		return t.Need
	}
	return t.Rather[way-1].Need
}

// mayUse tells whether an agent's resources are the task's to use: offered to its
// role, and there for as long as it may last.
func (t *Task) mayUse(a *Agent) bool {
	return t.Role == a.Role && (a.Left == 0 || t.Lasts > 0 && t.Lasts <= a.Left)
}

// place puts one task on the agent that it fills best, in the first of its ways
// that fits one.
func (p *slowPlacer) place(i int) (Assignment, bool) {
	t := &p.round.Tasks[i]
	for n, way := range t.Rather {
		alternative := *t
		alternative.Need, alternative.Executor, alternative.Overhead = way.Need, way.Executor, way.Overhead
		if a, ok := p.fit(i, &alternative); ok {
			a.Way = n + 1
			return a, true
		}
	}
	return p.fit(i, t)
}

// nearest gives the agent on which the executor of t has the most of its inputs, of
// those that t may go to as well as anywhere else; -1 if there is none. It costs a
// few look-ups, however many agents there are.
func (p *slowPlacer) nearest(t *Task, s *scope) (agent int, bytes int64) {
	if len(t.Near) == 0 || s.spreads() {
		return -1, 0 // to be spread counts more
	}
	for _, n := range t.Near {
		if n.Executor != t.Executor || slices.Contains(t.Avoid, n.Agent) {
			continue
		}
		for _, i := range p.lots(n.Agent) {
			if p.agents[i].avoided || t.Need[GPUs] == 0 && p.agents[i].free[GPUs] > 0 {
				continue
			}
			if _, state, ok := p.fits(t, s, i); ok && state == Alive {
				return i, n.Bytes
			}
		}
	}
	return -1, 0
}

// lots gives the indices of an agent's lots in the round, one for each role.
func (p *slowPlacer) lots(agent string) []int {
	if p.byAgent == nil {
		p.byAgent = make(map[string][]int, len(p.round.Agents))
		for i := range p.round.Agents {
			id := p.round.Agents[i].ID
			p.byAgent[id] = append(p.byAgent[id], i)
		}
	}
	return p.byAgent[agent]
}
