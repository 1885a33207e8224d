package activities

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

// loss is what the platform has lost of one pack (rule 8 of the hand-off).
type loss struct {
	count   int // placements
	refused int // those of them that Mesos could not start at all
	crashes int // those that went down together with their executor
	alone   int // those of them in which no other task ran there
	// suspect: it may be what takes executors down. From now on it is placed in an
	// executor of its own, which tells the guilty one from its neighbours.
	suspect bool
	places  []api.AgentDetail // that have lost it, each once: ID and host
}

// replace places the unfinished partitions of a lost pack again: bounded, after
// a pause, and elsewhere if there is an elsewhere.
func (e *entry) replace(p *pack, u mesos.Update, results []tasklet.Result) {
	if e.ranged != nil {
		e.killedOf(p)
	}
	rest := e.unfinished(p)
	l := cmp.Or(e.losses[p.first], &loss{})
	delete(e.losses, p.first)
	if end, ok := e.ends[u.TaskID]; ok && u.Reconciled() {
		u = end // what the agent said of it, before the input was there
	}
	delete(e.ends, u.TaskID)
	if len(rest) == 0 {
		return
	}
	if len(rest) < p.count() { // what gets on is not given up
		l.count, l.refused = 0, 0
	}
	why := lossReason(u, results)
	never := neverRan(p, u)
	if u.Source != mesos.FrameworkSource || !never {
		l.charge(p, u)
		e.blame(p, l, u)
	}
	if e.in.AtMostOnce && !never {
		e.hold(p, rest, why, l)
		return
	}
	if !never {
		e.replaced++
	}
	e.lost = why
	e.changed()
	if len(rest) > 1 && l.suspect {
		e.divide(p, rest, l)
		return
	}
	if outcome, verdict := e.verdict(l, u, why); verdict != "" {
		e.settleRest(p, outcome, verdict)
		return
	}
	e.log().Warn("a task was lost; placing it again", "task", u.TaskID, "state", u.State, "reason", why,
		"losses", l.count, "alone", l.suspect)
	next := &pack{first: rest[0], members: e.members(rest), attempt: p.attempt}
	put(&e.losses, next.first, l)
	e.packs = append(e.packs, next)
	if l.count == 0 {
		e.submit(next)
		return
	}
	e.later(e.h.cfg.Backoff(l.count), func() { e.submit(next) })
}

// charge adds one placement.
func (l *loss) charge(p *pack, u mesos.Update) {
	if displaced(u) {
		return
	}
	l.count++
	if cannotStart(u) {
		l.refused++
	}
	if crashed(u) {
		l.crashes++
		if l.suspect {
			l.alone++
		}
		// One that was seen running is a suspect at once. One that was not may have
		// waited for its turn, or may have been quicker than its first update.
		l.suspect = l.suspect || p.state == mesos.Running || l.crashes > 1
	}
	if neverRan(p, u) && !agentCaused(u) {
		return // of no agent's doing
	}
	place := api.AgentDetail{ID: cmp.Or(u.AgentID, p.agent.ID), Host: p.agent.Host}
	if place.ID != "" && !slices.ContainsFunc(l.places, func(a api.AgentDetail) bool { return a.ID == place.ID }) {
		l.places = append(l.places, place)
	}
}

// blame keeps all tasks away for a while from an agent that has caused a loss. A
// task that dies alone again and again says more of itself than of its agents, and
// an image that cannot be started says more of the step.
func (e *entry) blame(p *pack, l *loss, u mesos.Update) {
	switch {
	case !agentCaused(u), l.alone > 1:
	case u.Reason == launchFailed && e.in != nil && e.in.Image != "":
	default:
		e.h.fw.Blame(cmp.Or(u.AgentID, p.agent.ID), u.Reason)
	}
}

