package flow

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/tasklet"
)

// Each good file has its plan and its graph beside it.
func TestGoodFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/good/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f := mustParse(t, src, appOptions(t))
		golden(t, strings.TrimSuffix(file, ".yaml")+".json", indent(t, f))
		golden(t, strings.TrimSuffix(file, ".yaml")+".mmd", f.Mermaid())
		if g := roundTrip(t, f); asJSON(t, f) != asJSON(t, g) {
			t.Errorf("%s changed through JSON", file)
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs:\n%s", file, got)
	}
}

func TestOrder(t *testing.T) {
	steps := []Step{{ID: "d", Needs: []string{"b", "c"}}, {ID: "b", Needs: []string{"a"}}, {ID: "c", Needs: []string{"a"}}, {ID: "a"}, {ID: "e"}}
	if got, want := Order(steps), []string{"a", "e", "b", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	if got, want := Roots(steps), []string{"a", "e"}; !slices.Equal(got, want) {
		t.Errorf("roots %v, want %v", got, want)
	}
	want := map[string][]string{"a": {"b", "c"}, "b": {"d"}, "c": {"d"}}
	if got := Dependants(steps); !reflect.DeepEqual(got, want) {
		t.Errorf("dependants %v, want %v", got, want)
	}
}

func TestStepNamesThatAreWordsOfCEL(t *testing.T) {
	src := "name: f\nsteps:\n"
	for _, word := range []string{"import", "if", "for", "package", "function", "return", "else", "params", "item", "size"} {
		src += fmt.Sprintf("  %s: {run: x, outputs: {%s: int}}\n  %s_after: {run: x, with: {n: '${{ steps.%s.outputs.%s }}'}}\n", word, word, word, word, word)
	}
	f := mustParse(t, []byte(src), Options{})
	for _, s := range f.Steps {
		if name, ok := strings.CutSuffix(s.ID, "_after"); ok {
			scope := Scope{Steps: map[string]StepResult{name: {Status: StatusSucceeded, Outputs: map[string]any{name: 5}}}}
			if v, err := s.With[0].Eval(scope); v != int64(5) || err != nil {
				t.Errorf("%s: %v, %v", name, v, err)
			}
		}
	}
}

func TestBounds(t *testing.T) {
	many := func(n int) string {
		var b strings.Builder
		b.WriteString("name: f\nsteps:\n")
		for i := range n {
			fmt.Fprintf(&b, "  s%d: {run: x}\n", i)
		}
		return b.String()
	}
	chain := func(n int) string {
		var b strings.Builder
		b.WriteString("name: f\nsteps:\n")
		for i := n; i > 0; i-- {
			fmt.Fprintf(&b, "  s%d: {run: x, outputs: {n: int}, with: {n: '${{ steps.s%d.outputs.n + 1 }}'}}\n", i, i-1)
		}
		return b.String() + "  s0: {run: x, outputs: {n: int}}\n"
	}
	for _, test := range []struct{ name, src, want string }{
		{"most steps", many(MaxSteps), ""},
		{"too many steps", many(MaxSteps + 1), "f.yaml:1:1: the flow has 2001 steps, at most 2000 are allowed"},
		{"longest chain", chain(MaxSteps - 1), ""},
		{"too large", "name: f\n#" + strings.Repeat("x", MaxFileSize), "f.yaml:1:1: the file has 1048585 bytes; at most 1048576 are read"},
		{"too many values", "name: f\nx: [" + strings.Repeat("1,", MaxNodes) + "1]\n", "f.yaml:1:1: the file's aliases unfold to too many values; at most 200000 are read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			start := cpuTime(t)
			_, err := Parse("f.yaml", []byte(test.src), Options{})
			if took := cpuTime(t) - start; took > limit {
				t.Errorf("took %s", took)
			}
			if (test.want == "") != (err == nil) || err != nil && err.Error() != test.want {
				t.Errorf("%v; want %s", err, test.want)
			}
		})
	}
	var src strings.Builder
	src.WriteString("name: f\nsteps:\n")
	for i := range MaxProblems + 50 {
		fmt.Fprintf(&src, "  s%d: {rum: x}\n", i)
	}
	var problems Problems
	if _, err := Parse("f.yaml", []byte(src.String()), Options{}); !errors.As(err, &problems) || len(problems) != MaxProblems {
		t.Errorf("%d problems, want %d", len(problems), MaxProblems)
	}
}

