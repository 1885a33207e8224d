package workflows

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

// newRanged is a world whose steps with for_each run in ranges, all well.
func newRanged(t *testing.T, source string, params map[string]any) *world {
	w := newWorld(t, source, params)
	w.plan.Settings.RangeSize = 15_000
	w.ranged = func(in api.LaunchInput) (api.RangeResult, time.Duration) { return well(in), time.Minute }
	return w
}

// inOrder gives the launches of a step in the order of their partitions.
func (w *world) inOrder(step string) []api.LaunchInput {
	list := w.launches(step)
	slices.SortFunc(list, func(a, b api.LaunchInput) int { return a.Range.First - b.Range.First })
	return list
}

// well is the result of a range all of whose partitions succeed. The value of each
// output is the partition's number.
func well(in api.LaunchInput) api.RangeResult {
	r := in.Range
	result := api.RangeResult{
		Succeeded: r.Count, Tasks: 3,
		Usage:    tasklet.Usage{CPUSeconds: float64(r.Count), PeakMemory: int64(r.First + 1)},
		Manifest: tasklet.LinesRef{Key: fmt.Sprintf("manifests/%s.%d", in.Step, r.First), Size: 9, N: r.Count},
	}
	if len(in.Outputs) == 0 || 8*r.Count > r.MaxOutputs {
		return result
	}
	result.Outputs = map[string][]json.RawMessage{}
	for _, o := range in.Outputs {
		for i := range r.Count {
			result.Outputs[o.Name] = append(result.Outputs[o.Name], json.RawMessage(fmt.Sprint(r.First+i)))
		}
	}
	return result
}

// losing fails some partitions of a range, the first of them at its third attempt.
func losing(in api.LaunchInput, failed int) api.RangeResult {
	r := well(in)
	r.Succeeded, r.Failed, r.Retries = in.Range.Count-failed, failed, 2*failed
	for i := range min(failed, api.MaxFailures) {
		result := exits(3)
		result.Partition = in.Range.First + i
		r.Failures = append(r.Failures, api.Failure{Attempt: 3, Result: result})
		for _, list := range r.Outputs {
			list[i] = json.RawMessage("null")
		}
	}
	return r
}

func TestPartsOfAStep(t *testing.T) {
	for _, tc := range []struct{ n, most, parts, size int }{
		{1, 15_000, 1, 1}, {5000, 15_000, 1, 5000}, {5001, 15_000, 2, 5000}, {320_000, 15_000, 64, 5000},
		{640_000, 15_000, 64, 10_000}, {1_000_000, 15_000, 67, 15_000}, {1_000_000, 20_000, 64, 15_625}, {100, 10, 10, 10},
	} {
		parts := cutParts(tc.n, tc.most, nil)
		same(t, fmt.Sprintf("parts of %d", tc.n), len(parts), tc.parts)
		same(t, fmt.Sprintf("size of %d", tc.n), parts[0].count, tc.size)
		covers(t, parts, tc.n)
	}
	items := make([]json.RawMessage, 100)
	for i := range items {
		items[i] = json.RawMessage(`"` + strings.Repeat("x", 10_000) + `"`)
	}
	items[50] = json.RawMessage(`"` + strings.Repeat("x", maxRangeItems-2) + `"`)
	parts := cutParts(100, 15_000, items)
	covers(t, parts, 100)
	for _, part := range parts {
		bytes := 0
		for _, raw := range items[part.first : part.first+part.count] {
			bytes += len(raw)
		}
		if bytes > maxRangeItems {
			t.Errorf("the items of %s have %d bytes", part.span(), bytes)
		}
	}
}

func covers(t *testing.T, parts []part, n int) {
	t.Helper()
	next := 0
	for _, part := range parts {
		if part.first != next || part.count < 1 {
			t.Fatalf("part %s follows %d", part.span(), next)
		}
		next += part.count
	}
	same(t, "partitions", next, n)
}