// verdict says with which outcome and why a pack is not placed again, if so.
func (e *entry) verdict(l *loss, u mesos.Update, why string) (tasklet.Outcome, string) {
	switch {
	case l.alone >= e.h.cfg.MaxCrashes:
		return tasklet.Platform, fmt.Sprintf("stopped: it takes its executor down: that died under it %d times (on %s), "+
			"%d of them with no other task beside it; the last time: %s", l.crashes, l.hosts(), l.alone, why)
	case l.refused > min(e.h.cfg.MaxLosses, maxRefused) && u.State == mesos.ErrorState:
		return tasklet.Invalid, fmt.Sprintf("Mesos refused it %d times; the last time: %s", l.refused, why)
	case l.refused > min(e.h.cfg.MaxLosses, maxRefused):
		return tasklet.Platform, fmt.Sprintf("it could not be started %d times; the last time: %s", l.refused, why)
	case l.count > e.h.cfg.MaxLosses:
		return tasklet.Platform, fmt.Sprintf("placed %d times and lost each time; the last time: %s", l.count, why)
	}
	return "", ""
}

// hosts names the places, for people.
func (l *loss) hosts() string {
	var names []string
	for _, a := range l.places {
		names = append(names, cmp.Or(a.Host, a.ID))
	}
	return strings.Join(names, ", ")
}

// avoid gives the agents to keep away from.
func (l *loss) avoid() (ids []string) {
	if l == nil {
		return nil
	}
	for _, a := range l.places {
		ids = append(ids, a.ID)
	}
	return ids
}

// isolation asks for an executor of its own for a suspect.
func (l *loss) isolation() string {
	if l != nil && l.suspect {
		return "suspect"
	}
	return ""
}

// launchFailed is what an agent says that cannot start a container.
const launchFailed = "CONTAINER_LAUNCH_FAILED"

// maxRefused is how often more a pack is placed that Mesos could not start at all
// (no such image, a binary that cannot be fetched, a malformed description): that
// seldom gets better by itself.
const maxRefused = 2

func cannotStart(u mesos.Update) bool {
	return u.State == mesos.ErrorState || u.Reason == launchFailed
}

// neverRan tells whether a task did not start. Mesos vouches for it with DROPPED,
// but an agent that has lost its memory says the same of what ran there (reason
// RECONCILIATION, Slave::reregistered in src/slave/slave.cpp).
func neverRan(p *pack, u mesos.Update) bool {
	switch u.State {
	case mesos.ErrorState:
		return true
	case mesos.Dropped:
		return p.state == "" || p.state == placing || p.state == mesos.Staging
	}
	return false
}

// displaced tells whether a task had to go because its agent is drained or its
// resources were taken back. However often that happens, it says nothing of the
// task or the agent, so nobody is charged and no bound counts it.
func displaced(u mesos.Update) bool {
	return u.Reason == "AGENT_DRAINING" || u.Reason == "CONTAINER_PREEMPTED"
}

// crashed tells whether a task went down together with its executor, so that it
// may have caused that: by killing it, or by what the container may use.
func crashed(u mesos.Update) bool {
	return u.Source == "AGENT" && u.State != mesos.Dropped && u.State != mesos.ErrorState &&
		(u.Reason == "EXECUTOR_TERMINATED" || strings.HasPrefix(u.Reason, "CONTAINER_LIMITATION"))
}

// agentCaused tells whether an agent or its executor has lost a task, by the
// reasons that Mesos gives (include/mesos/v1/mesos.proto). An agent that only does
// not answer has not, nor has one that is drained.
func agentCaused(u mesos.Update) bool {
	if u.Source != "AGENT" {
		return false
	}
	switch u.Reason {
	case "EXECUTOR_TERMINATED", "EXECUTOR_UNREGISTERED", "EXECUTOR_REGISTRATION_TIMEOUT",
		"EXECUTOR_REREGISTRATION_TIMEOUT", launchFailed, "CONTAINER_UPDATE_FAILED",
		"IO_SWITCHBOARD_EXITED", "GC_ERROR":
		return true
	}
	return false
}

func lossReason(u mesos.Update, results []tasklet.Result) string {
	for _, r := range results {
		if r.Outcome == tasklet.Platform && r.Reason != "" {
			return r.Reason
		}
	}
	why := "task " + string(u.State)
	if u.Reason != "" {
		why += " (" + u.Reason + ")"
	}
	if u.Message != "" {
		why += ": " + u.Message
	}
	return why
}
