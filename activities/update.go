package activities

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// Subscribed lets the leader take activities over.
func (h *Handoff) Subscribed(mesos.Subscription) {
	h.subscribedOnce.Do(func() { close(h.subscribed) })
}

// Disconnected changes nothing: tasks run on, and so do heartbeats.
func (h *Handoff) Disconnected(error) {}

// ExecutorLost and AgentLost need no action: the updates of the tasks tell.
func (h *Handoff) ExecutorLost(string, string, int) {}
func (h *Handoff) AgentLost(string)                 {}

// Update routes a status update to its activity, which its task ID names.
func (h *Handoff) Update(u mesos.Update) {
	id, err := tasklet.ParseTaskID(u.TaskID)
	if err != nil {
		h.cfg.Logger.Warn("a task that is not ours", "task", u.TaskID, "state", u.State)
		h.fw.Acknowledge(u)
		return
	}
	if h.fences.heard(id, u) {
		return
	}
	e := h.entry(id.Activity())
	if e == nil {
		return
	}
	e.post(func() {
		if e.adopt() {
			e.update(id, u)
		}
	})
}

// update acts upon one status update.
func (e *entry) update(id tasklet.TaskID, u mesos.Update) {
	p := e.find(id.First, id.Generation)
	switch {
	case e.orphan:
		e.stray(u)
		e.h.remove(e)
	case e.ranged != nil && e.ranged.postpone(e, id, u):
	case p == nil, p.phase == phaseEnded, p.phase == phaseHeld && !u.State.Live():
		e.old(id, u)
	case u.State == mesos.Unreachable:
		e.unreachable(p, u)
	case u.State.Live():
		e.live(p, u)
	default:
		e.settle(p, u)
	}
}

// stray ends a task that nobody waits for.
func (e *entry) stray(u mesos.Update) {
	if u.State.Live() && u.State != mesos.Unreachable {
		e.h.fw.Kill(mesos.TaskRef{TaskID: u.TaskID, AgentID: u.AgentID}, 0)
	}
	e.h.fw.Acknowledge(u)
}

// old handles a task of a generation that is over: one that was given up while
// its agent was away (rule 9), or one whose end is told again.
func (e *entry) old(id tasklet.TaskID, u mesos.Update) {
	e.use(id.First, id.Generation)
	switch {
	case u.State.Live() && !e.h.cfg.Leading():
		// If another one leads, it may know the task.
		e.later(e.h.cfg.RetryPause, func() { e.update(id, u) })
		return
	case u.State.Live():
		e.log().Info("killing a task that was given up before", "task", u.TaskID)
		e.stray(u)
		return
	}
	held := e.find(id.First, id.Generation)
	if held != nil && held.phase != phaseHeld {
		held = nil
	}
	results, stored, err := e.resultsOf(nil, id, u)
	if err != nil && !errors.Is(err, storage.ErrNotExist) {
		e.later(e.h.cfg.RetryPause, func() { e.update(id, u) })
		return
	}
	if len(results) > 0 && (e.ranged != nil || !e.finished(id.First)) {
		// It ended well after all: what was put in its place is not needed. How one
		// ended that is held, counts in any case.
		e.takeOf(held, id, results)
		for _, p := range slices.Clone(e.packs) {
			if len(e.unfinished(p)) == 0 && p.phase != phaseEnded && e.kill(p, 0) {
				e.drop(p)
			}
		}
	}
	e.acknowledge(u, stored || len(results) == 0)
	e.advance()
}

// live notes where a task runs. Such updates are acknowledged at once, but for
// those with results.
func (e *entry) live(p *pack, u mesos.Update) {
	p.phase, p.state, p.held = phasePlaced, u.State, nil
	p.unreachable = time.Time{}
	data := e.locate(p, u)
	if e.ranged != nil && data.Segment != nil {
		e.segment(p, u, data.Segment)
	} else {
		e.h.fw.Acknowledge(u)
	}
	if (e.cancelled || e.ranged == nil && e.finished(p.first)) && !p.noticed {
		e.kill(p, 0)
	}
	e.changed()
	e.cut()
}