func TestSharesOfParallel(t *testing.T) {
	for _, tc := range []struct {
		parallel, parts int
		want            []int
	}{
		{0, 5, nil}, {1, 5, []int{1}}, {3, 5, []int{1, 1, 1}}, {10, 4, []int{2, 2, 3, 3}}, {100, 1, []int{100}},
	} {
		if got := shares(tc.parallel, tc.parts); !slices.Equal(got, tc.want) {
			t.Errorf("%d over %d parts: %v, want %v", tc.parallel, tc.parts, got, tc.want)
		}
	}
}

// What the workflow carries does not grow with the partitions.
func TestAMillionPartitions(t *testing.T) {
	const n = 1_000_000
	w := newRanged(t, `
name: f
params: {month: {type: string, default: 2026-01}}
steps:
  before: {run: ./x, outputs: {large: {type: string}}}
  many:
    run: ./x
    needs: [before]
    for_each: {from: 1, to: 1000000}
    with: {n: '${{ item }}', of: '${{ params.month }}'}
    outputs: {v: int, w: string}
    retry: {attempts: 5}
    min_success: 99.9%
  after: {run: ./x, with: {n: '${{ size(steps.many.outputs.v) }}', ok: '${{ has(steps.many.outputs.w) }}'}}
  each: {run: ./x, for_each: '${{ steps.many.outputs.v }}', with: {v: '${{ item }}'}}
`, nil)
	w.script = always(ok("large", `"`+strings.Repeat("x", 400_000)+`"`))
	w.items = n
	result := w.succeed()

	launches := w.inOrder("many")
	same(t, "activities", len(launches), 67)
	same(t, "most in flight", w.most["many"], maxRanges*15_000)
	same(t, "most in flight of the next", w.most["each"], maxRanges*15_000)
	next := 0
	for _, in := range launches {
		r := in.Range
		raw, err := json.Marshal(in)
		if err != nil || len(raw) > 300_000 {
			t.Errorf("an input of %d bytes, %v", len(raw), err)
		}
		same(t, "first", r.First, next)
		next += r.Count
		same(t, "partitions", len(in.Partitions), 0)
		same(t, "attempt", in.Attempt, 1)
		same(t, "details", r.MaxDetails, 65_536)
		same(t, "outputs", r.MaxOutputs, maxStepOutputs/67)
		same(t, "give up", r.MaxFailed, -1)
		same(t, "retry", r.Retry.Attempts, 5)
		same(t, "from", r.Items.From, 1)
		same(t, "parallel", r.Parallel, 0)
		inputs, _, err := r.Template.Eval(json.RawMessage(fmt.Sprint(r.First+1)), r.First)
		same(t, "error", err, nil)
		same(t, "input", string(inputs["n"]), fmt.Sprint(r.First+1))
		same(t, "common", string(r.Template.Inputs["of"]), `"2026-01"`)
	}
	same(t, "all", next, n)

	step := w.step("many")
	same(t, "done", step.Done, n)
	same(t, "partitions", step.Partitions, n)
	same(t, "cpu", step.Usage.CPUSeconds, n)
	same(t, "memory", step.Usage.PeakMemory, 990_001)
	after := w.launches("after")[0].Partitions[0].Inputs
	same(t, "size", string(after["n"]), "1000000")
	same(t, "has", string(after["ok"]), "true")

	value, err := json.Marshal(result.Outputs["many"]["v"])
	if err != nil {
		t.Fatal(err)
	}
	var decoded any
	if err := json.Unmarshal(value, &decoded); err != nil {
		t.Fatal(err)
	}
	many, isMany := flow.AsMany(decoded)
	same(t, "many", isMany, true)
	same(t, "elements", many.N, n)
	same(t, "manifests", len(many.Manifests), 67)
	same(t, "last", many.Manifests[66].Key, "manifests/many.990000")

	same(t, "listings", len(w.listed), 1)
	same(t, "output", w.listed[0].Outputs.Output, "v")
	same(t, "most", w.listed[0].Max, flow.MaxPartitions)
	each := w.inOrder("each")
	same(t, "activities over the output", len(each), 67)
	same(t, "items", each[66].Range.Items.Object.Key, "items/each")
	if raw, err := json.Marshal(w.state()); err != nil || len(raw) > maxState {
		t.Errorf("a state of %d bytes, %v", len(raw), err)
	}
}

