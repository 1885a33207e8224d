package screen

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/baas-batch/baas/api"
)

// Style says how to draw.
type Style struct {
	Colour bool
	Width  int // columns
	Height int // lines; 0 for no limit
}

const (
	barWidth = 16
	narrow   = 70 // columns below which there is no room for bars
)

// Tree draws a run: a title, then its steps. A step stands below the step that it
// waits for longest: of those that it needs, the one deepest in the graph.
func Tree(run *api.RunState, now time.Time, style Style) []string {
	d := drawing{Style: style, now: now}
	rows := d.rows(run)
	if d.Height > 0 && len(rows)+1 > d.Height {
		rows = shorten(rows, d.Height-1)
	}
	lines := []string{d.title(run)}
	names := 0
	for _, r := range rows {
		names = max(names, utf8.RuneCountInString(r.name))
	}
	names = min(names, max(20, d.Width-50))
	for _, r := range rows {
		lines = append(lines, d.line(r, names))
	}
	return lines
}

type drawing struct {
	Style
	now time.Time
}

// row is one line of the tree; step is nil for a line of text.
type row struct {
	name string // with its branches
	step *api.StepState
}

func (d drawing) title(run *api.RunState) string {
	took := d.elapsed(run.Started, run.Ended)
	title := fmt.Sprintf("%s  %s  %s", run.Run, d.status(run.Status, string(run.Status)), took)
	date := "  for " + run.OrderDate
	plain := len(run.Run) + len(run.Status) + len(took) + len("    ")
	if run.OrderDate != "" && plain+len(date) < d.Width {
		title += date
	}
	return title
}

// rows lays the steps out as a tree, in file order, those of on_exit last.
func (d drawing) rows(run *api.RunState) []row {
	parent := parents(run.Steps)
	children := map[string][]*api.StepState{}
	for i := range run.Steps {
		s := &run.Steps[i]
		children[parent[s.ID]] = append(children[parent[s.ID]], s)
	}
	var rows []row
	var draw func(id, branch string)
	draw = func(id, branch string) {
		for i, s := range children[id] {
			fork, below := "├─ ", "│  "
			if i == len(children[id])-1 {
				fork, below = "└─ ", "   "
			}
			name := s.ID
			if s.OnExit && id == "" {
				name += " (on exit)"
			}
			rows = append(rows, row{branch + fork + name, s})
			draw(s.ID, branch+below)
		}
	}
	draw("", "")
	return rows
}

// parents gives each step's parent in the tree; "" for those at the top.
func parents(steps []api.StepState) map[string]string {
	depth, parent := map[string]int{}, map[string]string{}
	byID := map[string]*api.StepState{}
	for i := range steps {
		byID[steps[i].ID] = &steps[i]
	}
	var place func(s *api.StepState) int
	place = func(s *api.StepState) int {
		if n, ok := depth[s.ID]; ok {
			return n
		}
		depth[s.ID] = 1 // also ends a cycle, which a checked flow does not have
		deepest := 0
		for _, id := range s.Needs {
			if need, ok := byID[id]; ok {
				if n := place(need); n > deepest {
					deepest, parent[s.ID] = n, id
				}
			}
		}
		depth[s.ID] = deepest + 1
		return depth[s.ID]
	}
	for i := range steps {
		place(&steps[i])
	}
	return parent
}

// shorten keeps the rows that matter most: what runs or went wrong, then what
// waits, then what is done.
func shorten(rows []row, height int) []row {
	if height < 2 {
		return rows[:max(0, min(height, len(rows)))]
	}
	left := height - 1
	keep := make([]bool, len(rows))
	for _, wanted := range [][]api.Status{
		{api.StatusRunning, api.StatusFailed, api.StatusKilled},
		{api.StatusWaiting},
		{api.StatusSucceeded, api.StatusSkipped, api.StatusBlocked},
	} {
		for i, r := range rows {
			for _, status := range wanted {
				if left > 0 && !keep[i] && r.step.Status == status {
					keep[i] = true
					left--
				}
			}
		}
	}
	var short []row
	for i, r := range rows {
		if keep[i] {
			short = append(short, r)
		}
	}
	return append(short, row{name: fmt.Sprintf("… %d more steps", len(rows)-len(short))})
}

func (d drawing) line(r row, names int) string {
	if r.step == nil {
		return r.name
	}
	s := r.step
	name := cut(r.name, names)
	name += strings.Repeat(" ", names-utf8.RuneCountInString(name))
	line := fmt.Sprintf("%s  %s %-9s", name, d.status(s.Status, Symbol(s.Status)), s.Status)
	if s.ForEach && s.Partitions > 0 {
		line += "  "
		if d.Width >= narrow {
			line += bar(s.Done+s.Failed, s.Partitions) + " "
		}
		line += partitions(s)
	}
	line += count(s.Retries, "retried")
	if !s.Started.IsZero() {
		line += "  " + d.elapsed(s.Started, s.Ended)
	}
	if why := Why(s.Status, s.Reason); why != "" {
		line += "  " + why
	}
	return strings.TrimRight(line, " ")
}

// partitions counts those of a step with for_each.
func partitions(s *api.StepState) string {
	return fmt.Sprintf("%d/%d", s.Done, s.Partitions) +
		count(s.Running, "running") + count(s.Waiting, "waiting") + count(s.Failed, "failed")
}

// Why is the reason of a status in one line, to stand behind the status.
func Why(status api.Status, reason string) string {
	if status == api.StatusSucceeded {
		return ""
	}
	return strings.TrimPrefix(OneLine(reason), string(status)+" ")
}

// OneLine makes text of users and tasks fit into a line. What could move the cursor
// or change colours becomes a space.
func OneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
}

func count(n int, what string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("  %d %s", n, what)
}

func bar(done, all int) string {
	full := done * barWidth / max(all, 1)
	return "[" + strings.Repeat("█", full) + strings.Repeat("░", barWidth-full) + "]"
}

// Symbol is one character for a status.
func Symbol(s api.Status) string {
	switch s {
	case api.StatusRunning:
		return "●"
	case api.StatusSucceeded:
		return "✓"
	case api.StatusFailed:
		return "✗"
	case api.StatusKilled:
		return "■"
	case api.StatusSkipped:
		return "→"
	case api.StatusBlocked:
		return "–"
	}
	return "·"
}

func (d drawing) status(s api.Status, text string) string {
	colours := map[api.Status]string{
		api.StatusRunning: "36", api.StatusSucceeded: "32", api.StatusFailed: "31", api.StatusKilled: "33",
	}
	colour, ok := colours[s]
	if !d.Colour || !ok {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (d drawing) elapsed(from, to time.Time) string {
	if from.IsZero() {
		return ""
	}
	if to.IsZero() {
		to = d.now
	}
	return Duration(to.Sub(from))
}

// Duration is short and of steady width: 0.4s, 12s, 3m07s, 2h05m, 3d04h.
func Duration(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}
