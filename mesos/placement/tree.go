package placement

import (
	"math"
	"slices"
)

// tree finds the lot of a role with the least left among those that have room. Its
// lots stand in the order of a curve through the plane of free CPUs and memory, so
// that lots which are alike share nodes, and a node tells the most that its lots
// have and the least that they have left: whole branches are passed by.
type tree struct {
	lots   []int  // in the order of the curve
	nodes  []node // a heap: the children of i are 2i and 2i+1; those from leaf on have leafSize lots each
	leaf   int
	shrunk int // lots since the order was made
	codes  []uint64
}

const leafSize = 8

// node sums up its lots.
type node struct {
	most  Vector
	score int64 // the least, and the first lot that has it
	lot   int
	last  int64
	alive uint64
	sound bool // some are not avoided
}

// empty is a node without lots: nothing fits.
var empty = node{most: Vector{-1, -1, -1, -1, -1, -1, -1, -1}, score: math.MaxInt64, lot: math.MaxInt}

// arrange puts the lots of a tree in order, by what they have free of the most that
// one of the round has had.
func (p *Placer) arrange(t *tree) {
	t.codes = t.codes[:0]
	for _, i := range t.lots {
		free := &p.lots[i].free
		code := spread(p.part(free, CPUs))<<1 | spread(p.part(free, Mem))
		t.codes = append(t.codes, code<<32|uint64(i))
	}
	slices.Sort(t.codes)
	for at, code := range t.codes {
		i := int(code & math.MaxUint32)
		t.lots[at], p.lots[i].at = i, at
	}
	t.shrunk, t.leaf = 0, 1
	for t.leaf*leafSize < len(t.lots) {
		t.leaf *= 2
	}
	t.nodes = slices.Grow(t.nodes[:0], 2*t.leaf)[:2*t.leaf]
	for n := 2*t.leaf - 1; n > 0; n-- {
		p.sum(t, n)
	}
}

// part is what is free of a resource, in 65536ths of the most.
func (p *Placer) part(free *Vector, dimension int) uint64 {
	return min(uint64(free[dimension]*p.weight[dimension])>>(weightBits-16), math.MaxUint16)
}

// spread puts a zero before each of 16 bits.
func spread(x uint64) uint64 {
	x = (x | x<<8) & 0x00ff00ff
	x = (x | x<<4) & 0x0f0f0f0f
	x = (x | x<<2) & 0x33333333
	return (x | x<<1) & 0x55555555
}

// sum makes node n from what is below it.
func (p *Placer) sum(t *tree, n int) {
	if n < t.leaf {
		t.nodes[n] = t.nodes[2*n]
		t.nodes[n].add(&t.nodes[2*n+1])
		return
	}
	x := empty
	for _, i := range t.leafLots(n) {
		l := &p.lots[i]
		x.add(&node{most: l.free, score: l.score, lot: i, last: l.last, alive: l.alive, sound: !l.avoided})
	}
	t.nodes[n] = x
}

func (t *tree) leafLots(n int) []int {
	first := min((n-t.leaf)*leafSize, len(t.lots))
	return t.lots[first:min(first+leafSize, len(t.lots))]
}

func (n *node) add(m *node) {
	for i := range n.most {
		n.most[i] = max(n.most[i], m.most[i])
	}
	if m.before(n.score, n.lot) {
		n.score, n.lot = m.score, m.lot
	}
	n.last = max(n.last, m.last)
	n.alive |= m.alive
	n.sound = n.sound || m.sound
}

// before tells whether the node may have a better lot than one with a score.
func (n *node) before(score int64, lot int) bool {
	return n.score < score || n.score == score && n.lot < lot
}

// update notes that a lot has less than before.
func (p *Placer) update(l *lot) {
	t := l.tree
	if t.shrunk++; t.shrunk > max(minShrunk, len(t.lots)/8) {
		p.arrange(t)
		return
	}
	for n := t.leaf + l.at/leafSize; n > 0; n /= 2 {
		was := t.nodes[n]
		if p.sum(t, n); t.nodes[n] == was {
			return
		}
	}
}

// minShrunk keeps small trees from being put in order for each few tasks.
const minShrunk = 256

// quest is a search for a lot for one task.
type quest struct {
	cost  Vector
	class *class
	way   *route
	warm  uint64 // mask of the executor that must live there; 0 if it must not
	last  int64
	turn  Turn
	avoid bool
	crowd int // of the lots to look at, or anyCrowd
	best  int // -1 for none so far
	score int64
}

// search looks below node n of the quest's tree.
func (p *Placer) search(t *tree, n int) {
	x, q := &t.nodes[n], &p.quest
	if !x.before(q.score, q.best) || q.warm != 0 && x.alive&q.warm == 0 || x.last < q.last ||
		!x.sound && !q.turn.LastResort || !q.cost.within(&x.most) {
		return
	}
	if n >= t.leaf {
		for _, i := range t.leafLots(n) {
			p.consider(i)
		}
		return
	}
	first, second := 2*n, 2*n+1
	if t.nodes[second].before(t.nodes[first].score, t.nodes[first].lot) {
		first, second = second, first
	}
	p.search(t, first)
	p.search(t, second)
}

// consider takes a lot that is better than the best so far.
func (p *Placer) consider(i int) {
	l, q := &p.lots[i], &p.quest
	if l.score > q.score || l.score == q.score && i >= q.best || !q.cost.within(&l.free) || !p.suits(i) {
		return
	}
	q.best, q.score = i, l.score
}
