package mesos

import (
	"context"
	"errors"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/mesos/placement"
)

// flight is what one match has put on one agent, on its way from the queue to the
// ACCEPT.
type flight struct {
	session *session
	agent   Agent
	offers  []*offer
	ports   []mesos.Value_Range // not yet assigned; nil before the first is
	groups  []*group
	// void: an offer was rescinded or the subscription has ended. Guarded by mu.
	void      bool
	rescinded []mesos.OfferID
}

// group is the part of a flight that one executor serves.
type group struct {
	executor *executor
	starts   bool
	tasks    []*waiting
	answers  []Launch // nil if the handler was not asked
}

// matchLoop matches when there is something to match.
func (f *Framework) matchLoop(ctx context.Context) {
	var p placement.Placer
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.match:
		}
		if !f.gather(ctx) {
			return
		}
		f.matchOnce(&p, time.Now())
	}
}

// gather waits a moment, so that what comes together is matched together: for Gather,
// or, where nothing was matched of late, until nothing has come for a part of it.
func (f *Framework) gather(ctx context.Context) bool {
	longest := f.cfg.Timings.Gather
	if time.Since(f.matched) < busyGathers*longest {
		return sleep(ctx, longest)
	}
	end := time.NewTimer(longest)
	defer end.Stop()
	quiet := time.NewTimer(longest / quietGather)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-end.C:
			return true
		case <-quiet.C:
			return true
		case <-f.match:
			quiet.Reset(longest / quietGather)
		}
	}
}

const (
	quietGather = 5 // the part of Gather that is quiet
	busyGathers = 2 // so many of them after a match, more is expected
)

func (f *Framework) matchOnce(p *placement.Placer, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session == nil || len(f.queue.tasks) == 0 {
		return
	}
	round := f.round(now)
	for _, fl := range f.takeOff(p.Place(round), round.Agents, now) {
		f.matched = now
		f.placements.Go(func() { f.fly(fl) })
	}
	f.revive(now)
}

// round describes the queue and the offers to placement. It costs what is offered,
// however many tasks wait. f.mu is held.
func (f *Framework) round(now time.Time) *placement.Round {
	r := &f.scratch
	r.Queue, r.Held, r.Total, r.Agents = f.queue.places, f.table.held, f.table.whole(), r.Agents[:0]
	for id, offers := range f.offers.byAgent {
		first := len(r.Agents)
		r.Agents = lots(r.Agents, id, offers, now)
		for i := first; i < len(r.Agents); i++ {
			record, a := f.table.agent(id), &r.Agents[i]
			a.Executors, a.Values, a.Avoided = record.executorStates(), record.values, f.table.avoided[id] != nil
		}
	}
	shun, ruling := f.shunning(now), f.ruling(now)
	r.Ask = func(slot int, t *placement.Turn) {
		w := f.queue.slots[slot]
		t.Strict, t.LastResort, t.Rules = shun.strict(w), shun.lastResort(w), ruling.of(w)
	}
	r.Near = func(slot int) []placement.Near { return f.near(f.queue.slots[slot]) }
	return r
}

// takeOff moves what was placed from the queue to the table, with all offers of
// the agents. f.mu is held.
func (f *Framework) takeOff(placed []placement.Assignment, agents []placement.Agent, now time.Time) []*flight {
	byAgent := make(map[int]*flight)
	var out []*flight
	for _, p := range placed {
		w, agentID := f.queue.slots[p.Task], agents[p.Agent].ID
		fl := byAgent[p.Agent]
		if fl == nil {
			fl = &flight{session: f.session, offers: f.offers.take(agentID, agents[p.Agent].Role)}
			fl.agent = fl.offers[0].agent
			for _, o := range fl.offers {
				f.flights[o.id.Value] = fl
			}
			byAgent[p.Agent] = fl
			out = append(out, fl)
		}
		f.queue.remove(w.ID)
		w.take(p.Way)
		fl.add(w, p.Starts)
		f.table.place(w, agentID, now)
		f.table.tasks[w.ID].near = p.Near
		f.table.spend(w, agentID, p.Starts)
	}
	return out
}

func (fl *flight) add(w *waiting, starts bool) {
	for _, g := range fl.groups {
		if g.executor.id == w.executor.id {
			g.tasks = append(g.tasks, w)
			return
		}
	}
	fl.groups = append(fl.groups, &group{executor: w.executor, starts: starts, tasks: []*waiting{w}})
}

// fly has the flight written ahead, then accepts its offers.
func (f *Framework) fly(fl *flight) {
	select {
	case f.writers <- struct{}{}:
		defer func() { <-f.writers }()
		for _, g := range fl.groups {
			if f.stillGood(fl) {
				g.answers = f.writeAhead(fl, g)
			}
		}
	case <-fl.session.ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.land(fl, time.Now())
}

func (f *Framework) stillGood(fl *flight) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !fl.void
}

var errNoAnswer = errors.New("no launch data")

func (f *Framework) writeAhead(fl *flight, g *group) []Launch {
	p := Placement{Agent: fl.agent, Executor: g.executor.id, NewExecutor: g.starts}
	for _, w := range g.tasks {
		fl.assignPorts(w)
		p.Tasks = append(p.Tasks, w.Task)
	}
	answers := f.handler.Placed(fl.session.ctx, p)
	for len(answers) < len(g.tasks) {
		answers = append(answers, Launch{Err: errNoAnswer})
	}
	return answers
}