func TestRetryAgain(t *testing.T) {
	r := Retry{
		Attempts: 4, Backoff: Duration(time.Second), Factor: 3, MaxBackoff: Duration(5 * time.Second),
		On: []RetryRule{{From: 64, To: 78}, {Outcome: tasklet.TimedOut}, {Signal: true}}, Never: []RetryRule{{From: 65, To: 65}},
	}
	failed := func(code int) tasklet.Result { return tasklet.Result{Outcome: tasklet.Failed, ExitCode: code} }
	for _, test := range []struct {
		name    string
		retry   Retry
		attempt int
		result  tasklet.Result
		wait    time.Duration
		again   bool
	}{
		{"first", r, 1, failed(64), time.Second, true},
		{"second", r, 2, failed(70), 3 * time.Second, true},
		{"third, at the limit", r, 3, failed(78), 5 * time.Second, true},
		{"no attempt left", r, 4, failed(64), 0, false},
		{"not listed", r, 1, failed(1), 0, false},
		{"never", r, 1, failed(65), 0, false},
		{"timeout", r, 1, tasklet.Result{Outcome: tasklet.TimedOut, ExitCode: -1}, time.Second, true},
		{"memory is not listed", r, 1, tasklet.Result{Outcome: tasklet.OutOfMemory}, 0, false},
		{"signal", r, 1, tasklet.Result{Outcome: tasklet.Failed, ExitCode: -1, Signal: "SIGSEGV"}, time.Second, true},
		{"any", Retry{Attempts: 2}, 1, failed(1), 0, true},
		{"killed", Retry{Attempts: 2}, 1, tasklet.Result{Outcome: tasklet.Killed}, 0, false},
		{"invalid", Retry{Attempts: 2}, 1, tasklet.Result{Outcome: tasklet.Invalid}, 0, false},
		{"platform", Retry{Attempts: 2}, 1, tasklet.Result{Outcome: tasklet.Platform}, 0, false},
		{"one attempt", Retry{Attempts: 1}, 1, failed(1), 0, false},
	} {
		if wait, again := test.retry.Again(test.attempt, test.result); wait != test.wait || again != test.again {
			t.Errorf("%s: %s, %t; want %s, %t", test.name, wait, again, test.wait, test.again)
		}
	}
	if wait := (Retry{Backoff: Duration(time.Second), Factor: 100, MaxBackoff: Duration(time.Hour)}).Wait(100_000); wait != time.Hour {
		t.Errorf("the 100,000th wait is %s", wait)
	}
}

func TestParseDurationAndSize(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "1w1d": 192 * time.Hour,
		"1.5h": 90 * time.Minute, "250ms": 250 * time.Millisecond, "1h0m0s": time.Hour, "7µs": 7 * time.Microsecond,
	} {
		if got, err := ParseDuration(text); got != want || err != nil {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "-1s", "1 h", "h", "1x", "1h ", "999999h999999999h", strings.Repeat("1s", 100)} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q: %s, want an error", text, got)
		}
	}
	for text, want := range map[string]int64{"128MB": 128e6, "1GiB": 1 << 30, "1.5 kB": 1500, "512B": 512, "2TB": 2e12, "0.5MiB": 1 << 19} {
		if got, err := ParseSize(text); got != want || err != nil {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "1G", "MB", "-1MB", "1 0MB", "9999999PB", "1mb"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: %d, want an error", text, got)
		}
	}
}

func TestSuggest(t *testing.T) {
	names := []string{"parallel", "params", "parts", "run", "name"}
	for word, want := range map[string]string{
		"paralel": "parallel", "prallael": "parallel", "PARAMS": "params", "part": "parts", "rnu": "run", "nam": "name",
		"zebra": "", "x": "", "": "",
	} {
		if got := Suggest(word, names); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}
