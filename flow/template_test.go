package flow

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
)

const templateFlow = `
name: f
params:
  month: string
  secretive: {type: string, default: zzzz}
  names: {type: list, default: [a, b]}
steps:
  split: {run: x, outputs: {parts: files, n: int, unused: string}}
  each: {run: x, for_each: [1, 2], outputs: {v: int}}
  render:
    run: x
    for_each: '${{ steps.split.outputs.parts }}'
    with:
      part: '${{ item }}'
      label: 'part ${{ index + 1 }} of ${{ steps.split.outputs.n }} (${{ params.month }})'
      month: '${{ params.month }}'
      nested: {list: ['${{ item.name }}', 1.5], of: '${{ size(steps.each.outputs.v) }}'}
      name: '${{ math.greatest(index, 0) >= 0 ? params.names[index % 2] : "none" }}'
      run: '${{ run.id }}-${{ index }}'
    env: {FIXED: 'x', PART: '${{ item.name }}'}
    outputs: {out: string}
`

func templateScope() Scope {
	return Scope{
		Params: map[string]any{"month": "2026-01", "secretive": "zzzz", "names": []any{"a", "b"}},
		Steps: map[string]StepResult{
			"split": {Status: StatusSucceeded, Outputs: map[string]any{"parts": []any{plain(fileRef("p0")), plain(fileRef("p1"))}, "n": 2, "unused": "unused text"}},
			"each":  {Status: StatusSucceeded, Count: 2, Outputs: map[string]any{"v": []any{1, 2}}},
		},
		Run: RunInfo{ID: "run1", App: "f", Owner: "o", Date: "2026-01-31"},
	}
}

func mustTemplate(t testing.TB, f *Flow, id string, scope Scope) Template {
	t.Helper()
	step, ok := f.Step(id)
	if !ok {
		t.Fatalf("no step %s", id)
	}
	template, err := f.Template(step, scope)
	if err != nil {
		t.Fatal(err)
	}
	return template
}

func TestTemplateGivesWhatTheStepGives(t *testing.T) {
	f := mustParse(t, []byte(templateFlow), Options{})
	scope := templateScope()
	step, _ := f.Step("render")
	items, err := step.ForEach.Eval(scope)
	if err != nil {
		t.Fatal(err)
	}
	template := mustTemplate(t, f, "render", scope)
	raw, err := json.Marshal(template)
	if err != nil {
		t.Fatal(err)
	}
	var again Template
	if err := json.Unmarshal(raw, &again); err != nil {
		t.Fatal(err)
	}
	if round, _ := json.Marshal(again); string(round) != string(raw) {
		t.Errorf("the template changes in a round trip:\n%s\n%s", raw, round)
	}
	for _, unread := range []string{"unused", "zzzz", "secretive"} {
		if strings.Contains(string(raw), unread) {
			t.Errorf("the template holds %q, which no expression reads: %s", unread, raw)
		}
	}
	for index := range items.Len() {
		scope.Item, scope.Index = items.At(index), index
		inputs, env, _, err := step.Inputs(scope, MaxPartitionInputs)
		if err != nil {
			t.Fatal(err)
		}
		want := marshal(map[string]any{"inputs": inputs, "env": env})
		for name, tmpl := range map[string]*Template{"built": &template, "read": &again} {
			inputs, env, err := tmpl.Eval(marshal(items.At(index)), index)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for key, value := range tmpl.Inputs {
				inputs[key] = value
			}
			for key, value := range tmpl.Env {
				env[key] = value
			}
			if got := marshal(map[string]any{"inputs": inputs, "env": env}); string(got) != string(want) {
				t.Errorf("%s, partition %d:\n got %s\nwant %s", name, index, got, want)
			}
		}
	}
	if len(template.Inputs) != 1 || string(template.Inputs["month"]) != `"2026-01"` || template.Env["FIXED"] != "x" {
		t.Errorf("common to all: %s and %v", marshal(template.Inputs), template.Env)
	}
}