// land sends the ACCEPT. f.mu is held.
func (f *Framework) land(fl *flight, now time.Time) {
	for _, o := range fl.offers {
		delete(f.flights, o.id.Value)
	}
	var infos []mesos.TaskInfo
	var launched []*waiting
	for _, g := range fl.groups {
		for i, w := range g.tasks {
			if f.grounded(fl, g, i, now) {
				continue
			}
			infos = append(infos, taskInfo(w, fl.offers[0], g.answers[i]))
			launched = append(launched, w)
		}
	}
	if len(infos) == 0 {
		f.decline(fl.session, fl.good(), 0)
		return
	}
	for _, w := range launched {
		f.table.launched(w.ID, now)
		if r := f.table.tasks[w.ID]; r != nil && r.near > 0 {
			f.metrics.Near.Add(1)
		}
		for _, c := range w.Reads { // it fetches them now
			f.holdings.add(c.ID, holder{fl.agent.ID, w.executor.id})
		}
		f.metrics.TimeToPlace.observe(now.Sub(w.Submitted))
	}
	f.metrics.Accepts.Add(1)
	f.metrics.Launches.Add(int64(len(infos)))
	f.busyRole(fl.offers[0].role, now)
	accept := calls.Accept(calls.OfferOperations{calls.OpLaunch(infos...)}.WithOffers(offerIDs(fl.offers)...))
	// The unused rest comes back in the next allocation cycle.
	fl.session.call(accept.With(calls.RefuseSeconds(0)), func(err error) {
		if err != nil {
			f.notAccepted(fl, launched, err)
		}
	})
}

// grounded deals with a task that is not launched after all, and tells so.
func (f *Framework) grounded(fl *flight, g *group, i int, now time.Time) bool {
	w := g.tasks[i]
	asked := g.answers != nil
	cancel := notCancelled
	if r := f.table.tasks[w.ID]; r != nil {
		cancel = r.cancel
	}
	switch {
	case cancel == withdrawn:
	case cancel == killed:
		f.report(w.ID, KilledState, fl.agent.ID, g.executor.id, "killed before it was launched")
	case !asked:
		// Nobody has heard of this placement: the task keeps its ID.
		w.back()
		f.queue.add(w)
		notify(f.match)
	case errors.Is(g.answers[i].Err, context.Canceled):
		// Nobody knows how far the handler came before its time was up.
		f.drop(w, fl.agent.ID, "the subscription ended before the launch", now)
		return true
	case g.answers[i].Err != nil:
		f.log.Info("task not launched", "task", w.ID, "error", g.answers[i].Err)
	case fl.void:
		f.drop(w, fl.agent.ID, "the offer was withdrawn before the launch", now)
		return true
	default:
		return false
	}
	f.table.remove(w.ID, now)
	return true
}

// drop reports a task that was written ahead and will not be launched, so that it
// is placed again under a new generation. f.mu is held.
func (f *Framework) drop(w *waiting, agentID, why string, now time.Time) {
	f.table.remove(w.ID, now)
	f.asks.answered(w.ID)
	f.kills.settled(w.ID)
	f.metrics.Dropped.Add(1)
	f.report(w.ID, Dropped, agentID, w.executor.id, why)
}

// notAccepted deals with an ACCEPT that failed. Its offers are declined: if it has
// reached the master all the same, whichever of the two calls comes second finds
// the offers used. Then the master is asked what became of the tasks. If the
// subscription has ended, its offers are void and the next one asks.
func (f *Framework) notAccepted(fl *flight, tasks []*waiting, err error) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.decline(fl.session, fl.good(), 0)
	if notSent(err) {
		for _, w := range tasks {
			f.drop(w, fl.agent.ID, "the master did not take the launch: "+err.Error(), now)
		}
		return
	}
	if f.session != fl.session {
		return
	}
	for _, w := range tasks {
		f.asks.add(TaskRef{w.ID, fl.agent.ID}, now)
	}
	notify(f.house)
}

// good gives the offers that are still valid.
func (fl *flight) good() []mesos.OfferID {
	return slices.DeleteFunc(offerIDs(fl.offers), func(id mesos.OfferID) bool {
		return slices.Contains(fl.rescinded, id)
	})
}

// decline gives offers back. A call that failed is made again (see balance): the
// master would keep the offers for us as long as the subscription lasts. f.mu is
// held.
func (f *Framework) decline(s *session, ids []mesos.OfferID, refuse time.Duration) {
	if s == nil || s != f.session || len(ids) == 0 {
		return
	}
	f.metrics.Declines.Add(int64(len(ids)))
	s.call(calls.Decline(ids...).With(calls.RefuseSeconds(refuse)), func(err error) {
		if err == nil {
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.session == s {
			f.unreturned = append(f.unreturned, unreturned{ids, refuse, time.Now().Add(returnPause)})
		}
	})
}

// unreturned are offers whose DECLINE has failed. Declining once more what the
// master has back already, or has rescinded, does nothing.
type unreturned struct {
	ids    []mesos.OfferID
	refuse time.Duration
	due    time.Time
}

// returnPause is the time between two calls for the same offers.
const returnPause = 500 * time.Millisecond

// declineAgain gives back what is due. f.mu is held.
func (f *Framework) declineAgain(now time.Time) {
	all := f.unreturned
	f.unreturned = nil
	for _, u := range all {
		if now.Before(u.due) {
			f.unreturned = append(f.unreturned, u)
			continue
		}
		f.decline(f.session, u.ids, u.refuse)
	}
}
