package workflows

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

func TestForEachKeepsParallelBoundAndOrder(t *testing.T) {
	w := newWorld(t, `
name: f
steps:
  many:
    run: ./x
    for_each: {from: 0, to: 19}
    parallel: 3
    with: {n: '${{ item }}'}
    outputs: {square: int, note: {type: string, optional: true}}
  sum: {run: ./x, with: {all: '${{ steps.many.outputs.square }}', n: '${{ steps.many.count }}'}}
`, nil)
	w.script = func(in api.LaunchInput, p api.LaunchPartition) (tasklet.Result, time.Duration) {
		if in.Step == "sum" {
			return ok(), time.Second
		}
		r := ok("square", fmt.Sprint(p.Index*p.Index))
		if p.Index == 1 {
			r = ok("square", "1", "note", `"odd"`)
		}
		return r, time.Duration(20-p.Index) * time.Second // later ones end first
	}
	result := w.succeed()
	same(t, "most in flight", w.most["many"], 3)
	want := "[0,1,4,9,16,25,36,49,64,81,100,121,144,169,196,225,256,289,324,361]"
	same(t, "squares", string(result.Outputs["many"]["square"]), want)
	same(t, "notes", string(result.Outputs["many"]["note"][:17]), `[null,"odd",null,`)
	same(t, "all", string(w.launches("sum")[0].Partitions[0].Inputs["all"]), want)
	same(t, "n", string(w.launches("sum")[0].Partitions[0].Inputs["n"]), "20")
	step := w.step("many")
	same(t, "done", step.Done, 20)
	same(t, "cpu", step.Usage.CPUSeconds, 20)
	same(t, "memory", step.Usage.PeakMemory, 100)
}

func TestForEachOverNothing(t *testing.T) {
	w := newWorld(t, `
name: f
steps:
  none: {run: ./x, for_each: '${{ params.items }}', outputs: {v: int}}
  next: {run: ./x, needs: [none], with: {n: '${{ size(steps.none.outputs.v) }}'}}
params: {items: {type: list, default: []}}
`, nil)
	result := w.succeed()
	w.statuses("none=succeeded", "next=succeeded")
	same(t, "list", string(result.Outputs["none"]["v"]), "[]")
	same(t, "n", string(w.launches("next")[0].Partitions[0].Inputs["n"]), "0")
}

func TestRanges(t *testing.T) {
	for _, tc := range []struct {
		partitions, parallel, size int
	}{
		{1, 0, 1}, {399, 0, 1}, {400, 0, 2}, {10_000, 0, 50}, {100_000, 0, 50},
		{10_000, 50, 10}, {10_000, 3, 1}, {10_000, 8, 2}, {10_000, 1000, 50}, {100, 50, 1}, {10_000, 1, 1},
	} {
		if got := rangeSize(tc.partitions, tc.parallel); got != tc.size {
			t.Errorf("%d partitions, parallel %d: range of %d, want %d", tc.partitions, tc.parallel, got, tc.size)
		}
	}
}

func TestManyPartitionsBecomeRanges(t *testing.T) {
	const n = 10_000
	w := newWorld(t, `
name: f
steps:
  many: {run: ./x, for_each: {from: 1, to: 10000}, with: {n: '${{ item }}'}}
`, nil)
	w.plan.Settings.MaxPending = 30
	w.succeed()
	seen := make([]bool, n)
	for _, in := range w.launched {
		for _, p := range in.Partitions {
			if seen[p.Index] {
				t.Fatalf("partition %d was launched twice", p.Index)
			}
			seen[p.Index] = true
			same(t, "input", string(p.Inputs["n"]), fmt.Sprint(p.Index+1))
		}
	}
	same(t, "activities", len(w.launched), n/maxRange)
	same(t, "most pending", w.mostPend, 30)
	same(t, "done", w.step("many").Done, n)
}

func TestPendingBoundIsFairBetweenSteps(t *testing.T) {
	w := newWorld(t, `
name: f
steps:
  large: {run: ./x, for_each: {from: 1, to: 300}}
  small: {run: ./x, for_each: {from: 1, to: 5}}
`, nil)
	w.plan.Settings.MaxPending = 10
	w.succeed()
	same(t, "most pending", w.mostPend, 10)
	same(t, "first of both at once", w.started["small"], w.started["large"])
	same(t, "most of small at once", w.most["small"], 5)
}

func TestRangeIsCutBySize(t *testing.T) {
	w := newWorld(t, `
name: f
params: {text: {type: string}}
steps:
  many: {run: ./x, for_each: {from: 0, to: 399}, with: {text: '${{ index < 10 ? params.text : "" }}'}}
`, map[string]any{"text": strings.Repeat("x", 130_000)})
	w.succeed()
	same(t, "activities", len(w.launched), 9+(400-9+1)/2) // the last large one fits beside a small one
	for _, in := range w.launched {
		if large := in.Partitions[0].Index < 9; large && len(in.Partitions) != 1 {
			t.Errorf("partition %d shares its activity with %d more", in.Partitions[0].Index, len(in.Partitions)-1)
		}
	}
}

