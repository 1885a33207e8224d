package activities

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

// fences keep a restarted run from placing anything beside tasks of the instance's
// earlier runs (rule 9 of the hand-off). A workflow ID names an instance, so these
// are tasks with the same workflow ID and another run ID.
type fences struct {
	h *Handoff

	mu    sync.Mutex
	open  map[workflowRun]*fence
	clear map[workflowRun]struct{} // runs that nothing stands in the way of
}

// fence is one run that has something to place and has, or may have, predecessors.
type fence struct {
	run     workflowRun
	baas    string // LaunchInput.Run
	told    bool   // Temporal has named the earlier runs
	trouble error  // why it has not
	past    *past
	waiting map[*entry]struct{}
}

// past is what is known of the earlier runs of an instance.
type past struct {
	runs   map[string]string // BAAS's run IDs by Temporal's
	same   map[string]bool   // Temporal's IDs of what continue-as-new has made this run of
	ghosts map[string]*ghost // by task ID
}

// ghost is a task of an earlier run that may be alive.
type ghost struct {
	id      tasklet.TaskID
	agent   api.AgentDetail
	state   mesos.State // "" until Mesos has told
	away    time.Time   // since when its agent does not answer; zero if it does
	barrier bool        // no task: its answer comes after those for all live tasks
}

// barrierActivity is the activity in the ID of a task that never was. Activities
// of steps end with a number.
const barrierActivity = "fence"

// maxClear bounds the memory of runs without predecessors.
const maxClear = 10_000

// maxPredecessors bounds the earlier runs that are looked at, newest first.
const maxPredecessors = 20

func newFences(h *Handoff) *fences {
	return &fences{h: h, open: make(map[workflowRun]*fence), clear: make(map[workflowRun]struct{})}
}

// passFence submits the packs that wait for earlier runs, if nothing stands in
// their way any more.
func (e *entry) passFence() {
	fenced := func(p *pack) bool { return p.phase == phaseFenced }
	closed := e.ranged != nil && !e.ranged.open
	if e.in == nil || e.orphan || e.lapsed || e.cancelled || !closed && !slices.ContainsFunc(e.packs, fenced) {
		e.fenced = ""
		return
	}
	reason, again := e.h.fences.check(e)
	if reason != e.fenced {
		e.fenced = reason
		e.changed()
	}
	if reason != "" {
		if !again.IsZero() {
			e.later(time.Until(again), e.passFence)
		}
		return
	}
	for _, p := range slices.Clone(e.packs) {
		if fenced(p) {
			e.submit(p)
		}
	}
	if closed {
		e.ranged.open = true
		e.cut()
	}
}

// check tells what an entry has to wait for: nothing if reason is empty. The entry
// is woken when that changes, and asks by itself again at the given time, if any.
func (f *fences) check(e *entry) (reason string, again time.Time) {
	run := workflowRun{e.key.WorkflowID, e.key.RunID}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.clear[run]; ok {
		return "", again
	}
	n := f.open[run]
	if n == nil {
		n = &fence{run: run, baas: e.in.Run, waiting: make(map[*entry]struct{})}
		f.open[run] = n
		f.h.start(func() { f.look(n) })
	}
	n.waiting[e] = struct{}{}
	if !n.told {
		reason = "asks Temporal for earlier runs of the instance"
		if n.trouble != nil {
			reason += ": " + n.trouble.Error()
		}
		return reason, again
	}
	var first *ghost // to name
	for _, id := range slices.Sorted(maps.Keys(n.past.ghosts)) {
		g := n.past.ghosts[id]
		until, forever := g.blocks(&e.in.LaunchInput)
		if !forever && !time.Now().Before(until) {
			continue
		}
		if first == nil || first.barrier {
			first = g
		}
		if !forever && (again.IsZero() || until.Before(again)) {
			again = until
		}
	}
	if first == nil {
		f.drop(n, e)
		return "", again
	}
	return n.past.why(first, &e.in.LaunchInput), again
}

