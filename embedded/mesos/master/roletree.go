package master

import (
	"cmp"
	"slices"
)

// roleTree is what roles hold, offers included, each with all roles below it.
type roleTree struct {
	m    *Master
	held map[string]bag // by role; hierarchical
	own  map[string]bag // of the role itself
}

func (m *Master) roleTree() *roleTree {
	t := &roleTree{m: m, held: map[string]bag{}, own: map[string]bag{}}
	for _, f := range m.frameworks {
		for role, b := range f.allocated {
			if !b.empty() {
				t.add(role, b)
			}
		}
	}
	return t
}

func (t *roleTree) add(role string, b bag) {
	grow := func(in map[string]bag, role string) {
		if _, has := in[role]; !has {
			in[role] = newBag()
		}
		in[role].add(b)
	}
	grow(t.own, role)
	for _, r := range lineage(role) {
		grow(t.held, r)
	}
}

func (t *roleTree) of(role string) bag {
	if b, has := t.held[role]; has {
		return b
	}
	return newBag()
}

// compare orders roles by who is to be served first: of the two branches in which
// they part, the one with the smaller dominant share by weight. A role that has
// others below it competes with these as a leaf beside them, of weight 1.
func (t *roleTree) compare(a, b string) int {
	if a == b {
		return 0
	}
	x, y := lineage(a), lineage(b)
	i := 0
	for i < len(x) && i < len(y) && x[i] == y[i] {
		i++
	}
	branch := func(line []string, role string) float64 {
		if i < len(line) {
			return t.of(line[i]).share(t.m.total) / t.m.weight(line[i])
		}
		return t.own[role].share(t.m.total)
	}
	return cmp.Or(cmp.Compare(branch(x, a), branch(y, b)), cmp.Compare(a, b))
}

// owed is what is missing of the guarantee of a role, or of the nearest one above
// it that has any.
func (t *roleTree) owed(role string) map[string]int64 {
	line := lineage(role)
	slices.Reverse(line)
	for _, r := range line {
		if q := t.m.quotas[r]; len(q.guarantees) > 0 {
			out := map[string]int64{}
			for name, v := range q.guarantees {
				if missing := v - t.of(r).scalars[name]; missing > 0 {
					out[name] = missing
				}
			}
			return out
		}
	}
	return nil
}

// headroom is what must stay free for all guarantees that are not met.
func (t *roleTree) headroom() map[string]int64 {
	out := map[string]int64{}
	for role, q := range t.m.quotas {
		line := lineage(role)
		if slices.ContainsFunc(line[:len(line)-1], func(r string) bool { return len(t.m.quotas[r].guarantees) > 0 }) {
			continue // part of that one
		}
		for name, v := range q.guarantees {
			out[name] += max(0, v-t.of(role).scalars[name])
		}
	}
	return out
}

// limit cuts what a role is to get down to what it may still hold.
func (t *roleTree) limit(role string, b bag) {
	for _, r := range lineage(role) {
		for name, v := range t.m.quotas[r].limits {
			if left := v - t.of(r).scalars[name]; b.scalars[name] > left {
				b.scalars[name] = left
			}
		}
	}
	b.trim()
}
