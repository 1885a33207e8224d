package flow

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// limit is far above what bounded work takes, also under -race on a busy machine.
const limit = 20 * time.Second

func FuzzParse(f *testing.F) {
	raw, err := os.ReadFile("testdata/problems.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, block := range strings.Split(string(raw), "=== ")[1:] {
		_, rest, _ := strings.Cut(block, "\n")
		src, _, _ := strings.Cut(rest, "\n>>>\n")
		f.Add([]byte(unescape(src)))
	}
	good, err := filepath.Glob("testdata/good/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range good {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	opts := appOptions(f)
	f.Fuzz(func(t *testing.T, src []byte) {
		start := time.Now()
		flow, err := Parse("f.yaml", src, opts)
		if took := time.Since(start); took > limit {
			t.Errorf("took %s", took)
		}
		if err != nil {
			checkProblems(t, err)
			return
		}
		again := roundTrip(t, flow)
		if a, b := asJSON(t, flow), asJSON(t, again); a != b {
			t.Errorf("the plan changed through JSON:\n%s\n%s", a, b)
		}
		if n := len(Order(flow.Steps)); n != len(flow.Steps) {
			t.Errorf("%d of %d steps in order", n, len(flow.Steps))
		}
	})
}

func checkProblems(t *testing.T, err error) {
	t.Helper()
	var problems Problems
	if !errors.As(err, &problems) || len(problems) == 0 {
		t.Fatalf("%T: %v", err, err)
	}
	for _, p := range problems {
		if p.File == "" || p.Line < 1 || p.Column < 1 || p.Message == "" || strings.ContainsAny(p.Message, "\n\x00") {
			t.Errorf("%#v", p)
		}
	}
}

func FuzzTasklet(f *testing.F) {
	f.Add([]byte(splitTasklet))
	for _, name := range []string{"count.yaml", "broken.yaml", "versions.yaml"} {
		f.Add(appFiles[name].Data)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if _, err := ParseTasklet("t.yaml", src, nil); err != nil {
			checkProblems(t, err)
		}
	})
}

// Whatever type-checks gives the same before and after a round trip through JSON,
// in bounded time, and what it gives is of the type that was promised.
func FuzzEvaluate(f *testing.F) {
	for _, e := range evaluations {
		if pieces, err := split(e.value); err == nil {
			for _, p := range pieces {
				if p.isExpr {
					f.Add(strings.ReplaceAll(p.text, "''", "'"))
				}
			}
		}
	}
	for _, source := range []string{
		`lists.range(50).map(a, lists.range(50).map(b, a + b))`, `[[1]].map(a, a+a).map(a, [a,a]) == [1]`,
		`{"a": [1, {"b": 2.5}]}`, `{1: 2}[1]`, `params.m.map(k, params.m[k]) in [[2]]`, `[1, "a", 2.0].sort()`,
		`"x".matches("(a*)*$")`, `timestamp("2026-01-01T00:00:00Z") + duration("1h")`, `b"abc" + bytes("x")`, `type(1) == int`,
		`[params.d, params.d].distinct()`, `steps.many.outputs.parts.flatten()[0].size`, `1u + 2u`, `null`, `dyn(1) < 2.5`,
	} {
		f.Add(source)
	}
	base := mustParse(f, evalFile("x"), Options{})
	f.Fuzz(func(t *testing.T, source string) {
		c, err := newChecker(base)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		expr, _, faults := c.check(source, site{item: Any})
		if took := time.Since(start); took > limit {
			t.Errorf("the check took %s", took)
		}
		if expr == nil {
			if len(faults) == 0 {
				t.Error("refused without a reason")
			}
			return
		}
		scope := evalScope(t, base)
		start = time.Now()
		expr.flow = base
		value, err := expr.Eval(scope)
		if took := time.Since(start); took > limit {
			t.Errorf("took %s", took)
		}
		later, lateErr := expr.Eval(roundTrip(t, scope))
		if (err == nil) != (lateErr == nil) || !reflect.DeepEqual(value, later) {
			t.Errorf("%v, %v; after JSON: %v, %v", value, err, later, lateErr)
		}
		if err != nil {
			return
		}
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := decodeJSON(raw)
		if err != nil {
			t.Fatal(err)
		}
		back, err := expr.Type.convert(decoded)
		if err != nil || !reflect.DeepEqual(back, value) {
			t.Errorf("%s: %#v became %#v, %v", expr.Type, value, back, err)
		}
	})
}
