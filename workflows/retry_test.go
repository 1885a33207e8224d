package workflows

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tasklet"
)

// attempts gives the start of each attempt of a step, relative to the first.
func (w *world) attempts(clock []time.Time) []time.Duration {
	var out []time.Duration
	for _, at := range clock {
		out = append(out, at.Sub(clock[0]))
	}
	return out
}

func TestRetryBacksOff(t *testing.T) {
	w := newWorld(t, `
name: f
steps:
  a: {run: ./x, retry: {attempts: 5, backoff: 10s, factor: 2, max_backoff: 25s}}
`, nil)
	var clock []time.Time
	w.script = func(in api.LaunchInput, _ api.LaunchPartition) (tasklet.Result, time.Duration) {
		clock = append(clock, w.env.Now())
		if in.Attempt < 5 {
			return exits(1), time.Second
		}
		return ok(), time.Second
	}
	w.succeed()
	got := w.attempts(clock)
	want := []time.Duration{0, 11 * time.Second, 32 * time.Second, 58 * time.Second, 84 * time.Second}
	if !slices.Equal(got, want) {
		t.Errorf("attempts at %v, want %v", got, want)
	}
	same(t, "retries", w.step("a").Retries, 4)
	same(t, "cpu of the one that was metered", w.step("a").Usage.CPUSeconds, 1)
	for i, info := range w.infos {
		same(t, "activity ID", info.ActivityID, "a-"+string(rune('1'+i)))
	}
}

func TestRetryRules(t *testing.T) {
	const source = `
name: f
steps:
  a: {run: ./x, retry: {attempts: 3, backoff: 1s, never: [2]}}
`
	for _, tc := range []struct {
		name   string
		result tasklet.Result
		tries  int
		want   string
	}{
		{"exit code", exits(1), 3, "exit code 1 (attempt 3 of 3)"},
		{"excluded exit code", exits(2), 1, "exit code 2 (attempt 1 of 3; the retry rules exclude it)"},
		{"signal", tasklet.Result{Outcome: tasklet.Failed, ExitCode: -1, Signal: "SIGSEGV"}, 3, "ended by signal SIGSEGV (attempt 3 of 3)"},
		{"time limit", tasklet.Result{Outcome: tasklet.TimedOut, ExitCode: -1}, 3, "timed out (attempt 3 of 3)"},
		{"platform", tasklet.Result{Outcome: tasklet.Platform, ExitCode: -1, Reason: "agent lost 5 times"}, 1,
			"agent lost 5 times (the platform's loss; not charged to retry)"},
		{"cannot run", tasklet.Result{Outcome: tasklet.Invalid, ExitCode: -1, Reason: "no such command: ./x"}, 1, "no such command: ./x"},
		{"killed alone", tasklet.Result{Outcome: tasklet.Killed, ExitCode: -1}, 1, "killed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, source, nil)
			w.script = always(tc.result)
			message := w.fail(api.ErrorRunFailed)
			same(t, "tries", len(w.launched), tc.tries)
			if want := "step a: " + tc.want + "; log:"; !strings.HasPrefix(message, want) {
				t.Errorf("message %q, want %q", message, want)
			}
			same(t, "status", w.step("a").Status, api.StatusFailed)
		})
	}
}

func TestRetryDoesNotWaitForTheRestOfTheStep(t *testing.T) {
	w := newWorld(t, `
name: f
steps:
  many: {run: ./x, for_each: {from: 0, to: 9}, retry: {attempts: 2, backoff: 10s}}
`, nil)
	var again time.Time
	w.script = func(in api.LaunchInput, p api.LaunchPartition) (tasklet.Result, time.Duration) {
		if p.Index != 3 {
			return ok(), time.Hour
		}
		if in.Attempt == 1 {
			return exits(1), time.Second
		}
		again = w.env.Now()
		return ok(), time.Second
	}
	w.succeed()
	same(t, "second attempt after", again.Sub(w.started["many"]), 11*time.Second)
}

func TestPartitionsDueTogetherShareAnActivity(t *testing.T) {
	w := newWorld(t, `
name: f
steps:
  many: {run: ./x, for_each: {from: 0, to: 799}, retry: {attempts: 2, backoff: 10s}}
`, nil)
	w.script = func(in api.LaunchInput, p api.LaunchPartition) (tasklet.Result, time.Duration) {
		if in.Attempt == 1 && p.Index%4 == 0 {
			return exits(1), time.Second
		}
		return ok(), time.Second
	}
	w.succeed()
	first, second := 0, 0
	for _, in := range w.launched {
		if in.Attempt == 1 {
			first++
			continue
		}
		second++
		same(t, "partitions", len(in.Partitions), 4)
		for _, p := range in.Partitions {
			same(t, "retried only what failed", p.Index%4, 0)
		}
	}
	same(t, "activities of attempt 1", first, 200)
	same(t, "activities of attempt 2", second, 50)
}
