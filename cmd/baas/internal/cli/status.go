package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/cmd/baas/internal/screen"
	"github.com/baas-batch/baas/starter"
)

func (p *Program) printStatus(platform *Platform, run *starter.Run) error {
	fmt.Fprintf(p.Stdout, "Run      %s\nStatus   %s\n", run.Run, statusText(run))
	if run.Reason != "" {
		fmt.Fprintf(p.Stdout, "Reason   %s\n", screen.OneLine(run.Reason))
	}
	fmt.Fprintf(p.Stdout, "Started  %s\n", stamp(run.Started))
	if !run.Ended.IsZero() {
		fmt.Fprintf(p.Stdout, "Ended    %s, after %s\n", stamp(run.Ended), screen.Duration(run.Ended.Sub(run.Started)))
	}
	if run.Incomplete != "" {
		fmt.Fprintf(p.Stdout, "Steps    not known: %s\n", run.Incomplete)
	}
	p.printPlaces(p.Stdout, platform, run)
	if len(run.Steps) == 0 {
		return nil
	}
	fmt.Fprintln(p.Stdout)
	if err := writeTable(p.Stdout, []string{"STEP", "STATUS", "DONE", "RUNNING", "WAITING", "FAILED", "TOOK", "REASON"}, p.stepRows(run)); err != nil {
		return err
	}
	if err := p.printTasks(run); err != nil {
		return err
	}
	return p.printHeld(run)
}

// printHeld says what a person has to decide, with a line for each command, to be
// copied.
func (p *Program) printHeld(run *starter.Run) error {
	held := run.Held()
	if len(held) == 0 {
		return nil
	}
	var w explanation
	w.text.WriteByte('\n')
	w.line(0, "%s held for a person (see: baas explain %s). Find out what became of it, then:", number(len(held), "task"), run.Run)
	for i, h := range held {
		if i == maxExplained {
			w.line(2, "… and %d more; --output json has all", len(held)-i)
			break
		}
		w.text.WriteString("  " + h.Release + "\n")
	}
	_, err := io.WriteString(p.Stdout, w.text.String())
	return err
}

// statusText tells of a kill that is under way, too.
func statusText(run *starter.Run) string {
	text := string(run.Status)
	if run.Kill == nil || run.Status.Final() {
		return text
	}
	text += ", being killed"
	if run.Kill.By != "" {
		text += " by " + run.Kill.By
	}
	if run.Kill.Reason != "" {
		text += ": " + run.Kill.Reason
	}
	return screen.OneLine(text)
}

func (p *Program) stepRows(run *starter.Run) [][]string {
	var rows [][]string
	for _, s := range run.Steps {
		done := "-"
		if s.Partitions > 0 {
			done = fmt.Sprintf("%d/%d", s.Done, s.Partitions)
		}
		took := "-"
		if !s.Started.IsZero() {
			end := s.Ended
			if end.IsZero() {
				end = p.Now()
			}
			took = screen.Duration(end.Sub(s.Started))
		}
		name := s.ID
		if s.OnExit {
			name += " (on exit)"
		}
		rows = append(rows, []string{name, string(s.Status), done, fmt.Sprint(s.Running), fmt.Sprint(s.Waiting), fmt.Sprint(s.Failed), took, lostAnd(&s)})
	}
	return rows
}

// lostAnd is the reason of a step, after what the columns do not count.
func lostAnd(s *api.StepState) string {
	lost := s.Lost()
	if lost == "" || s.Reason == "" {
		return lost + s.Reason
	}
	return lost + "; " + s.Reason
}

// maxTaskRows bounds the tasks that are shown, those placed and those that wait;
// --output json has all.
const maxTaskRows = 20

