package placement

import (
	"cmp"
	"math"
	"slices"
)

// lot is an agent of the round.
type lot struct {
	free    Vector
	score   int64 // see Placer.left
	last    int64 // how long a task may last there
	tree    *tree
	at      int // in the tree
	next    int // of the same agent; -1 for none. See firstOf
	avoided bool
	// Masks of the executors that live there, and that are leaving.
	alive, leaving uint64
}

// placeOf is where an executor is.
type placeOf struct {
	lot      int
	executor *executor
}

// survey looks at the round's agents.
func (p *Placer) survey() {
	r := p.round
	scale := Vector{}
	for i := range r.Agents {
		scale = scale.Max(r.Agents[i].Free)
	}
	for i := range p.weight {
		p.weight[i] = 0
		if scale[i] > 0 {
			p.weight[i] = (1 << weightBits) / scale[i]
		}
	}
	for _, x := range p.queue.executors {
		x.lots = x.lots[:0]
	}
	for _, t := range p.trees {
		t.lots = t.lots[:0]
	}
	p.lots = slices.Grow(p.lots[:0], len(r.Agents))[:len(r.Agents)]
	for i := range r.Agents {
		a := &r.Agents[i]
		l := &p.lots[i]
		*l = lot{free: a.Free, score: p.left(&a.Free), last: cmp.Or(a.Left, math.MaxInt64), avoided: a.Avoided}
		for id, state := range a.Executors {
			if x := p.queue.executors[id]; x != nil && state != Absent {
				p.enter(i, x, state)
			}
		}
		t := p.trees[a.Role]
		if t == nil {
			t = &tree{}
			p.trees[a.Role] = t
		}
		l.tree = t
		t.lots = append(t.lots, i)
	}
	for role, t := range p.trees {
		if len(t.lots) == 0 {
			delete(p.trees, role)
			continue
		}
		p.arrange(t)
	}
}

// weightBits is what the most that a lot has of a resource weighs: so much that all
// of them together do not overflow.
const weightBits = 50

// enter notes that an executor is on a lot.
func (p *Placer) enter(i int, x *executor, state Executor) {
	bit := uint64(1) << x.bit
	if state == Alive {
		p.lots[i].alive |= bit
		x.lots = append(x.lots, i)
	} else {
		p.lots[i].leaving |= bit
	}
	if p.queue.bits[x.bit] > 1 {
		p.states[placeOf{i, x}] = state
	}
}

// state tells how an executor is on a lot.
func (p *Placer) state(i int, x *executor) Executor {
	if x == nil {
		return Absent
	}
	l, bit := &p.lots[i], uint64(1)<<x.bit
	switch {
	case (l.alive|l.leaving)&bit == 0:
		return Absent
	case p.queue.bits[x.bit] > 1:
		return p.states[placeOf{i, x}]
	case l.alive&bit != 0:
		return Alive
	}
	return Leaving
}

// left measures what remains, each dimension against the largest agent of the
// round. Unused GPUs weigh as much as all CPUs, which keeps tasks without GPUs
// away from the agents that have them. It is a sum, so lots compare before a task
// as they will after it.
func (p *Placer) left(v *Vector) int64 {
	sum := int64(0)
	for i, weight := range p.weight {
		sum += v[i] * weight
	}
	return sum
}

// take puts a task of a way on a lot.
func (p *Placer) take(w *route, i int) (starts bool) {
	l := &p.lots[i]
	cost := &w.need
	if starts = p.state(i, w.executor) == Absent; starts {
		cost = &w.whole
		if x := w.executor; x != nil {
			p.enter(i, x, Alive)
		}
	}
	l.free = l.free.Sub(*cost)
	l.score -= p.left(cost)
	p.update(l)
	return starts
}
