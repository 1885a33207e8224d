package flow

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baas-batch/baas/tasklet"
)

// evalFlow has a place for one expression, and things for it to read.
const evalFlow = `
name: eval
params:
  s: {type: string, default: abc}
  i: {type: int, default: 7}
  f: {type: float, default: 3}
  b: {type: bool, default: true}
  d: {type: duration, default: 90m}
  t: {type: time, default: '2026-01-31T06:00:00+01:00'}
  day: {type: date, default: '2026-01-31'}
  l: {type: list, default: [3, 1.0, 2.5]}
  m: {type: map, default: {z: 1, a: 2, k: 3}}
  in: {type: file}
  perhaps: {type: string, required: false}
steps:
  many:
    for_each: [1, 2]
    run: x
    outputs: {n: int, out: {type: file, optional: true}, parts: files, x: float}
  one:
    run: x
    outputs: {n: int, x: float, words: list, maybe: {type: string, optional: true}, out: file}
  skipped: {run: x, when: false, outputs: {n: int}}
  probe:
    for_each: '${{ params.l }}'
    run: x
    with: {v: %s}
on_exit:
  last: {run: x, with: {v: '${{ run.status + "/" + run.failed_step }}'}}
`

func evalFile(value string) []byte {
	src := strings.Replace(evalFlow, "%s", value, 1)
	return []byte(strings.Replace(src, "  in: {type", "  input: {type", 1))
}

func fileRef(name string) tasklet.FileRef {
	return tasklet.NewFileRef("runs/x/"+name, 12, strings.Repeat("ab", 32), name)
}

func evalScope(t testing.TB, f *Flow) Scope {
	t.Helper()
	params, err := f.Bind(map[string]any{"input": fileRef("in.csv")})
	if err != nil {
		t.Fatal(err)
	}
	return Scope{
		Params: params,
		Steps: map[string]StepResult{
			"many": {Status: StatusSucceeded, Count: 2, Outputs: map[string]any{
				"n": []any{1, 2}, "out": []any{fileRef("a"), fileRef("b")}, "x": []any{1, 2.5},
				"parts": []any{[]any{fileRef("p1"), fileRef("p2")}, []any{fileRef("p3")}},
			}},
			"one": {Status: StatusSucceeded, ExitStatus: "EMPTY", Count: 1, Outputs: map[string]any{
				"n": json.RawMessage(`5`), "x": 2.0, "words": []any{"b", "a", "b"}, "out": fileRef("o.txt"),
			}},
			"skipped": {Status: StatusSkipped},
		},
		Item:  2.5,
		Index: 1,
		Run:   RunInfo{ID: "r1", App: "eval", Owner: "me", Date: "2026-02-01", Status: "failed", FailedStep: "one"},
	}
}

