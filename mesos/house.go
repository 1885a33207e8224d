package mesos

import (
	"context"
	"time"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"
)

const (
	// settle is how long after an implicit reconciliation its answers are awaited
	// before an executor without known tasks counts as idle.
	settle = 10 * time.Second
	// agentMemory is how long an agent is remembered that has neither offers nor
	// executors.
	agentMemory = day
)

// houseLoop does what is due: kills, reconciliations, idle executors, offers.
func (f *Framework) houseLoop(ctx context.Context) {
	tick := time.NewTicker(f.cfg.Timings.Tick)
	defer tick.Stop()
	var scan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-f.house:
		}
		f.mu.Lock()
		now := time.Now()
		f.pardon(f.table.lapsed(now), "its time is over")
		if f.session != nil {
			f.repeat(now)
			if !now.Before(scan) {
				f.scan(now)
				scan = now.Add(f.scanPace())
			}
			f.balance(now)
			f.survey(now)
		}
		f.mu.Unlock()
	}
}

// scanPace is how often whole tables are looked through.
func (f *Framework) scanPace() time.Duration {
	return max(f.cfg.Timings.Tick, min(time.Second, f.cfg.ExecutorIdle/4, f.cfg.Timings.Staging/4))
}

// repeat makes the kills and reconciliations that are due. f.mu is held, here and
// below.
func (f *Framework) repeat(now time.Time) {
	for _, call := range f.kills.calls(now) {
		f.session.call(call, nil)
		f.metrics.Kills.Add(1)
	}
	reconciliations, tasks := f.asks.calls(now)
	for _, call := range reconciliations {
		f.session.call(call, nil)
	}
	f.metrics.Reconciled.Add(int64(tasks))
	if !now.Before(f.link.nextImplicit) {
		f.askSilent(now)
		f.reconcileAll(now)
	}
}

// askSilent asks for the tasks that the last implicit reconciliation did not
// mention: Mesos answers it only for those that it has.
func (f *Framework) askSilent(now time.Time) {
	for _, r := range f.table.tasks {
		if r.state.Live() && r.state != placing && r.news.Before(f.link.implicit) {
			f.asks.add(TaskRef{r.id, r.agentID}, now)
		}
	}
}

// reconcileAll asks for all tasks that Mesos knows of.
func (f *Framework) reconcileAll(now time.Time) {
	f.session.call(calls.Reconcile(), nil)
	f.link.implicit = now
	f.link.nextImplicit = now.Add(jitter(f.cfg.Timings.Implicit * 4 / 3))
}

// scan looks for launches without news, idle executors, and agents long gone.
func (f *Framework) scan(now time.Time) {
	for _, r := range f.table.tasks {
		if r.state == Staging && now.Sub(r.news) > f.cfg.Timings.Staging {
			f.asks.add(TaskRef{r.id, r.agentID}, now)
		}
	}
	for id, a := range f.table.agents {
		for xid, x := range a.executors {
			f.checkExecutor(id, xid, x, now)
		}
		if len(a.executors) == 0 && now.Sub(a.lastOffer) > agentMemory && f.table.avoided[id] == nil {
			delete(f.table.agents, id)
			f.table.resized = true
		}
	}
	if len(f.queue.tasks) > 0 && len(f.offers.byID) > 0 {
		notify(f.match) // a task's patience may have ended
	}
}

// checkExecutor shuts down an executor that has been idle for long. A task that is
// on its way to it counts as its task, so a shutdown never overtakes a launch.
func (f *Framework) checkExecutor(agentID, executorID string, x *executorRecord, now time.Time) {
	if !x.stopping.IsZero() {
		if now.Sub(x.stopping) > f.cfg.ExecutorGrace+settle {
			// Its end was not reported. If it lives, an offer will say so.
			f.table.executorLost(agentID, executorID)
		}
		return
	}
	patience := f.cfg.ExecutorIdle
	if x.single {
		patience = min(patience, time.Second) // nothing else can use it
	}
	if x.idle.IsZero() || now.Sub(x.idle) < patience {
		return
	}
	// Of an executor that this process has not started, tasks may be unknown: an
	// agent that re-registered after the last reconciliation brings such ones.
	if !x.vouched && !f.link.implicit.After(x.seen) {
		f.reconcileAll(now)
		return
	}
	if !x.vouched && now.Sub(f.link.implicit) < settle {
		return
	}
	f.shutdown(agentID, executorID, now)
}

func (f *Framework) shutdown(agentID, executorID string, now time.Time) {
	if f.session == nil {
		return
	}
	f.session.call(calls.Shutdown(executorID, agentID), nil)
	if a := f.table.agents[agentID]; a != nil {
		if x := a.executors[executorID]; x != nil {
			x.stopping = now
		}
	}
}