// blocks tells until when a step has to wait for the task. One whose agent does
// not answer is given up after the step's unreachable_timeout, as the step's own
// tasks are; a step that is to run at most once gives up nothing.
func (g *ghost) blocks(in *api.LaunchInput) (until time.Time, forever bool) {
	if g.state == "" || g.away.IsZero() || in.AtMostOnce { // "": its agent may have come back
		return until, true
	}
	return g.away.Add(in.UnreachableTimeout), false
}

func (p *past) why(g *ghost, in *api.LaunchInput) string {
	run := cmp.Or(p.runs[g.id.RunID], api.RunID(g.id.WorkflowID, g.id.RunID))
	if g.barrier {
		return fmt.Sprintf("asks Mesos for tasks of earlier run %s; agents that have not registered since the master's start are waited for", run)
	}
	text := fmt.Sprintf("waits for the end of task %s partition %d on agent %s, of earlier run %s",
		g.id.ActivityID, g.id.First, cmp.Or(g.agent.Host, g.agent.ID, "unknown"), run)
	switch {
	case g.state == "":
		return text + ": Mesos is being asked"
	case g.away.IsZero():
		return text + ": it is being killed"
	case in.AtMostOnce:
		return text + fmt.Sprintf(", whose agent does not answer since %s: at_most_once waits until it is back or marked as gone",
			g.away.UTC().Format(time.RFC3339))
	}
	return text + fmt.Sprintf(", whose agent does not answer: until %s", g.away.Add(in.UnreachableTimeout).UTC().Format(time.RFC3339))
}

// drop forgets a waiter, and a fence that has none. One without ghosts has been
// passed for good.
func (f *fences) drop(n *fence, e *entry) {
	delete(n.waiting, e)
	if n.told && len(n.past.ghosts) == 0 {
		if len(f.clear) >= maxClear {
			clear(f.clear)
		}
		f.clear[n.run] = struct{}{}
	} else if len(n.waiting) > 0 {
		return
	}
	if f.open[n.run] == n {
		delete(f.open, n.run)
	}
}

// leave forgets an entry that has ended.
func (f *fences) leave(e *entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.open[workflowRun{e.key.WorkflowID, e.key.RunID}]; n != nil {
		f.drop(n, e)
	}
}

// wake lets all waiters of a fence ask again. f.mu is held.
func (n *fence) wake() {
	for e := range n.waiting {
		e.post(e.passFence)
	}
}

// look asks Temporal, until it answers, which earlier runs there are and which
// tasks they have left, and Mesos what has become of these. What lives is killed
// by its own entry, which hears the answer too.
func (f *fences) look(n *fence) {
	for tries := 0; ; tries++ {
		p, err := f.find(n.run, n.baas)
		f.mu.Lock()
		if f.open[n.run] != n {
			f.mu.Unlock()
			return
		}
		n.past, n.trouble, n.told = p, err, err == nil
		var asks []mesos.TaskRef
		if err == nil {
			for id, g := range p.ghosts {
				asks = append(asks, mesos.TaskRef{TaskID: id, AgentID: g.agent.ID})
			}
		}
		n.wake()
		f.mu.Unlock()
		if err == nil {
			if len(asks) > 0 {
				f.h.fw.Reconcile(asks...) // until answered: silence never means gone
			}
			return
		}
		select {
		case <-time.After(f.h.cfg.RetryPause << min(tries, 4)):
		case <-f.h.ctx.Done():
			return
		}
	}
}

// find gathers what Temporal and the framework know of a run's predecessors. One
// call to Temporal where there are none.
func (f *fences) find(run workflowRun, baas string) (*past, error) {
	p := &past{runs: make(map[string]string), same: map[string]bool{run.runID: true}, ghosts: make(map[string]*ghost)}
	earlier, err := f.list(run)
	if err != nil || len(earlier) == 0 {
		return p, err
	}
	last := ""
	for id, status := range earlier {
		if status != enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED {
			if err := f.inspect(p, workflowRun{run.workflowID, id}, baas); err != nil {
				return nil, err
			}
		}
		if !p.same[id] {
			last = max(last, id)
		}
	}
	if last == "" {
		return p, nil
	}
	barrier := tasklet.TaskID{WorkflowID: run.workflowID, RunID: last, ActivityID: barrierActivity, Generation: 1}
	p.ghosts[barrier.String()] = &ghost{id: barrier, barrier: true}
	for _, t := range f.h.fw.Tasks() {
		id, err := tasklet.ParseTaskID(t.TaskID)
		if err == nil && id.WorkflowID == run.workflowID && t.State.Live() {
			p.haunt(id, api.AgentDetail{ID: t.AgentID, Host: t.Hostname})
		}
	}
	return p, nil
}

