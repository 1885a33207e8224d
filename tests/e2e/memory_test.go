package e2e

import (
	"regexp"
	"testing"

	"github.com/baas-batch/baas/api"
)

// A task over its memory limit ends with the reason; its neighbour in the same
// executor ends well, and the executor serves on.
func TestMemoryLimit(t *testing.T) {
	p, l, g := of(start(t)), newLedger(t), newGate(t)
	r := run(t, p, map[string]string{"flow.yaml": `
name: memory
params: {ledger: {type: string}, gate: {type: string}}
defaults: {resources: {cpus: 0.2}}
steps:
  neighbour:
    resources: {mem: 64MB}
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.gate }}'}
    run: |
      echo "neighbour $$ $PPID" >>"$BAAS_INPUT_LEDGER"
      read x <"$BAAS_INPUT_GATE"
      echo "neighbour-end $$" >>"$BAAS_INPUT_LEDGER"
  greedy:
    resources: {mem: 40MB}
    with: {ledger: '${{ params.ledger }}'}
    run: |
      until grep -q neighbour "$BAAS_INPUT_LEDGER"; do sleep 0.2; done
      echo "greedy $$ $PPID" >>"$BAAS_INPUT_LEDGER"
      megabyte=$(head -c 1000000 /dev/zero | tr '\0' x)
      while :; do all=$all$megabyte; sleep 0.1; done
  later:
    needs: [neighbour]
    with: {ledger: '${{ params.ledger }}'}
    run: echo "later $$ $PPID" >>"$BAAS_INPUT_LEDGER"
`}, map[string]string{"ledger": l.path, "gate": g.path})
	neighbour := l.first(t, "neighbour")
	id := api.RunID(r.GetID(), r.GetRunID())
	eventually(t, patience, "the greedy task does not end", func() bool {
		now, err := p.runs().Describe(t.Context(), id)
		if err != nil {
			return false
		}
		s, ok := now.Step("greedy")
		return ok && s.Status.Final()
	})
	if !living(t, neighbour[0]).alive() {
		t.Error("the neighbour is gone")
	}
	g.open(t)

	last := ended(t, p, r, patience)
	equal(t, last.Status, api.StatusFailed)
	greedy, _ := last.Step("greedy")
	equal(t, greedy.Status, api.StatusFailed)
	if !regexp.MustCompile(`used \d+ MB of 40 MB`).MatchString(greedy.Reason) {
		t.Errorf("reason %q", greedy.Reason)
	}
	if greedy.Usage.PeakMemory < 38<<20 {
		t.Errorf("peak memory %d bytes", greedy.Usage.PeakMemory)
	}
	for _, id := range []string{"neighbour", "later"} {
		if s, _ := last.Step(id); s == nil || s.Status != api.StatusSucceeded {
			t.Errorf("step %s has not succeeded\n%s", id, show(last))
		}
	}
	equal(t, len(l.of(t, "neighbour-end")), 1)
	executor := neighbour[1]
	equal(t, l.first(t, "greedy")[1], executor)
	equal(t, l.first(t, "later")[1], executor)
}
