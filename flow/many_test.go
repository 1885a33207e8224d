package flow

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/baas-batch/baas/tasklet"
)

func TestMany(t *testing.T) {
	f := mustParse(t, []byte(`
name: f
steps:
  many: {run: x, for_each: [1], outputs: {v: int, f: file, l: list}}
  use:
    run: x
    for_each: '${{ steps.many.outputs.f }}'
    with:
      n: '${{ size(steps.many.outputs.v) + index }}'
      m: '${{ steps.many.outputs.v.size() + index }}'
      has: '${{ has(steps.many.outputs.v) && index >= 0 }}'
      choice: '${{ size(steps.many.outputs.v) > 5 ? index : steps.many.outputs.v[0] }}'
  bad:
    run: x
    needs: [many]
    with:
      whole: '${{ steps.many.outputs.v }}'
      inText: 'a ${{ size(steps.many.outputs.v) }} ${{ steps.many.outputs.v[0] }}'
      element: '${{ steps.many.outputs.v[3] }}'
      all: '${{ steps.many.outputs.v.all(x, true) }}'
      map: '${{ steps.many.outputs.v.map(x, 1) }}'
      filter: '${{ steps.many.outputs.v.filter(x, x > 1) }}'
      isIn: '${{ 1 in steps.many.outputs.v }}'
      equal: '${{ steps.many.outputs.v == steps.many.outputs.v }}'
      notEqual: '${{ steps.many.outputs.v != [1] }}'
      deep: '${{ [steps.many.outputs.v] == [[1]] }}'
      plus: '${{ steps.many.outputs.v + [1] }}'
      plusRight: '${{ [1] + steps.many.outputs.v }}'
      list: '${{ [steps.many.outputs.v] }}'
      inMap: '${{ {"a": steps.many.outputs.v} }}'
      slice: '${{ steps.many.outputs.v.slice(0, 1) }}'
      flatten: '${{ steps.many.outputs.l.flatten() }}'
      sort: '${{ steps.many.outputs.v.sort() }}'
      least: '${{ steps.many.outputs.f.map(x, x.size) }}'
      dynamic: '${{ dyn(steps.many.outputs.v).size() + dyn(steps.many.outputs.v)[0] }}'
      text: '${{ string(dyn(steps.many.outputs.v)) }}'
      fits: '${{ size(steps.many.outputs.v) / 0 }}'
`), Options{})
	many := func(name string) Many {
		return NewMany(name, 1_000_000, []tasklet.LinesRef{{Key: "m/many-1", Size: 10, N: 1_000_000}})
	}
	scope := Scope{Steps: map[string]StepResult{"many": {Status: StatusSucceeded, Count: 1_000_000,
		Outputs: map[string]any{"v": many("v"), "f": many("f"), "l": many("l")}}}}
	decoded, err := decodeJSON(marshal(scope.Steps))
	if err != nil {
		t.Fatal(err)
	}
	later := Scope{Steps: map[string]StepResult{}}
	if err := json.Unmarshal(marshal(decoded), &later.Steps); err != nil {
		t.Fatal(err)
	}
	for _, s := range []Scope{scope, later} {
		use, _ := f.Step("use")
		items, err := use.ForEach.Eval(s)
		if err != nil || items.Source == nil || items.Source.Outputs == nil || items.Source.Outputs.Manifests[0].Key != "m/many-1" || items.Source.Outputs.Output != "f" {
			t.Errorf("for_each: %s, %v", marshal(items), err)
		}
		template := mustTemplate(t, f, "use", s)
		inputs, _, err := template.Eval(marshal(fileRef("p")), 2)
		if got := string(marshal(inputs)); err != nil || got != `{"choice":2,"has":true,"m":1000002,"n":1000002}` {
			t.Errorf("inputs %s, %v", got, err)
		}
		bad, _ := f.Step("bad")
		for _, b := range bad.With {
			want := "has 1,000,000 elements, too many for an expression: use for_each"
			if b.Name == "fits" {
				want = "division by zero"
			}
			if v, err := b.Eval(s); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, %v; want an error with %q", b.Name, v, err, want)
			}
		}
	}
}

// A map of a user that looks like a Many is a map.
func TestManyIsNotMadeByTasklets(t *testing.T) {
	f := mustParse(t, []byte("name: f\nsteps:\n  a: {run: x, outputs: {m: map}}\n  b: {run: x, with: {n: '${{ steps.a.outputs.m.n }}'}}\n"), Options{})
	b, _ := f.Step("b")
	v, err := b.With[0].Eval(Scope{Steps: map[string]StepResult{"a": {Outputs: map[string]any{"m": map[string]any{"$type": "many", "n": 3}}}}})
	if err != nil || v != int64(3) {
		t.Errorf("got %v, %v", v, err)
	}
}