// haunt adds a task, unless it is one of the run's own.
func (p *past) haunt(id tasklet.TaskID, agent api.AgentDetail) *ghost {
	if p.same[id.RunID] {
		return nil
	}
	g := p.ghosts[id.String()]
	if g == nil {
		g = &ghost{id: id, agent: agent}
		p.ghosts[id.String()] = g
	}
	return g
}

// list gives the newest other runs of the instance with their states.
func (f *fences) list(run workflowRun) (map[string]enumspb.WorkflowExecutionStatus, error) {
	ctx, cancel := f.h.call()
	defer cancel()
	page, err := f.h.cfg.Temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: f.h.cfg.Namespace, PageSize: maxPredecessors + 1,
		Query: fmt.Sprintf("WorkflowId = '%s'", strings.ReplaceAll(run.workflowID, "'", "''")),
	})
	if err != nil {
		return nil, err
	}
	earlier := make(map[string]enumspb.WorkflowExecutionStatus)
	for _, info := range page.GetExecutions() {
		if id := info.GetExecution().GetRunId(); id != run.runID {
			earlier[id] = info.GetStatus()
		}
	}
	return earlier, nil
}

// inspect adds the tasks that a closed run has left: Temporal keeps its pending
// activities with their details as they were when it closed.
func (f *fences) inspect(p *past, run workflowRun, baas string) error {
	call, err := f.h.desc.run(f.h.ctx, run)
	if err != nil {
		return err
	}
	if call.first != "" {
		p.runs[run.runID] = api.RunID(run.workflowID, call.first)
	}
	if !call.closed {
		return nil // then it is the newer one, and nothing of it is touched
	}
	if call.status == enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW && p.runs[run.runID] == baas {
		p.same[run.runID] = true
		return nil
	}
	for activity, info := range call.pending {
		_, details, err := read(info)
		if err != nil {
			return err
		}
		for _, t := range details.Tasks {
			g := p.haunt(tasklet.TaskID{WorkflowID: run.workflowID, RunID: run.runID, ActivityID: activity,
				First: t.First, Generation: t.Generation}, api.AgentDetail{})
			if g == nil {
				continue
			}
			if t.Agent >= 0 && t.Agent < len(details.Agents) {
				g.agent = details.Agents[t.Agent]
			}
			if t.UnreachableSince != nil {
				g.away = *t.UnreachableSince
			}
		}
	}
	return nil
}

// heard follows what Mesos tells of the tasks of earlier runs. It answers true for
// what no activity needs to hear of.
func (f *fences) heard(id tasklet.TaskID, u mesos.Update) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for run, n := range f.open {
		if run.workflowID != id.WorkflowID || !n.told {
			continue
		}
		n.heard(id, u)
	}
	return id.ActivityID == barrierActivity
}

func (n *fence) heard(id tasklet.TaskID, u mesos.Update) {
	g := n.past.ghosts[u.TaskID]
	switch {
	case g == nil && !u.State.Live():
		return
	case g == nil:
		if g = n.past.haunt(id, api.AgentDetail{ID: u.AgentID}); g == nil {
			return
		}
	case !u.State.Live():
		delete(n.past.ghosts, u.TaskID)
		n.wake()
		return
	}
	away := g.away
	switch {
	case u.State != mesos.Unreachable:
		g.away = time.Time{}
	case !u.UnreachableSince.IsZero():
		g.away = u.UnreachableSince
	case g.away.IsZero():
		g.away = time.Now()
	}
	if g.state != u.State || !g.away.Equal(away) {
		g.state = u.State
		n.wake()
	}
}
