package flow

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// limit is far above the CPU time that bounded work takes, also under -race. The
// fuzzer itself ends a worker after 10 s with one input.
const limit = 20 * time.Second

const fuzzedFile = "f.yaml"

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
		start := cpuTime(t)
		flow, err := Parse(fuzzedFile, src, opts)
		if took := cpuTime(t) - start; took > limit {
			t.Errorf("took %s", took)
		}
		if err != nil {
			checkProblems(t, err, src)
			return
		}
		again := roundTrip(t, flow)
		if printed, ok := canonical(src); ok {
			same, err := Parse(fuzzedFile, printed, opts)
			if err != nil {
				t.Fatalf("%s\nis valid, and is not when it is printed as\n%s\n%v", src, printed, err)
			}
			if a, b := asJSON(t, flow), asJSON(t, same); a != b {
				t.Errorf("another flow when it is printed:\n%s\n%s", a, b)
			}
		}
		if a, b := asJSON(t, flow), asJSON(t, again); a != b {
			t.Errorf("the plan changed through JSON:\n%s\n%s", a, b)
		}
		if n := len(Order(flow.Steps)); n != len(flow.Steps) {
			t.Errorf("%d of %d steps in order", n, len(flow.Steps))
		}
	})
}

// checkProblems: every problem of the file itself stands at a place in the file.
func checkProblems(t *testing.T, err error, src []byte) {
	t.Helper()
	text := strings.TrimPrefix(string(src), "\ufeff")
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text), "\n")
	var problems Problems
	if !errors.As(err, &problems) || len(problems) == 0 {
		t.Fatalf("%T: %v", err, err)
	}
	for _, p := range problems {
		if p.File == "" || p.Line < 1 || p.Column < 1 || p.Message == "" || strings.ContainsAny(p.Message+p.Hint, "\n\x00") {
			t.Errorf("%#v", p)
		}
		if p.File != fuzzedFile {
			continue
		}
		if p.Line > len(lines) || p.Column > utf8.RuneCountInString(lines[p.Line-1])+1 {
			t.Errorf("there is no such place: %s", p)
		}
	}
}

// canonical prints a YAML file anew: without comments, aliases, merges or block
// styles, as JSON whose plain words stay plain. It is false where unfolded aliases
// make it larger than a file may be.
func canonical(src []byte) ([]byte, bool) {
	d, root := load(fuzzedFile, src)
	if root == nil {
		return nil, false
	}
	var b bytes.Buffer
	printNode(&b, d, root)
	return b.Bytes(), b.Len() <= MaxFileSize
}

func printNode(b *bytes.Buffer, d *document, n *yaml.Node) {
	n = follow(n)
	switch {
	case b.Len() > MaxFileSize:
	case n.Kind == yaml.MappingNode:
		b.WriteString("{")
		for i, p := range d.pairs(n) {
			if i > 0 {
				b.WriteString(",")
			}
			b.WriteString("\n" + quoted(p.key.Value) + ": ")
			printNode(b, d, p.value)
		}
		b.WriteString("}")
	case n.Kind == yaml.SequenceNode:
		b.WriteString("[")
		for i, e := range n.Content {
			if i > 0 {
				b.WriteString(", ")
			}
			printNode(b, d, e)
		}
		b.WriteString("]")
	case n.ShortTag() == "!!str" || n.ShortTag() == "!!merge":
		b.WriteString(quoted(n.Value))
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		b.WriteString(n.ShortTag() + " " + quoted(n.Value)) // such as !!int "1"
	default:
		b.WriteString(cmp.Or(n.Value, "~"))
	}
}

// quoted writes text in YAML's double quotes, all but plain ASCII as escapes.
func quoted(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteString("\\" + string(r))
		case r < ' ' || r > '~':
			fmt.Fprintf(&b, "\\U%08X", r)
		default:
			b.WriteRune(r)
		}
	}
	return `"` + b.String() + `"`
}

func FuzzTasklet(f *testing.F) {
	f.Add([]byte(splitTasklet))
	for _, name := range []string{"count.yaml", "broken.yaml", "versions.yaml"} {
		f.Add(appFiles[name].Data)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if _, err := ParseTasklet(fuzzedFile, src, nil); err != nil {
			checkProblems(t, err, src)
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
		start := cpuTime(t)
		expr, _, faults := c.check(source, site{item: Any})
		if took := cpuTime(t) - start; took > limit {
			t.Errorf("the check took %s", took)
		}
		if expr == nil {
			if len(faults) == 0 {
				t.Error("refused without a reason")
			}
			return
		}
		scope := evalScope(t, base)
		start = cpuTime(t)
		expr.flow = base
		value, err := expr.Eval(scope)
		if took := cpuTime(t) - start; took > limit {
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
