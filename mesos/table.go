package mesos

import (
	"cmp"
	"time"

	"github.com/baas-batch/baas/mesos/placement"
)

// placing is the state of a task between its placement and its ACCEPT.
const placing State = "PLACING"

// record is one task that Mesos holds, or is about to.
type record struct {
	id         string
	state      State
	agentID    string
	executorID string
	owner      string
	need       placement.Vector
	since      time.Time     // of the state
	news       time.Time     // launch or last update
	launched   time.Time     // by this process; zero for an adopted task
	lasts      time.Duration // at most, from the launch on; 0 if nobody knows
	adopted    bool
	cancel     cancellation
	group      string // of the task; see Config.GroupOf
	counted    string // the agent under which it is counted in groups
	near       int64  // bytes of its inputs that were there when it was placed
}

// cancellation says what has become of a task while it was being placed.
type cancellation uint8

const (
	notCancelled cancellation = iota
	withdrawn
	killed
)

// ends is when the task ends at the latest; zero if nobody knows.
func (r *record) ends() time.Time {
	if r.lasts == 0 || r.launched.IsZero() {
		return time.Time{}
	}
	return r.launched.Add(r.lasts)
}

// agentRecord is what is known of an agent. It is kept as long as the framework
// lives: it says what the cluster could hold.
type agentRecord struct {
	Agent
	executors map[string]*executorRecord
	largest   placement.Vector // most that was ever offered at once
	lastOffer time.Time
	free      placement.Vector // as last heard of; see freeAt
	freeUntil time.Time
	total     placement.Vector // all that it has, as the master said; zero if that is not known
	surveyed  time.Time        // when the master said so
	closed    string           // why the master offers nothing of it, "" if it may
	launched  time.Time        // last launch
	blame     blame
	states    map[string]placement.Executor // see executorStates
	window    window                        // of maintenance, as the last offer said
	values    map[string]string             // of the keys of constraints; nil if nobody has told. Never changed, only replaced
}

// capacity is what the agent could hold for us, as far as is known.
func (a *agentRecord) capacity() placement.Vector {
	if a.closed != "" {
		return placement.Vector{}
	}
	return a.largest.Max(a.total)
}

// name is for people.
func (a *agentRecord) name() string { return cmp.Or(a.Hostname, a.ID) }

// executorRecord is an executor that lives or is about to.
type executorRecord struct {
	tasks    map[string]struct{} // placing and live ones
	started  bool                // its launch has gone out, or Mesos has named it
	seen     time.Time           // first
	vouched  bool                // started by this process, so that all its tasks are known
	single   bool                // serves one task only
	idle     time.Time           // since when it has no tasks; zero while it has
	stopping time.Time           // when SHUTDOWN was sent; zero before
}

// table is what the framework knows of tasks, executors and agents. It does no
// locking and knows no clock.
type table struct {
	tasks   map[string]*record
	agents  map[string]*agentRecord
	avoided map[string]*agentRecord     // those of agents on which nothing new is placed now
	held    map[string]placement.Vector // by owner, of tasks not yet ended
	groupOf func(taskID string) string
	groups  map[string]map[string]int // live tasks by group and agent
	sum     placement.Vector          // see whole
	resized bool                      // an agent's capacity may have changed since
}

func newTable() *table {
	return &table{
		tasks:   make(map[string]*record),
		agents:  make(map[string]*agentRecord),
		avoided: make(map[string]*agentRecord),
		held:    make(map[string]placement.Vector),
		groupOf: func(string) string { return "" },
		groups:  make(map[string]map[string]int),
		resized: true,
	}
}

func (t *table) agent(id string) *agentRecord {
	a := t.agents[id]
	if a == nil {
		a = &agentRecord{Agent: Agent{ID: id}, executors: make(map[string]*executorRecord)}
		t.agents[id] = a
	}
	return a
}

func (a *agentRecord) executor(id string, now time.Time) *executorRecord {
	e := a.executors[id]
	if e == nil {
		e = &executorRecord{tasks: make(map[string]struct{}), idle: now, seen: now}
		a.executors[id] = e
	}
	return e
}

// place enters a task that has been given a place.
func (t *table) place(task *waiting, agentID string, now time.Time) {
	r := &record{
		id: task.ID, state: placing, agentID: agentID, executorID: task.executor.id,
		owner: task.Owner, need: task.need, since: now, news: now, group: task.group,
		lasts: task.bounded(),
	}
	t.tasks[r.id] = r
	t.count(r)
	t.held[r.owner] = t.held[r.owner].Add(r.need)
	a := t.agent(agentID)
	fresh := a.executors[r.executorID] == nil
	e := a.executor(r.executorID, now)
	e.vouched = e.vouched || fresh
	e.single = task.Executor.Isolation != ""
	e.tasks[r.id] = struct{}{}
	e.idle = time.Time{}
}

// spend takes a task off what its agent has free.
func (t *table) spend(w *waiting, agentID string, starts bool) {
	cost := w.need
	if starts {
		cost = w.whole()
	}
	a := t.agent(agentID)
	a.free = a.free.Sub(cost).Max(placement.Vector{})
}