func TestRangesShareParallel(t *testing.T) {
	w := newRanged(t, `
name: f
steps:
  many: {run: ./x, for_each: {from: 0, to: 99}, parallel: 8}
  few: {run: ./x, for_each: {from: 0, to: 99}, parallel: 2}
`, nil)
	w.plan.Settings.RangeSize = 20
	w.ranged = func(in api.LaunchInput) (api.RangeResult, time.Duration) {
		return well(in), time.Duration(100-in.Range.First) * time.Minute
	}
	w.succeed()
	parallel := map[string][]int{}
	for _, in := range append(w.inOrder("many"), w.inOrder("few")...) {
		parallel[in.Step] = append(parallel[in.Step], in.Range.Parallel)
	}
	if got := fmt.Sprint(parallel); got != "map[few:[1 1 1 1 1] many:[2 2 2 1 1]]" {
		t.Error(got)
	}
	same(t, "most of few", w.most["few"], 40)
	same(t, "most of many", w.most["many"], 100)
}

func TestListsOfRanges(t *testing.T) {
	w := newRanged(t, `
name: f
params: {names: {type: list, default: [a, b, c, d, e]}}
steps:
  many:
    run: ./x
    for_each: '${{ params.names }}'
    with: {name: '${{ item }}'}
    outputs: {v: int}
    min_success: 4
  sum: {run: ./x, with: {all: '${{ steps.many.outputs.v }}', some: '${{ steps.many.outputs.v.filter(v, dyn(v) != null) }}'}}
`, nil)
	w.plan.Settings.RangeSize = 2
	w.ranged = func(in api.LaunchInput) (api.RangeResult, time.Duration) {
		if in.Range.First == 2 {
			return losing(in, 1), time.Minute
		}
		return well(in), time.Minute
	}
	result := w.succeed()
	same(t, "list", string(result.Outputs["many"]["v"]), "[0,1,null,3,4]")
	same(t, "all", string(w.launches("sum")[0].Partitions[0].Inputs["all"]), "[0,1,null,3,4]")
	same(t, "some", string(w.launches("sum")[0].Partitions[0].Inputs["some"]), "[0,1,3,4]")
	for i, want := range []string{`["a","b"]`, `["c","d"]`, `["e"]`} {
		raw, err := json.Marshal(w.inOrder("many")[i].Range.Items.List)
		same(t, "error", err, nil)
		same(t, "items", string(raw), want)
	}
	step := w.step("many")
	same(t, "done", step.Done, 4)
	same(t, "failed", step.Failed, 1)
	same(t, "retries", step.Retries, 2)
	want := "1 of 5 partitions did not succeed, as min_success allows; the first: partition 2: exit code 3; log: baas logs " + w.state().Run + "/many#2"
	same(t, "reason", step.Reason, want)
	same(t, "reason of the run", w.state().Reason, "")
}

func TestNoPartitionsInRanges(t *testing.T) {
	w := newRanged(t, `
name: f
params: {file: file}
steps:
  none: {run: ./x, for_each: {from: 1, to: '${{ steps.zero.outputs.n }}'}, with: {v: '${{ item / 0 }}'}, outputs: {v: int}}
  zero: {run: ./x, outputs: {n: int}}
  listed: {run: ./x, for_each: {lines: '${{ params.file }}'}, outputs: {v: int}}
`, map[string]any{"file": tasklet.NewFileRef("files/x", 1, "ab", "x")})
	w.script = always(ok("n", "0"))
	result := w.succeed()
	same(t, "list", string(result.Outputs["none"]["v"]), "[]")
	same(t, "listed", string(result.Outputs["listed"]["v"]), "[]")
	same(t, "launches", len(w.launched), 1)
}

