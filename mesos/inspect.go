package mesos

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/baas-batch/baas/mesos/placement"
)

// TaskInfo is one row of the task table.
type TaskInfo struct {
	TaskID     string    `json:"task_id"`
	State      State     `json:"state"` // or PLACING, before the launch
	AgentID    string    `json:"agent_id,omitempty"`
	Hostname   string    `json:"hostname,omitempty"`
	ExecutorID string    `json:"executor_id,omitempty"`
	Owner      string    `json:"owner,omitempty"`   // "" for an adopted task that was not described
	Since      time.Time `json:"since"`             // of the state
	Adopted    bool      `json:"adopted,omitempty"` // launched by an earlier leader
	Killing    bool      `json:"killing,omitempty"` // a kill is being repeated
}

// AgentInfo is one agent as offers and tasks have shown it.
type AgentInfo struct {
	Agent
	Offered   Resources      `json:"offered"` // in hand now
	Largest   Resources      `json:"largest"` // most that was offered at once
	Executors []ExecutorInfo `json:"executors,omitempty"`
	LastOffer time.Time      `json:"last_offer,omitzero"`
}

// ExecutorInfo is one executor that is believed to live.
type ExecutorInfo struct {
	ID        string    `json:"id"`
	Tasks     int       `json:"tasks"`
	IdleSince time.Time `json:"idle_since,omitzero"`
	Stopping  bool      `json:"stopping,omitempty"`
}

// Tasks lists what Mesos holds for the framework, and what is about to be
// launched, by task ID.
func (f *Framework) Tasks() []TaskInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]TaskInfo, 0, len(f.table.tasks))
	for _, r := range f.table.tasks {
		out = append(out, f.taskRow(r))
	}
	slices.SortFunc(out, func(a, b TaskInfo) int { return cmp.Compare(a.TaskID, b.TaskID) })
	return out
}

// Task gives the table's row of one task.
func (f *Framework) Task(taskID string) (TaskInfo, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.table.tasks[taskID]
	if r == nil {
		return TaskInfo{}, false
	}
	return f.taskRow(r), true
}

func (f *Framework) taskRow(r *record) TaskInfo {
	row := TaskInfo{
		TaskID: r.id, State: r.state, AgentID: r.agentID, ExecutorID: r.executorID,
		Owner: r.owner, Since: r.since, Adopted: r.adopted, Killing: f.kills.open[r.id] != nil,
	}
	if a := f.table.agents[r.agentID]; a != nil {
		row.Hostname = a.Hostname
	}
	return row
}

// Agents lists the agents that offers or tasks have shown, by ID.
func (f *Framework) Agents() []AgentInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]AgentInfo, 0, len(f.table.agents))
	for id, a := range f.table.agents {
		info := AgentInfo{
			Agent: a.Agent, LastOffer: a.lastOffer,
			Offered: resourcesOf(f.offers.free(id)), Largest: resourcesOf(a.largest),
		}
		for xid, x := range a.executors {
			info.Executors = append(info.Executors, ExecutorInfo{
				ID: xid, Tasks: len(x.tasks), IdleSince: x.idle, Stopping: !x.stopping.IsZero(),
			})
		}
		slices.SortFunc(info.Executors, func(a, b ExecutorInfo) int { return cmp.Compare(a.ID, b.ID) })
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b AgentInfo) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Waiting lists the queue, by priority and age.
func (f *Framework) Waiting() []Task {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.queue.list()
	out := make([]Task, len(list))
	for i, w := range list {
		out[i] = w.Task
	}
	return out
}

// Explain says in a sentence where a task is, or why it waits.
func (f *Framework) Explain(taskID string) string {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.table.tasks[taskID]; r != nil {
		row := f.taskRow(r)
		return fmt.Sprintf("%s on agent %s since %s", row.State, cmp.Or(row.Hostname, row.AgentID, "unknown"), since(now, r.since))
	}
	w := f.queue.tasks[taskID]
	switch {
	case w == nil:
		return "not known to the framework"
	case f.session == nil:
		return fmt.Sprintf("waits for the Mesos master, not reached since %s: %v", since(now, f.link.since), f.link.err)
	}
	return fmt.Sprintf("waits since %s: %s", since(now, w.Submitted), f.whyWaiting(w, now))
}

func since(now, t time.Time) string { return now.Sub(t).Round(time.Second).String() + " ago" }

// whyWaiting compares a task with what agents have and had to give.
func (f *Framework) whyWaiting(w *waiting, now time.Time) string {
	need := w.need.Add(w.executor.overhead)
	var largest, free placement.Vector
	fitting, avoided := 0, 0
	for id, a := range f.table.agents {
		largest = largest.Max(a.largest)
		free = free.Max(f.offers.free(id))
		if need.Fits(a.largest) {
			fitting++
			if slices.Contains(w.AvoidAgents, id) {
				avoided++
			}
		}
	}
	switch {
	case f.link.lastOffer.IsZero() || f.link.lastOffer.Before(f.link.since) && len(f.offers.byID) == 0:
		return "no offers at all since the framework subscribed " + since(now, f.link.since)
	case fitting == 0:
		if lacks := shortage(need, largest); lacks != "" {
			// After a takeover only the free rest of an agent has been seen.
			return "no agent has offered enough so far: it " + lacks
		}
		return "no single agent has all that it needs: " + amounts(need)
	case fitting == avoided:
		return "the only agents large enough are ones that it avoids"
	case len(f.offers.byID) == 0:
		return fmt.Sprintf("%d agents are large enough but busy; last offer %s", fitting, since(now, f.link.lastOffer))
	}
	if lacks := shortage(need, free); lacks != "" {
		return fmt.Sprintf("%d agents are large enough but busy: it %s", fitting, strings.Replace(lacks, "the most that one has offered is", "the largest offer has", 1))
	}
	return fmt.Sprintf("%d agents are large enough but busy or reserved for tasks before it", fitting)
}

// shortage names the first resource of which even the largest has too little.
func shortage(need, largest placement.Vector) string {
	for i := range need {
		if need[i] > largest[i] {
			return fmt.Sprintf("needs %s, the most that one has offered is %s (executor included)", amount(i, need[i]), amount(i, largest[i]))
		}
	}
	return ""
}

func amounts(v placement.Vector) string {
	var parts []string
	for i := range v {
		if v[i] > 0 {
			parts = append(parts, amount(i, v[i]))
		}
	}
	return strings.Join(parts, ", ")
}

func amount(dimension int, v int64) string {
	n := float64(v) / 1000
	switch dimension {
	case placement.CPUs:
		return fmt.Sprintf("%g CPUs", n)
	case placement.GPUs:
		return fmt.Sprintf("%g GPUs", n)
	}
	what := map[int]string{placement.Mem: "memory", placement.Disk: "disk"}[dimension]
	if n >= 1024 {
		return fmt.Sprintf("%.4g GB of %s", n/1024, what)
	}
	return fmt.Sprintf("%.4g MB of %s", n, what)
}
