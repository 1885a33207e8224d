package flow

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/baas-batch/baas/tasklet"
)

func TestForEachSources(t *testing.T) {
	f := mustParse(t, []byte(`
name: f
params: {list: file, tree: directory, day: string}
steps:
  make: {run: x, outputs: {values: file}}
  lines: {run: x, for_each: {lines: '${{ params.list }}'}, with: {n: '${{ size(item) }}'}}
  values: {run: x, for_each: {values: '${{ steps.make.outputs.values }}'}, with: {v: '${{ item.anything }}'}}
  files: {run: x, for_each: {files: '${{ params.tree }}'}, with: {f: '${{ item }}', name: '${{ item.name }}'}}
  objects: {run: x, for_each: {objects: 'in/${{ params.day }}/'}, with: {f: '${{ item }}'}}
`), Options{})
	tree := fileRef("tree")
	tree.Form = tasklet.FormArchive
	scope := Scope{
		Params: map[string]any{"list": fileRef("list"), "tree": tree, "day": "2026-01-31"},
		Steps:  map[string]StepResult{"make": {Status: StatusSucceeded, Outputs: map[string]any{"values": plain(fileRef("v"))}}},
	}
	raw, _ := json.Marshal(f)
	var again Flow
	if err := json.Unmarshal(raw, &again); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		step string
		item Type
		want func(*Source) bool
	}{
		{"lines", String, func(s *Source) bool { return s.Lines != nil && s.Lines.Key == fileRef("list").Key }},
		{"values", Any, func(s *Source) bool { return s.Values != nil && s.Values.Key == fileRef("v").Key }},
		{"files", File, func(s *Source) bool { return s.Files != nil && s.Files.Form == tasklet.FormArchive }},
		{"objects", File, func(s *Source) bool { return s.Objects == "in/2026-01-31/" }},
	} {
		step, _ := again.Step(tc.step)
		items, err := step.ForEach.Eval(scope)
		if err != nil || items.Source == nil || !tc.want(items.Source) || step.ForEach.Item != tc.item {
			t.Errorf("%s: item %s, %s, %v", tc.step, step.ForEach.Item, marshal(items), err)
		}
	}
	values, _ := again.Step("values")
	if len(values.Needs) != 1 || values.Needs[0] != "make" {
		t.Errorf("values needs %v", values.Needs)
	}
	objects, _ := again.Step("objects")
	scope.Params["day"] = nil
	if _, err := objects.ForEach.Eval(scope); err == nil || !strings.HasPrefix(err.Error(), "for_each: objects: ${{ params.day }}: params.day is not set") {
		t.Errorf("objects without a day: %v", err)
	}
}

// Null holds the place of an output that a partition does not have.
func TestListsWithGaps(t *testing.T) {
	f := mustParse(t, []byte(`
name: f
steps:
  many: {run: x, for_each: [1], outputs: {n: int, f: file, fs: files}}
  each: {run: x, for_each: '${{ steps.many.outputs.f }}', with: {f: '${{ item }}'}}
  numbers: {run: x, for_each: '${{ steps.many.outputs.n }}'}
  nested: {run: x, for_each: '${{ steps.many.outputs.fs.filter(f, dyn(f) != null).flatten() }}'}
  use:
    run: x
    with:
      numbers: '${{ steps.many.outputs.n }}'
      found: '${{ steps.many.outputs.n.filter(n, dyn(n) != null) }}'
      files: '${{ steps.many.outputs.f.filter(f, f != null) }}'
      gaps: '${{ steps.many.outputs.f }}'
`), Options{})
	file := plain(fileRef("p"))
	scope := Scope{Steps: map[string]StepResult{"many": {Status: StatusSucceeded, Outputs: map[string]any{
		"n": []any{1, nil, 3}, "f": []any{file, nil, file}, "fs": []any{[]any{file}, nil, []any{file, file}}}}}}
	for id, want := range map[string]int{"each": 2, "numbers": 2, "nested": 3} {
		step, _ := f.Step(id)
		if items, err := step.ForEach.Eval(scope); err != nil || items.Len() != want {
			t.Errorf("%s: %s, %v; want %d items", id, marshal(items), err, want)
		}
	}
	use, _ := f.Step("use")
	for i, want := range []string{"[1,null,3]", "[1,3]", string(marshal([]any{file, file}))} {
		if v, err := use.With[i].Eval(scope); err != nil || string(marshal(v)) != want {
			t.Errorf("%s: %s, %v; want %s", use.With[i].Name, marshal(v), err, want)
		}
	}
	if v, err := use.With[3].Eval(scope); err == nil || !strings.Contains(err.Error(), "gaps: element 1: expected a file, found nothing") {
		t.Errorf("files with gaps: %v, %v", v, err)
	}
}

func TestMinSuccess(t *testing.T) {
	f := mustParse(t, []byte(`
name: f
steps:
  a: {run: x, for_each: [1], min_success: 95%, fail_fast: true}
  b: {run: x, for_each: [1], min_success: 12}
  c: {run: x, for_each: [1], min_success: '29%'}
  d: {run: x, for_each: [1], min_success: 99.9%}
  e: {run: x, for_each: [1], min_success: 0}
  f: {run: x, for_each: [1]}
`), Options{})
	for _, tc := range []struct {
		step    string
		n, want int
	}{
		{"a", 100, 95}, {"a", 101, 96}, {"a", 1, 1}, {"a", 0, 0}, {"b", 100, 12}, {"b", 5, 5}, {"c", 100, 29},
		{"d", 1_000_000, 999_000}, {"d", 10, 10}, {"e", 10, 0}, {"f", 10, 10},
	} {
		step, _ := f.Step(tc.step)
		if got := step.MinSuccess.Of(tc.n); got != tc.want {
			t.Errorf("%s of %d: %d, want %d", tc.step, tc.n, got, tc.want)
		}
	}
	a, _ := f.Step("a")
	b, _ := f.Step("b")
	if !a.FailFast || b.FailFast {
		t.Error("fail_fast is not read")
	}
}
