// Package placement decides which waiting tasks go to which agents: by priority,
// then fairly between owners, then by age, each on the agent that it fills best.
// It is pure: no Mesos, no clock, no I/O.
package placement

import (
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
	// Single tells that the executors of the task and its ways serve no other task.
	Single bool
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
	// Kind keeps tasks apart that are alike otherwise but have different Rules when
	// they are asked for. It must be comparable.
	Kind any
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

// Round is the input of one match. Place changes none of it.
type Round struct {
	Queue *Queue
	// Tasks are those that wait where there is no Queue: for rounds that stand alone.
	Tasks  []Task
	Agents []Agent
	// Held is what each owner holds already; Total is what the cluster has, as far
	// as known. Both only weigh owners against each other.
	Held  map[string]Vector
	Total Vector
	// Ask, if not nil, is called for a task of the Queue when its turn has come, with
	// what Add was told. Of tasks that are alike none may be Strict, or not a
	// LastResort, if a younger one is otherwise: where one finds no place, those
	// behind it are not tried.
	Ask func(task int, t *Turn)
	// Near, if not nil, is called for a task of the Queue for which there is a place,
	// instead of Task.Near.
	Near func(task int) []Near
}

// Turn is what may be different for a task in each round, and is asked for only when
// it is tried, which most that wait are not.
type Turn struct {
	Rules              *Rules // the same for all of a Kind
	Strict, LastResort bool
}

// Assignment puts one task on one agent, which is an index into Round.Agents. The
// task is one into Round.Tasks, or what Queue.Add gave.
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

// Placer matches rounds. It keeps its memory between them, so one Placer serves one
// goroutine.
type Placer struct {
	round  *Round
	queue  *Queue
	near   func(task int) []Near
	lines  lineHeap
	lots   []lot
	trees  map[string]*tree // by role; of earlier rounds too
	weight [Ports]int64     // of what is left of each resource, so that they can be added up
	scopes map[*Rules]*scope
	states map[placeOf]Executor // of executors that share their bit
	quest  quest
	out    []Assignment

	byAgent map[string]int // the first lot of each agent of the round,
	indexed bool           // once they are asked for
}

// Place matches. The assignments come in the order in which they were decided, and
// are valid until the next call. The tasks stay in the Queue.
func (p *Placer) Place(r *Round) []Assignment {
	p.start(r)
	if len(p.lots) > 0 {
		for _, l := range p.queue.levels {
			p.level(l)
		}
	}
	p.round, p.queue, p.near, p.quest = nil, nil, nil, quest{}
	return p.out
}

func (p *Placer) start(r *Round) {
	p.round, p.queue, p.out, p.indexed = r, r.Queue, p.out[:0], false
	p.near = r.Near
	if p.queue == nil {
		p.queue = NewQueue()
		for i := range r.Tasks {
			p.queue.Add(&r.Tasks[i])
		}
		p.near = func(i int) []Near { return r.Tasks[i].Near }
	}
	p.queue.round++
	if p.trees == nil {
		p.trees = make(map[string]*tree)
		p.scopes = make(map[*Rules]*scope)
		p.states = make(map[placeOf]Executor)
		p.byAgent = make(map[string]int)
	}
	clear(p.scopes)
	clear(p.states)
	p.survey()
}

// level serves the tasks of one priority: again and again the oldest task of the
// owner with the smallest dominant share.
func (p *Placer) level(l *level) {
	p.lines = p.lines[:0]
	for _, l := range l.lines {
		if p.ready(l); len(l.ready) > 0 {
			p.lines = append(p.lines, l)
		}
	}
	heap.Init(&p.lines)
	for len(p.lines) > 0 {
		l := p.lines[0]
		c := l.ready[0]
		task := c.tasks[c.next].slot
		c.next++
		a, ok := p.place(c, task)
		if ok {
			p.out = append(p.out, a)
			l.owner.held = l.owner.held.Add(c.ways[a.Way].need)
			l.owner.share = l.owner.held.Share(p.round.Total)
		}
		// What is free only shrinks within a round, and a started executor costs at
		// least what it saves later: what did not fit will not fit again.
		if c.next == len(c.tasks) || !ok && !c.scope.reopens() {
			heap.Pop(&l.ready)
		} else {
			heap.Fix(&l.ready, 0)
		}
		if len(l.ready) == 0 {
			heap.Pop(&p.lines)
		} else {
			heap.Fix(&p.lines, 0)
		}
	}
}

// ready makes a line ready for the round, with the classes for which there might be
// a place.
func (p *Placer) ready(l *line) {
	if o := l.owner; o.round != p.queue.round {
		o.round, o.held = p.queue.round, p.round.Held[o.name]
		o.share = o.held.Share(p.round.Total)
	}
	l.ready = l.ready[:0]
	for _, c := range l.classes {
		c.tree, c.next, c.begun = p.trees[c.role], 0, false
		if c.tree != nil && slices.ContainsFunc(c.ways, func(w route) bool { return w.need.within(&c.tree.nodes[1].most) }) {
			l.ready = append(l.ready, c)
		}
	}
	heap.Init(&l.ready)
}

// lineHeap has the line to be served next on top.
type lineHeap []*line

func (h lineHeap) Len() int { return len(h) }
func (h lineHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.owner.share != b.owner.share {
		return a.owner.share < b.owner.share
	}
	return a.ready[0].head().compare(b.ready[0].head()) < 0
}
func (h lineHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *lineHeap) Push(x any)   { *h = append(*h, x.(*line)) }
func (h *lineHeap) Pop() any     { return pop((*[]*line)(h)) }

// classHeap has the class with the oldest task on top.
type classHeap []*class

func (c *class) head() entry { return c.tasks[c.next] }

func (h classHeap) Len() int           { return len(h) }
func (h classHeap) Less(i, j int) bool { return h[i].head().compare(h[j].head()) < 0 }
func (h classHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *classHeap) Push(x any)        { *h = append(*h, x.(*class)) }
func (h *classHeap) Pop() any          { return pop((*[]*class)(h)) }

func pop[T any](list *[]T) T {
	last := len(*list) - 1
	x := (*list)[last]
	*list = (*list)[:last]
	return x
}
