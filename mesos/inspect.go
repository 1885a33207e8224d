package mesos

import (
	"cmp"
	"slices"
	"time"
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
	// Near is how many bytes of its inputs were on the agent when it was placed there
	// for them.
	Near int64 `json:"near,omitempty"`
}

// AgentInfo is one agent as offers and tasks have shown it.
type AgentInfo struct {
	Agent
	Offered Resources `json:"offered"`          // in hand now
	Largest Resources `json:"largest"`          // most that was offered at once
	Total   Resources `json:"total"`            // as the master said; zero if it does not tell
	Closed  string    `json:"closed,omitempty"` // why the master offers nothing of it
	// AvoidedUntil is when tasks may go there again, after Losses in a row.
	AvoidedUntil time.Time      `json:"avoided_until,omitzero"`
	Losses       int            `json:"losses,omitempty"`
	Executors    []ExecutorInfo `json:"executors,omitempty"`
	LastOffer    time.Time      `json:"last_offer,omitzero"`
	// Values are its attributes, host, region and zone, as constraints see them.
	Values map[string]string `json:"values,omitempty"`
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
		Near: r.near,
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
			Total: resourcesOf(a.total), Closed: a.closed, Losses: a.blame.losses, Values: a.values,
		}
		if f.table.avoided[id] != nil {
			info.AvoidedUntil = a.blame.until
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
