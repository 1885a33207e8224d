package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tests/harness"
)

// Verify waits for the end of a run, whose faults are all over, and fails the test
// by each violation that Check finds.
func (w *World) Verify(r *Run) {
	w.Helper()
	for _, v := range w.Check(r) {
		w.Errorf("BAAS_SEED=%d: %s", w.Seed, v)
	}
}

// Check waits for the end of a run, whose faults are all over, and gives what is
// wrong about it: nothing, if all of this holds.
//
//   - The run and its steps end as they must, each step effective, its outputs
//     complete.
//   - Nothing is started again after Temporal has accepted its result, nor without
//     a fault that has cost the attempt before.
//   - No two processes of a partition live at a time, unless the older one was on
//     an agent that could not be reached for longer than the step waits.
//   - Attempts are used up by failures of the user's alone, and by all of them.
//   - In the end nothing is left: no task in Mesos, no process, no activity.
func (w *World) Check(r *Run) (violations []string) {
	w.Helper()
	last := r.Wait()
	ctx, cancel := context.WithTimeout(w.Context(), harness.Patience)
	defer cancel()
	history, err := r.History(ctx)
	w.do(err)
	c := &checker{w: w, r: r, ledger: r.Ledger(), history: history, doubtful: w.term() != r.term || w.lost()}
	c.state(last)
	for _, s := range r.Flow.Steps {
		for i := range s.Tasks {
			c.partition(s, Partition{s.Name, i})
		}
	}
	for _, text := range history.Broken {
		c.report("%s", text)
	}
	c.overlaps()
	c.leftovers(ctx)
	return c.violations
}

type checker struct {
	w       *World
	r       *Run
	ledger  Ledger
	history History
	// doubtful tells that a task may have been lost, or that a leader may have ended
	// between the note that it launches a task and the launch: where nobody can tell
	// whether a task that runs at most once has run, its step may fail.
	doubtful   bool
	violations []string
}

// mayBeLost tells whether a task may be given up since nobody can tell whether it
// has run: one that runs at most once, and that an agent may have had no time to
// start before it was lost.
func (c *checker) mayBeLost(s Step, p Partition) bool {
	return s.AtMostOnce && (c.doubtful || c.w.struck() &&
		!slices.ContainsFunc(c.ledger, func(e Entry) bool { return e.Partition == p }))
}

// mayFail tells whether that may have befallen any task of a step.
func (c *checker) mayFail(s Step) bool {
	for i := range s.Tasks {
		if c.mayBeLost(s, Partition{s.Name, i}) {
			return true
		}
	}
	return false
}

func (c *checker) report(format string, args ...any) {
	c.violations = append(c.violations, fmt.Sprintf(format, args...))
}

// state checks how the run and its steps ended.
func (c *checker) state(last starter.Run) {
	excused := false
	for _, s := range c.r.Flow.Steps {
		state, ok := last.Step(s.Name)
		if !ok {
			c.report("step %s is not in the run's state", s.Name)
			continue
		}
		want := c.wanted(s)
		switch {
		case state.Status == want:
		case c.mayFail(s) && state.Status == api.StatusFailed:
			excused = true
			continue
		default:
			c.report("step %s ended as %s (%s), want %s", s.Name, state.Status, state.Reason, want)
			continue
		}
		if want == api.StatusSucceeded {
			c.outputs(s, state)
		}
	}
	if last.Status != c.r.Wants && !(excused && last.Status == api.StatusFailed) {
		c.report("the run ended as %s (%s), want %s", last.Status, last.Reason, c.r.Wants)
	}
}

// wanted is the status that a step must have in the end.
func (c *checker) wanted(s Step) api.Status {
	for _, name := range s.Needs {
		if n, ok := c.r.Flow.step(name); ok && c.wanted(n) != api.StatusSucceeded {
			return api.StatusBlocked
		}
	}
	if s.Doomed() {
		return api.StatusFailed
	}
	return api.StatusSucceeded
}