// launched notes that the task's ACCEPT is on its way.
func (t *table) launched(id string, now time.Time) {
	r := t.tasks[id]
	if r == nil {
		return
	}
	r.state, r.since, r.news, r.launched = Staging, now, now, now
	t.agent(r.agentID).launched = now
	t.enlist(r, now)
}

// observe takes an update in.
func (t *table) observe(u Update, now time.Time) {
	r := t.tasks[u.TaskID]
	if r == nil {
		if !u.State.Live() && u.UUID == nil {
			return // Mesos holds nothing, and neither do we
		}
		r = &record{id: u.TaskID, since: now, adopted: true, group: t.groupOf(u.TaskID)}
		t.tasks[u.TaskID] = r
	}
	if r.state != u.State {
		r.state, r.since = u.State, now
	}
	r.news = now
	// What is known already shares its bytes with other tasks; an update has its own.
	if u.AgentID != "" && u.AgentID != r.agentID {
		r.agentID = u.AgentID
	}
	if u.ExecutorID != "" && u.ExecutorID != r.executorID {
		r.executorID = u.ExecutorID
	}
	if u.State.Live() {
		t.count(r)
		t.enlist(r, now)
		return
	}
	t.release(r, now)
	if u.UUID == nil {
		delete(t.tasks, r.id)
	}
}

// enlist makes sure that the executor of a live task is known.
func (t *table) enlist(r *record, now time.Time) {
	if r.agentID == "" || r.executorID == "" {
		return
	}
	e := t.agent(r.agentID).executor(r.executorID, now)
	e.tasks[r.id] = struct{}{}
	e.idle = time.Time{}
	e.started = true
}

// release gives back what a task holds, once.
func (t *table) release(r *record, now time.Time) {
	t.uncount(r)
	if r.need != (placement.Vector{}) {
		left := t.held[r.owner].Sub(r.need)
		if left == (placement.Vector{}) {
			delete(t.held, r.owner)
		} else {
			t.held[r.owner] = left
		}
		r.need = placement.Vector{}
	}
	a := t.agents[r.agentID]
	if a == nil {
		return
	}
	e := a.executors[r.executorID]
	if e == nil {
		return
	}
	delete(e.tasks, r.id)
	if len(e.tasks) == 0 && e.idle.IsZero() {
		e.idle = now
		if !e.started {
			delete(a.executors, r.executorID) // it never came to be
		}
	}
}

// remove takes a task out, whatever its state.
func (t *table) remove(id string, now time.Time) {
	if r := t.tasks[id]; r != nil {
		t.release(r, now)
		delete(t.tasks, id)
	}
}

// acknowledged takes a task out whose last update has been acknowledged.
func (t *table) acknowledged(id string, now time.Time) {
	if r := t.tasks[id]; r != nil && r.state != placing {
		t.remove(id, now)
	}
}

// describe tells what an adopted task is, for fairness.
func (t *table) describe(id, owner string, need placement.Vector) {
	r := t.tasks[id]
	if r == nil || r.owner != "" || r.need != (placement.Vector{}) || !r.state.Live() {
		return
	}
	r.owner, r.need = owner, need
	t.held[owner] = t.held[owner].Add(need)
}

// offered notes what an offer tells of an agent: Mesos lists the executors that
// live there, also those that no task reminds of.
func (t *table) offered(o *offer, now time.Time) {
	a := t.agent(o.agent.ID)
	a.Agent = o.agent
	t.resized = t.resized || a.closed != ""
	a.lastOffer, a.closed, a.values = now, "", o.values
	a.window = o.window
	for _, id := range o.executors {
		a.executor(id, now).started = true
	}
}

// executorLost forgets an executor; its tasks' updates come beside this.
func (t *table) executorLost(agentID, executorID string) {
	if a := t.agents[agentID]; a != nil {
		delete(a.executors, executorID)
	}
}

// agentLost forgets the executors of an agent and what it could hold.
func (t *table) agentLost(agentID string) {
	if a := t.agents[agentID]; a != nil {
		clear(a.executors)
		a.largest, a.total, a.free = placement.Vector{}, placement.Vector{}, placement.Vector{}
		t.resized = true
	}
}

// executorState is what placement is told.
func (e *executorRecord) state() placement.Executor {
	switch {
	case !e.stopping.IsZero():
		return placement.Leaving
	case e.started:
		return placement.Alive
	}
	return placement.Absent
}

// whole is total, without a look at each agent when nothing has changed.
func (t *table) whole() placement.Vector {
	if t.resized {
		t.sum, t.resized = t.total(), false
	}
	return t.sum
}

// executorStates is what placement is told of an agent's executors, until the next
// call.
func (a *agentRecord) executorStates() map[string]placement.Executor {
	if a.states == nil {
		a.states = make(map[string]placement.Executor, len(a.executors))
	}
	clear(a.states)
	for id, x := range a.executors {
		a.states[id] = x.state()
	}
	return a.states
}

// total is what the cluster could hold, as far as offers have shown.
func (t *table) total() placement.Vector {
	var sum placement.Vector
	for _, a := range t.agents {
		sum = sum.Add(a.capacity())
	}
	return sum
}
