package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/cmd/baas/internal/screen"
	"github.com/baas-batch/baas/starter"
)

func (p *Program) explainCommand() *urfave.Command {
	flags := append([]urfave.Flag{outputFlag()}, connectFlags()...)
	return command(&urfave.Command{Name: "explain", Usage: "say why a run, a step or a partition waits or failed", Flags: flags}, "RUN[/STEP[#PARTITION]]",
		"baas explain statements-9f86d081884c7d65-5e2f91aa/render#17", onPlatform(readExplain, p.connect, p.explain))
}

type explainArgs struct {
	starter.ExplainOptions
	run    string
	asJSON bool
}

func readExplain(c *urfave.Context) (a explainArgs, err error) {
	word, err := oneArgument(c, "run ID")
	if err != nil {
		return a, err
	}
	id, logs, err := parseLogs(word)
	if err != nil {
		return a, err
	}
	a.run, a.Step, a.Partition = id, logs.Step, logs.Partition
	a.asJSON, err = wantsJSON(c)
	return a, err
}

func (p *Program) explain(ctx context.Context, platform *Platform, a explainArgs) error {
	e, err := platform.Runs.Explain(ctx, a.run, a.ExplainOptions)
	if err != nil {
		return err
	}
	if a.asJSON {
		return writeJSON(p.Stdout, e)
	}
	w := &explanation{Explanation: &e, now: p.Now()}
	w.head()
	for i := range e.Steps {
		w.step(&e.Steps[i])
	}
	w.foot(a.Step)
	_, err = io.WriteString(p.Stdout, w.text.String())
	return err
}

// maxExplained bounds the lines of one kind for one step; --output json has all.
const maxExplained = 8

// explanation writes one for people, tableWidth wide.
type explanation struct {
	*starter.Explanation
	now  time.Time
	text strings.Builder
}

// line writes a text below an indent, in as many lines as it needs.
func (w *explanation) line(indent int, format string, args ...any) {
	w.hang(indent, indent, fmt.Sprintf(format, args...))
}

// hang is line with another indent from the second line on.
func (w *explanation) hang(first, rest int, text string) {
	column := first
	w.text.WriteString(strings.Repeat(" ", first))
	for i, word := range strings.Fields(screen.OneLine(text)) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n > tableWidth:
			w.text.WriteString("\n" + strings.Repeat(" ", rest))
			column = rest
		default:
			w.text.WriteByte(' ')
			column++
		}
		w.text.WriteString(word)
		column += n
	}
	w.text.WriteByte('\n')
}

func (w *explanation) head() {
	w.text.WriteString("Run      " + w.Run + "\n")
	end := w.now
	if !w.Ended.IsZero() {
		end = w.Ended
	}
	status := fmt.Sprintf("%s, for %s", w.Status, screen.Duration(end.Sub(w.Started)))
	switch {
	case w.Status.Final():
		status = fmt.Sprintf("%s after %s, at %s", w.Status, screen.Duration(end.Sub(w.Started)), stamp(w.Ended))
	case w.Started.IsZero():
		status = string(w.Status)
	}
	w.value("Status", status)
	if w.Reason != "" && w.Status.Final() {
		w.value("Reason", w.Reason)
	}
	if w.Kill != nil && !w.Status.Final() {
		text := "asked for"
		if w.Kill.By != "" {
			text += " by " + w.Kill.By
		}
		if w.Kill.Reason != "" {
			text += ": " + w.Kill.Reason
		}
		w.value("Kill", text)
	}
	for _, trouble := range w.Trouble {
		w.value("Trouble", trouble)
	}
	if w.Incomplete != "" {
		w.value("Gaps", w.Incomplete)
	}
}

// value writes a named value below the others.
func (w *explanation) value(name, text string) {
	const column = 9
	w.text.WriteString(name + strings.Repeat(" ", column-len(name)))
	var b explanation
	b.hang(column, column, text)
	w.text.WriteString(b.text.String()[column:])
}

func (w *explanation) foot(step string) {
	if step == "" && len(w.Steps) == 0 {
		switch {
		case w.Status.Final():
			w.text.WriteByte('\n')
			w.line(0, "Every step is done: there is nothing to explain.")
		case len(w.Trouble) == 0:
			w.text.WriteByte('\n')
			w.line(0, "Its steps are not known yet: the flow is being read.")
		}
	}
}

// moment is a time of the day, with the day if it is not today's.
func (w *explanation) moment(t time.Time) string {
	if t.IsZero() {
		return "a time that is not known"
	}
	local := t.Local()
	if local.Format(time.DateOnly) != w.now.Local().Format(time.DateOnly) {
		return stamp(t)
	}
	return local.Format("15:04:05")
}

// ago is a time that has passed, and how long ago that is.
func (w *explanation) ago(t time.Time) string {
	if t.IsZero() || t.Unix() <= 0 {
		return "a time that is not known"
	}
	return fmt.Sprintf("%s (%s ago)", w.moment(t), screen.Duration(w.now.Sub(t)))
}

func spanSize(spans []starter.Span) (n int) {
	for _, s := range spans {
		n += s.Last - s.First + 1
	}
	return n
}

// maxSpans bounds the ranges of partitions that a line names.
const maxSpans = 5

// spansText writes partitions as "#3, #7 to #9".
func spansText(spans []starter.Span) string {
	var parts []string
	for i, s := range spans {
		if i == maxSpans {
			parts = append(parts, fmt.Sprintf("%d more", spanSize(spans[i:])))
			break
		}
		part := fmt.Sprintf("#%d", s.First)
		if s.Last > s.First {
			part += fmt.Sprintf(" to #%d", s.Last)
		}
		parts = append(parts, part)
	}
	return listed(parts)
}

// listed joins names as "a, b and c".
func listed(names []string) string {
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, "")
}

// logLine makes a line of a log fit: without what moves the cursor or changes colours.
func logLine(s string, width int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsControl(r):
			return -1
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) > width {
		return string([]rune(s)[:width-1]) + "…"
	}
	return s
}