func TestRangesThatFail(t *testing.T) {
	for _, tc := range []struct {
		name, fields    string
		failed          []int // by range of 10
		status          api.Status
		launched, kills int
		reason          string
	}{
		{"all must succeed", "", []int{0, 1, 0, 0}, api.StatusFailed, 4, 0, "partition 10: exit code 3 (attempt 3 of 3)"},
		{"enough", ", min_success: 90%", []int{1, 1, 1, 1}, api.StatusSucceeded, 4, 0, "4 of 40 partitions did not succeed"},
		{"not enough", ", min_success: 90%", []int{1, 1, 1, 2}, api.StatusFailed, 4, 0, "partition 0: exit code 3"},
		{"none must succeed", ", min_success: 0", []int{10, 10, 10, 10}, api.StatusSucceeded, 4, 0, "40 of 40"},
		{"gives up", ", fail_fast: true", []int{0, 1, 0, 0}, api.StatusFailed, 3, 1, "partition 10: exit code 3"},
		{"gives up late", ", min_success: 39, fail_fast: true", []int{1, 1, 0, 0}, api.StatusFailed, 3, 1, "partition 0: exit code 3"},
		{"does not give up", ", min_success: 38, fail_fast: true", []int{1, 1, 0, 0}, api.StatusSucceeded, 4, 0, "2 of 40"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newRanged(t, `
name: f
steps:
  many: {run: ./x, for_each: {from: 0, to: 39}, parallel: 2, retry: {attempts: 3}`+tc.fields+`}
  next: {run: ./x, needs: [many]}
`, nil)
			w.plan.Settings.RangeSize = 10
			w.ranged = func(in api.LaunchInput) (api.RangeResult, time.Duration) {
				return losing(in, tc.failed[in.Range.First/10]), time.Duration(60+in.Range.First) * time.Minute
			}
			if tc.status == api.StatusSucceeded {
				w.succeed()
				w.statuses("many=succeeded", "next=succeeded")
			} else {
				message := w.fail(api.ErrorRunFailed)
				if !strings.HasPrefix(message, "step many, "+tc.reason) || !strings.HasSuffix(message, fmt.Sprintf("log: baas logs %s/many#%s", w.state().Run, between(tc.reason, "partition ", ":"))) {
					t.Errorf("message %q", message)
				}
				w.statuses("many=failed", "next=blocked")
			}
			step := w.step("many")
			if !strings.HasPrefix(step.Reason, tc.reason) {
				t.Errorf("reason %q", step.Reason)
			}
			same(t, "partitions accounted for", step.Done+step.Failed+step.Killed+step.NotRun, step.Partitions)
			launches := w.launches("many")
			same(t, "launches", len(launches), tc.launched)
			same(t, "kills", len(w.kills), tc.kills)
			if tc.kills > 0 {
				same(t, "step of the kill", w.kills[0].Step, "many")
				same(t, "partitions of the kill", len(w.kills[0].Partitions), 0)
			}
			wantMost := -1
			if strings.Contains(tc.fields, "fail_fast") {
				wantMost = 40 - w.plan.Flow.Steps[0].MinSuccess.Of(40)
			}
			same(t, "most failed", launches[0].Range.MaxFailed, wantMost)
		})
	}
}

func between(text, before, after string) string {
	_, text, _ = strings.Cut(text, before)
	text, _, _ = strings.Cut(text, after)
	return text
}

