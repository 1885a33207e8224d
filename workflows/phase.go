package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
)

// phase runs a set of steps side by side: the steps of a flow, or its on_exit.
type phase struct {
	*run
	ctx   workflow.Context // of the activities and timers; ends when they are killed
	wait  workflow.Context // never ends, so that the loop outlives a kill
	steps []*step          // of this phase; run.steps has all

	launches []*launch // pending activities, oldest first
	ranges   int       // of them, those that are ranges
	errands  []*errand // pending, before the launches of their steps
	delays   []*delay  // backoffs that run
	turn     int       // the step that launches first, for fairness
	pace     workflow.Future

	stopping bool              // killed in this phase
	killing  []workflow.Future // KillTasks

	continuing bool // goes on in a new history when nothing is pending
	draining   bool // the history is full: only ranges of steps that have begun are launched
	tooLarge   bool // to go on in a new history
}

// launch is one pending RunTasklets activity: some partitions at an attempt, or a part.
type launch struct {
	step       *step
	attempt    int
	partitions []int
	part       *part
	future     workflow.Future
}

// delay is a backoff shared by all partitions of a step that are due together.
type delay struct {
	step       *step
	attempt    int // the one that follows
	due        time.Time
	partitions []int
	future     workflow.Future
}

func newPhase(r *run, ctx workflow.Context, steps []*step) *phase {
	wait, _ := workflow.NewDisconnectedContext(ctx)
	return &phase{run: r, ctx: ctx, wait: wait, steps: steps}
}

// loop returns when all steps have ended, or with the error that has the run go on in a
// new history. The details that people see are written once a turn: a turn is about
// one workflow task.
func (p *phase) loop() error {
	p.resumeDelays()
	for {
		p.noticeKill()
		p.measure()
		p.collect()
		p.advance()
		p.launchDue()
		p.advance() // a step whose expressions failed while it launched may have ended
		p.publish()
		if p.over() {
			p.note = ""
			return nil
		}
		if p.continuing && p.quiet() {
			if err := p.carry(); err != nil {
				return err
			}
			continue
		}
		// Only a cancel of wait could make this an error.
		_ = workflow.Await(p.wait, p.stirred)
	}
}

// over tells whether nothing is left to wait for.
func (p *phase) over() bool {
	if len(p.launches) > 0 || len(p.killing) > 0 {
		return false
	}
	for _, s := range p.steps {
		if !s.state.Status.Final() {
			return false
		}
	}
	return true
}

// stirred tells whether there is something for the loop to do. It is asked for
// each batch of events, so it only looks.
func (p *phase) stirred() bool {
	if !p.stopping && p.ctx.Err() != nil || ready(p.pace) || slices.ContainsFunc(p.killing, ready) ||
		p.continuing && p.quiet() {
		return true
	}
	for _, e := range p.errands {
		if e.future.IsReady() {
			return true
		}
	}
	for _, l := range p.launches {
		if l.future.IsReady() {
			return true
		}
	}
	for _, d := range p.delays {
		if d.future.IsReady() {
			return true
		}
	}
	return false
}

func ready(f workflow.Future) bool { return f != nil && f.IsReady() }

// collect takes in all that has happened.
func (p *phase) collect() {
	if ready(p.pace) {
		p.pace = nil
	}
	p.killing = slices.DeleteFunc(p.killing, func(f workflow.Future) bool {
		if !f.IsReady() {
			return false
		}
		if err := f.Get(p.wait, nil); err != nil {
			workflow.GetLogger(p.wait).Error("The tasks could not be killed.", "run", p.id, "error", err)
		}
		return true
	})
	p.errands = keep(p.errands, func(e *errand) bool {
		if !e.future.IsReady() {
			return true
		}
		e.settle(e.future)
		return false
	})
	p.launches = keep(p.launches, func(l *launch) bool {
		if !l.future.IsReady() {
			return true
		}
		if l.part != nil {
			p.settleRange(l)
		} else {
			p.settle(l)
		}
		return false
	})
	p.delays = keep(p.delays, func(d *delay) bool {
		if !d.future.IsReady() {
			return true
		}
		d.step.retry(d.attempt, d.partitions)
		return false
	})
}

// keep filters in place; what settle adds meanwhile would be lost, and it adds nothing.
func keep[T any](list []*T, pending func(*T) bool) []*T {
	kept := list[:0]
	for _, e := range list {
		if pending(e) {
			kept = append(kept, e)
		}
	}
	clear(list[len(kept):])
	return kept
}

// advance moves steps on until nothing changes: a step that ends at once (skipped,
// without items, blocked) may free others.
func (p *phase) advance() {
	for changed := true; changed; {
		changed = false
		for _, s := range p.steps {
			before := s.state.Status
			switch {
			case before == api.StatusWaiting && !p.draining:
				p.consider(s)
			case s.complete():
				p.finish(s, s.verdict(p.stopping))
			}
			changed = changed || s.state.Status != before
		}
	}
}

// consider starts a step when its needs have ended well, and blocks it as soon as
// one of them has not.
func (p *phase) consider(s *step) {
	open := false
	for _, id := range s.def.Needs {
		need, ok := p.byID[id]
		switch {
		case !ok:
			p.fail(s, ": needs "+id+", which is no step of the flow")
			p.finish(s, api.StatusFailed)
			return
		case !need.state.Status.Final():
			open = true
		case need.state.Status != api.StatusSucceeded && need.state.Status != api.StatusSkipped:
			s.state.Reason = fmt.Sprintf("needs %s, which is %s", id, need.state.Status)
			p.finish(s, api.StatusBlocked)
			return
		}
	}
	if open {
		return
	}
	if p.stopping {
		p.finish(s, api.StatusKilled)
		return
	}
	p.start(s)
}

