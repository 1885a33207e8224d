package placement

// Near is an agent where an executor has some of a task's inputs already.
type Near struct {
	Agent    string
	Executor string // the task's, or that of one of its ways: what others keep is of no use to it
	Bytes    int64
}

// nearest gives the lot on which the executor of the quest's task has the most of
// its inputs, of those that it may go to as well as anywhere else; -1 if there is
// none. It costs a few look-ups, however many lots there are.
func (p *Placer) nearest(task int) (lot int, bytes int64) {
	c, w := p.quest.class, p.quest.way
	if p.near == nil || w.executor == nil || c.scope.spreads() {
		return -1, 0 // to be spread counts more
	}
	for _, n := range p.near(task) {
		if n.Executor != w.executor.id {
			continue
		}
		for i := p.firstOf(n.Agent); i >= 0; i = p.lots[i].next {
			l := &p.lots[i]
			if l.tree != c.tree || l.avoided || w.need[GPUs] == 0 && l.free[GPUs] > 0 {
				continue
			}
			if w.need.within(&l.free) && p.state(i, w.executor) == Alive && p.admits(i) {
				return i, n.Bytes
			}
		}
	}
	return -1, 0
}

// firstOf gives the first lot of an agent, -1 if it has none; those for other roles
// follow as lot.next.
func (p *Placer) firstOf(agent string) int {
	if !p.indexed {
		p.indexed = true
		clear(p.byAgent)
		for i := len(p.lots) - 1; i >= 0; i-- {
			p.lots[i].next = p.first(p.round.Agents[i].ID)
			p.byAgent[p.round.Agents[i].ID] = i
		}
	}
	return p.first(agent)
}

func (p *Placer) first(agent string) int {
	if i, there := p.byAgent[agent]; there {
		return i
	}
	return -1
}
