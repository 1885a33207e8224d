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
}

// queue holds the tasks that wait for a place.
type queue struct {
	tasks map[string]*waiting
}

func newQueue() *queue { return &queue{tasks: make(map[string]*waiting)} }

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