// locate keeps where the task's sandbox is, and gives the executor's data.
func (e *entry) locate(p *pack, u mesos.Update) (data tasklet.StatusData) {
	keep(&p.agent.ID, u.AgentID)
	keep(&p.executor, u.ExecutorID)
	data = e.statusData(u)
	if data.Sandbox != "" {
		p.agent.Sandbox, p.logs = data.Sandbox, data.Log
	}
	return data
}

// keep notes what an update says, if it says something new: equal strings of other
// tasks share their bytes, those of an update are its own.
func keep(known *string, said string) {
	if said != "" && said != *known {
		*known = said
	}
}

// statusData reads what an executor says with an update.
func (e *entry) statusData(u mesos.Update) (data tasklet.StatusData) {
	if len(u.Data) == 0 || u.Source != "EXECUTOR" {
		return data
	}
	if err := json.Unmarshal(u.Data, &data); err != nil {
		e.log().Warn("status data of an executor", "task", u.TaskID, "error", err)
		return tasklet.StatusData{}
	}
	return data
}

// unreachable waits for the agent (rule 9), and places the pack again when the
// step's time is over.
func (e *entry) unreachable(p *pack, u mesos.Update) {
	e.h.fw.Acknowledge(u)
	p.phase, p.state, p.held = phasePlaced, u.State, nil
	if p.unreachable.IsZero() {
		p.unreachable = time.Now()
		if !u.UnreachableSince.IsZero() {
			p.unreachable = u.UnreachableSince
		}
	}
	e.changed()
	if e.in == nil {
		e.lapse() // how long to wait stands in the input
		return
	}
	e.awaitAgent(p)
}

// awaitAgent gives a pack up when its agent has stayed away for the step's time.
// One that is to run at most once is given up only when it is to be killed.
func (e *entry) awaitAgent(p *pack) {
	if e.in == nil {
		return
	}
	since, generation := p.unreachable, p.generation
	e.later(time.Until(since.Add(e.in.UnreachableTimeout)), func() {
		if e.find(p.first, generation) != p || !p.unreachable.Equal(since) || e.orphan || e.in.AtMostOnce && !e.cancelled {
			return
		}
		e.settle(p, mesos.Update{
			TaskID: e.taskID(p), State: mesos.Unreachable, AgentID: p.agent.ID,
			Message: fmt.Sprintf("its agent has been away for over %s", e.in.UnreachableTimeout),
		})
	})
}

// settle ends a pack: with results, or as the platform's loss (rules 4 to 8).
func (e *entry) settle(p *pack, u mesos.Update) {
	if e.ranged != nil && !e.ranged.ready(e) {
		e.settleLater(p, u)
		return
	}
	e.locate(p, u)
	id := e.id(p.first, p.generation)
	results, stored, err := e.resultsOf(p, id, u)
	missing := errors.Is(err, storage.ErrNotExist)
	switch {
	case err != nil && !missing:
		e.log().Warn("cannot look for a result; trying again", "task", u.TaskID, "error", err)
		e.settleLater(p, u)
		return
	case missing && u.Reconciled() && ended(u.State):
		// Mesos remembers it because its last update is not acknowledged: that one
		// comes again, and may hold what could not be stored.
		e.stillThen(p, func() { e.h.fw.Reconcile(mesos.TaskRef{TaskID: u.TaskID, AgentID: p.agent.ID}) })
		return
	}
	if !e.cancelled && slices.ContainsFunc(results, func(r tasklet.Result) bool { return r.Outcome == tasklet.Killed }) {
		// Whoever led before us may have been asked to.
		_ = e.inquire()
	}
	if e.orphan {
		e.stray(u)
		return
	}
	e.drop(p)
	e.takeOf(p, id, results)
	e.h.fw.Holds(p.agent.ID, p.executor, written(results)...)
	e.acknowledge(u, stored || len(results) == 0)
	switch {
	case e.cancelled:
		e.settleKilled(p)
	case e.in == nil && len(results) < p.count(), e.in == nil && e.anyLost(results):
		// It must be placed again, and only Temporal knows with which input.
		if !u.Reconciled() {
			put(&e.ends, u.TaskID, u)
		}
		e.lapse()
	case e.in != nil:
		e.replace(p, u, results)
	}
	if !stored && e.finished(p.first) {
		p.phase, p.state, p.unreachable = phaseEnded, u.State, time.Time{}
		e.packs = append(e.packs, p)
	}
	e.advance()
}

