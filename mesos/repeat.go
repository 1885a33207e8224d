package mesos

import (
	"time"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// ask is a task whose state is asked for until Mesos answers. After a master
// failover there is no answer while agents are yet to re-register, so silence
// never means that a task is gone.
type ask struct {
	agentID string
	tries   int
	due     time.Time
}

// asks are the open explicit reconciliations.
type asks struct {
	open        map[string]*ask
	least, most time.Duration
	batch       int
}

func newAsks(t Timings) *asks {
	return &asks{open: make(map[string]*ask), least: t.ReconcileMin, most: t.ReconcileMax, batch: t.ReconcileBatch}
}

// add opens an ask, or brings one forward.
func (a *asks) add(ref TaskRef, due time.Time) {
	x := a.open[ref.TaskID]
	if x == nil {
		a.open[ref.TaskID] = &ask{agentID: ref.AgentID, due: due}
		return
	}
	if ref.AgentID != "" {
		x.agentID = ref.AgentID
	}
	if due.Before(x.due) {
		x.due = due
	}
}

func (a *asks) answered(taskID string) { delete(a.open, taskID) }

// calls gives the RECONCILE calls that are due, and the number of tasks in them.
func (a *asks) calls(now time.Time) (out []*scheduler.Call, tasks int) {
	var batch []scheduler.Call_Reconcile_Task
	flush := func() {
		if len(batch) > 0 {
			call := calls.Reconcile()
			call.Reconcile.Tasks = batch
			out = append(out, call)
			tasks += len(batch)
			batch = nil
		}
	}
	for id, x := range a.open {
		if now.Before(x.due) {
			continue
		}
		x.due = now.Add(backoff(x.tries, a.least, a.most))
		x.tries++
		t := scheduler.Call_Reconcile_Task{TaskID: mesos.TaskID{Value: id}}
		if x.agentID != "" {
			t.AgentID = &mesos.AgentID{Value: x.agentID}
		}
		if batch = append(batch, t); len(batch) == a.batch {
			flush()
		}
	}
	flush()
	return out, tasks
}

// kill is a task whose KILL is repeated until it is over.
type kill struct {
	ref   TaskRef
	grace time.Duration
	tries int
	due   time.Time
}

// kills are the open kills.
type kills struct {
	open        map[string]*kill
	least, most time.Duration
}

func newKills(t Timings) *kills {
	return &kills{open: make(map[string]*kill), least: t.KillMin, most: t.KillMax}
}

// add opens a kill. An open one keeps its pace: somebody who asks again and again
// must not flood the agent. A shorter grace period counts, and at once.
func (k *kills) add(ref TaskRef, grace time.Duration, now time.Time) {
	x := k.open[ref.TaskID]
	if x == nil {
		k.open[ref.TaskID] = &kill{ref: ref, grace: grace, due: now}
		return
	}
	if ref.AgentID != "" {
		x.ref.AgentID = ref.AgentID
	}
	if grace < x.grace {
		x.grace, x.due = grace, now
	}
}

func (k *kills) settled(taskID string) { delete(k.open, taskID) }

// calls gives the KILL calls that are due.
func (k *kills) calls(now time.Time) []*scheduler.Call {
	var out []*scheduler.Call
	for _, x := range k.open {
		if now.Before(x.due) {
			continue
		}
		x.due = now.Add(backoff(x.tries, k.least, k.most))
		x.tries++
		call := calls.Kill(x.ref.TaskID, x.ref.AgentID)
		if x.grace > 0 {
			call.Kill.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: x.grace.Nanoseconds()}}
		}
		out = append(out, call)
	}
	return out
}
