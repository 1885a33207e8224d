package flow

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
)

// hostileLimit is the CPU time that a hostile file may take under -race; without,
// it is less than a second.
const hostileLimit = 10 * time.Second

// maxPlan bounds the plan that a file may become, in bytes.
const maxPlan = 4 * MaxText

// Files that cost more than their size: each is refused, or read, in bounded time
// and space.
func TestHostileFiles(t *testing.T) {
	each := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.ReplaceAll(format, "#", fmt.Sprint(i)))
		}
		return b.String()
	}
	const head = "name: f\nsteps:\n"
	var bomb strings.Builder
	bomb.WriteString("a: &a [x,x,x,x,x,x,x,x]\n")
	for c := 'b'; c <= 'j'; c++ {
		fmt.Fprintf(&bomb, "%c: &%c [%s]\n", c, c, strings.Repeat(fmt.Sprintf("*%c,", c-1), 8))
	}
	for _, test := range []struct{ name, src, want string }{
		{"brackets", strings.Repeat("[", MaxFileSize), "1:1: YAML syntax"},
		{"brackets, small", strings.Repeat("[", maxSecond), "1:1: YAML syntax"},
		{"brackets, closed", strings.Repeat("[", 9999) + strings.Repeat("]", 9999), "nested too deeply"},
		{"maps in one line", strings.Repeat("{a: ", 200_000), "1:1: YAML syntax"},
		{"maps in lines", nested(1400), "nested too deeply"},
		{"lists in one line", strings.Repeat("- ", MaxFileSize/2), "1:1: YAML syntax"},
		{"lists in one line, small", strings.Repeat("- ", maxSecond/2), "1:"},
		{"values without names", strings.Repeat(": ", MaxFileSize/2), "1:1: YAML syntax"},
		{"words", "{" + strings.Repeat("a,", MaxFileSize/2-1), "1:1: YAML syntax"},
		{"one name", strings.Repeat("k: 1\n", 190_000), "2:1: \"k\" is given twice"},
		{"many names", each(90_000, "k#: 1\n"), "1:1: flow: unknown field \"k0\""},
		{"aliases of lists", bomb.String(), "aliases unfold to too many values"},
		{"aliases of text", "name: f\ndescription: &a " + strings.Repeat("a", 500_000) + "\nsteps: {s: {run: x, with: {b: [" + strings.Repeat("*a,", 90_000) + "]}}}\n", "aliases unfold to too much text"},
		{"merges", "x: &x {" + each(5000, "a#: 1, ") + "}\nsteps: {a: {<<: [" + strings.Repeat("*x,", 30) + "], run: x}}\n", "aliases unfold to too many values"},
		{"expressions", head + "  s: {run: x, with: {" + each(30_000, "a#: '${{ #+1 }}',") + "}}\n", "too many expressions"},
		{"expressions in one text", head + "  s: {run: x, with: {a: '" + strings.Repeat("${{ 1+1 }} ", 90_000) + "'}}\n", "too many expressions"},
		{"wrong expressions", head + "  s: {run: x, with: {a: '" + strings.Repeat("${{ q }} ", 90_000) + "'}}\n", "unknown name \"q\""},
		{"expressions in a command", head + "  s: {run: '" + strings.Repeat("${{ 1+1 }} ", 90_000) + "'}\n", "cannot be part of a command"},
		{"long expressions", head + each(240, "  s#: {run: x, with: {a: '${{ "+strings.Repeat("1+", 2000)+"1 }}'}}\n"), "too long together"},
		{"aliases of an expression", head + "  s: {run: x, with: {a: &a '${{ [1,2,3].map(x, x+1) }}', b: [" + strings.Repeat("*a,", 90_000) + "]}}\n", "too many expressions"},
		{"unknown names", head + each(1900, "  s#: {run: x, needs: [q"+strings.Repeat("q", 50)+"#]}\n"), "needs: unknown step"},
		{"circles", head + "  s0: {run: x, needs: &n [" + each(90, "s#,") + "]}\n" + each(1900, "  t#: {run: x, needs: *n}\n"), "needs itself"},
		{"large default", "name: f\ndefaults: {env: {A: " + strings.Repeat("a", 900_000) + "}}\nsteps:\n" + each(1900, "  s#: {run: x}\n"), "make the flow too large"},
		{"many defaults", "name: f\ndefaults: {env: {" + each(MaxVariables, "A#: 1,") + "}}\nsteps:\n" + each(1900, "  s#: {run: x, env: {B: 1}}\n"), "make the flow too large"},
		{"too many variables", "name: f\ndefaults: {env: {" + each(50_000, "A#: 1,") + "}}\nsteps:\n" + each(1900, "  s#: {run: x, env: {B: 1}}\n"), "at most 1000 are allowed"},
		{"large tasklet", head + each(1900, "  s#: {tasklet: ./large.yaml}\n"), "make the flow too large"},
		{"broken tasklet", head + each(1900, "  s#: {tasklet: ./broken.yaml}\n"), "broken.yaml:1:1: YAML syntax"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := cpuTime(t)
			f, err := Parse("f.yaml", []byte(test.src), Options{Files: hostileTasklets})
			took := cpuTime(t) - before
			t.Logf("%s of CPU", took)
			if took > hostileLimit {
				t.Errorf("took %s", took)
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%.300v; want %s", err, test.want)
			}
			if raw, err := json.Marshal(f); err != nil || len(raw) > maxPlan {
				t.Errorf("a plan of %d bytes, %v", len(raw), err)
			}
		})
	}
}

// cpuTime is what this process has used, however busy the machine is.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// hostileTasklets are an app's tasklet files.
var hostileTasklets = fstest.MapFS{
	"large.yaml":  {Data: []byte("name: large\nversion: 1.0.0\nrun: '" + strings.Repeat("x", 900_000) + "'\n")},
	"broken.yaml": {Data: []byte(strings.Repeat("[", 1_000_000))},
}

func nested(levels int) string {
	var b strings.Builder
	for i := range levels {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}
