package placement

// Way is another way to run a task than with its Need, Executor and Overhead:
// on resources of another kind, which takes an executor of its own.
type Way struct {
	Need     Vector
	Executor string
	Overhead Vector
}

// need is what a task takes that goes a way; see Assignment.Way.
func (t *Task) need(way int) Vector {
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
func (p *Placer) place(i int) (Assignment, bool) {
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