func mustParse(t testing.TB, src []byte, opts Options) *Flow {
	t.Helper()
	f, err := Parse("f.yaml", src, opts)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// roundTrip sends a value through JSON, as Temporal's history does.
func roundTrip[T any](t testing.TB, v T) T {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func probe(f *Flow) Binding {
	step, _ := f.Step("probe")
	return step.With[0]
}

var evaluations = []struct {
	value string // as it stands in the file
	want  any
}{
	{`'${{ params.s }}'`, "abc"},
	{`'${{ params.i + 1 }}'`, int64(8)},
	{`'${{ params.f }}'`, 3.0},
	{`'${{ params.f / 2.0 }}'`, 1.5},
	{`'${{ !params.b }}'`, false},
	{`'${{ params.d }}'`, "1h30m0s"},
	{`'${{ params.d + duration("30m") }}'`, "2h0m0s"},
	{`'${{ params.d > duration("1h") }}'`, true},
	{`'${{ params.t }}'`, "2026-01-31T05:00:00Z"},
	{`'${{ string(timestamp(params.day + "T00:00:00Z") - duration("24h")).substring(0, 10) }}'`, "2026-01-30"},
	{`'${{ params.t.getHours() }}'`, int64(5)},
	{`'${{ params.l }}'`, []any{int64(3), int64(1), 2.5}},
	{`'${{ params.l[1] + 1 }}'`, int64(2)},
	{`'${{ params.m.map(k, k) }}'`, []any{"a", "k", "z"}},
	{`'${{ {"b": 1, "a": {"x": 2}}.a.x }}'`, int64(2)},
	{`'${{ params.m.a + params.m["z"] }}'`, int64(3)},
	{`'${{ params.input.name + ":" + string(params.input.size) }}'`, "in.csv:12"},
	{`'${{ steps.one.outputs.n * 2 }}'`, int64(10)},
	{`'${{ steps.one.outputs.x }}'`, 2.0},
	{`'${{ steps.one.exit_status == "EMPTY" }}'`, true},
	{`'${{ steps.many.count }}'`, int64(2)},
	{`'${{ steps.many.outputs.n }}'`, []any{int64(1), int64(2)}},
	{`'${{ steps.many.outputs.x }}'`, []any{1.0, 2.5}},
	{`'${{ steps.many.outputs.out.map(f, f.name).join(",") }}'`, "a,b"},
	{`'${{ steps.many.outputs.parts.flatten().map(f, f.name) }}'`, []any{"p1", "p2", "p3"}},
	{`'${{ steps.one.outputs.words.distinct() }}'`, []any{"b", "a"}},
	{`'${{ has(steps.one.outputs.maybe) ? "yes" : "no" }}'`, "no"},
	{`'${{ has(steps.one.outputs.n) }}'`, true},
	{`'${{ has(steps.skipped.outputs.n) }}'`, false},
	{`'${{ steps.skipped.status }}'`, "skipped"},
	{`'${{ has(params.perhaps) ? params.perhaps : "no" }}'`, "no"},
	{`'${{ item }}'`, 2.5},
	{`'${{ index }}'`, int64(1)},
	{`'${{ run.id }}/${{ run.app }}/${{ run.owner }}/${{ run.date }}'`, "r1/eval/me/2026-02-01"},
	{`'no. ${{ params.i }}: ${{ params.f }}, ${{ params.b }}'`, "no. 7: 3, true"},
	{`'$${{ not one }} ${{ params.s }}'`, "${{ not one }} abc"},
	{`'$${{ only text }}'`, "${{ only text }}"},
	{`'$5 {{ x }} $ {'`, "$5 {{ x }} $ {"},
	{`{a: '${{ params.i }}', b: [1, '${{ params.s }}'], c: x}`, map[string]any{"a": int64(7), "b": []any{int64(1), "abc"}, "c": "x"}},
	{`[1, 2.0, x, true]`, []any{int64(1), int64(2), "x", true}},
	{`'${{ [3, 1, 2].sort().reverse().slice(0, 2) }}'`, []any{int64(3), int64(2)}},
	{`'${{ lists.range(3) }}'`, []any{int64(0), int64(1), int64(2)}},
	{`'${{ "a,b".split(",") }}'`, []any{"a", "b"}},
	{`'${{ " Ab ".trim().upperAscii().replace("A", "x").lowerAscii() }}'`, "xb"},
	{`'${{ "abcabc".indexOf("c") + "abcabc".lastIndexOf("c") }}'`, int64(7)},
	{`'${{ "a1".matches("^[a-z][0-9]$") }}'`, true},
	{`'${{ math.greatest(1, math.greatest(5, 3)) }}'`, int64(5)},
	{`'${{ "}}" + ''"'' + "''" }}'`, `}}"'`},
	{`'${{ 2 in [1, 2] && "a" in params.m && {"x": [1]} == {"x": [1]} }}'`, true},
}

func TestEvaluate(t *testing.T) {
	for _, test := range evaluations {
		t.Run(test.value, func(t *testing.T) {
			f := mustParse(t, evalFile(test.value), Options{})
			s := evalScope(t, f)
			got, err := probe(f).Eval(s)
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Fatalf("%#v, %v; want %#v", got, err, test.want)
			}
			g, s2 := roundTrip(t, f), roundTrip(t, s)
			again, err := probe(g).Eval(s2)
			if err != nil || !reflect.DeepEqual(again, test.want) {
				t.Fatalf("after JSON: %#v, %v; want %#v", again, err, test.want)
			}
			if a, b := asJSON(t, f), asJSON(t, g); a != b {
				t.Fatalf("the plan changed through JSON:\n%s\n%s", a, b)
			}
		})
	}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestEvaluateErrors(t *testing.T) {
	for _, test := range []struct{ value, want string }{
		{`'${{ steps.skipped.outputs.n + 1 }}'`, "v: ${{ steps.skipped.outputs.n + 1 }}: steps.skipped.outputs.n is not set: the step was skipped"},
		{`'${{ steps.one.outputs.maybe }}'`, "v: ${{ steps.one.outputs.maybe }}: steps.one.outputs.maybe is not set: the step left it out"},
		{`'${{ params.perhaps }}'`, "v: ${{ params.perhaps }}: params.perhaps is not set"},
		{`'${{ 1 / (params.i - 7) }}'`, "v: ${{ 1 / (params.i - 7) }}: division by zero"},
		{`'${{ params.l[9] }}'`, "v: ${{ params.l[9] }}: index out of bounds: 9"},
		{`'${{ params.m.nope }}'`, "v: ${{ params.m.nope }}: no such key: nope"},
		{`'${{ 9007199254740992 + 1 }}'`, "v: ${{ 9007199254740992 + 1 }}: 9007199254740993 is beyond ±2^53"},
		{`'${{ 9223372036854775807 + 1 }}'`, "v: ${{ 9223372036854775807 + 1 }}: integer overflow"},
		{`'${{ lists.range(1000001) }}'`, "v: ${{ lists.range(1000001) }}: lists.range(1000001): from 0 to 1000000 elements"},
		{`'${{ "abc".substring(2, 9) }}'`, `v: ${{ "abc".substring(2, 9) }}: substring(2, 9) of a text of 3 characters`},
		{`'${{ int(params.s) }}'`, `v: ${{ int(params.s) }}: type conversion error from 'string' to 'int'`},
	} {
		f := mustParse(t, evalFile(test.value), Options{})
		_, err := probe(f).Eval(evalScope(t, f))
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: %v; want %s", test.value, err, test.want)
		}
	}
	f := mustParse(t, evalFile(`'${{ steps.many.outputs.n }}'`), Options{})
	s := evalScope(t, f)
	delete(s.Steps, "many")
	var missing *NotSetError
	if _, err := probe(f).Eval(s); !errors.As(err, &missing) || missing.Step != "many" || missing.Output != "n" {
		t.Errorf("%v is no NotSetError of many.n", err)
	}
}

// Each of these would take for ever, or all memory, without bounds.
func TestEvaluationIsBounded(t *testing.T) {
	for name, source := range map[string]string{
		"nested loops":    `lists.range(1000).map(a, lists.range(1000).map(b, lists.range(1000).map(c, a + b + c)))`,
		"doubled text":    `["` + strings.Repeat("x", 100) + `"]` + strings.Repeat(`.map(a, a+a)`, 35),
		"doubled list":    `[[1]]` + strings.Repeat(`.map(a, a+a)`, 50),
		"shared values":   `[[1]]` + strings.Repeat(`.map(a, [a,a])`, 45),
		"shared equality": `[[1]]` + strings.Repeat(`.map(a, [a,a])`, 40) + ` == [[1]]` + strings.Repeat(`.map(a, [a,a])`, 40),
		"shared member":   `[[1]]` + strings.Repeat(`.map(a, [a,a])`, 40) + ` in [[[1]]` + strings.Repeat(`.map(a, [a,a])`, 40) + `]`,
		"replace":         `[lists.range(10000).map(a, "aaaaaaaaaa").join("")].map(s, s.replace("a", s))`,
		"replace twice":   `"aaaaaaaaaa"` + strings.Repeat(`.replace("a", "aaaaaaaaaa")`, 20),
		"join":            `lists.range(100000).map(a, "x").join(lists.range(10000).map(a, "yy").join(""))`,
		"flatten":         `[lists.range(1000000)].map(a, [a,a,a,a,a,a,a]).map(a, a.flatten())`,
		"pattern":         `lists.range(10000).map(a, "aaaaaaaaaa").join("").matches("(a?){1000}a{1000}")`,
	} {
		t.Run(name, func(t *testing.T) {
			f := mustParse(t, evalFile(`'${{ `+source+` }}'`), Options{})
			s := evalScope(t, f)
			start := cpuTime(t)
			v, err := probe(f).Eval(s)
			if took := cpuTime(t) - start; took > 10*time.Second {
				t.Errorf("took %s", took)
			} else {
				t.Logf("%s: %v", took, err)
			}
			if err == nil && len(asJSON(t, v)) > 64<<20 {
				t.Error("the result is too large")
			}
		})
	}
}

func TestProgramsAreShared(t *testing.T) {
	f := mustParse(t, evalFile(`'${{ params.i + index }}'`), Options{})
	s := evalScope(t, f)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			scope := s
			scope.Index = i
			if v, err := probe(f).Eval(scope); v != int64(7+i) || err != nil {
				t.Errorf("%v, %v", v, err)
			}
		})
	}
	group.Wait()
}