func TestPartitionWithTooLargeInputs(t *testing.T) {
	w := newWorld(t, `
name: f
params: {text: {type: string}}
steps:
  one: {run: ./x, with: {text: '${{ params.text + params.text }}'}}
`, map[string]any{"text": strings.Repeat("x", 600_000)})
	message := w.fail(api.ErrorRunFailed)
	if !strings.Contains(message, "step one: the inputs are 1200") || !strings.Contains(message, "limit of 1000000") {
		t.Errorf("message %q", message)
	}
	same(t, "launched", len(w.launched), 0)
}

func TestRangeIsCutWhereEnvironmentChanges(t *testing.T) {
	w := newWorld(t, `
name: f
steps:
  many: {run: ./x, for_each: {from: 0, to: 799}, env: {HALF: '${{ index < 401 ? "first" : "second" }}'}}
`, nil)
	w.succeed()
	for _, in := range w.launched {
		for _, p := range in.Partitions {
			want := "second"
			if p.Index < 401 {
				want = "first"
			}
			if in.Env["HALF"] != want {
				t.Fatalf("partition %d has %v", p.Index, in.Env)
			}
		}
	}
	same(t, "activities", len(w.launched), 201)
}

func TestTooLargeOutputsFailTheStep(t *testing.T) {
	w := newWorld(t, `
name: f
steps:
  many: {run: ./x, for_each: {from: 1, to: 20}, parallel: 2, outputs: {text: string}}
`, nil)
	w.script = always(ok("text", `"`+strings.Repeat("x", 100_000)+`"`))
	message := w.fail(api.ErrorRunFailed)
	if !strings.Contains(message, "outputs of the step are over 1000000 bytes") {
		t.Errorf("message %q", message)
	}
	if n := len(w.launched); n > 12 {
		t.Errorf("%d activities: the step went on", n)
	}
	if out := w.step("many").Outputs; len(out) > 0 {
		t.Error("a failed step has outputs")
	}
}

func TestTooLargeOutputsOfAllSteps(t *testing.T) {
	w := newWorld(t, `
name: f
steps:
  a: {run: ./x, outputs: {text: string}}
  b: {run: ./x, needs: [a], outputs: {text: string}}
`, nil)
	w.script = always(ok("text", `"`+strings.Repeat("x", 900_000)+`"`))
	if message := w.fail(api.ErrorRunFailed); !strings.HasPrefix(message, "step b: the outputs of all steps are over 1500000 bytes") {
		t.Errorf("message %q", message)
	}
	w.statuses("a=succeeded", "b=failed")
}

func TestRoomForOutputsLeavesTheStateOnePayload(t *testing.T) {
	r := &run{plan: &api.PrepareResult{}}
	same(t, "small flow", r.outputRoom(), maxRunOutputs)
	r.steps = make([]*step, flow.MaxSteps)
	if room := r.outputRoom(); room < 300_000 || room+maxAllReason+stateOfStep*flow.MaxSteps > maxState {
		t.Errorf("room of %d bytes in a flow of %d steps", room, flow.MaxSteps)
	}
	r.plan.Flow.Params = []flow.Param{{Name: "p"}}
	r.params = map[string]json.RawMessage{"p": make(json.RawMessage, maxState)}
	same(t, "large parameters", r.outputRoom(), 0)
}

func TestFailedPartitionLetsOthersFinish(t *testing.T) {
	w := newWorld(t, `
name: f
steps:
  many: {run: ./x, for_each: {from: 0, to: 49}, parallel: 5, retry: {attempts: 3, backoff: 10s}}
`, nil)
	w.script = func(_ api.LaunchInput, p api.LaunchPartition) (tasklet.Result, time.Duration) {
		if p.Index == 41 {
			return exits(3), time.Second
		}
		return ok(), time.Second
	}
	message := w.fail(api.ErrorRunFailed)
	run := w.state().Run
	same(t, "message", message, "step many, partition 41: exit code 3 (attempt 3 of 3); log: baas logs "+run+"/many#41")
	step := w.step("many")
	same(t, "done", step.Done, 49)
	same(t, "failed", step.Failed, 1)
	same(t, "retries", step.Retries, 2)
	same(t, "step's reason", step.Reason, "partition 41: exit code 3 (attempt 3 of 3); log: baas logs "+run+"/many#41")
}

func TestActivityErrorFailsItsPartitions(t *testing.T) {
	w := newWorld(t, "name: f\nsteps: {a: {run: ./x}}\n", nil)
	w.launchErr = temporal.NewNonRetryableApplicationError("no such queue", "Test", nil)
	same(t, "message", w.fail(api.ErrorRunFailed), "step a: no such queue")
}

func TestSpans(t *testing.T) {
	for want, numbers := range map[string][]int{
		"#12":                           {12},
		"#100–103":                      {100, 101, 102, 103},
		"#3, 7–9, 12":                   {3, 7, 8, 9, 12},
		"#0, 2, 4, 6, 8, 10 and 2 more": {0, 2, 4, 6, 8, 10, 12, 14},
	} {
		same(t, "spans", spans(numbers), want)
	}
}

func TestShortenKeepsCharacters(t *testing.T) {
	text := strings.Repeat("ü", 400)
	got := shorten(text, 601)
	if len(got) > 601 || !bytes.HasSuffix([]byte(got), []byte("ü…")) {
		t.Errorf("got %d bytes ending in %q", len(got), got[len(got)-5:])
	}
	same(t, "short text", shorten("abc", 3), "abc")
}
