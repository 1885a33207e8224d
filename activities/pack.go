package activities

import (
	"cmp"
	"slices"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
)

// phase is how far a pack has come.
type phase int

const (
	phasePausing   phase = iota // waits out a backoff before it is submitted
	phaseFenced                 // waits for tasks of earlier runs of the instance
	phaseWaiting                // with the framework, for an offer
	phasePlacing                // details are being written ahead
	phasePlaced                 // the ACCEPT is on its way, or Mesos knows the task
	phaseAttaching              // an earlier leader placed it; Mesos is being asked
	phaseEnded                  // its results are here alone; details name it, so that the next leader asks
	phaseHeld                   // lost, and to run at most once: a person decides
)

// pack is the partitions of one Mesos task: one of a plain step, some of a Range.
type pack struct {
	first      int
	members    []int32 // of a Range, in order, as they are launched; nil for first alone
	over       bitmap  // members whose result is known, by position
	heard      int     // segments whose results are known
	attempt    int
	generation int
	phase      phase
	state      mesos.State
	agent      api.AgentDetail
	executor   string
	logs       string // tasklet.StatusData.Log
	progress   map[int]string
	ports      []int // that it was given at its placement
	noticed    bool  // an order to kill is out
	lookup     bool  // its secrets are being looked up

	most  int       // partitions, where details had no room for more; 0: no bound
	apart time.Time // end of the pause of a part of a divided pack; zero once it is submitted

	unreachable time.Time       // since when, zero if it is not
	held        *api.HeldDetail // set in phaseHeld
}

// count is how many partitions a pack was launched with.
func (p *pack) count() int { return max(1, len(p.members)) }

// unfinished are the partitions of a pack that have no result.
func (e *entry) unfinished(p *pack) (list []int) {
	if p.members == nil {
		if !e.finished(p.first) {
			list = append(list, p.first)
		}
		return list
	}
	for at, i := range p.members {
		if !p.over.has(at) && !e.finished(int(i)) {
			list = append(list, int(i))
		}
	}
	return list
}

// has tells whether a partition is in the task.
func (p *pack) has(partition int) bool { return p.position(partition) >= 0 }

// position is where a partition stands in the task; -1 if it does not.
func (p *pack) position(partition int) int {
	if p.members == nil {
		if partition == p.first {
			return 0
		}
		return -1
	}
	if at, ok := slices.BinarySearch(p.members, int32(partition)); ok {
		return at
	}
	return -1
}

// use notes that a generation is used up, of the packs that begin with a partition.
// A Range numbers all its packs in one sequence.
func (e *entry) use(first, generation int) {
	if e.ranged != nil {
		first = 0
	}
	e.generations.use(first, generation)
}

// used is the highest generation that is used up.
func (e *entry) used(first int) int {
	if e.ranged != nil {
		first = 0
	}
	return e.generations.of(first)
}

// generations are the highest ones used up, in the order of the first partitions.
// Most activities have one task: a map would be a multiple of that in size.
type generations []generation

type generation struct{ first, last int }

func (g generations) search(first int) (at int, found bool) {
	return slices.BinarySearchFunc(g, first, func(one generation, first int) int { return cmp.Compare(one.first, first) })
}

func (g generations) of(first int) int {
	if at, found := g.search(first); found {
		return g[at].last
	}
	return 0
}

func (g *generations) use(first, last int) {
	at, found := g.search(first)
	if !found {
		*g = slices.Insert(*g, at, generation{first: first})
	}
	(*g)[at].last = max((*g)[at].last, last)
}