// outputs checks that each partition's output is there, in order.
func (c *checker) outputs(s Step, state *api.StepState) {
	var have []int
	if err := json.Unmarshal(state.Outputs["n"], &have); err != nil {
		c.report("output of step %s: %v", s.Name, err)
		return
	}
	want := make([]int, s.Tasks)
	for i := range want {
		want[i] = i
	}
	if !slices.Equal(have, want) {
		c.report("step %s has the outputs %v", s.Name, have)
	}
}

// partition checks the attempts of one partition against what was accepted.
func (c *checker) partition(s Step, p Partition) {
	var entries Ledger
	for _, e := range c.ledger {
		if e.Partition == p {
			entries = append(entries, e)
		}
	}
	accepted := c.history.Of(p)
	if c.wanted(s) == api.StatusBlocked {
		if len(entries) > 0 || len(accepted) > 0 {
			c.report("%s was started, although what it needs failed", p)
		}
		return
	}
	c.attempts(s, p, accepted, entries)
	c.starts(s, accepted, entries)
}

// attempts checks that each attempt is one result, and the user's own doing.
func (c *checker) attempts(s Step, p Partition, accepted []Acceptance, entries Ledger) {
	for i, a := range accepted {
		if a.Attempt != i+1 {
			c.report("%s: the result of attempt %d was accepted as number %d", p, a.Attempt, i+1)
		}
		final := i == len(accepted)-1
		switch result := a.Result; {
		case result.Outcome == tasklet.Succeeded:
			if !final {
				c.report("%s: attempt %d succeeded and another one was made", p, a.Attempt)
			}
			if a.Attempt <= s.Fails {
				c.report("%s: attempt %d succeeded, its task failed", p, a.Attempt)
			}
			c.entered(p, Ended, a, entries)
		case result.Outcome == tasklet.Failed && result.ExitCode == 75 && a.Attempt <= s.Fails:
			c.entered(p, Failed, a, entries)
		case result.Outcome == tasklet.Failed && result.Signal != "" && c.killed(p, a.Attempt):
		case (result.Outcome == tasklet.Platform || released(result)) && c.mayBeLost(s, p):
		default:
			c.report("%s: attempt %d ended as %s, exit code %d, signal %q: %s", p, a.Attempt, result.Outcome, result.ExitCode, result.Signal, result.Reason)
		}
	}
	switch n := len(accepted); {
	case n == 0:
		c.report("%s has no result", p)
	case accepted[n-1].Result.Outcome != tasklet.Succeeded && n != s.attempts() && !c.mayBeLost(s, p):
		c.report("%s was given up after %d of %d attempts", p, n, s.attempts())
	}
}

func (c *checker) killed(p Partition, attempt int) bool {
	return slices.ContainsFunc(c.r.kills, func(e Entry) bool { return e.Partition == p && e.Attempt == attempt })
}

// entered checks that a task says itself what its result says.
func (c *checker) entered(p Partition, kind string, a Acceptance, entries Ledger) {
	if !slices.ContainsFunc(entries, func(e Entry) bool {
		return e.Kind == kind && e.Attempt == a.Attempt && !e.At.After(a.At)
	}) {
		c.report("%s: attempt %d was accepted as %s, no task of it has entered %q before", p, a.Attempt, a.Result.Outcome, kind)
	}
}

// starts checks that each start was called for.
func (c *checker) starts(s Step, accepted []Acceptance, entries Ledger) {
	var before *Entry
	for _, e := range entries.Of(Began) {
		for _, a := range accepted {
			if e.At.After(a.At.Add(a.Seen)) && (a.Attempt >= e.Attempt || a.Result.Outcome == tasklet.Succeeded) {
				c.report("%s, after the result of attempt %d was accepted at %s", e, a.Attempt, a.At.Local().Format("15:04:05.000"))
			}
		}
		if before != nil && before.Attempt == e.Attempt {
			if s.AtMostOnce {
				c.report("%s, which is to run at most once, after %s", e, before)
			}
			if !c.w.lostBy(*before, e.At, c.r.Flow.Unreachable) {
				c.report("%s, although no fault has cost %s", e, before)
			}
		}
		before = &e
	}
}

