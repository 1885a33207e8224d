package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is all that was measured, and what --json writes. Times have the machine's
// zone; lists have one value for each run, in the order of the runs.
type Report struct {
	Machine Machine   `json:"machine"`
	Go      string    `json:"go"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	Runs    int       `json:"runs"`
	Sizes   Sizes     `json:"sizes"`
	Figures []Result  `json:"figures"`
}

// Machine is what it was measured on.
type Machine struct {
	System string `json:"system"` // operating system and architecture
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	MB     int    `json:"mb"` // of memory, 10^6 bytes
}

// Result is what came of one figure. Without a floor there are no ratios, and the goal
// is for our values themselves.
type Result struct {
	Group  string    `json:"group"`
	Name   string    `json:"name"`
	Unit   string    `json:"unit,omitempty"` // of Ours and Theirs; none: a number
	Ours   []float64 `json:"ours"`
	Floor  string    `json:"floor,omitempty"`
	Theirs []float64 `json:"theirs,omitempty"` // the floor's values
	Ratios []float64 `json:"ratios,omitempty"` // ours over theirs

	Our   Spread  `json:"our"`
	Their *Spread `json:"their,omitempty"`
	Ratio *Spread `json:"ratio,omitempty"`

	Goal    float64 `json:"goal,omitempty"` // none: nothing to reach
	AtLeast bool    `json:"atLeast"`        // the goal is a least value, else a most
	Met     *bool   `json:"met,omitempty"`  // by the median

	// Of is what a point of a curve has At of.
	Of string `json:"of,omitempty"`
	At int    `json:"at,omitempty"`
}

func newReport(runs int, sizes Sizes) *Report {
	return &Report{Machine: thisMachine(), Go: runtime.Version(), Began: time.Now(), Runs: runs, Sizes: sizes}
}

func thisMachine() Machine {
	m := Machine{System: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(), CPU: "unknown"}
	if kib, err := kilobytes("/proc/meminfo", "MemTotal:"); err == nil {
		m.MB = int(kib * 1024 / mb)
	}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return m
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
}

// add takes in what the sides of a figure have measured.
func (r *Report) add(f figure, samples map[string][]Sample) {
	out := Result{
		Group: f.group, Name: f.Name, Unit: f.Unit, Floor: f.Floor, Goal: f.Goal, AtLeast: f.More,
		Ours: valuesOf(samples, f.ours),
	}
	if f.line != nil {
		out.Of, out.At = f.line.of, f.at
	}
	out.Our = spread(out.Ours)
	reached := out.Our.Median
	if f.floor.side != "" {
		out.Theirs = valuesOf(samples, f.floor)
		out.Ratios = ratios(out.Ours, out.Theirs)
		their, ratio := spread(out.Theirs), spread(out.Ratios)
		out.Their, out.Ratio = &their, &ratio
		reached = ratio.Median
	}
	if f.Goal != 0 {
		met := f.met(reached)
		out.Met = &met
	}
	r.Figures = append(r.Figures, out)
}

func valuesOf(samples map[string][]Sample, v value) (list []float64) {
	for _, s := range samples[v.side] {
		list = append(list, s[v.key])
	}
	return list
}

func writeJSON(name string, r *Report) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(raw, '\n'), 0o644)
}

// table prints the report for people, at most 100 columns wide.
func (r *Report) table(w io.Writer) error {
	fmt.Fprintf(w, "%s, %d cores, %s MB, %s, %s\n", r.Machine.CPU, r.Machine.Cores, count(r.Machine.MB), r.Machine.System, r.Go)
	fmt.Fprintf(w, "%s, %s; %s partitions, %s flows, %s tasks with an executor each\n\n", r.Began.Format(time.RFC3339),
		plural(r.Runs, "run"), count(r.Sizes.Partitions), count(r.Sizes.Flows), count(r.Sizes.Tasks))
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "figure\tfloor\tours\tfloor's\tratio (min–max)\tgoal\tmet")
	for _, f := range r.Figures {
		their, ratio := "", ""
		if f.Ratio != nil {
			their = number(f.Their.Median) + unit(f.Unit)
			ratio = fmt.Sprintf("%s (%s–%s)", number(f.Ratio.Median), number(f.Ratio.Min), number(f.Ratio.Max))
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, cmp.Or(f.Floor, "–"), number(f.Our.Median)+unit(f.Unit),
			cmp.Or(their, "–"), cmp.Or(ratio, "–"), f.goal(), f.said())
	}
	return out.Flush()
}

// goal is the goal in words; where there is a floor it is a ratio, else a value.
func (r Result) goal() string {
	if r.Met == nil {
		return "–"
	}
	sign, of := "≤ ", ""
	if r.AtLeast {
		sign = "≥ "
	}
	if r.Ratio == nil {
		of = unit(r.Unit)
	}
	return sign + strconv.FormatFloat(r.Goal, 'f', -1, 64) + of
}

func (r Result) said() string {
	switch {
	case r.Met == nil:
		return "–"
	case *r.Met:
		return "yes"
	default:
		return "no"
	}
}

// unit is a unit as it stands behind a number.
func unit(u string) string {
	if u == "" || strings.HasPrefix(u, "/") {
		return u
	}
	return " " + u
}

// number shows three digits, of large numbers all, of those below 1 two.
func number(v float64) string {
	switch size := math.Abs(v); {
	case size >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case size >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case size >= 1 || size == 0:
		return strconv.FormatFloat(v, 'f', 2, 64)
	default:
		return strconv.FormatFloat(v, 'g', 2, 64)
	}
}

// count shows a whole number with commas.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return count(n) + " " + what
}
