package flow

import (
	"encoding/json"
	"os"
	"testing"
)

func statements(b *testing.B) []byte {
	src, err := os.ReadFile("testdata/good/statements.yaml")
	if err != nil {
		b.Fatal(err)
	}
	return src
}

func BenchmarkParse(b *testing.B) {
	src, opts := statements(b), appOptions(b)
	for b.Loop() {
		if _, err := Parse("f.yaml", src, opts); err != nil {
			b.Fatal(err)
		}
	}
}

// What a worker does when it first meets a run.
func BenchmarkDecodeAndFirstEval(b *testing.B) {
	raw, err := json.Marshal(mustParse(b, statements(b), appOptions(b)))
	if err != nil {
		b.Fatal(err)
	}
	s := Scope{Params: map[string]any{"month": "2025-01"}, Steps: map[string]StepResult{"render": {Count: 3}}}
	for b.Loop() {
		var f Flow
		if err := json.Unmarshal(raw, &f); err != nil {
			b.Fatal(err)
		}
		step, _ := f.Step("post")
		if v, err := step.When.EvalBool(s); !v || err != nil {
			b.Fatal(v, err)
		}
	}
}

// The two inputs of one partition.
func BenchmarkEvalPartition(b *testing.B) {
	f := mustParse(b, statements(b), appOptions(b))
	step, _ := f.Step("render")
	s := Scope{Params: map[string]any{"month": "2025-01"}, Item: plain(fileRef("x"))}
	b.ReportAllocs()
	for b.Loop() {
		for _, in := range step.With {
			if _, err := in.Eval(s); err != nil {
				b.Fatal(err)
			}
		}
	}
}
