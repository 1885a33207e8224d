package screen

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/baas-batch/baas/api"
)

var update = flag.Bool("update", false, "write the golden files")

var start = time.Date(2026, 3, 31, 22, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

// statements is a run in the middle of its work.
func statements() *api.RunState {
	return &api.RunState{
		Run: "statements-9f86d081884c7d65-5e2f91aa", Status: api.StatusRunning, OrderDate: "2026-03-31", Started: start,
		Steps: []api.StepState{
			{ID: "split", Status: api.StatusSucceeded, Partitions: 1, Done: 1, Started: start, Ended: at(3)},
			{ID: "rates", Status: api.StatusFailed, Partitions: 1, Failed: 1, Retries: 2, Started: start, Ended: at(40), Reason: "exit code 7\nafter 3 attempts"},
			{ID: "render", Needs: []string{"split"}, ForEach: true, Status: api.StatusRunning, Partitions: 200, Done: 117, Failed: 1, Active: 50, Running: 42, Waiting: 8, Started: at(3)},
			{ID: "post", Needs: []string{"split", "render"}, Status: api.StatusWaiting},
			{ID: "report", Needs: []string{"rates"}, Status: api.StatusBlocked},
			{ID: "index", Needs: []string{"render"}, Status: api.StatusWaiting},
			{ID: "cleanup", OnExit: true, Status: api.StatusWaiting},
		},
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
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
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTree(t *testing.T) {
	lines := Tree(statements(), at(65), Style{Width: 100})
	golden(t, "tree.txt", strings.Join(lines, "\n")+"\n")
}

func TestTreeOfManySteps(t *testing.T) {
	run := statements()
	for i := range 30 {
		run.Steps = append(run.Steps, api.StepState{ID: fmt.Sprintf("more-%d", i), Status: api.StatusWaiting})
	}
	lines := Tree(run, at(65), Style{Width: 100, Height: 8})
	golden(t, "short.txt", strings.Join(lines, "\n")+"\n")
}

func TestTreeSurvivesCycle(t *testing.T) {
	run := &api.RunState{Steps: []api.StepState{{ID: "a", Needs: []string{"b"}}, {ID: "b", Needs: []string{"a"}}, {ID: "c", Needs: []string{"gone"}}}}
	if lines := Tree(run, start, Style{Width: 80}); len(lines) < 2 {
		t.Errorf("got %q", lines)
	}
}

// terminal understands what Screen sends: text, line feeds, cursor up, clearing.
type terminal struct {
	t       *testing.T
	columns int
	lines   []string
	row     int
}

func (m *terminal) Write(p []byte) (int, error) {
	s := string(p)
	for len(s) > 0 {
		switch {
		case strings.HasPrefix(s, "\x1b["):
			end := strings.IndexFunc(s[2:], func(r rune) bool { return r >= 'A' && r <= 'z' }) + 2
			var n int
			fmt.Sscanf(s[2:end], "%d", &n)
			switch s[end] {
			case 'A':
				if n > m.row {
					m.t.Errorf("cursor up %d from row %d", n, m.row)
				}
				m.row -= min(n, m.row)
			case 'J':
				m.lines = append(m.lines[:m.row:m.row], "")
			case 'm':
			default:
				m.t.Errorf("unknown sequence %q", s[:end+1])
			}
			s = s[end+1:]
		case s[0] == '\n':
			m.row++
			for len(m.lines) <= m.row {
				m.lines = append(m.lines, "")
			}
			s = s[1:]
		case s[0] == '\r':
			s = s[1:]
		default:
			r, n := utf8.DecodeRuneInString(s)
			m.lines[m.row] += string(r)
			if utf8.RuneCountInString(m.lines[m.row]) >= m.columns {
				m.t.Errorf("line %q wraps at %d columns", m.lines[m.row], m.columns)
			}
			s = s[n:]
		}
	}
	return len(p), nil
}

func newTerminal(t *testing.T, columns int) *terminal {
	return &terminal{t: t, columns: columns, lines: []string{""}}
}

func TestScreenReplacesBlock(t *testing.T) {
	m := newTerminal(t, 20)
	s := New(m, func() (int, int) { return 20, 5 })
	for _, block := range [][]string{
		{"one", "two", "three"},
		{"\x1b[31mred\x1b[0m and a line that is far too long", "2"},
		{"1", "2", "3", "4", "5", "6", "7"},
		{"end", "of it"},
	} {
		if err := s.Draw(block); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(m.lines, "|"); got != "end|of it|" {
		t.Errorf("got %q", got)
	}
	s.Keep()
	if err := s.Draw([]string{"below"}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(m.lines, "|"); got != "end|of it|below|" {
		t.Errorf("got %q", got)
	}
}

func TestScreenShowsTree(t *testing.T) {
	m := newTerminal(t, 60)
	s := New(m, func() (int, int) { return 60, 24 })
	for i := range 20 {
		run := statements()
		run.Steps[2].Done = i * 10
		if err := s.Draw(Tree(run, at(60+i), Style{Width: 60, Colour: true})); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.Join(m.lines, "\n")
	if len(m.lines) != 9 || !strings.Contains(text, "190/200") || strings.Contains(text, "180/200") {
		t.Errorf("got %d lines\n%s", len(m.lines), text)
	}
}

func TestScreenOfUnknownSize(t *testing.T) {
	s := New(&bytes.Buffer{}, func() (int, int) { return 0, 0 })
	if columns, rows := s.Size(); columns != 80 || rows != 24 {
		t.Errorf("got %d × %d", columns, rows)
	}
}

func TestEvents(t *testing.T) {
	e := NewEvents(10 * time.Second)
	var b strings.Builder
	show := func(run *api.RunState, now time.Time) {
		for _, line := range e.Next(run, now) {
			fmt.Fprintf(&b, "%3.0f %s\n", now.Sub(start).Seconds(), line)
		}
	}
	run := statements()
	show(run, at(60))
	show(run, at(61)) // nothing new
	run.Steps[2].Done = 120
	show(run, at(62)) // too soon
	show(run, at(71))
	run.Steps[2].Done, run.Steps[2].Running, run.Steps[2].Waiting = 199, 0, 0
	run.Steps[2].Status, run.Steps[2].Ended = api.StatusFailed, at(72)
	run.Steps[2].Reason = "partition 7: exit code 1"
	show(run, at(72))
	run.Status, run.Reason, run.Ended = api.StatusFailed, "step rates: exit code 7", at(73)
	show(run, at(73))
	show(run, at(74))
	golden(t, "events.txt", b.String())
}

func TestWhy(t *testing.T) {
	for _, test := range []struct {
		status       api.Status
		reason, want string
	}{
		{api.StatusKilled, "killed by ann: wrong\n  month", "by ann: wrong month"},
		{api.StatusFailed, "exit code 3", "exit code 3"},
		{api.StatusFailed, "red \x1b[31m\x07alert", "red [31m alert"},
		{api.StatusSucceeded, "left from before", ""},
	} {
		if got := Why(test.status, test.reason); got != test.want {
			t.Errorf("%s, %q: got %q, want %q", test.status, test.reason, got, test.want)
		}
	}
}

func TestDuration(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0.0s": -time.Second, "0.4s": 400 * time.Millisecond, "12s": 12900 * time.Millisecond, "3m07s": 187 * time.Second,
		"2h05m": 125 * time.Minute, "3d04h": 76 * time.Hour,
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}
