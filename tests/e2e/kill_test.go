package e2e

import (
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
)

// stubborn goes on after SIGTERM, and has a grandchild that has left its session
// and its parent and ignores SIGTERM too.
const stubborn = `
      trap 'echo "term $$" >>"$BAAS_INPUT_LEDGER"' TERM
      (setsid sh -c 'trap "" TERM; echo "grandchild $$" >>"$BAAS_INPUT_LEDGER"; while :; do sleep 1; done' &)
      echo "task $$" >>"$BAAS_INPUT_LEDGER"
      while :; do sleep 1; done
`

const leave = `
on_exit:
  report:
    with: {ledger: '${{ params.ledger }}', status: '${{ run.status }}', step: '${{ run.failed_step }}'}
    run: echo "exit $BAAS_INPUT_STATUS $BAAS_INPUT_STEP" >>"$BAAS_INPUT_LEDGER"
`

const grace = 2 * time.Second

// A run is killed: its task, which does not want to end, dies with everything that
// it has started when its grace is over; on_exit runs; the run ends as killed.
func TestKillRun(t *testing.T) {
	p, l := of(start(t)), newLedger(t)
	r := run(t, p, map[string]string{"flow.yaml": `
name: stubborn
params: {ledger: {type: string}}
steps:
  work:
    with: {ledger: '${{ params.ledger }}'}
    grace: 2s
    run: |` + stubborn + `
  after:
    needs: [work]
    run: echo "never"
` + leave}, map[string]string{"ledger": l.path})
	task, grandchild := living(t, l.first(t, "task")[0]), living(t, l.first(t, "grandchild")[0])

	begun := time.Now()
	id := api.RunID(r.GetID(), r.GetRunID())
	if err := p.runs().Kill(t.Context(), id, "no longer wanted", "a test"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the task lives on", func() bool { return !task.alive() && !grandchild.alive() })
	if took := time.Since(begun); took < grace {
		t.Errorf("killed after %s, before the grace of %s was over", took, grace)
	}
	last := ended(t, p, r, patience)
	equal(t, last.Status, api.StatusKilled)
	for id, want := range map[string]api.Status{"work": api.StatusKilled, "report": api.StatusSucceeded} {
		if s, _ := last.Step(id); s == nil || s.Status != want {
			t.Errorf("step %s is not %s\n%s", id, want, show(last))
		}
	}
	if err := r.Get(t.Context(), nil); !temporal.IsCanceledError(err) {
		t.Errorf("the workflow did not end as cancelled: %v", err)
	}
	equal(t, len(l.of(t, "term")), 1)
	equal(t, l.of(t, "exit"), [][]string{{"killed"}})
}

// The same at the step's time limit; the reason names it.
func TestTimeout(t *testing.T) {
	p, l := of(start(t)), newLedger(t)
	r := run(t, p, map[string]string{"flow.yaml": `
name: late
params: {ledger: {type: string}}
steps:
  work:
    with: {ledger: '${{ params.ledger }}'}
    timeout: 2s
    grace: 2s
    run: |` + stubborn + leave}, map[string]string{"ledger": l.path})
	task, grandchild := living(t, l.first(t, "task")[0]), living(t, l.first(t, "grandchild")[0])
	eventually(t, 30*time.Second, "the task lives on", func() bool { return !task.alive() && !grandchild.alive() })
	last := ended(t, p, r, patience)
	equal(t, last.Status, api.StatusFailed)
	s, _ := last.Step("work")
	equal(t, s.Status, api.StatusFailed)
	if !strings.Contains(s.Reason, "over its time limit of 2s") {
		t.Errorf("reason %q", s.Reason)
	}
	if wall := s.Usage.WallTime; wall < 4 {
		t.Errorf("the task ran for %.1f s: its grace was not kept", wall)
	}
	equal(t, len(l.of(t, "term")), 1)
	equal(t, l.of(t, "exit"), [][]string{{"failed", "work"}})
}
