package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// measuredReport has all figures, with values as long as they get.
func measuredReport(tb testing.TB, list []figure) *Report {
	tb.Helper()
	samples := make(map[string][]Sample)
	for run := range 5 {
		for _, name := range sidesOf(list) {
			s := Sample{}
			for _, f := range list {
				for _, v := range []value{f.ours, f.floor} {
					if v.side == name {
						s[v.key] = 0.0123 * float64(1+run) * float64(1+len(v.key))
					}
					if v.side == name && f.More && v == f.ours {
						s[v.key] = 1234 + float64(run)
					}
				}
			}
			samples[name] = append(samples[name], s)
		}
	}
	r := &Report{
		Machine: Machine{System: "linux/amd64", CPU: "A Processor With A Name", Cores: 128, MB: 512_000},
		Go:      "go1.26.8", Began: time.Date(2026, 1, 31, 6, 0, 0, 0, time.UTC), Runs: 5,
		Sizes: Sizes{10_000, 1_000_000, 1000, 200, 100_000},
	}
	for _, f := range list {
		r.add(f, samples)
	}
	return r
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Spread
	}{
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{9, 1, 2}, Spread{2, 1, 9}},
		{[]float64{4, 1, 3, 2}, Spread{2.5, 1, 4}},
	} {
		if got := spread(c.values); got != c.want {
			t.Errorf("%v: %v, want %v", c.values, got, c.want)
		}
	}
}

// A ratio is of the two values of one run, not of the medians.
func TestRatiosAreTakenRunByRun(t *testing.T) {
	f := figure{Name: "x", ours: value{"a", "v"}, floor: value{"b", "v"}, Floor: "b", Goal: 2}
	r := &Report{}
	r.add(f, map[string][]Sample{"a": {{"v": 1}, {"v": 6}, {"v": 20}}, "b": {{"v": 1}, {"v": 2}, {"v": 10}}})
	got := r.Figures[0]
	if want := []float64{1, 3, 2}; !slices.Equal(got.Ratios, want) {
		t.Errorf("ratios %v, want %v", got.Ratios, want)
	}
	if *got.Ratio != (Spread{2, 1, 3}) || got.Our.Median != 6 || got.Their.Median != 2 {
		t.Errorf("ratio %v, ours %v, theirs %v", *got.Ratio, got.Our, *got.Their)
	}
}

func TestGoals(t *testing.T) {
	for _, c := range []struct {
		more bool
		ours float64
		met  bool
		goal string
	}{
		{false, 2, true, "≤ 2 KB"}, {false, 2.1, false, "≤ 2 KB"},
		{true, 2, true, "≥ 2 KB"}, {true, 1.9, false, "≥ 2 KB"},
	} {
		r := &Report{}
		r.add(figure{Name: "x", Unit: "KB", ours: value{"a", "v"}, Goal: 2, More: c.more}, map[string][]Sample{"a": {{"v": c.ours}}})
		if got := r.Figures[0]; *got.Met != c.met || got.goal() != c.goal {
			t.Errorf("%v of %s, want %s: met %v, want %v", c.ours, got.goal(), c.goal, *got.Met, c.met)
		}
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	if err := measuredReport(t, figures).table(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 4+len(figures) {
		t.Errorf("%d lines for %d figures:\n%s", len(lines), len(figures), out.String())
	}
	for _, line := range lines {
		if n := utf8.RuneCountInString(line); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if want := "2026-01-31T06:00:00Z, 5 runs; 10,000 partitions"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in\n%s", want, out.String())
	}
}

func TestJSON(t *testing.T) {
	r, name := measuredReport(t, figures), filepath.Join(t.TempDir(), "report.json")
	if err := writeJSON(name, r); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&got, r) {
		t.Errorf("%+v\nwant %+v", got, *r)
	}
}

func TestPlot(t *testing.T) {
	for _, list := range [][]figure{figures, figures[:1], figures[len(figures)-1:]} {
		svg := plotted(measuredReport(t, list))
		for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v in\n%s", err, svg)
			}
		}
		if bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("Inf")) {
			t.Errorf("no numbers in\n%s", svg)
		}
		if f := list[0]; f.Goal != 0 && !bytes.Contains(svg, []byte(f.Name)) {
			t.Errorf("no %q in\n%s", f.Name, svg)
		}
	}
}

