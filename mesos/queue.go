package mesos

import (
	"cmp"
	"slices"
	"time"

	"github.com/baas-batch/baas/mesos/placement"
)

// waiting is one task in the queue.
type waiting struct {
	Task
	need     placement.Vector
	executor *executor
	// preferred are the ways to run it that are tried first; plain is what they have
	// taken the place of.
	preferred []way
	plain     *way
	group     string // see Config.GroupOf
	rules     *rules // nil for none
	before    int    // tasks of the same owner and priority before it, at the last match
}

// whole is what the task needs where its executor has yet to start.
func (w *waiting) whole() placement.Vector { return w.need.Add(w.executor.overhead) }

// queue holds the tasks that wait for a place.
type queue struct {
	tasks map[string]*waiting
	ranks map[rank]int // how many tasks of each
}

// rank is what decides about a task's turn, besides its age.
type rank struct {
	priority int
	owner    string
}

func (w *waiting) rank() rank { return rank{w.Priority, w.Owner} }

func newQueue() *queue {
	return &queue{tasks: make(map[string]*waiting), ranks: make(map[rank]int)}
}

func (q *queue) add(w *waiting) {
	q.remove(w.ID)
	q.tasks[w.ID] = w
	q.ranks[w.rank()]++
}

// remove tells whether the task was there.
func (q *queue) remove(id string) bool {
	w := q.tasks[id]
	if w == nil {
		return false
	}
	delete(q.tasks, id)
	if q.ranks[w.rank()]--; q.ranks[w.rank()] == 0 {
		delete(q.ranks, w.rank())
	}
	return true
}

// list gives the tasks in the order of service, as far as that is known before a
// match: by priority, then age.
func (q *queue) list() []*waiting {
	out := make([]*waiting, 0, len(q.tasks))
	for _, w := range q.tasks {
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b *waiting) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.Submitted.Compare(b.Submitted), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// number notes on each task of a list how many of its rank stand before it.
func number(list []*waiting) {
	seen := make(map[rank]int)
	for _, w := range list {
		w.before = seen[w.rank()]
		seen[w.rank()]++
	}
}

// least is the smallest task in Mesos's eyes: one that uses nothing is refused.
var least = placement.Vector{placement.CPUs: 10}

func newWaiting(t Task, x *executor, now time.Time) *waiting {
	if t.Submitted.IsZero() {
		t.Submitted = now
	}
	w := &waiting{Task: t, need: t.Resources.vector(), executor: x}
	if w.need == (placement.Vector{}) {
		w.need = least
	}
	return w
}
