package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
)

// maxRows bounds the step table; a larger flow shows what runs or went wrong first.
const maxRows = 100

// announce says what happens outside the steps.
func (r *run) announce(note string) {
	r.note = note
	r.publish()
}

// publish writes the current details, which the Temporal Web UI shows on the run's
// page. They live in the worker's memory and cost no event.
func (r *run) publish() { workflow.SetCurrentDetails(r.ctx, r.details()) }

// details is the step table in Markdown.
func (r *run) details() string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s** · %s · started %s UTC", code(r.id), r.status, r.started.UTC().Format(time.DateTime))
	if !r.ended.IsZero() {
		fmt.Fprintf(&b, " · took %s", elapsed(r.started, r.ended))
	}
	b.WriteString("\n")
	if r.reason != "" {
		fmt.Fprintf(&b, "\n%s\n", cell(r.reason))
	}
	if r.note != "" {
		fmt.Fprintf(&b, "\n%s\n", r.note)
	}
	if len(r.steps) == 0 {
		return b.String()
	}
	rows, hidden := r.rows()
	b.WriteString("\n")
	writeRow(&b, "step", "status", "done", "active", "failed", "time")
	b.WriteString("|---|---|--:|--:|--:|---|\n")
	for _, s := range rows {
		writeStep(&b, &s.state)
	}
	if hidden > 0 {
		fmt.Fprintf(&b, "\n%d more steps are waiting, or have ended well.\n", hidden)
	}
	writeReasons(&b, rows)
	return b.String()
}

// rows are the steps that the table shows, in file order.
func (r *run) rows() (rows []*step, hidden int) {
	if len(r.steps) <= maxRows {
		return r.steps, 0
	}
	for _, s := range r.steps {
		switch s.state.Status {
		case api.StatusRunning, api.StatusFailed, api.StatusKilled:
			if len(rows) < maxRows {
				rows = append(rows, s)
			}
		}
	}
	return rows, len(r.steps) - len(rows)
}

func writeStep(b *strings.Builder, s *api.StepState) {
	name := s.ID
	if s.OnExit {
		name += " (on exit)"
	}
	done := ""
	if s.Partitions > 0 || s.Status == api.StatusSucceeded {
		done = fmt.Sprintf("%d of %d", s.Done, s.Partitions) // "1/2" would be shown as ½
	}
	writeRow(b, cell(name), string(s.Status), done, count(s.Active), count(s.Failed), span(s))
}

// writeReasons lists reasons below the table: the Web UI cuts a wide table off.
func writeReasons(b *strings.Builder, rows []*step) {
	before := "\n"
	for _, s := range rows {
		text := s.state.Reason
		if s.gathering {
			text = "gathers the results of " + s.def.Reduce
		}
		if lost := s.state.Lost(); lost != "" {
			text = strings.TrimSuffix(lost+"; "+text, "; ")
		}
		if text != "" {
			fmt.Fprintf(b, "%s- **%s**: %s\n", before, cell(s.state.ID), cell(text))
			before = ""
		}
	}
}

// gap ends a cell, in no-break spaces: the Web UI sets cells without any distance.
const gap = "\u00a0\u00a0"

func writeRow(b *strings.Builder, cells ...string) {
	for _, c := range cells {
		b.WriteString("| " + c + gap)
	}
	b.WriteString("|\n")
}

// span is how long a step took, or since when it runs: the details are not
// written again while nothing happens.
func span(s *api.StepState) string {
	switch {
	case s.Started.IsZero():
		return ""
	case s.Ended.IsZero():
		return "since " + s.Started.UTC().Format(time.TimeOnly)
	}
	return elapsed(s.Started, s.Ended)
}

func elapsed(from, to time.Time) string {
	d := to.Sub(from)
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func code(text string) string { return "`" + text + "`" }

// cell makes text of users stand in a line or a table's cell, as text. It escapes what
// Markdown knows and what the Web UI's renderer adds: formulas between dollar signs
// and dashes for "--". That renderer shows named entities as they are written.
func cell(text string) string {
	return cellReplacer.Replace(text)
}

var cellReplacer = strings.NewReplacer(
	"\r\n", " ", "\n", " ", "\r", " ", `\`, "&#92;", "&", "&amp;", "|", `\|`, "<", `\<`, "`", "\\`",
	"*", `\*`, "_", `\_`, "[", `\[`, "$", `\$`, "~", `\~`, "--", `-\-`)
