package workflows

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
)

// Bounds of one history. Temporal ends a run whose history has 51,200 events or 50 MB.
// From the first on, a run continues in a new one when it happens to wait for no
// activity; from the others on, it launches nothing until that is so.
const (
	longHistory = 10_000 // events
	fullHistory = 40_000
	fullSize    = 30 << 20 // bytes

	maxContinued = 1_900_000 // bytes of the new run's argument
)

// measure tells whether the run is to go on in a new history, and whether it drains
// for that. A run whose partitions the workflow launches one by one goes on in its own:
// what it holds of them would not fit into an argument.
func (p *phase) measure() {
	info := workflow.GetInfo(p.ctx)
	p.continuing, p.draining = false, false
	if p.stopping || p.tooLarge || p.plan.Settings.RangeSize == 0 {
		return
	}
	p.draining = info.GetCurrentHistoryLength() >= fullHistory || info.GetCurrentHistorySize() >= fullSize
	p.continuing = p.draining || info.GetContinueAsNewSuggested() || info.GetCurrentHistoryLength() >= longHistory
}

// quiet tells whether nothing is pending that a new history would not hear of. Who
// kills the run comes right before the cancel, and is waited for if there is time.
func (p *phase) quiet() bool {
	return len(p.launches) == 0 && len(p.errands) == 0 && len(p.killing) == 0 &&
		p.ctx.Err() == nil && workflow.AllHandlersFinished(p.ctx) &&
		(p.draining || workflow.GetSignalChannel(p.ctx, api.SignalKill).Len() == 0) &&
		!slices.ContainsFunc(p.steps, func(s *step) bool {
			return s.def.ForEach != nil && s.state.Status == api.StatusRunning
		})
}

// carry gives the error that ends this history; nil when the run is too large for that.
func (p *phase) carry() error {
	in := p.in
	in.Continued = p.continued()
	if raw, err := json.Marshal(in); err != nil || len(raw) > maxContinued {
		p.tooLarge = true
		workflow.GetLogger(p.ctx).Warn("The run is too large to go on in a new history.", "run", p.id, "bytes", len(raw), "error", err)
		return nil
	}
	return workflow.NewContinueAsNewError(p.wait, api.WorkflowBatchFlow, in)
}

func (p *phase) continued() *api.Continued {
	c := &api.Continued{
		Plan:        *p.plan,
		Started:     p.started,
		Reason:      p.reason,
		FailedStep:  p.failedStep,
		Killed:      p.killed,
		Kill:        p.kill,
		OutputBytes: p.outputBytes,
		Releases:    p.releases,
		Kills:       p.kills,
	}
	for _, s := range p.run.steps {
		one := api.ContinuedStep{State: s.state, Launched: s.launched, Manifests: p.awaited(s), Gathered: s.gatheredFiles}
		if len(s.again) > 0 {
			one.Attempt = s.again[0].attempt
		}
		for _, d := range p.delays {
			if d.step == s {
				one.Attempt, one.Due = d.attempt, d.due
			}
		}
		c.Steps = append(c.Steps, one)
	}
	return c
}

// resume takes the run up where the history before has left it.
func (r *run) resume(c *api.Continued) error {
	info := workflow.GetInfo(r.ctx)
	if info.ContinuedExecutionRunID == "" || info.CronSchedule != "" || info.Attempt > 1 {
		return invalid("the argument continues a run, and only the run itself may do that")
	}
	if err := r.adopt(&c.Plan); err != nil {
		return err
	}
	r.started, r.reason, r.failedStep, r.outputBytes = c.Started, c.Reason, c.FailedStep, c.OutputBytes
	r.killed, r.kill, r.releases, r.kills = c.Killed, c.Kill, c.Releases, c.Kills
	r.in.Continued = nil
	return nil
}

// resumeSteps brings the steps back to where they were.
func (r *run) resumeSteps(carried []api.ContinuedStep) error {
	if len(carried) != len(r.steps) {
		return invalid(fmt.Sprintf("the run has %d steps, and had %d before", len(r.steps), len(carried)))
	}
	for i, one := range carried {
		s := r.steps[i]
		if s.state.Status = one.State.Status; s.state.Status == api.StatusRunning {
			s.begin(s.items)
		}
		s.state, s.launched, s.carried = one.State, one.Launched, one
		s.manifests, s.gatheredFiles = one.Manifests, one.Gathered
		if one.Attempt > 0 {
			s.next = 1
		}
		if !s.state.Status.Final() {
			continue
		}
		result, err := s.result()
		if err != nil {
			return err
		}
		r.results[s.def.ID] = result
	}
	return nil
}

// resumeDelays goes on with the backoffs of the history before.
func (p *phase) resumeDelays() {
	for _, s := range p.steps {
		if one := s.carried; one.Attempt > 0 && s.state.Status == api.StatusRunning {
			p.delay(s, one.Attempt, 0, one.Due.Sub(workflow.Now(p.ctx)))
		}
	}
}
