package placement

import "slices"

// Near is an agent where an executor has some of a task's inputs already.
type Near struct {
	Agent    string
	Executor string // the task's, or that of one of its ways: what others keep is of no use to it
	Bytes    int64
}

// nearest gives the agent on which the executor of t has the most of its inputs, of
// those that t may go to as well as anywhere else; -1 if there is none. It costs a
// few look-ups, however many agents there are.
func (p *Placer) nearest(t *Task, s *scope) (agent int, bytes int64) {
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
func (p *Placer) lots(agent string) []int {
	if p.byAgent == nil {
		p.byAgent = make(map[string][]int, len(p.round.Agents))
		for i := range p.round.Agents {
			id := p.round.Agents[i].ID
			p.byAgent[id] = append(p.byAgent[id], i)
		}
	}
	return p.byAgent[agent]
}