func TestForEach(t *testing.T) {
	for _, test := range []struct {
		each string
		want []any
		item Type
	}{
		{`[a, b]`, []any{"a", "b"}, String},
		{`[1, '${{ params.i }}']`, []any{int64(1), int64(7)}, Int},
		{`{from: 2, to: 4}`, []any{int64(2), int64(3), int64(4)}, Int},
		{`{from: '${{ params.i }}', to: '${{ params.i + 1 }}'}`, []any{int64(7), int64(8)}, Int},
		{`{from: '${{ params.i }}', to: 3}`, []any{}, Int},
		{`'${{ params.l.filter(x, x > 2) }}'`, []any{int64(3), 2.5}, Any},
		{`'${{ steps.many.outputs.n }}'`, []any{int64(1), int64(2)}, Int},
	} {
		src := strings.Replace(string(evalFile("1")), "'${{ params.l }}'", test.each, 1)
		f := mustParse(t, []byte(src), Options{})
		for _, g := range []*Flow{f, roundTrip(t, f)} {
			step, _ := g.Step("probe")
			items, err := step.ForEach.Eval(evalScope(t, g))
			if err != nil {
				t.Fatal(err)
			}
			items = roundTrip(t, items)
			got := []any{}
			for i := range items.Len() {
				v, err := step.ForEach.Item.convert(items.At(i))
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, v)
			}
			if !reflect.DeepEqual(got, test.want) || step.ForEach.Item != test.item {
				t.Errorf("%s: %v of %s, want %v of %s", test.each, got, step.ForEach.Item, test.want, test.item)
			}
		}
	}
}