// settleLater tries again to settle a pack, unless its agent has come back.
func (e *entry) settleLater(p *pack, u mesos.Update) {
	e.stillThen(p, func() {
		if u.State != mesos.Unreachable || !p.unreachable.IsZero() {
			e.settle(p, u)
		}
	})
}

// stillThen does something after a pause, if the pack is then where it is now.
func (e *entry) stillThen(p *pack, do func()) {
	generation := p.generation
	e.later(e.h.cfg.RetryPause, func() {
		if e.find(p.first, generation) == p && p.phase != phaseEnded {
			do()
		}
	})
}

// ended tells whether a task came to an end that its agent tells of.
func ended(s mesos.State) bool {
	return s == mesos.Finished || s == mesos.FailedState || s == mesos.KilledState
}

func (e *entry) anyLost(results []tasklet.Result) bool {
	return slices.ContainsFunc(results, func(r tasklet.Result) bool { return !e.finished(r.Partition) })
}

// resultsOf finds the results of a task that has ended: in the update, else in
// storage. storage.ErrNotExist when there are none. stored tells whether another
// leader would find them in storage too.
func (e *entry) resultsOf(p *pack, id tasklet.TaskID, u mesos.Update) (results []tasklet.Result, stored bool, err error) {
	data := e.statusData(u)
	if e.ranged != nil {
		return e.segmentsOf(p, id, data)
	}
	if len(data.Results) > 0 && !data.InStorage {
		return data.Results, data.Stored, nil
	}
	results, err = e.readResult(id.First, id.Generation)
	return results, err == nil, err
}

// settleKilled gives all unfinished partitions of a pack the outcome Killed.
func (e *entry) settleKilled(p *pack) {
	reason := cmp.Or(e.reason, "killed")
	if p.held != nil {
		reason += "; it was held for a person: " + p.held.Reason
	}
	if !p.unreachable.IsZero() {
		reason += fmt.Sprintf("; its agent %s does not answer since %s, so it may still run there until the agent is back",
			cmp.Or(p.agent.Host, p.agent.ID), p.unreachable.UTC().Format(time.RFC3339))
	}
	e.settleRest(p, tasklet.Killed, reason)
}

func (e *entry) settleRest(p *pack, outcome tasklet.Outcome, reason string) {
	for _, i := range e.unfinished(p) {
		r := decided(i, outcome, reason)
		r.Agent = p.agent.Host
		if e.ranged != nil {
			r.Attempt = p.attempt
		}
		e.settleAs(r)
	}
}

// decided is a result that nobody but the leader gives.
func decided(partition int, outcome tasklet.Outcome, reason string) tasklet.Result {
	now := time.Now()
	return tasklet.Result{Partition: partition, Outcome: outcome, ExitCode: -1, Reason: reason, Started: now, Ended: now}
}

// acknowledge holds a terminal update until its results are noted, or, where it is
// all that is known of them, until the activity is completed (rule 5).
func (e *entry) acknowledge(u mesos.Update, stored bool) {
	list := &e.acks
	if !stored {
		list = &e.held
	}
	again := func(other mesos.Update) bool { return other.TaskID == u.TaskID && bytes.Equal(other.UUID, u.UUID) }
	if u.UUID != nil && !slices.ContainsFunc(*list, again) {
		*list = append(*list, u)
	}
}
