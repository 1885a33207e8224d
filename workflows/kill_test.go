package workflows

import (
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

const killable = `
name: f
steps:
  a: {run: ./x}
  b: {run: ./x, needs: [a]}
  c: {run: ./x, needs: [b]}
  side: {run: ./x, for_each: {from: 0, to: 9}, parallel: 2, retry: {attempts: 2, backoff: 1h}}
on_exit: {clean: {run: ./x, with: {status: '${{ run.status }}'}}}
`

func TestKillWhileStepsRun(t *testing.T) {
	w := newWorld(t, killable, nil)
	w.script = func(in api.LaunchInput, _ api.LaunchPartition) (tasklet.Result, time.Duration) {
		if in.Step == "a" || in.Step == "clean" {
			return ok(), time.Minute
		}
		return ok(), time.Hour
	}
	w.env.RegisterDelayedCallback(w.env.CancelWorkflow, 2*time.Minute)
	w.env.RegisterDelayedCallback(w.env.CancelWorkflow, 2*time.Minute+time.Second) // during on_exit: changes nothing
	w.killedRun()

	w.statuses("a=succeeded", "b=killed", "c=blocked", "side=killed", "clean=succeeded")
	if len(w.kills) != 1 {
		t.Fatalf("%d calls of KillTasks, want 1", len(w.kills))
	}
	same(t, "workflow", w.kills[0].WorkflowID, "f-k7q2m4xw5tza")
	if w.kills[0].RunID == "" {
		t.Error("KillTasks names no run")
	}
	same(t, "run.status in on_exit", string(w.launches("clean")[0].Partitions[0].Inputs["status"]), `"killed"`)
	same(t, "launches of side", len(w.launches("side")), 2)
	same(t, "saved", w.saved[0].Status, api.StatusKilled)
	same(t, "reason", w.state().Reason, "killed on request")
}

func TestKillInBackoff(t *testing.T) {
	w := newWorld(t, `
name: f
steps: {a: {run: ./x, retry: {attempts: 2, backoff: 1h}}, b: {run: ./x, needs: [a]}}
`, nil)
	w.script = always(exits(1))
	w.env.RegisterDelayedCallback(w.env.CancelWorkflow, time.Minute)
	w.killedRun()
	w.statuses("a=killed", "b=blocked")
	same(t, "launches", len(w.launched), 1)
	same(t, "nothing to kill", len(w.kills), 0)
	if ended := w.state().Ended.Sub(w.state().Started); ended > 2*time.Minute {
		t.Errorf("the run ended after %v", ended)
	}
}

// What fails at the moment of a kill, and would have been tried again, is killed: it
// did not fail for good. The test environment never delivers both at once.
func TestFailureAtTheMomentOfAKill(t *testing.T) {
	for _, c := range []struct {
		attempts int
		want     api.Status
	}{{5, api.StatusKilled}, {1, api.StatusFailed}} {
		s := newStep(&flow.Step{ID: "a", Retry: flow.Retry{Attempts: c.attempts}}, false)
		s.state.Partitions, s.state.Status = 1, api.StatusRunning
		p := &phase{run: &run{id: "run", steps: []*step{s}}, stopping: true}
		s.halt()
		p.settlePartition(s, 1, 0, exits(75))
		same(t, "status", s.verdict(true), c.want)
		if !strings.HasPrefix(s.state.Reason, "exit code 75") {
			t.Errorf("reason %q", s.state.Reason)
		}
	}
}

// Who kills, and why, comes as a signal before the cancel.
func TestKillNamesPersonAndReason(t *testing.T) {
	for want, requests := range map[string][]api.KillRequest{
		"killed by ann: wrong month":     {{By: "ann", Reason: "wrong month"}},
		"killed by ann":                  {{By: "ann"}},
		"killed on request: wrong month": {{Reason: "wrong month"}},
		"killed by bob":                  {{By: "ann", Reason: "never came to its cancel"}, {By: "bob"}},
	} {
		w := newWorld(t, killable, nil)
		w.script = func(in api.LaunchInput, _ api.LaunchPartition) (tasklet.Result, time.Duration) {
			if in.Step == "clean" {
				return ok(), time.Minute
			}
			return ok(), time.Hour
		}
		w.env.RegisterDelayedCallback(func() {
			for _, request := range requests {
				w.env.SignalWorkflow(api.SignalKill, request)
			}
			if w.state().Kill != nil {
				t.Error("a signal alone kills")
			}
			w.env.CancelWorkflow()
		}, time.Minute)
		w.killedRun()
		same(t, "reason", w.state().Reason, want)
		same(t, "reason of KillTasks", w.kills[0].Reason, want)
		same(t, "reason of a step", w.state().Steps[0].Reason, want)
		same(t, "kill", *w.saved[0].Kill, requests[len(requests)-1])
	}
}

func TestKillReasonIsBounded(t *testing.T) {
	w := newWorld(t, killable, nil)
	w.script = always(ok())
	w.prepareDelay = time.Hour
	w.env.RegisterDelayedCallback(func() {
		w.env.SignalWorkflow(api.SignalKill, api.KillRequest{By: strings.Repeat("b", 10_000), Reason: strings.Repeat("r", 10_000)})
		w.env.CancelWorkflow()
	}, time.Minute)
	w.killedRun()
	if n := len(w.state().Reason); n > maxReason {
		t.Errorf("a reason of %d bytes", n)
	}
}

func TestKillBeforePrepareAnswers(t *testing.T) {
	w := newWorld(t, killable, nil)
	w.prepareDelay = time.Hour
	w.env.RegisterDelayedCallback(w.env.CancelWorkflow, time.Minute)
	w.killedRun()
	same(t, "status", w.state().Status, api.StatusKilled)
	same(t, "launched", len(w.launched), 0)
}

func TestKillOfOnExitAfterSuccess(t *testing.T) {
	w := newWorld(t, `
name: f
steps: {a: {run: ./x}}
on_exit: {clean: {run: ./x}, after: {run: ./x, needs: [clean]}}
`, nil)
	w.script = func(in api.LaunchInput, _ api.LaunchPartition) (tasklet.Result, time.Duration) {
		if in.Step == "clean" {
			return ok(), 100 * time.Hour
		}
		return ok(), time.Second
	}
	w.env.RegisterDelayedCallback(w.env.CancelWorkflow, time.Hour)
	w.killedRun()
	w.statuses("a=succeeded", "clean=killed", "after=blocked")
}

func TestKillKeepsTheFailureBefore(t *testing.T) {
	w := newWorld(t, `
name: f
steps: {a: {run: ./x}, b: {run: ./x}}
`, nil)
	w.script = func(in api.LaunchInput, _ api.LaunchPartition) (tasklet.Result, time.Duration) {
		if in.Step == "a" {
			return exits(9), time.Second
		}
		return ok(), time.Hour
	}
	w.env.RegisterDelayedCallback(w.env.CancelWorkflow, time.Minute)
	w.killedRun()
	w.statuses("a=failed", "b=killed")
	state := w.state()
	same(t, "reason", state.Reason, "killed on request; before that: step a: exit code 9; log: baas logs "+state.Run+"/a")
}

func TestKillAfterTheLastStepChangesNothing(t *testing.T) {
	w := newWorld(t, "name: f\nsteps: {a: {run: ./x}}\n", nil)
	w.saveDelay = time.Hour
	w.env.RegisterDelayedCallback(w.env.CancelWorkflow, 10*time.Minute)
	w.succeed()
	same(t, "saved", w.saved[0].Status, api.StatusSucceeded)
}
