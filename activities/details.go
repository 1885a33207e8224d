package activities

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/baas-batch/baas/api"
)

// errDetailsFull refuses a placement that the next leader would not hear of.
var errDetailsFull = errors.New("the activity has as many tasks on as many agents as its details can name")

// details are what the heartbeat carries.
func (e *entry) details() api.Details {
	d, _ := e.describe()
	return d
}

// describe also tells whether all that the next leader needs has found room.
func (e *entry) describe() (api.Details, bool) {
	d := api.Details{
		State: e.overall(), Reason: e.why(), Since: e.since, Prefix: e.prefix,
		Attempt: e.attempt, Total: e.total, Done: e.done(), Replaced: e.replaced,
		Leader: e.h.cfg.Leader, Framework: e.h.cfg.Framework, Token: e.token,
	}
	if e.in != nil {
		d.Image = e.in.Image
	}
	agents := make(map[string]int) // by ID and executor, and by ID
	enlist := func(key string, a api.AgentDetail) int {
		i, ok := agents[key]
		if !ok {
			i = len(d.Agents)
			d.Agents = append(d.Agents, a)
			agents[key] = i
			if _, ok := agents[a.ID]; !ok {
				agents[a.ID] = i
			}
		}
		return i
	}
	inTasks := make(map[int]bool)
	for _, p := range e.packs {
		if p.phase == phasePausing || p.phase == phaseWaiting || p.phase == phaseFenced {
			continue
		}
		inTasks[p.first] = true
		t := api.TaskDetail{
			First: p.first, Count: p.count(), Generation: p.generation, Parts: spans(p.first, p.members),
			Agent: enlist(p.agent.ID+"\n"+p.executor, p.agent),
			State: string(p.state), Progress: p.progressText(), Log: p.logs,
		}
		if !p.unreachable.IsZero() {
			since := p.unreachable // details may outlive this event
			t.UnreachableSince = &since
		}
		if p.attempt != e.attempt {
			t.Attempt = p.attempt
		}
		t.Held = p.held
		d.Tasks = append(d.Tasks, t)
	}
	if e.ranged != nil {
		d.Range = e.rangeDetail()
	}
	for _, g := range e.generations {
		if e.ranged != nil {
			break // the sequence is in Range
		}
		// A first generation that is over needs no mention: its result says so.
		if !inTasks[g.first] && (g.last > 1 || !e.finished(g.first)) {
			put(&d.Generations, g.first, g.last)
		}
	}
	for _, first := range slices.Sorted(maps.Keys(e.losses)) {
		l := e.losses[first]
		if e.finished(first) || l.count == 0 {
			continue
		}
		one := api.LossDetail{First: first, Count: l.count, Refused: l.refused, Crashes: l.crashes, Alone: l.alone, Suspect: l.suspect}
		for _, a := range l.places {
			one.Agents = append(one.Agents, enlist(a.ID, a))
		}
		d.Losses = append(d.Losses, one)
	}
	return fit(d, e.maxDetails())
}

// adoptLosses takes over what an earlier leader has counted.
func (e *entry) adoptLosses(d api.Details) {
	e.replaced = max(e.replaced, d.Replaced)
	for _, one := range d.Losses {
		if l := e.losses[one.First]; l != nil && l.count >= one.Count {
			continue
		}
		l := &loss{count: one.Count, refused: one.Refused, crashes: one.Crashes, alone: one.Alone, suspect: one.Suspect}
		for _, i := range one.Agents {
			if i >= 0 && i < len(d.Agents) {
				l.places = append(l.places, api.AgentDetail{ID: d.Agents[i].ID, Host: d.Agents[i].Host})
			}
		}
		put(&e.losses, one.First, l)
	}
}

