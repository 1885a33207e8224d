package e2e

import (
	"testing"

	"github.com/baas-batch/baas/starter"
)

// counter adds the numbers up to 20 and commits a checkpoint after each. The first
// attempt waits after 10.
const counter = `
name: counter
params: {ledger: {type: string}, gate: {type: string}}
steps:
  count:
    retry: {attempts: 2, backoff: 100ms}
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.gate }}'}
    outputs: {begins: list, sum: int}
    run: |
      cd "$BAAS_CHECKPOINT"
      n=0 sum=0 begins=
      if [ -e commit ]; then . "./$(cat commit)/state"; fi
      begins="${begins:+$begins, }$n"
      while [ $n -lt 20 ]; do
        n=$((n + 1)) sum=$((sum + n))
        mkdir "at-$n"
        echo "n=$n sum=$sum begins='$begins'" >"at-$n/state"
        echo "at-$n" >commit.new
        mv commit.new commit
        echo "count $n $BAAS_ATTEMPT" >>"$BAAS_INPUT_LEDGER"
        if [ $n = 10 ]; then
          echo "half $BAAS_ATTEMPT $$ $PPID" >>"$BAAS_INPUT_LEDGER"
          read x <"$BAAS_INPUT_GATE"
        fi
      done
      echo "{\"begins\": [$begins], \"sum\": $sum}" >"$BAAS_OUTPUTS/outputs.json"
`

// A task that is killed half-way goes on from its checkpoint: no number is counted
// twice, and the output tells where each attempt began.
func TestCheckpoint(t *testing.T) {
	p, l, g := of(start(t)), newLedger(t), newGate(t)
	r := run(t, p, map[string]string{"flow.yaml": counter}, map[string]string{"ledger": l.path, "gate": g.path})
	living(t, l.first(t, "half")[1]).kill(t)
	last := succeeded(t, p, r, patience)
	resumed(t, l, last)
	attempts := l.of(t, "count")
	equal(t, attempts[9], []string{"10", "1"})
	equal(t, attempts[10], []string{"11", "2"})
	s, _ := last.Step("count")
	equal(t, s.Retries, 1)
}

// resumed checks that a counter was stopped once, at 10.
func resumed(t *testing.T, l *ledger, last starter.Run) {
	t.Helper()
	equal(t, output(t, last, "count", "begins"), []any{0.0, 10.0})
	equal(t, output(t, last, "count", "sum"), 210.0)
	l.exactlyOnce(t, 20, "count")
}
