package mesos

import (
	"fmt"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/mesos/placement"
)

// revocable says of which resources an executor and its tasks use what Mesos may
// take back. Mesos lets a task and its executor use of each resource only the one
// kind or the other, so each combination takes an executor of its own.
type revocable uint8

const (
	revocableCPUs revocable = 1 << iota
	revocableMem
)

// of moves amounts to the revocable dimensions.
func (k revocable) of(v placement.Vector) placement.Vector {
	if k&revocableCPUs != 0 {
		v[placement.RevocableCPUs], v[placement.CPUs] = v[placement.CPUs], 0
	}
	if k&revocableMem != 0 {
		v[placement.RevocableMem], v[placement.Mem] = v[placement.Mem], 0
	}
	return v
}

// way is one way to run a task.
type way struct {
	need     placement.Vector
	executor *executor
}

// preferred are the ways to run a preemptible task that come before plain
// resources: with both CPUs and memory revocable, or only the CPUs, of which Mesos
// clusters oversubscribe most.
func (e *executors) preferred(t *Task, need placement.Vector) ([]way, error) {
	if !t.Preemptible {
		return nil, nil
	}
	var out []way
	for _, kind := range []revocable{revocableCPUs | revocableMem, revocableCPUs} {
		spec := t.Executor
		spec.revocable = kind
		x, err := e.of(spec, t.ID)
		if err != nil {
			return nil, err
		}
		out = append(out, way{kind.of(need), x})
	}
	return out, nil
}

// take settles which way the task goes: the n-th preferred one from 1, or 0 for
// plain resources.
func (w *waiting) take(n int) {
	if n == 0 {
		return
	}
	plain := way{w.need, w.executor}
	w.need, w.executor = w.preferred[n-1].need, w.preferred[n-1].executor
	w.plain = &plain
}

// back undoes take, for a task that waits again.
func (w *waiting) back() {
	if w.plain != nil {
		w.need, w.executor, w.plain = w.plain.need, w.plain.executor, nil
	}
}

// rather describes the preferred ways to placement.
func (w *waiting) rather() []placement.Way {
	var out []placement.Way
	for _, p := range w.preferred {
		out = append(out, placement.Way{Need: p.need, Executor: p.executor.id, Overhead: p.executor.overhead})
	}
	return out
}

// endless is how long a task without a time limit is taken to last where its agent
// is going to be maintained: nobody can promise that it ends before, but an agent
// must not stand idle for a window that is weeks away.
const endless = day

// lasts is the longest that a task may take from its launch on. What fetches its
// executor and inputs and stores its outputs is not counted by its time limit.
func (t *Task) lasts() time.Duration {
	if t.Timeout <= 0 {
		return endless
	}
	return t.Timeout + t.Grace + transferTime
}

// bounded is lasts, or 0 for a task without a time limit.
func (t *Task) bounded() time.Duration {
	if t.Timeout <= 0 {
		return 0
	}
	return t.lasts()
}

// transferTime is allowed for what surrounds a task's command.
const transferTime = time.Minute

// lots adds an agent's offers as placement sees them: one lot for each role. There
// are none while the agent's maintenance window lasts.
func lots(list []placement.Agent, agentID string, offers []*offer, now time.Time) []placement.Agent {
	first := len(list)
	var left time.Duration
	for _, o := range offers {
		until, down := o.window.left(now)
		if down {
			return list[:first]
		}
		if until > 0 && (left == 0 || until < left) {
			left = until
		}
		i := first
		for i < len(list) && list[i].Role != o.role {
			i++
		}
		if i == len(list) {
			list = append(list, placement.Agent{ID: agentID, Role: o.role})
		}
		list[i].Free = list[i].Free.Add(o.free)
	}
	for i := first; i < len(list); i++ {
		list[i].Left = int64(left)
	}
	return list
}

// window is a maintenance window; the zero value is none.
type window struct{ start, end time.Time }

func newWindow(u *mesos.Unavailability) window {
	if u == nil {
		return window{}
	}
	w := window{start: time.Unix(0, u.Start.Nanoseconds)}
	if u.Duration != nil {
		w.end = w.start.Add(time.Duration(u.Duration.Nanoseconds))
	}
	return w
}

// left is the time until the window begins, 0 if there is none or it is over; down
// tells that it has begun.
func (w window) left(now time.Time) (left time.Duration, down bool) {
	switch {
	case w.start.IsZero(), !w.end.IsZero() && !now.Before(w.end):
		return 0, false
	case !now.Before(w.start):
		return 0, true
	}
	return w.start.Sub(now), false
}

// maintained: every agent that could take the task is maintained before it must
// have ended.
func (q *question) maintained() string {
	var soonest *agentRecord
	for _, a := range q.usable {
		left, down := a.window.left(q.now)
		if !down && (left == 0 || q.w.lasts() <= left) {
			return ""
		}
		if soonest == nil || a.window.start.Before(soonest.window.start) {
			soonest = a
		}
	}
	if soonest == nil {
		return ""
	}
	within := "has no timeout, and may take a day"
	if q.w.Timeout > 0 {
		within = "may take " + q.w.lasts().String()
	}
	return fmt.Sprintf("%s is to be maintained from %s on, and the task %s (%s large enough)",
		soonest.name(), clock(soonest.window.start, q.now), within, q.counts())
}

// inverseOffered answers a request to leave an agent: yes, if all that runs there
// ends before the window. Executors without tasks lose nothing.
func (f *Framework) inverseOffered(offers []mesos.InverseOffer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session == nil {
		return
	}
	var leave, stay []mesos.OfferID
	busy := f.table.busyUntil()
	for i := range offers {
		o := &offers[i]
		if !busy[o.GetAgentID().GetValue()].After(newWindow(&o.Unavailability).start) {
			leave = append(leave, o.OfferID)
		} else {
			stay = append(stay, o.OfferID)
		}
	}
	if len(leave) > 0 {
		f.session.call(calls.AcceptInverseOffers(leave...).With(calls.RefuseSeconds(f.cfg.Timings.Refuse)), nil)
	}
	if len(stay) > 0 {
		f.session.call(calls.DeclineInverseOffers(stay...).With(calls.RefuseSeconds(f.cfg.Timings.Refuse)), nil)
	}
}

// busyUntil tells by agent when the last of its tasks surely ends. Of an adopted task
// nobody knows.
func (t *table) busyUntil() map[string]time.Time {
	busy := make(map[string]time.Time)
	for _, r := range t.tasks {
		if !r.state.Live() {
			continue
		}
		ends := r.ends()
		if ends.IsZero() {
			ends = never
		}
		if ends.After(busy[r.agentID]) {
			busy[r.agentID] = ends
		}
	}
	return busy
}

// never is after every maintenance window.
var never = time.Unix(1<<40, 0)