// why says what the activity waits for, and what was lost last.
func (e *entry) why() string {
	if e.fenced != "" {
		return e.fenced
	}
	if text := e.whyHeld(); text != "" {
		return text
	}
	waits := ""
	for _, p := range e.packs {
		switch {
		case !p.unreachable.IsZero():
			return e.whyUnreachable(p)
		case p.phase == phaseWaiting && waits == "":
			waits = e.h.fw.Explain(e.taskID(p))
		}
	}
	if waits != "" && e.lost != "" {
		return waits + "; before that: " + e.lost
	}
	return cmp.Or(waits, e.lost, e.whyPauses())
}

func (e *entry) whyUnreachable(p *pack) string {
	text := fmt.Sprintf("agent %s does not answer since %s, and the task may still run there; ",
		cmp.Or(p.agent.Host, p.agent.ID), p.unreachable.UTC().Format(time.RFC3339))
	switch {
	case e.cancelled:
		return text + "to be killed"
	case e.in == nil:
		return text + "how long to wait is not known yet"
	case e.in.AtMostOnce:
		return text + "at_most_once: it waits until the agent is back or marked as gone, or the run is killed"
	}
	return text + "it is placed again at " + p.unreachable.Add(e.in.UnreachableTimeout).UTC().Format(time.RFC3339)
}

func (e *entry) overall() string {
	if e.cancelled {
		return "killing"
	}
	if e.holding() {
		return "held"
	}
	state := "waiting"
	for _, p := range e.packs {
		switch p.phase {
		case phasePlaced:
			return "running"
		case phasePlacing, phaseAttaching:
			state = "placing"
		}
	}
	return state
}

// progressText shows one partition's progress, or the lowest of many.
func (p *pack) progressText() string {
	if len(p.progress) == 0 {
		return ""
	}
	return p.progress[slices.Min(slices.Collect(maps.Keys(p.progress)))]
}

// maxReason bounds the reason in details that are short of room, in bytes.
const maxReason = 300

// fit brings details under a bound in bytes: first by compression, then without
// what Mesos tells again, then without what helps but is not needed. What a new
// leader needs stays: which tasks there are, where, and which generations are used
// up. false when even that has no room.
func fit(d api.Details, most int) (api.Details, bool) {
	if jsonSize(d) <= most {
		return d, true
	}
	d.Tasks, d.Agents, d.Losses = slices.Clone(d.Tasks), slices.Clone(d.Agents), slices.Clone(d.Losses)
	for _, shorten := range []func(*api.Details){
		func(d *api.Details) { d.Reason, d.Image = cut(d.Reason, maxReason), "" },
		withoutBitmap,
		func(d *api.Details) {
			for i := range d.Tasks {
				d.Tasks[i].Progress, d.Tasks[i].Log = "", ""
				if held := d.Tasks[i].Held; held != nil {
					d.Tasks[i].Held = &api.HeldDetail{Since: held.Since}
				}
			}
			for i := range d.Agents {
				d.Agents[i].Sandbox = ""
			}
		},
		func(d *api.Details) {
			for i := range d.Tasks {
				d.Tasks[i].State, d.Tasks[i].UnreachableSince = "", nil
			}
			for i, a := range d.Agents {
				d.Agents[i] = api.AgentDetail{ID: a.ID}
			}
		},
		withoutAvoided,
		func(d *api.Details) { d.Losses, d.Token, d.Leader, d.Reason = nil, nil, "", "" },
	} {
		shorten(&d)
		if small, err := d.Pack(); err == nil && jsonSize(small) <= most {
			return small, true
		}
	}
	return d, false
}

func withoutBitmap(d *api.Details) {
	if d.Range != nil {
		r := *d.Range
		r.Bitmap, r.Backoffs = nil, nil
		d.Range = &r
	}
}

// withoutAvoided forgets which agents have lost tasks, but not how many.
func withoutAvoided(d *api.Details) {
	used := 0
	for _, t := range d.Tasks {
		used = max(used, t.Agent+1) // agents of tasks come first
	}
	d.Agents = d.Agents[:min(used, len(d.Agents))]
	for i := range d.Losses {
		d.Losses[i].Agents = nil
	}
}

// cut shortens a text for people to at most n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