// printTasks tells where tasks are, and why others wait.
func (p *Program) printTasks(run *starter.Run) error {
	var shown [][]string
	more := 0
	for _, rows := range [][][]string{placedRows(run), waitingRows(run), pausedRows(run)} {
		n := min(len(rows), maxTaskRows)
		shown, more = append(shown, rows[:n]...), more+len(rows)-n
	}
	if len(shown) == 0 {
		return nil
	}
	fmt.Fprintln(p.Stdout)
	if err := writeTable(p.Stdout, []string{"TASK", "STATE", "AGENT", "PROGRESS OR REASON"}, shown); err != nil || more == 0 {
		return err
	}
	_, err := fmt.Fprintf(p.Stdout, "… and %d more; --output json has all\n", more)
	return err
}

// placedRows are the tasks that agents have, in the order of the steps.
func placedRows(run *starter.Run) [][]string {
	type placed struct {
		step int
		api.TaskDetail
		activity *starter.Activity
	}
	var tasks []placed
	for i := range run.Activities {
		a := &run.Activities[i]
		step := slices.IndexFunc(run.Steps, func(s api.StepState) bool { return s.ID == a.Step })
		for _, t := range a.Details.Tasks {
			tasks = append(tasks, placed{step, t, a})
		}
	}
	slices.SortStableFunc(tasks, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.step, b.step), cmp.Compare(a.First, b.First))
	})
	var rows [][]string
	for _, t := range tasks {
		name, host := t.activity.Step, "-"
		if t.step >= 0 && run.Steps[t.step].ForEach {
			name += fmt.Sprintf("#%d", t.First)
		}
		switch {
		case len(t.Parts) > 0 && t.Count > 1: // not in a row
			name += fmt.Sprintf(" and %d more", t.Count-1)
		case t.Count > 1:
			name += fmt.Sprintf(" to #%d", t.Last())
		}
		if agents := t.activity.Details.Agents; t.Agent >= 0 && t.Agent < len(agents) {
			host = agents[t.Agent].Host
		}
		about := t.Progress
		if t.Held != nil {
			about = "held for a person: " + t.Held.Reason
		}
		rows = append(rows, []string{name, t.State, orDash(host), about})
	}
	return rows
}

// waitingRows sum up what waits, by step and reason.
func waitingRows(run *starter.Run) [][]string {
	type group struct{ step, gist string }
	waiting, reason := map[group]int{}, map[group]string{}
	var order []group
	for _, a := range run.Activities {
		n := a.Details.Unplaced()
		if a.Details.Total == 0 && len(a.Details.Tasks) == 0 {
			n = 1 // not begun: how many partitions it has is not known
		}
		g := group{a.Step, starter.Gist(a.Details.Reason)}
		if n > 0 && waiting[g] == 0 {
			order, reason[g] = append(order, g), a.Details.Reason
		}
		waiting[g] += n
	}
	var rows [][]string
	for _, g := range order {
		name := g.step
		if n := waiting[g]; n > 1 {
			name += fmt.Sprintf(" (%d)", n)
		}
		rows = append(rows, []string{name, "waiting", "-", reason[g]})
	}
	return rows
}

// pausedRows sum up the partitions of ranges that wait for another attempt.
func pausedRows(run *starter.Run) [][]string {
	type group struct {
		step    string
		attempt int
	}
	paused := map[group]api.BackoffDetail{}
	var order []group
	for _, a := range run.Activities {
		if a.Details.Range == nil {
			continue
		}
		for _, b := range a.Details.Range.Backoffs {
			g := group{a.Step, b.Attempt}
			sum, ok := paused[g]
			if !ok {
				order, sum = append(order, g), api.BackoffDetail{Until: b.Until}
			}
			sum.Count += b.Count
			if b.Until.Before(sum.Until) {
				sum.Until = b.Until
			}
			paused[g] = sum
		}
	}
	var rows [][]string
	for _, g := range order {
		name := fmt.Sprintf("%s (%d)", g.step, paused[g].Count)
		rows = append(rows, []string{name, "waiting", "-", fmt.Sprintf("for attempt %d until %s", g.attempt, stamp(paused[g].Until))})
	}
	return rows
}