func TestTemplateErrorsNameTheBinding(t *testing.T) {
	f := mustParse(t, []byte(`
name: f
params: {n: {type: int, required: false}, divisor: {type: int, default: 0}}
steps:
  a: {run: x, outputs: {o: {type: string, optional: true}}}
  fixed: {run: x, for_each: [1], with: {q: '${{ 1 / params.divisor }}'}}
  each: {run: x, for_each: [1], with: {q: '${{ item / params.divisor }}'}}
  unset: {run: x, for_each: [1], with: {q: '${{ item + params.n }}'}}
  output: {run: x, for_each: [a], env: {Q: '${{ item + steps.a.outputs.o }}'}}
  notEnded: {run: x, for_each: [a], env: {Q: '${{ item + steps.a.status }}'}, needs: [a]}
`), Options{})
	scope := Scope{Params: map[string]any{"divisor": 0}, Steps: map[string]StepResult{"a": {Status: StatusSucceeded}}}
	step, _ := f.Step("fixed")
	if _, err := f.Template(step, scope); err == nil || !strings.HasPrefix(err.Error(), "with.q: ${{ 1 / params.divisor }}: division by zero") {
		t.Errorf("fixed: %v", err)
	}
	for _, tc := range []struct{ step, item, want string }{
		{"each", "1", "with.q: ${{ item / params.divisor }}: division by zero"},
		{"unset", "1", "with.q: ${{ item + params.n }}: params.n is not set"},
		{"output", `"a"`, "env.Q: ${{ item + steps.a.outputs.o }}: steps.a.outputs.o is not set: the step left it out"},
		{"each", `"text"`, `for_each: element 7: expected a whole number, found text "text"`},
		{"each", `null`, `for_each: element 7: expected a whole number, found nothing`},
		{"each", `{`, "for_each: element 7: unexpected EOF"},
		{"each", `01`, "for_each: element 7: more than one JSON value"},
	} {
		template := mustTemplate(t, f, tc.step, scope)
		if _, _, err := template.Eval(json.RawMessage(tc.item), 7); err == nil || err.Error() != tc.want {
			t.Errorf("%s: error %v, want %s", tc.step, err, tc.want)
		}
	}
	template := mustTemplate(t, f, "notEnded", Scope{})
	if _, _, err := template.Eval(json.RawMessage(`"a"`), 0); err == nil || !strings.Contains(err.Error(), `step "a" has no result`) {
		t.Errorf("a step that has not ended: %v", err)
	}
}

func TestTemplateIsBounded(t *testing.T) {
	f := mustParse(t, []byte(`
name: f
params: {text: string, other: string}
steps:
  common: {run: x, for_each: [1], with: {all: '${{ params.text }}', i: '${{ item }}'}}
  read: {run: x, for_each: [1], with: {i: '${{ params.text + string(item) }}', other: '${{ params.other }}'}}
  each: {run: x, for_each: [1], with: {i: '${{ params.other + params.other + string(item) }}', fixed: 1}}
`), Options{})
	scope := Scope{Params: map[string]any{"text": strings.Repeat("x", MaxTemplate), "other": strings.Repeat("y", MaxPartitionInputs/2+1)}}
	for id, want := range map[string]string{"common": "(with.all has 262,146)", "read": "(params.text has 262,146, with.other has 131,075)"} {
		step, _ := f.Step(id)
		if _, err := f.Template(step, scope); err == nil || !strings.Contains(err.Error(), "over the limit of 262,144 "+want) {
			t.Errorf("%s: %v", id, err)
		}
	}
	template := mustTemplate(t, f, "each", scope)
	if _, _, err := template.Eval(json.RawMessage("1"), 0); err == nil || !strings.Contains(err.Error(), "pass large values as files") {
		t.Errorf("a partition's inputs: %v", err)
	}
}

func TestTemplateWithNothingToWorkOut(t *testing.T) {
	f := mustParse(t, []byte("name: f\nsteps:\n  a: {run: x, for_each: [1], with: {i: 1}}\n  plain: {run: x}\n"), Options{})
	template := mustTemplate(t, f, "a", Scope{})
	if inputs, env, err := template.Eval(json.RawMessage("1"), 0); inputs != nil || env != nil || err != nil {
		t.Errorf("got %v, %v, %v", inputs, env, err)
	}
	if raw := string(marshal(template)); raw != `{"inputs":{"i":1},"item":"int"}` {
		t.Errorf("JSON %s", raw)
	}
	plain, _ := f.Step("plain")
	if _, err := f.Template(plain, Scope{}); err == nil {
		t.Error("a plain step has a template")
	}
}

func TestTemplateIsSafeForManyGoroutines(t *testing.T) {
	f := mustParse(t, []byte(templateFlow), Options{})
	template := mustTemplate(t, f, "render", templateScope())
	item := marshal(fileRef("p0"))
	want, _, err := template.Eval(item, 1)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				got, _, err := template.Eval(item, 1)
				if err != nil || string(marshal(got)) != string(marshal(want)) {
					t.Errorf("got %s, %v", marshal(got), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A million partitions pass through this on one leader.
func BenchmarkTemplateEval(b *testing.B) {
	f := mustParse(b, []byte(`
name: f
params: {month: string, names: {type: list, default: []}}
steps:
  item: {run: x, for_each: {from: 1, to: 1000000}, with: {n: '${{ item }}'}}
  text: {run: x, for_each: {from: 1, to: 1000000}, with: {n: '${{ params.month }}/part-${{ item }}'}, env: {I: '${{ index }}'}}
  lookup: {run: x, for_each: {from: 1, to: 1000000}, with: {n: '${{ params.names[index % 1000] }}'}}
  file: {run: x, for_each: '${{ params.names }}', with: {f: '${{ item }}'}}
`), Options{})
	list := make([]any, 1000)
	for i := range list {
		list[i] = fmt.Sprint("name ", i)
	}
	scope := Scope{Params: map[string]any{"month": "2026-01", "names": list}}
	for _, id := range []string{"item", "text", "lookup", "file"} {
		b.Run(id, func(b *testing.B) {
			template := mustTemplate(b, f, id, scope)
			item := json.RawMessage("123456")
			if id == "file" {
				item = marshal(fileRef("some/longer/key"))
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, _, err := template.Eval(item, i); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
