package mesos

import (
	"cmp"
	"container/list"
	"slices"

	"github.com/baas-batch/baas/mesos/placement"
)

// Content is a large piece of data that a task reads or has written.
type Content struct {
	ID   string // the same for the same bytes, such as their SHA-256
	Size int64  // bytes
}

// Holds tells that an executor has contents at hand: what it has fetched or its tasks
// have written. Tasks that read them are placed with it rather than elsewhere. What is
// known so is lost with this Framework value; it only spares transfers.
func (f *Framework) Holds(agentID, executorID string, contents ...Content) {
	if len(contents) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range contents {
		f.holdings.add(c.ID, holder{agentID, executorID})
	}
}

const (
	maxHeld    = 20_000 // contents in the table
	maxHolders = 8      // of each
)

type holder struct{ agent, executor string }

// holdings tells which executors have which contents, as far as is remembered: of
// those that were told of last.
type holdings struct {
	off   bool                     // executors keep nothing
	byID  map[string]*list.Element // of *holding
	order *list.List               // told of last: front
}

type holding struct {
	id      string
	holders []holder // told of last: first
}

func newHoldings() *holdings {
	return &holdings{byID: make(map[string]*list.Element), order: list.New()}
}

func (h *holdings) add(id string, who holder) {
	if h.off {
		return
	}
	el := h.byID[id]
	if el == nil {
		el = h.order.PushFront(&holding{id: id})
		h.byID[id] = el
	}
	h.order.MoveToFront(el)
	one := el.Value.(*holding)
	one.holders = slices.DeleteFunc(one.holders, func(known holder) bool { return known == who })
	one.holders = slices.Insert(one.holders, 0, who)
	one.holders = one.holders[:min(len(one.holders), maxHolders)]
	if h.order.Len() > maxHeld {
		delete(h.byID, h.order.Remove(h.order.Back()).(*holding).id)
	}
}

// near tells where a task's inputs are, of those executors that it may go to: the
// most bytes first.
func (f *Framework) near(w *waiting) []placement.Near {
	var out []placement.Near
	for _, c := range w.Reads {
		el := f.holdings.byID[c.ID]
		if el == nil {
			continue
		}
		for _, who := range el.Value.(*holding).holders {
			if !w.served(who.executor) || !f.table.alive(who) {
				continue
			}
			i := slices.IndexFunc(out, func(n placement.Near) bool { return n.Agent == who.agent && n.Executor == who.executor })
			if i < 0 {
				i = len(out)
				out = append(out, placement.Near{Agent: who.agent, Executor: who.executor})
			}
			out[i].Bytes += c.Size
		}
	}
	slices.SortStableFunc(out, func(a, b placement.Near) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return out
}

// served tells whether an executor may serve the task.
func (w *waiting) served(executorID string) bool {
	return w.executor.id == executorID ||
		slices.ContainsFunc(w.preferred, func(p way) bool { return p.executor.id == executorID })
}

// alive tells whether an executor takes tasks; what one that is gone has kept is gone.
func (t *table) alive(who holder) bool {
	a := t.agents[who.agent]
	if a == nil {
		return false
	}
	x := a.executors[who.executor]
	return x != nil && x.state() == placement.Alive
}
