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
	slot      int    // in the queue
}

// whole is what the task needs where its executor has yet to start.
func (w *waiting) whole() placement.Vector { return w.need.Add(w.executor.overhead) }

// queue holds the tasks that wait for a place.
type queue struct {
	tasks  map[string]*waiting
	ranks  map[rank]int     // how many tasks of each
	places *placement.Queue // the same tasks, as placement sees them
	slots  []*waiting       // by their numbers there
	roleOf func(owner string) string
}

// rank is what decides about a task's turn, besides its age.
type rank struct {
	priority int
	owner    string
}

func (w *waiting) rank() rank { return rank{w.Priority, w.Owner} }

func newQueue() *queue {
	return &queue{
		tasks: make(map[string]*waiting), ranks: make(map[rank]int), places: placement.NewQueue(),
		roleOf: func(string) string { return "" },
	}
}

func (q *queue) add(w *waiting) {
	q.remove(w.ID)
	q.tasks[w.ID] = w
	q.ranks[w.rank()]++
	w.slot = q.places.Add(q.described(w))
	for len(q.slots) <= w.slot {
		q.slots = append(q.slots, nil)
	}
	q.slots[w.slot] = w
}

// described is what placement is told of a task once and for all; see
// Framework.round for the rest.
func (q *queue) described(w *waiting) *placement.Task {
	t := &placement.Task{
		Owner: w.Owner, Priority: w.Priority, Age: w.Submitted.UnixNano(), Need: w.need,
		Executor: w.executor.id, Overhead: w.executor.overhead, Single: w.Executor.Isolation != "",
		Avoid: w.AvoidAgents, Role: q.roleOf(w.Owner), Rather: w.rather(), Lasts: int64(w.lasts()),
	}
	if w.rules != nil {
		t.Kind = w.ruled()
	}
	return t
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
	q.places.Remove(w.slot)
	q.slots[w.slot] = nil
	return true
}

// before counts the tasks of the same owner and priority before one.
func (q *queue) before(w *waiting) int { return q.places.Older(w.slot) }

// list gives the tasks in the order of service, as far as that is known before a
// match: by priority, then age. It looks at all of them.
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
