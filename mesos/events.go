package mesos

import (
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

// connected begins a subscription: whatever is open is asked for and demanded
// again, and everything that Mesos holds is asked for.
func (f *Framework) connected(s *session, e *scheduler.Event_Subscribed) {
	now := time.Now()
	f.mu.Lock()
	f.session = s
	f.link.since, f.link.err, f.link.nextSurvey = now, nil, time.Time{}
	if f.link.settled.IsZero() {
		f.link.settled = now.Add(f.cfg.Timings.Settle)
	}
	f.joining = false
	f.rolesSubscribed(s.roles, now)
	for _, x := range f.asks.open {
		x.due, x.tries = now, 0
	}
	for _, k := range f.kills.open {
		k.due, k.tries = now, 0
	}
	// The implicit reconciliation usually answers for all of these first.
	for _, r := range f.table.tasks {
		if r.state.Live() && r.state != placing {
			f.asks.add(TaskRef{r.id, r.agentID}, now.Add(f.cfg.Timings.ReconcileMin))
		}
	}
	for _, a := range f.table.agents {
		for _, x := range a.executors {
			if !x.idle.IsZero() {
				x.idle = now
			}
		}
	}
	f.reconcileAll(now)
	f.mu.Unlock()

	repeated := f.metrics.Subscriptions.Add(1) > 1
	f.log.Info("subscribed to the Mesos master", "master", s.master, "framework", f.cfg.FrameworkID)
	f.delivery.Lock()
	f.handler.Subscribed(Subscription{
		FrameworkID: f.cfg.FrameworkID,
		Master:      s.master,
		MasterID:    e.GetMasterInfo().GetID(),
		Heartbeat:   heartbeat(e),
		Repeated:    repeated,
	})
	f.delivery.Unlock()
	notify(f.house)
}

// disconnected ends the subscription: its offers are void.
func (f *Framework) disconnected(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.session = nil
	f.link.since, f.link.err = time.Now(), err
	f.offers, f.unreturned = newOfferBook(), nil
	for _, fl := range f.flights {
		fl.void = true
	}
	clear(f.flights)
}

func (f *Framework) tellDisconnected(err error) {
	f.delivery.Lock()
	defer f.delivery.Unlock()
	f.handler.Disconnected(err)
}

// noteTrouble keeps for Explain why there is no subscription.
func (f *Framework) noteTrouble(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.link.err = err
}

// handle takes one event in. An error ends the subscription; only ERROR events
// give one, since what is wrong with one event is no reason to lose the stream.
func (f *Framework) handle(e *scheduler.Event) error {
	switch e.Type {
	case scheduler.Event_HEARTBEAT:
	case scheduler.Event_OFFERS:
		f.offered(e.GetOffers().GetOffers())
	case scheduler.Event_RESCIND:
		f.rescinded(e.GetRescind().GetOfferID())
	case scheduler.Event_UPDATE:
		if e.Update != nil {
			f.updated(newUpdate(&e.Update.Status))
		}
	case scheduler.Event_MESSAGE:
		if m := e.Message; m != nil {
			f.delivery.Lock()
			f.handler.Message(Message{AgentID: m.AgentID.Value, ExecutorID: m.ExecutorID.Value, Data: m.Data})
			f.delivery.Unlock()
		}
	case scheduler.Event_FAILURE:
		f.failed(e.GetFailure())
	case scheduler.Event_INVERSE_OFFERS:
		f.inverseOffered(e.GetInverseOffers().GetInverseOffers())
	case scheduler.Event_RESCIND_INVERSE_OFFER:
	case scheduler.Event_ERROR:
		return streamError(e)
	default:
		f.metrics.UnknownEvents.Add(1)
		f.log.Debug("event of no use", "type", e.Type.String())
	}
	return nil
}

func (f *Framework) offered(offers []mesos.Offer) {
	now := time.Now()
	f.mu.Lock()
	for i := range offers {
		o := newOffer(&offers[i], now)
		f.table.offered(o, now)
		f.offers.add(o)
		a := f.table.agent(o.agent.ID)
		free := f.offers.free(o.agent.ID)
		if !free.Fits(a.largest) {
			a.largest, f.table.resized = a.largest.Max(free), true
		}
		a.spare(free, now.Add(f.offerMemory()))
	}
	f.link.lastOffer = now
	f.mu.Unlock()
	f.metrics.Offers.Add(int64(len(offers)))
	notify(f.match)
}

// offerMemory is how long an offer that was declined says what is free: by then it
// has come again, or somebody else has it.
func (f *Framework) offerMemory() time.Duration {
	return f.cfg.Timings.OfferHold + 2*f.cfg.Timings.Refuse
}

func (f *Framework) rescinded(id mesos.OfferID) {
	f.mu.Lock()
	if o := f.offers.byID[id.Value]; o != nil {
		f.offers.remove(id.Value)
		f.table.agent(o.agent.ID).free = f.offers.free(o.agent.ID)
	} else {
		if fl := f.flights[id.Value]; fl != nil {
			fl.void = true
			fl.rescinded = append(fl.rescinded, id)
		}
	}
	f.mu.Unlock()
	f.metrics.Rescinds.Add(1)
}

func (f *Framework) updated(u Update) {
	now := time.Now()
	f.mu.Lock()
	if r := f.table.tasks[u.TaskID]; r != nil && u.State == Finished && f.table.finished(u.AgentID, r.launched) {
		f.pardon([]*agentRecord{f.table.agents[u.AgentID]}, "a task has finished there")
	}
	f.table.observe(u, now)
	f.asks.answered(u.TaskID)
	if !u.State.Live() {
		f.kills.settled(u.TaskID)
	}
	f.mu.Unlock()
	f.metrics.Updates.Add(1)
	f.delivery.Lock()
	defer f.delivery.Unlock()
	f.handler.Update(u)
}

func (f *Framework) failed(e *scheduler.Event_Failure) {
	agentID, executorID := e.GetAgentID().GetValue(), e.GetExecutorID().GetValue()
	if agentID == "" {
		return
	}
	f.mu.Lock()
	if executorID != "" {
		f.table.executorLost(agentID, executorID)
	} else {
		f.table.agentLost(agentID)
		f.offers.agentLost(agentID)
	}
	f.mu.Unlock()
	notify(f.match) // tasks may have waited for that executor to be gone
	f.delivery.Lock()
	defer f.delivery.Unlock()
	if executorID != "" {
		f.handler.ExecutorLost(agentID, executorID, int(e.GetStatus()))
	} else {
		f.handler.AgentLost(agentID)
	}
}
