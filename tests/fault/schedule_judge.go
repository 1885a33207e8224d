package fault

import (
	"context"
	"slices"
	"strings"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tests/harness"
)

// givenUp counts the steps that were to run at most once and may have been lost.
func givenUp(last starter.Run, f Flow) (n int) {
	for _, step := range f.Steps {
		if state, ok := last.Step(step.Name); ok && step.AtMostOnce && state.Status == api.StatusFailed {
			n++
		}
	}
	return n
}

// unfetched tells whether a task was given up as its executor's binary could not be
// fetched: that is borne three times at most, and fewer after other losses.
func unfetched(h History) bool {
	return slices.ContainsFunc(h.Accepted, func(a Acceptance) bool {
		return a.Result.Outcome == tasklet.Platform && strings.Contains(a.Result.Reason, "CONTAINER_LAUNCH_FAILED")
	})
}

// judge gives what is wrong about how a run has ended.
func (s *testbed) judge(r *playedRun) []string {
	last := r.Wait()
	s.givenUp += givenUp(last, r.Flow)
	history, err := r.History(s.Context())
	s.do(err)
	if last.Status == api.StatusFailed && s.hidden && unfetched(history) {
		s.unfetched++
		return s.checkStopped(r.Run, last, history)
	}
	if last.Status != api.StatusKilled || !s.killing[r] {
		return s.Check(r.Run) // a kill that comes when all tasks have ended changes nothing
	}
	return s.checkStopped(r.Run, last, history)
}

// checkStopped judges a run that was stopped, such as by a kill: it may stop
// anywhere, but what it has accepted is true, nothing is started twice or after its
// end, and nothing is left.
func (s *testbed) checkStopped(r *Run, last starter.Run, history History) []string {
	ctx, cancel := context.WithTimeout(s.Context(), harness.Patience)
	defer cancel()
	c := &checker{w: s.World, r: r, ledger: r.Ledger(), history: history, doubtful: true}
	for _, step := range r.Flow.Steps {
		for i := range step.Tasks {
			c.stoppedPartition(step, Partition{step.Name, i})
		}
	}
	for _, e := range c.ledger.Of(Began) {
		if e.At.After(last.Ended) {
			c.report("%s, after the end of the run", e)
		}
	}
	for _, text := range history.Broken {
		// One that was to be cancelled and times out meanwhile is not tried again.
		if !strings.Contains(text, "Canceled") && !strings.Contains(text, "TimedOut") {
			c.report("%s", text)
		}
	}
	c.overlaps()
	c.leftovers(ctx)
	return c.violations
}

func (c *checker) stoppedPartition(s Step, p Partition) {
	var entries Ledger
	for _, e := range c.ledger {
		if e.Partition == p {
			entries = append(entries, e)
		}
	}
	accepted := c.history.Of(p)
	for _, a := range accepted {
		switch {
		case a.Result.Outcome == tasklet.Succeeded:
			c.entered(p, Ended, a, entries)
		case a.Result.Outcome == tasklet.Failed && a.Result.ExitCode == 75:
			c.entered(p, Failed, a, entries)
		}
	}
	c.starts(s, accepted, entries)
}
