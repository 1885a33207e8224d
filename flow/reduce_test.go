package flow

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestReduce(t *testing.T) {
	f := mustParse(t, []byte(`
name: f
params: {month: string}
steps:
  total:
    reduce: render
    run: x
    with: {month: '${{ params.month }}', n: '${{ steps.render.count }}'}
  render: {run: x, for_each: [1], outputs: {sum: int, statement: file, pages: files, tree: directory}}
  by_tasklet: {reduce: render, tasklet: ./total.yaml, with: {month: '${{ params.month }}'}}
on_exit:
  each: {run: x, for_each: [1], outputs: {results: int}}
  report: {reduce: each, needs: [each], run: x}
`), Options{Files: fstest.MapFS{"total.yaml": {Data: []byte(
		"name: total\nversion: 1.0.0\ninputs: {results: file, statement: file, month: string, by: {type: int, default: 3}}\nrun: x\n")}}})
	raw, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), `"reduce":"render"`) || strings.Count(string(raw), `"reduce":`) != 3 {
		t.Errorf("plan %s", raw)
	}
	var again Flow
	if err := json.Unmarshal(raw, &again); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]struct{ reduce, with string }{
		"total": {"render", "month n"}, "by_tasklet": {"render", "month by"}, "report": {"each", ""}, "render": {"", ""},
	} {
		step, _ := again.Step(id)
		var with []string
		for _, b := range step.With {
			with = append(with, b.Name)
		}
		if step.Reduce != want.reduce || strings.Join(with, " ") != want.with {
			t.Errorf("%s reduces %q with %v, want %v", id, step.Reduce, with, want)
		}
		if want.reduce != "" && !slices.Equal(step.Needs, []string{want.reduce}) {
			t.Errorf("%s needs %v", id, step.Needs)
		}
	}
	render, _ := again.Step("render")
	if names := ReduceInputs(render.Outputs); !slices.Equal(names, []string{"results", "statement"}) {
		t.Errorf("inputs are %v", names)
	}
	if order := Order(again.Steps); order[0] != "render" {
		t.Errorf("order %v", order)
	}
}

func TestReduceWithATaskletOfOtherTypes(t *testing.T) {
	_, err := Parse("f.yaml", []byte(`name: f
steps:
  render: {run: x, for_each: [1], outputs: {statement: file}}
  total: {reduce: render, tasklet: ./total.yaml}
`), Options{Files: fstest.MapFS{"total.yaml": {Data: []byte(
		"name: total\nversion: 1.0.0\ninputs: {results: string, statement: files}\nrun: x\n")}}})
	const want = `f.yaml:4:19: reduce: input "results" of ./total.yaml is text, and reduce gives it a file
f.yaml:4:19: reduce: input "statement" of ./total.yaml is a list of files, and reduce gives it a file`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}