func TestAnswersThatDoNotAddUp(t *testing.T) {
	for want, result := range map[string]api.RangeResult{
		"step many, partitions #0–9: the platform answered for 9 of 10 partitions":  {Succeeded: 9},
		"step many, partitions #0–9: the platform answered for 11 of 10 partitions": {Succeeded: 10, Failed: 1},
		"step many, partitions #0–9: the platform answered for 10 of 10 partitions": {Succeeded: 11, Failed: -1},
	} {
		w := newRanged(t, "name: f\nsteps:\n  many: {run: ./x, for_each: {from: 0, to: 9}, min_success: 0}\n", nil)
		w.ranged = func(api.LaunchInput) (api.RangeResult, time.Duration) { return result, time.Minute }
		same(t, "message", w.fail(api.ErrorRunFailed), want)
	}
	w := newRanged(t, "name: f\nsteps:\n  many: {run: ./x, for_each: {from: 0, to: 9}, min_success: 0}\n", nil)
	w.launchErr = temporal.NewNonRetryableApplicationError("the leader has no room", "X", nil)
	same(t, "message", w.fail(api.ErrorRunFailed), "step many, partitions #0–9: the leader has no room")
}

func TestAnOutputOfTooManyPartitionsIsNoValue(t *testing.T) {
	w := newRanged(t, `
name: f
steps:
  many: {run: ./x, for_each: {from: 0, to: 9}, outputs: {v: int}}
  sum: {run: ./x, with: {all: '${{ steps.many.outputs.v }}'}}
`, nil)
	w.plan.Settings.RangeSize = 5
	w.ranged = func(in api.LaunchInput) (api.RangeResult, time.Duration) {
		r := well(in)
		if in.Range.First == 5 {
			r.Outputs = nil
		}
		return r, time.Minute
	}
	message := w.fail(api.ErrorRunFailed)
	if !strings.HasSuffix(message, "steps.many.outputs.v has 10 elements, too many for an expression: use for_each") {
		t.Error(message)
	}
	w.statuses("many=succeeded", "sum=failed")
}

// Where the run's state has no room for a list, what stands for it is there instead.
func TestListsGiveWayToTheState(t *testing.T) {
	w := newRanged(t, `
name: f
steps:
  a: {run: ./x, for_each: {from: 0, to: 1}, outputs: {v: string}}
  b: {run: ./x, for_each: {from: 0, to: 1}, outputs: {v: string}, needs: [a]}
`, nil)
	w.ranged = func(in api.LaunchInput) (api.RangeResult, time.Duration) {
		r := well(in)
		text := json.RawMessage(`"` + strings.Repeat("x", 450_000) + `"`)
		r.Outputs["v"] = []json.RawMessage{text, text}
		return r, time.Minute
	}
	result := w.succeed()
	same(t, "a", len(result.Outputs["a"]["v"]), 900_007)
	same(t, "b", string(result.Outputs["b"]["v"][:15]), `{"$type":"many"`)
}

// A step without room for its outputs says so, whatever min_success has allowed.
func TestNoRoomAfterLosses(t *testing.T) {
	w := newRanged(t, `
name: f
steps:
  b: {run: ./x, for_each: {from: 0, to: 9}, min_success: 9, outputs: {v: string}}
`, nil)
	r := &run{plan: &w.plan, byID: map[string]*step{}, results: map[string]flow.StepResult{}}
	for i := range w.plan.Flow.Steps {
		def := &w.plan.Flow.Steps[i]
		s := &step{def: def, state: api.StepState{ID: def.ID}}
		r.steps, r.byID[def.ID] = append(r.steps, s), s
	}
	p, s := &phase{run: r, steps: r.steps}, r.byID["b"]
	s.state.Status, s.state.Reason = api.StatusSucceeded, "1 of 10 partitions did not succeed, as min_success allows"
	p.noRoom(s)
	if s.state.Status != api.StatusFailed || !strings.HasPrefix(s.state.Reason, "the outputs of all steps are over") {
		t.Errorf("%s: %q", s.state.Status, s.state.Reason)
	}
}