// start evaluates `when` and for_each.
func (p *phase) start(s *step) {
	scope := p.scope()
	if s.def.When != nil {
		yes, err := s.def.When.EvalBool(scope)
		if err != nil {
			p.fail(s, ": when: "+err.Error())
			p.finish(s, api.StatusFailed)
			return
		}
		if !yes {
			p.finish(s, api.StatusSkipped)
			return
		}
	}
	var items flow.Items
	if s.def.ForEach != nil {
		var err error
		if items, err = s.def.ForEach.Eval(scope); err != nil {
			p.fail(s, ": "+err.Error())
			p.finish(s, api.StatusFailed)
			return
		}
	}
	s.state.Started = workflow.Now(p.ctx)
	if p.inRanges(s, items) {
		p.beginRanges(s, items)
		return
	}
	switch {
	case s.def.Reduce != "" && p.plan.Settings.RangeSize > 0:
		p.gather(s)
	case needsRanges(s.def, items):
		p.fail(s, ": min_success, fail_fast, reduce and items that are in storage are not for runs of this platform: it launches partitions one by one")
		p.finish(s, api.StatusFailed)
	default:
		s.begin(items)
	}
}

// finish ends a step for good and makes its result known to expressions. That of a
// step that did not succeed has no outputs: reading one is an evaluation error of
// the reader, which has() or a look at the status avoids.
func (p *phase) finish(s *step, status api.Status) {
	s.state.Status = status
	if !s.state.Started.IsZero() {
		s.state.Ended = workflow.Now(p.ctx)
	}
	if status == api.StatusKilled {
		s.state.Reason = shorten(p.killReason()+andBefore(s.state.Reason), p.reasonRoom())
	}
	switch {
	case s.ranges != nil:
		p.finishRanges(s)
	case status == api.StatusSucceeded:
		p.publishOutputs(s)
	}
	s.items, s.again, s.ranges, s.gatheredFiles = flow.Items{}, nil, nil, nil
	s.outputs = outputs{}
	result, err := s.result()
	if err != nil {
		p.overrule(s, ": "+err.Error())
		result.Status = flow.StatusFailed
	}
	p.results[s.def.ID] = result
}

// publishOutputs makes the outputs of a step that succeeded visible, unless they
// would make the run's state too large to be queried and stored.
func (p *phase) publishOutputs(s *step) {
	if p.outputBytes += s.outputs.bytes; p.outputBytes > p.outputRoom() {
		p.noRoom(s)
		return
	}
	if s.def.ForEach == nil {
		s.state.Outputs = s.outputs.plain()
	} else {
		s.state.Outputs = s.outputs.lists()
	}
}

func (p *phase) noRoom(s *step) {
	p.overrule(s, fmt.Sprintf(": the outputs of all steps are over %d bytes together, the limit for values and "+
		"file references that pass inline in this flow: write large values to a file output", p.outputRoom()))
}

// overrule fails a step that has ended. What was a reason before, such as losses that
// min_success allows, is not why it fails.
func (p *phase) overrule(s *step, reason string) {
	if s.state.Status == api.StatusSucceeded {
		s.state.Reason = ""
	}
	s.state.Status = api.StatusFailed
	p.fail(s, reason)
}

// fail notes why a step fails; the first reason counts. Reasons begin with what
// follows the step's name.
func (p *phase) fail(s *step, reason string) {
	if s.state.Reason == "" {
		s.state.Reason = shorten(trimPlace(reason), p.reasonRoom())
	}
	p.failed(s, reason)
}

// reasonRoom is how long a step's reason may be, in bytes.
func (r *run) reasonRoom() int { return clamp(maxAllReason/len(r.steps), 100, maxReason) }

// noticeKill ends all that runs and starts nothing more, once the run is cancelled.
// The activities are asked to stop by the cancel of ctx, which they hear with their
// next heartbeat; KillTasks does not wait for that, and reaches tasks whose
// activity waits in backoff.
func (p *phase) noticeKill() {
	if p.stopping || p.ctx.Err() == nil {
		return
	}
	p.stopping = true
	p.noteKill()
	p.note = "Being " + cell(p.killReason()) + "."
	p.delays, p.pace = nil, nil
	for _, s := range p.steps {
		s.halt()
	}
	if len(p.launches) == 0 {
		return
	}
	p.killTasks(api.KillInput{Reason: p.killReason()}, "kill all tasks of the run")
}

// scope is what an expression of this phase may read.
func (p *phase) scope() flow.Scope {
	info := flow.RunInfo{
		ID:    p.id,
		App:   p.plan.Flow.Name,
		Owner: p.plan.Owner,
		Date:  p.in.OrderDate,
	}
	if p.exiting() {
		info.Status = string(p.outcome())
		info.FailedStep, info.Reason = p.failedStep, p.reason
		if p.killed {
			info.Reason = p.killReason() + andBefore(p.reason)
		}
	}
	return flow.Scope{Params: p.plan.Params, Steps: p.results, Run: info}
}

// exiting tells whether this is the phase of on_exit.
func (p *phase) exiting() bool { return len(p.steps) > 0 && p.steps[0].state.OnExit }