// overlaps checks the tasks that met another one of their partition.
func (c *checker) overlaps() {
	for i, e := range c.ledger {
		if e.Kind != Overlaps {
			continue
		}
		var older *Entry
		for _, o := range c.ledger[:i] {
			if o.Kind == Began && o.Partition == e.Partition {
				older = &o
			}
		}
		switch {
		case older == nil:
			c.report("%s, but there was none", e)
		case !c.w.awayFor(older.Agent, e.At, c.r.Flow.Unreachable):
			c.report("%s: still alive was %s", e, older)
		}
	}
}

// slack is how long a fault takes to have its effect on a loaded machine.
const slack = 5 * time.Second

// lostBy tells whether a fault before a moment may have cost a task that had begun:
// its executor, or the agent for longer than the task is waited for.
func (w *World) lostBy(began Entry, at time.Time, patience time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.harms, func(h harm) bool {
		over := h.to.IsZero() || h.to.Add(slack).After(began.At)
		return h.agent == began.Agent && over && (!h.away && h.from.Before(at) || h.lasts(at, patience))
	})
}

// lost tells whether any fault was of a kind that costs tasks at once.
func (w *World) lost() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.harms, func(h harm) bool { return !h.away })
}

// struck tells whether any agent was befallen by a fault.
func (w *World) struck() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.harms) > 0
}

// awayFor tells whether an agent had been away for so long at a moment. A little
// later counts too: what was decided while it was away takes time to begin.
func (w *World) awayFor(agent int, at time.Time, patience time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.harms, func(h harm) bool { return h.agent == agent && h.lasts(at, patience) })
}

func (h harm) lasts(at time.Time, patience time.Duration) bool {
	end := h.to
	if end.IsZero() || end.After(at) {
		end = at
	}
	return h.away && end.Sub(h.from) >= patience
}

// leftovers waits until nothing of the run is left, and reports what stays.
func (c *checker) leftovers(ctx context.Context) {
	var left []string
	deadline := time.Now().Add(harness.Patience / 2)
	for left = c.left(ctx); len(left) > 0 && time.Now().Before(deadline); left = c.left(ctx) {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
	c.violations = append(c.violations, left...)
}

func (c *checker) left(ctx context.Context) (left []string) {
	for _, p := range c.w.processes() {
		if p.run == c.r.ID {
			left = append(left, fmt.Sprintf("process %d of a task still lives, in %s", p.PID, p.dir))
		}
	}
	tasks, err := c.w.mesosTasks(ctx)
	if err != nil {
		return append(left, err.Error())
	}
	for _, t := range tasks {
		if strings.HasPrefix(t.TaskID.Value, c.r.started.Instance+"~") {
			left = append(left, fmt.Sprintf("task %s is still %s in Mesos", t.TaskID.Value, t.State))
		}
	}
	d, err := c.w.Client.DescribeWorkflowExecution(ctx, c.r.started.Instance, c.r.started.FirstID)
	if err != nil {
		return append(left, err.Error())
	}
	for _, a := range d.GetPendingActivities() {
		left = append(left, fmt.Sprintf("activity %s is still pending", a.GetActivityId()))
	}
	return left
}

// mesosTask is a task as the master shows it.
type mesosTask struct {
	TaskID struct{ Value string } `json:"task_id"`
	State  string                 `json:"state"`
}

// mesosTasks are the tasks that the master takes for live.
func (w *World) mesosTasks(ctx context.Context) ([]mesosTask, error) {
	var answer struct {
		GetTasks struct {
			Pending []mesosTask `json:"pending_tasks"`
			Tasks   []mesosTask `json:"tasks"`
			Orphan  []mesosTask `json:"orphan_tasks"`
		} `json:"get_tasks"`
	}
	err := w.operator(ctx, `{"type": "GET_TASKS"}`, &answer)
	return slices.Concat(answer.GetTasks.Pending, answer.GetTasks.Tasks, answer.GetTasks.Orphan), err
}

// operator makes a call of the leading master's operator API; answer may be nil.
func (w *World) operator(ctx context.Context, call string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.Cluster.MasterURL()+"/api/v1", strings.NewReader(call))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s: %s", call, resp.Status)
	}
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("%s: %w", call, err)
	}
	return nil
}