func indent(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw) + "\n"
}

func TestEnvironmentIsText(t *testing.T) {
	src := strings.Replace(string(evalFile("1")), "with: {v: 1}", "env: {A: '${{ params.i }}', B: 1.10, C: '${{ params.f }}/${{ item }}', D: '', E: '${{ params.d }}'}", 1)
	f := roundTrip(t, mustParse(t, []byte(src), Options{}))
	step, _ := f.Step("probe")
	want := map[string]any{"A": "7", "B": "1.10", "C": "3/2.5", "D": "", "E": "1h30m0s"}
	for _, e := range step.Env {
		if v, err := e.Eval(evalScope(t, f)); v != want[e.Name] || err != nil {
			t.Errorf("%s: %#v, %v; want %q", e.Name, v, err, want[e.Name])
		}
	}
	if len(step.Env) != len(want) {
		t.Errorf("%d variables, want %d", len(step.Env), len(want))
	}
}

// Inputs of a tasklet are checked again when their values are known.
func TestInputsAreCheckedWhenTheyAreKnown(t *testing.T) {
	f := mustParse(t, []byte(`
name: f
params: {f: file, l: list}
steps: {a: {tasklet: csv-split@1, with: {file: '${{ params.f }}', by: '${{ params.l[0] }}', parts: '${{ params.l[1] }}'}}}
`), appOptions(t))
	for _, test := range []struct {
		list []any
		want string
	}{
		{[]any{"k", 5}, ""},
		{[]any{"K", 5}, `by: "K" does not match the pattern [a-z_]+`},
		{[]any{"k", "5"}, `parts: expected a whole number, found text "5"`},
		{[]any{1, 5}, `by: expected text, found number 1`},
	} {
		var got []string
		for _, b := range f.Steps[0].With {
			if _, err := b.Eval(Scope{Params: map[string]any{"f": fileRef("x"), "l": test.list}}); err != nil {
				got = append(got, err.Error())
			}
		}
		if strings.Join(got, "; ") != test.want {
			t.Errorf("%v: %v; want %s", test.list, got, test.want)
		}
	}
}
