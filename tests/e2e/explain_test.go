package e2e

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
)

const puzzling = `
name: puzzling
params: {gate: {type: string}}
defaults: {resources: {cpus: 0.1, mem: 32MB}}
steps:
  broken:
    run: for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "line $i"; done; echo 'no such ledger' >&2; exit 7
  flaky:
    for_each: {from: 1, to: 3}
    with: {item: '${{ item }}'}
    run: test "$BAAS_INPUT_ITEM" != 2 || exit 3
    retry: {attempts: 4, backoff: 1h}
  big: {run: 'true', resources: {mem: 64GB}}
  held:
    with: {gate: '${{ params.gate }}'}
    run: echo '3/8 pages' >"$BAAS_PROGRESS"; read x <"$BAAS_INPUT_GATE"
  after: {needs: [big, held], run: 'true'}
  fine: {run: 'true'}
on_exit:
  cleanup: {run: 'true'}
`

// Every step that is not done says what it waits for, in words that name the cause.
func TestExplain(t *testing.T) {
	p, g := of(start(t)), newGate(t)
	r := run(t, p, map[string]string{"flow.yaml": puzzling}, map[string]string{"gate": g.path})
	id := api.RunID(r.GetID(), r.GetRunID())
	explain := func(step string, partition int) starter.Explanation {
		t.Helper()
		e, err := p.runs().Explain(t.Context(), id, starter.ExplainOptions{Step: step, Partition: partition})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	var e starter.Explanation
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := json.MarshalIndent(e, "", " ")
			t.Logf("the last explanation is %s", text)
		}
	})
	step := func(name string) *starter.StepExplanation {
		for i := range e.Steps {
			if e.Steps[i].ID == name {
				return &e.Steps[i]
			}
		}
		return &starter.StepExplanation{}
	}
	eventually(t, patience, "all is explained", func() bool {
		e = explain("", starter.AllPartitions)
		big, held, flaky := step("big"), step("held"), step("flaky")
		return len(big.Offers) == 1 && strings.HasPrefix(big.Offers[0].Reason, "no agent with 64 GB of memory: ") &&
			len(held.Tasks) == 1 && held.Tasks[0].Progress != "" && len(flaky.Backoffs) == 1 && flaky.Done == 2 && step("fine").ID == "" &&
			step("broken").Failure != nil
	})
	equal(t, e.Trouble, []string{})
	if e.Scheduler == nil || e.Scheduler.Leader == "" || time.Since(e.Scheduler.Heard) > time.Minute {
		t.Errorf("scheduler is %+v", e.Scheduler)
	}
	if w := step("big").Offers[0]; w.Count != 1 || time.Since(w.Since) > patience || w.Heard.Before(w.Since) {
		t.Errorf("big waits: %+v", w)
	}
	if p := step("held").Tasks[0]; p.State != "RUNNING" || p.Agent == "" || p.Progress != "3/8 pages" {
		t.Errorf("held runs: %+v", p)
	}
	b := step("flaky").Backoffs[0]
	equal(t, b.Partitions, []starter.Span{{First: 1, Last: 1}})
	if until := time.Until(b.Until); b.Attempt != 2 || until < 55*time.Minute || until > time.Hour+time.Minute || b.After.ExitCode != 3 || b.After.Attempts != 4 {
		t.Errorf("flaky waits: %+v", b)
	}
	f := step("broken").Failure
	if f.ExitCode != 7 || f.Agent == "" || len(f.LogTail) != 10 || f.LogTail[9] != "no such ledger" || f.LogTail[0] != "line 4" {
		t.Errorf("broken failed: %+v", f)
	}
	equal(t, step("after").WaitsFor, []starter.Need{{Step: "big", Status: api.StatusRunning}, {Step: "held", Status: api.StatusRunning}})
	if needs := step("cleanup").WaitsFor; len(needs) == 0 {
		t.Error("cleanup waits for nothing")
	}

	// A step that is done is explained when it is named; a partition has its own part.
	e = explain("flaky", 1)
	equal(t, len(e.Steps), 1)
	equal(t, len(step("flaky").Backoffs), 1)
	e = explain("flaky", 0)
	equal(t, len(step("flaky").Backoffs), 0)
	e = explain("fine", starter.AllPartitions)
	equal(t, step("fine").Status, api.StatusSucceeded)
	for _, o := range []starter.ExplainOptions{{Step: "brokn", Partition: -1}, {Step: "flaky", Partition: 3}} {
		if _, err := p.runs().Explain(t.Context(), id, o); !errors.Is(err, starter.ErrNotFound) {
			t.Errorf("%+v: %v", o, err)
		}
	}

	if err := p.runs().Kill(t.Context(), id, "enough", "ann"); err != nil {
		t.Fatal(err)
	}
	ended(t, p, r, patience)
	e = explain("", starter.AllPartitions)
	if f := step("broken").Failure; f == nil || f.ExitCode != 7 || len(f.LogTail) != 10 || e.Scheduler != nil {
		t.Errorf("after the end: %+v", e)
	}
	equal(t, len(step("big").Offers)+len(step("flaky").Backoffs)+len(step("held").Tasks), 0)
}

// While an agent is away, its tasks are shown with the time at which they are
// given up.
func TestExplainUnreachable(t *testing.T) {
	platform := start(t, twoAgents)
	p, g, l := of(platform), newGate(t), newLedger(t)
	flow := strings.Replace(waiting, "unreachable_timeout: 2s", "unreachable_timeout: 1h", 1)
	r := run(t, p, map[string]string{"flow.yaml": strings.Replace(flow, "%d", "1", 1)}, map[string]string{"ledger": l.path, "gate": g.path})
	first := l.first(t, "start")
	for _, a := range platform.Cluster.Agents() {
		if strings.HasPrefix(first[4], a.Dir+"/") {
			if err := platform.Cluster.LoseAgent(a.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	id := api.RunID(r.GetID(), r.GetRunID())
	eventually(t, patience, "the task is shown as unreachable", func() bool {
		e, err := p.runs().Explain(t.Context(), id, starter.ExplainOptions{Partition: starter.AllPartitions})
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Steps) != 1 || len(e.Steps[0].Tasks) != 1 || e.Steps[0].Tasks[0].UnreachableSince.IsZero() {
			return false
		}
		task := e.Steps[0].Tasks[0]
		if task.State != "UNREACHABLE" || task.PlacedAgain.Sub(task.UnreachableSince) != time.Hour {
			t.Errorf("task is %+v", task)
		}
		return true
	})
	if err := p.runs().Kill(t.Context(), id, "", "ann"); err != nil {
		t.Fatal(err)
	}
}
