package agent

import (
	"math/rand/v2"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/link"
)

// maxRegistrationBackoff is Mesos' REGISTER_RETRY_INTERVAL_MAX.
const maxRegistrationBackoff = time.Minute

// Detected tells who the leading master is, nil when there is none. The agent
// registers, or registers again, until it is answered; meanwhile executors go
// on and updates are withheld. To be called anew for each instance of a master.
func (a *Agent) Detected(master link.Master) {
	a.box.post(func() {
		a.master = master
		a.link = &masterLink{agent: a}
		a.stopTimers()
		if a.state == running {
			a.state = disconnected
		}
		a.register()
	})
}

func (a *Agent) stopTimers() {
	for _, timer := range []*time.Timer{a.retry, a.ping} {
		if timer != nil {
			timer.Stop()
		}
	}
}

// register starts to register with the current master.
func (a *Agent) register() {
	if a.state == disconnected && a.master != nil {
		a.tryRegister(a.link, a.cfg.RegistrationBackoffFactor)
	}
}

// tryRegister repeats, with a backoff, until something else has happened.
func (a *Agent) tryRegister(to *masterLink, backoff time.Duration) {
	if a.state != disconnected || a.link != to || a.master == nil {
		return
	}
	if a.info.ID == nil {
		a.master.Register(to, a.info)
	} else {
		a.master.Reregister(to, a.agentState())
	}
	backoff = min(backoff, maxRegistrationBackoff)
	wait := backoff/2 + rand.N(backoff/2+1)
	a.retry = a.box.after(wait, func() { a.tryRegister(to, 2*backoff) })
}

// reregister starts anew with the same master, after signs that the two do not
// agree.
func (a *Agent) reregister(why string) {
	if a.state != running {
		return
	}
	a.log.Info("registering again", "reason", why)
	a.state = disconnected
	a.stopTimers()
	a.register()
}

// agentState is all that still runs or waits for an acknowledgement.
func (a *Agent) agentState() link.AgentState {
	s := link.AgentState{Info: a.info}
	for _, f := range a.frameworks {
		s.Frameworks = append(s.Frameworks, f.info)
		for _, e := range f.executors {
			if e.state != executorTerminated {
				s.Executors = append(s.Executors, link.ExecutorState{Framework: f.id(), Info: e.info})
			}
			for _, t := range e.launched {
				s.Tasks = append(s.Tasks, copyTask(t))
			}
			for _, t := range e.terminated {
				s.Tasks = append(s.Tasks, copyTask(t))
			}
			for _, t := range e.queued {
				s.Tasks = append(s.Tasks, newTask(t, f.id(), mesos.TASK_STAGING))
			}
		}
	}
	return s
}

func (a *Agent) registered(id mesos.AgentID) {
	switch {
	case a.state == running && a.info.ID != nil && *a.info.ID != id:
		a.log.Error("registered with another ID than before", "agent", id.Value, "before", a.info.ID.Value)
		return
	case a.state != disconnected:
		return
	}
	info := a.info
	info.ID = &id
	if err := a.store.SaveAgent(info); err != nil {
		a.log.Error("cannot register: ID is not kept", "error", err)
		return // the retry will come back here
	}
	a.setID(&id)
	a.log.Info("registered", "agent", id.Value)
	a.connected()
}

func (a *Agent) reregistered(id mesos.AgentID, reconcile []link.TaskRef) {
	if a.info.ID == nil || *a.info.ID != id {
		a.log.Error("re-registered with another ID", "agent", id.Value)
		return
	}
	switch a.state {
	case disconnected:
		a.log.Info("re-registered", "agent", id.Value)
		a.connected()
	case running:
	default:
		return
	}
	for _, ref := range reconcile {
		if f := a.frameworks[ref.Framework]; f != nil && f.executorOf(ref.Task) != nil {
			continue
		}
		a.dropUnknown(ref)
	}
}

// dropUnknown answers for a task that the master believes to be here. Of the
// framework nothing is known either, so the update bypasses it.
func (a *Agent) dropUnknown(ref link.TaskRef) {
	dropped := mesos.TASK_DROPPED
	if f := a.frameworks[ref.Framework]; f != nil && !f.partitionAware() {
		dropped = mesos.TASK_LOST
	}
	status := a.newStatus(ref.Task, dropped, mesos.REASON_RECONCILIATION, "Reconciliation: task unknown to the agent")
	a.stream(ref.Framework, ref.Task, nil).add(status)
}

func (a *Agent) connected() {
	a.state = running
	a.stopTimers()
	a.resetPing()
	a.oversubscribe()
	for _, s := range a.streams {
		s.resume()
	}
}

func (a *Agent) resetPing() {
	if a.ping != nil {
		a.ping.Stop()
	}
	current := a.link
	a.ping = a.box.after(a.cfg.MasterPingTimeout, func() {
		if a.link == current {
			a.reregister("no pings from the master")
		}
	})
}

func (a *Agent) pinged(connected bool) {
	if a.info.ID != nil {
		a.master.Pong(*a.info.ID)
	}
	a.resetPing()
	if !connected {
		a.reregister("the master says that the agent is disconnected")
	}
}

// removed is the master's word that this agent is none of its own. A Mesos agent
// ends here and its supervisor starts it anew; this one begins anew by itself.
func (a *Agent) removed(reason string) {
	a.log.Warn("asked to shut down by the master", "reason", reason)
	a.shutDown(func() {
		if err := a.store.ForgetAgent(); err != nil {
			a.log.Error("checkpoint is not removed", "error", err)
		}
		for _, s := range a.streams {
			s.end()
		}
		a.setID(nil)
		a.draining = nil
		a.state = disconnected
		a.register()
	})
}
