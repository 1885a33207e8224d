package mesos

import (
	"context"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/master"

	"github.com/baas-batch/baas/mesos/placement"
)

// survey asks the master what its agents hold in all, if tasks wait and nobody has
// asked for a while: offers show only what is free. A framework that may not ask
// (GET_AGENTS is of the operator API) goes by the offers. f.mu is held.
func (f *Framework) survey(now time.Time) {
	if len(f.queue.tasks) == 0 || f.session == nil || f.session.client == nil || now.Before(f.link.nextSurvey) {
		return
	}
	f.link.nextSurvey = now.Add(f.cfg.Timings.Survey)
	s := f.session
	f.placements.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, f.cfg.Timings.Call)
		defer cancel()
		agents, err := s.client.agents(ctx)
		quotas := s.quotas(ctx)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.session != s {
			return
		}
		f.quotas = quotas
		if err != nil {
			f.log.Debug("the master does not tell of its agents", "error", err)
			return
		}
		f.table.surveyed(agents, f.cfg.GPUs, time.Now(), f.cfg.Timings)
	})
}

// surveyed takes in what the master tells of all its agents.
func (t *table) surveyed(list []master.Response_GetAgents_Agent, gpus bool, now time.Time, limits Timings) {
	t.resized = true
	here := make(map[string]bool, len(list))
	for i := range list {
		info := &list[i]
		id := info.AgentInfo.GetID().GetValue()
		if id == "" || !info.Active && closedBy(info) == "" {
			continue
		}
		here[id] = true
		a := t.agent(id)
		if a.Hostname == "" {
			a.Hostname = info.AgentInfo.Hostname
		}
		a.surveyed, a.closed = now, closedBy(info)
		a.values = agentValues(info.AgentInfo.Hostname, info.AgentInfo.Attributes, info.AgentInfo.Domain)
		a.total = plainSum(info.TotalResources)
		a.spare(a.total.Sub(plainSum(info.AllocatedResources)), now.Add(limits.Survey+limits.Call))
		if a.total[placement.GPUs] > 0 && !gpus && a.lastOffer.IsZero() {
			a.closed = "offered only to frameworks that ask for GPUs"
		}
	}
	for id, a := range t.agents {
		if !here[id] && a.lastOffer.Before(now.Add(-limits.Call)) {
			a.total, a.closed = placement.Vector{}, "not registered"
		}
	}
}

// closedBy says why the master makes no offers of an agent, "" if it does.
func closedBy(info *master.Response_GetAgents_Agent) string {
	switch {
	case info.DrainInfo != nil:
		return "being drained"
	case info.GetDeactivated():
		return "deactivated"
	}
	return ""
}

// plainSum adds up the resources that this framework can use; see newOffer.
func plainSum(resources []mesos.Resource) (sum placement.Vector) {
	for i := range resources {
		addPorts(&sum, &resources[i])
		if r := &resources[i]; plain(r) {
			addTo(&sum, r)
		}
	}
	return sum
}

// spare notes what an agent has free, as far as is known until a time.
func (a *agentRecord) spare(v placement.Vector, until time.Time) {
	a.free, a.freeUntil = v.Max(placement.Vector{}), until
}

// freeAt is what the agent has free, zero where nothing recent is known.
func (a *agentRecord) freeAt(now time.Time) placement.Vector {
	if now.After(a.freeUntil) {
		return placement.Vector{}
	}
	return a.free
}
