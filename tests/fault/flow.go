package fault

import (
	"fmt"
	"strings"
	"time"
)

// Step is a step of a test's flow: each of its tasks enters itself in the ledger,
// works, and leaves its number as the output n.
type Step struct {
	Name  string
	Tasks int // partitions
	Needs []string

	// Short and Long bound a task's work; each takes its share by its number.
	Short, Long time.Duration
	// Gated has every so manieth task wait at the run's gate (Run.Open) before it
	// works; 0: none.
	Gated int
	// Fails is how many attempts of each task exit with 75 after their work.
	Fails int
	// Attempts is what `retry:` allows; 1 if 0. With no more than Fails the step fails.
	Attempts int
	// Checkpoints has a task do its work in ten pieces and save each.
	Checkpoints bool
	AtMostOnce  bool
	// Again has the person who decides about lost tasks of AtMostOnce say that they
	// never ran; else that they have failed.
	Again bool
}

// Doomed tells whether the step fails by its exit code, whatever else happens.
func (s Step) Doomed() bool { return s.Fails >= s.attempts() }

func (s Step) attempts() int { return max(s.Attempts, 1) }

// Flow is what a run is made of.
type Flow struct {
	Name  string
	Steps []Step
	// Unreachable is the unreachable_timeout of all steps.
	Unreachable time.Duration
	// Ranges has all steps cut into ranges of rangeSize partitions, and these into
	// packs; else each partition is an activity and a task of its own.
	Ranges bool
}

// So small that the steps of the tests have several ranges, and these several packs.
const (
	rangeSize = 7
	firstPack = 3 // partitions, while it is not known how long they last
)

// InRanges is the flow with Ranges.
func (f Flow) InRanges() Flow {
	f.Ranges = true
	return f
}

// Standard is a flow of 33 short tasks that a cluster of two agents runs in some
// seconds: partitions of which every third waits at the gate, failures that are
// retried, checkpoints, and tasks that run at most once.
func Standard() Flow {
	return Flow{Name: "standard", Unreachable: Unreachable, Steps: []Step{
		{Name: "seed", Tasks: 1, Long: 20 * time.Millisecond},
		// A kill of the task's process uses an attempt up: there are some to spare.
		{Name: "work", Tasks: 18, Needs: []string{"seed"}, Short: 50 * time.Millisecond, Long: time.Second, Gated: 3, Attempts: 4},
		{Name: "flaky", Tasks: 5, Needs: []string{"seed"}, Short: 20 * time.Millisecond, Long: 300 * time.Millisecond, Fails: 2, Attempts: 6},
		{Name: "save", Tasks: 2, Needs: []string{"seed"}, Short: time.Second, Long: 2 * time.Second, Checkpoints: true, Attempts: 4},
		{Name: "once", Tasks: 4, Needs: []string{"seed"}, Short: 100 * time.Millisecond, Long: 600 * time.Millisecond, AtMostOnce: true},
		{Name: "last", Tasks: 3, Needs: []string{"work", "flaky", "save"}, Long: 100 * time.Millisecond, Attempts: 4},
	}}
}

// Doomed is Standard with a step that fails for good, and one that waits for it.
func Doomed() Flow {
	f := Standard()
	f.Name = "doomed"
	f.Steps = append(f.Steps,
		Step{Name: "doomed", Tasks: 3, Needs: []string{"seed"}, Long: 200 * time.Millisecond, Fails: 99, Attempts: 3},
		Step{Name: "never", Tasks: 2, Needs: []string{"doomed"}, Long: 100 * time.Millisecond})
	return f
}

// step finds a step by its name.
func (f Flow) step(name string) (Step, bool) {
	for _, s := range f.Steps {
		if s.Name == name {
			return s, true
		}
	}
	return Step{}, false
}

// Tasks is how many tasks the flow has.
func (f Flow) Tasks() int {
	n := 0
	for _, s := range f.Steps {
		n += s.Tasks
	}
	return n
}

