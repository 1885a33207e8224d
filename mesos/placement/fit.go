package placement

import (
	"math"
	"slices"
)

// place puts one task on the lot that it fills best, in the first of its ways that
// fits one.
func (p *Placer) place(c *class, task int) (Assignment, bool) {
	if c.begun && c.hopeless() {
		return Assignment{}, false // with rules that may admit others later in the round
	}
	turn := &p.quest.turn
	if *turn = c.turn; p.round.Ask != nil {
		p.round.Ask(task, turn)
	}
	if !c.begun {
		p.begin(c)
	}
	for n := range c.ways {
		way := (n + 1) % len(c.ways)
		if a, ok := p.fit(c, &c.ways[way], task); ok {
			a.Task, a.Way = task, way
			return a, true
		}
	}
	return Assignment{}, false
}

// begin makes a class ready for the round.
func (p *Placer) begin(c *class) {
	c.begun, c.scope = true, p.scope(p.quest.turn.Rules)
	c.avoid = c.avoid[:0]
	for _, id := range c.shuns {
		for lot := p.firstOf(id); lot >= 0; lot = p.lots[lot].next {
			c.avoid = append(c.avoid, lot)
		}
	}
	for i := range c.ways {
		w := &c.ways[i]
		w.failed, w.from = -1, 0
	}
}

// hopeless tells that all ways have failed since something was last placed that
// might have helped.
func (c *class) hopeless() bool {
	for i := range c.ways {
		if c.ways[i].failed != c.scope.changes() {
			return false
		}
	}
	return true
}

// fit finds a lot for a task that goes a way, and takes it.
func (p *Placer) fit(c *class, w *route, task int) (Assignment, bool) {
	if w.failed == c.scope.changes() {
		return Assignment{}, false
	}
	q := &p.quest
	q.class, q.way, q.avoid = c, w, len(c.avoid) > 0
	// A task that nobody knows the length of goes only where it may stay for ever.
	if q.last = c.lasts; c.lasts <= 0 {
		q.last = math.MaxInt64
	}
	best, bytes := p.best(), int64(0)
	if best >= 0 {
		if near, n := p.nearest(task); near >= 0 {
			best, bytes = near, n
		}
	} else if q.avoid && !q.turn.Strict {
		q.avoid = false
		best = p.best()
	}
	if best < 0 {
		w.failed = c.scope.changes()
		return Assignment{}, false
	}
	c.scope.take(best)
	return Assignment{Agent: best, Starts: p.take(w, best), Near: bytes}, true
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

// few is how many lots are rather looked at one by one.
const few = 64

// best gives the lot with the fewest tasks to spread, among equals one with a
// living executor, among those the one that has least left afterwards, and of these
// the first; -1 if none fits.
func (p *Placer) best() int {
	q := &p.quest
	q.crowd = anyCrowd
	s := q.class.scope
	if s != nil && len(s.list) <= max(few, len(p.lots)/few) {
		return p.scan(s)
	}
	if !s.spreads() {
		return p.fullest()
	}
	if crowd, ok := s.least(); ok {
		q.crowd = crowd
		if best := p.fullest(); best >= 0 {
			return best
		}
	}
	q.crowd = anyCrowd
	return p.scan(s)
}

// anyCrowd is where a task need not be spread.
const anyCrowd = -1

// fullest gives the best lot of the quest's crowd.
func (p *Placer) fullest() int {
	q := &p.quest
	if q.way.executor != nil {
		if best := p.warm(); best >= 0 {
			return best
		}
	}
	return p.find(&q.way.whole, 0)
}

// warm looks where the executor lives: if that is in few places, at each, but for
// those before route.from.
func (p *Placer) warm() int {
	w, x := p.quest.way, p.quest.way.executor
	lasting := !p.quest.avoid && p.quest.crowd == anyCrowd && !p.quest.class.scope.reopens()
	if len(x.lots)-w.from > few {
		best := p.find(&w.need, 1<<x.bit)
		if best < 0 && lasting {
			w.from = len(x.lots)
		}
		return best
	}
	p.quest.begin(&w.need, 1<<x.bit)
	for _, i := range x.lots[w.from:] {
		p.consider(i)
	}
	for lasting && w.from < len(x.lots) && !w.need.within(&p.lots[x.lots[w.from]].free) {
		w.from++
	}
	return p.quest.best
}

func (p *Placer) find(cost *Vector, warm uint64) int {
	p.quest.begin(cost, warm)
	p.search(p.quest.class.tree, 1)
	return p.quest.best
}

func (q *quest) begin(cost *Vector, warm uint64) {
	q.cost, q.warm, q.best, q.score = *cost, warm, -1, math.MaxInt64
}

// scan looks at all lots that rules admit, one by one.
func (p *Placer) scan(s *scope) int {
	q := &p.quest
	best, bestCrowd, bestWarm, bestLeft := -1, 0, false, int64(0)
	for _, i := range s.list {
		l := &p.lots[i]
		if l.tree != q.class.tree || !q.way.need.within(&l.free) {
			continue
		}
		state, cost := p.state(i, q.way.executor), &q.way.need
		if state == Absent {
			cost = &q.way.whole
		}
		if state == Leaving || !cost.within(&l.free) || !p.admits(i) {
			continue
		}
		crowd, warm, left := s.crowd(i), state == Alive, l.score-p.left(cost)
		if best < 0 || crowd < bestCrowd || crowd == bestCrowd && (warm && !bestWarm || warm == bestWarm && left < bestLeft) {
			best, bestCrowd, bestWarm, bestLeft = i, crowd, warm, left
		}
	}
	return best
}

// suits tells whether the quest's task may go to a lot that has room for it.
func (p *Placer) suits(i int) bool {
	want := Absent
	if p.quest.warm != 0 {
		want = Alive
	}
	return p.lots[i].tree == p.quest.class.tree && p.state(i, p.quest.way.executor) == want && p.admits(i)
}

// admits tells whether the quest's task may go to a lot, whatever is free there.
func (p *Placer) admits(i int) bool {
	q, l := &p.quest, &p.lots[i]
	if l.last < q.last || l.avoided && !q.turn.LastResort || q.avoid && slices.Contains(q.class.avoid, i) {
		return false
	}
	s := q.class.scope
	return s == nil || s.admits(i) && (q.crowd == anyCrowd || s.crowd(i) == q.crowd)
}
