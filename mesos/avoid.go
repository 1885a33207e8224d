package mesos

import (
	"slices"
	"time"

	"github.com/baas-batch/baas/mesos/placement"
)

// blame is what an agent has been charged with: losses of tasks that it or its
// executors caused.
type blame struct {
	losses int       // in a row; what was launched before the last one does not add to it
	last   time.Time // the last one that counted
	until  time.Time // nothing new is placed there before
	reason string    // of the last one
}

// Blame charges an agent with the loss of a task. Nothing new is placed there for
// Timings.AvoidMin, doubled with each loss that follows, up to AvoidMax; tasks
// that are lost together count once. A task that is launched there afterwards and
// finishes clears the agent, and so does Timings.AvoidWindow without a loss.
// Where every agent that is large enough is avoided so, a task waits for
// AvoidPatience and then takes one of them all the same.
func (f *Framework) Blame(agentID, reason string) {
	if agentID == "" {
		return
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.metrics.Blames.Add(1)
	_, before := f.table.avoided[agentID]
	f.table.blame(agentID, reason, now, f.cfg.Timings)
	f.metrics.Avoided.Store(int64(len(f.table.avoided)))
	a := f.table.agents[agentID]
	said := f.log.Debug
	if !before {
		said = f.log.Warn
	}
	said("an agent is avoided: it has lost tasks", "agent", agentID, "host", a.Hostname,
		"until", a.blame.until, "losses", a.blame.losses, "reason", reason)
}

// blame counts a loss, and keeps the agent from new tasks for a while.
func (t *table) blame(agentID, reason string, now time.Time, limits Timings) {
	a := t.agent(agentID)
	b := &a.blame
	if now.Sub(b.until) > limits.AvoidWindow {
		b.losses = 0
	}
	switch {
	case b.losses == 0 || a.launched.After(b.last):
		b.losses++
	case now.Before(b.until):
		return // of a task that ran beside the one that counted
	}
	pause := limits.AvoidMin
	for range b.losses - 1 {
		if pause *= 2; pause >= limits.AvoidMax {
			break
		}
	}
	b.last, b.until, b.reason = now, now.Add(min(pause, limits.AvoidMax)), reason
	t.avoided[agentID] = a
}

// finished clears an agent on which a task has finished that was launched after
// the last loss. It tells whether the agent was avoided.
func (t *table) finished(agentID string, launched time.Time) bool {
	a := t.agents[agentID]
	if a == nil || a.blame.losses == 0 || !launched.After(a.blame.last) {
		return false
	}
	a.blame = blame{}
	_, avoided := t.avoided[agentID]
	delete(t.avoided, agentID)
	return avoided
}

// lapsed takes out the agents whose time is over.
func (t *table) lapsed(now time.Time) (out []*agentRecord) {
	for id, a := range t.avoided {
		if !now.Before(a.blame.until) {
			delete(t.avoided, id)
			out = append(out, a)
		}
	}
	return out
}

// pardon ends the avoidance of agents. f.mu is held.
func (f *Framework) pardon(agents []*agentRecord, why string) {
	for _, a := range agents {
		f.log.Info("an agent is no longer avoided", "agent", a.ID, "host", a.Hostname, "why", why)
	}
	if len(agents) > 0 {
		f.metrics.Avoided.Store(int64(len(f.table.avoided)))
		notify(f.match)
	}
}

// shunning answers, for one match, which tasks may go where they had better not.
type shunning struct {
	f   *Framework
	now time.Time
	// open is when the last resort is open to tasks of a need, zero if never.
	open map[refuge]time.Time
}

// refuge is what decides on which agents a task could be at all.
type refuge struct {
	need  placement.Vector
	rules *rules
}

func (f *Framework) shunning(now time.Time) *shunning {
	return &shunning{f: f, now: now, open: make(map[refuge]time.Time)}
}

// strict tells whether a task is to wait for an agent that it does not avoid: for
// a while, if there is one that is large enough.
func (s *shunning) strict(w *waiting) bool {
	if len(w.AvoidAgents) == 0 || s.now.Sub(w.Submitted) > s.f.cfg.Timings.AvoidPatience {
		return false
	}
	need := w.whole()
	for id, a := range s.f.table.agents {
		if need.Fits(a.capacity()) && w.rules.admits(a) && !slices.Contains(w.AvoidAgents, id) {
			return true
		}
	}
	return false
}

// lastResort tells whether a task may go to an agent that is avoided by all: when
// it has waited for long, and all that are large enough are avoided.
func (s *shunning) lastResort(w *waiting) bool {
	if len(s.f.table.avoided) == 0 {
		return false
	}
	key := refuge{w.whole(), w.rules}
	open, known := s.open[key]
	if !known {
		open = s.f.table.lastResort(key, s.f.cfg.Timings.AvoidPatience)
		s.open[key] = open
	}
	return !open.IsZero() && !s.now.Before(open) && s.now.Sub(w.Submitted) >= s.f.cfg.Timings.AvoidPatience
}

// lastResort gives the time from which agents that are avoided may be used for
// tasks of a need; zero while there is another agent, or none at all. The patience
// counts from the last loss, so that a task that has waited for long already does
// not run into an agent that has just failed.
func (t *table) lastResort(r refuge, patience time.Duration) (open time.Time) {
	for id, a := range t.agents {
		if !r.need.Fits(a.capacity()) || !r.rules.admits(a) {
			continue
		}
		if t.avoided[id] == nil {
			return time.Time{}
		}
		if at := a.blame.last.Add(patience); at.After(open) {
			open = at
		}
	}
	return open
}