// yaml is the flow file.
func (f Flow) yaml() string {
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\n", f.Name)
	b.WriteString("params: {dir: {type: string}}\n")
	fmt.Fprintf(&b, "defaults: {resources: {cpus: 0.2, mem: 24MB}, unreachable_timeout: %s, grace: 2s}\n", f.Unreachable)
	b.WriteString("steps:\n")
	for _, s := range f.Steps {
		fmt.Fprintf(&b, "  %s:\n    run: [./task.sh]\n", s.Name)
		if len(s.Needs) > 0 {
			fmt.Fprintf(&b, "    needs: [%s]\n", strings.Join(s.Needs, ", "))
		}
		fmt.Fprintf(&b, "    for_each: {from: 0, to: %d}\n", s.Tasks-1)
		if f.Ranges {
			b.WriteString("    min_success: 100%\n") // only ranges can do that
		}
		fmt.Fprintf(&b, "    retry: {attempts: %d, backoff: 100ms, factor: 1}\n", s.attempts())
		fmt.Fprintf(&b, "    at_most_once: %t\n", s.AtMostOnce)
		pieces := 1
		if s.Checkpoints {
			pieces = 10
		}
		fmt.Fprintf(&b, "    with: {dir: '${{ params.dir }}', fails: %d, gated: %d, pieces: %d, tasks: %d, short: %d, long: %d}\n",
			s.Fails, s.Gated, pieces, s.Tasks, s.Short.Milliseconds(), max(s.Long, s.Short).Milliseconds())
		b.WriteString("    outputs: {n: int}\n")
	}
	return b.String()
}

// script is the command of every task. The lock tells whether another process of
// the same partition lives: it is held by all processes of the task, and by nobody
// once the last has died, however that came.
const script = `#!/bin/sh
dir=$BAAS_INPUT_DIR
say() {
  echo "$1 $BAAS_STEP $BAAS_PARTITION $BAAS_ATTEMPT $$ $(date +%s%N) $PWD" >>"$dir/ledger"
}
exec 9<"$dir/locks/$BAAS_STEP.$BAAS_PARTITION"
flock -n 9 || say overlap
say start
if [ "$BAAS_INPUT_GATED" != 0 ] && [ $((BAAS_PARTITION % BAAS_INPUT_GATED)) = 0 ]; then
  read -r line <"$dir/gate"
fi
ms=$((BAAS_INPUT_SHORT + (BAAS_INPUT_LONG - BAAS_INPUT_SHORT) * BAAS_PARTITION / BAAS_INPUT_TASKS))
piece=$((ms / BAAS_INPUT_PIECES))
n=0
if [ -e "$BAAS_CHECKPOINT/commit" ]; then
  n=$(cat "$BAAS_CHECKPOINT/$(cat "$BAAS_CHECKPOINT/commit")/n")
  say resume
fi
while [ "$n" -lt "$BAAS_INPUT_PIECES" ]; do
  sleep "$((piece / 1000)).$(printf %03d $((piece % 1000)))"
  n=$((n + 1))
  if [ "$BAAS_INPUT_PIECES" != 1 ]; then
    mkdir -p "$BAAS_CHECKPOINT/$BAAS_ATTEMPT-$$-$n" &&
      echo "$n" >"$BAAS_CHECKPOINT/$BAAS_ATTEMPT-$$-$n/n" &&
      echo "$BAAS_ATTEMPT-$$-$n" >"$BAAS_CHECKPOINT/new" &&
      mv "$BAAS_CHECKPOINT/new" "$BAAS_CHECKPOINT/commit"
  fi
done
if [ "$BAAS_ATTEMPT" -le "$BAAS_INPUT_FAILS" ]; then
  say fail
  exit 75
fi
until echo "{\"n\": $BAAS_PARTITION}" >"$BAAS_OUTPUTS/outputs.json"; do
  sleep 0.1 # the disk is full
done
say end
`