func TestEachSideOfAFigureIsMeasured(t *testing.T) {
	for _, name := range sidesOf(figures) {
		if _, ok := measurement(name); !ok {
			t.Errorf("nothing measures %q", name)
		}
	}
}

func TestChoose(t *testing.T) {
	sizes := Sizes{10_000, 1_000_000, 1000, 200, 100_000}
	for _, c := range []struct {
		only []string
		full bool
		want []string // groups
	}{
		{only: []string{"gap"}, want: []string{"gap"}},
		{only: []string{"storage", "million"}, want: []string{"million", "storage"}},
		{want: []string{"steps", "partitions", "flows", "gap", "memory", "placement", "storage", "sharing"}},
		{full: true, want: groups()},
	} {
		list, err := choose(c.only, c.full, sizes)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range list {
			got = append(got, f.group)
		}
		if got = slices.Compact(got); !slices.Equal(got, c.want) {
			t.Errorf("%v %v: %v, want %v", c.only, c.full, got, c.want)
		}
	}
	if _, err := choose([]string{"speed"}, false, sizes); err == nil {
		t.Error("a name that nothing has was taken")
	}
	all, err := choose([]string{curve}, false, sizes)
	if err != nil {
		t.Fatal(err)
	}
	sizes.Partitions, sizes.Flows = 99, 10
	if list, err := choose([]string{curve}, false, sizes); err != nil || len(list) != len(all)-3-2 {
		t.Errorf("of the curves to 990 partitions and 10 flows: %v, %v", list, err)
	}
}

func TestBenchmarked(t *testing.T) {
	got := benchmarked("goos: linux\nBenchmarkA/10-2  \t 1\t 1234 ns/op\t 5.5 B/task\nBenchmarkB-2 1 99.0 run-B/task\nPASS\n")
	want := map[string]float64{"ns/op": 1234, "B/task": 5.5, "run-B/task": 99}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A side is measured in a process of its own, and what that says about a failure arrives.
func TestASideIsAProcess(t *testing.T) {
	b := &bencher{dir: t.TempDir(), job: job{Sizes: Sizes{Partitions: 30}}}
	s, err := b.side(t.Context(), bareForks, 0)
	if err != nil || s["rate"] <= 0 {
		t.Errorf("%v, %v", s, err)
	}
	if s, err := b.side(t.Context(), "the moon", 0); err == nil || !strings.Contains(err.Error(), "the moon") {
		t.Errorf("of a side that there is not: %v, %v", s, err)
	}
	left, err := os.ReadDir(b.dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// The floor of Temporal measures what it says: all activities have run.
func TestTheFloorOfTemporal(t *testing.T) {
	s, err := measureActivities(t.Context(), job{Dir: t.TempDir(), Sizes: Sizes{Partitions: perWorkflow + 1}})
	if err != nil || s["rate"] <= 0 {
		t.Errorf("%v, %v", s, err)
	}
}

func TestMemoryOfAProcess(t *testing.T) {
	stop := watchMemory()
	block := make([]byte, 40*mb)
	for i := range block {
		block[i] = 1
	}
	peaks, err := stop()
	runtime.KeepAlive(block)
	if err != nil || peaks.process < 40 || peaks.heap < 40 {
		t.Errorf("with a block of %d bytes: %+v, %v", len(block), peaks, err)
	}
	if v, err := kilobytes("/proc/self/status", "Nothing:"); err == nil {
		t.Errorf("a line that is not there: %v", v)
	}
}
