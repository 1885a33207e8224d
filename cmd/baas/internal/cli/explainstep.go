package cli

import (
	"fmt"
	"strings"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/cmd/baas/internal/screen"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tasklet"
)

func (w *explanation) step(s *starter.StepExplanation) {
	title := s.ID
	if s.OnExit {
		title += " (on exit)"
	}
	state := string(s.Status)
	if s.ForEach && s.Partitions > 0 {
		state += fmt.Sprintf(": %d of %d done", s.Done, s.Partitions)
		if s.Failed > 0 {
			state += fmt.Sprintf(", %d failed", s.Failed)
		}
		if lost := s.Lost(); lost != "" {
			state += ", " + lost
		}
	}
	fmt.Fprintf(&w.text, "\n%s %s  %s\n", screen.Symbol(s.Status), title, state)
	before := w.text.Len()
	w.needs(s)
	w.failure(s)
	w.queued(s)
	w.offers(s)
	w.backoffs(s)
	w.tasks(s)
	w.held(s)
	w.losses(s)
	if w.text.Len() > before {
		return
	}
	switch {
	case s.Reason != "":
		w.line(4, "%s", s.Reason)
	case s.Status == api.StatusRunning && s.ForEach && s.Partitions == 0:
		w.line(4, "its items are being listed")
	case s.Status == api.StatusRunning:
		w.line(4, "nothing of it runs or waits just now: the workflow is deciding what comes next")
	case s.Status == api.StatusWaiting:
		w.line(4, "it is about to begin")
	case s.Status == api.StatusSucceeded:
		w.line(4, "done at %s", stamp(s.Ended))
		if u := s.Usage; u.Cached > 0 {
			w.line(4, "inputs: %s fetched, %s from caches of executors", bytesText(u.Fetched), bytesText(u.Cached))
		}
	}
}

func (w *explanation) needs(s *starter.StepExplanation) {
	if len(s.WaitsFor) == 0 {
		return
	}
	var names []string
	for _, need := range s.WaitsFor {
		names = append(names, fmt.Sprintf("%s (%s)", need.Step, need.Status))
	}
	switch {
	case s.Status == api.StatusBlocked:
		w.line(4, "never began: it needs %s", listed(names))
	case s.OnExit:
		w.line(4, "begins when the others have ended: %s", listed(names))
	default:
		w.line(4, "waits for %s", listed(names))
	}
}

// failure tells of the first one that is for good.
func (w *explanation) failure(s *starter.StepExplanation) {
	f := s.Failure
	if f == nil {
		return
	}
	what := ""
	if s.Failures > 1 {
		what = fmt.Sprintf("%d partitions failed; the first: ", s.Failures)
	}
	where := ""
	if s.ForEach && f.Attempt > 0 {
		where = fmt.Sprintf("partition %d: ", f.Partition)
	}
	w.line(4, "%s%s%s", what, where, attemptText(f))
	address := w.Run + "/" + s.ID
	if s.ForEach && f.Attempt > 0 {
		address += fmt.Sprintf("#%d", f.Partition)
	}
	if f.Attempt == 0 {
		return
	}
	var details []string
	if f.Agent != "" {
		details = append(details, "on "+f.Agent)
	}
	if !f.Ended.IsZero() {
		details = append(details, fmt.Sprintf("at %s, after %s", w.moment(f.Ended), screen.Duration(f.Ended.Sub(f.Started))))
	}
	if f.Attempts > 1 {
		details = append(details, fmt.Sprintf("in attempt %d of %d", f.Attempt, f.Attempts))
	}
	if len(details) > 0 {
		w.line(4, "%s", strings.Join(details, ", "))
	}
	if len(f.LogTail) == 0 {
		w.line(4, "its log is empty or gone; see: baas logs %s", address)
		return
	}
	w.line(4, "the end of its log (all of it: baas logs %s):", address)
	for _, l := range f.LogTail {
		fmt.Fprintf(&w.text, "      | %s\n", logLine(l, tableWidth-8))
	}
}

// attemptText says how an attempt failed, with its exit code or signal.
func attemptText(f *starter.Failure) string {
	text := f.Reason
	code := fmt.Sprintf("exit code %d", f.ExitCode)
	switch {
	case f.Outcome == tasklet.Failed && f.Signal != "" && !strings.Contains(text, f.Signal):
		text += " (signal " + f.Signal + ")"
	case f.Outcome == tasklet.Failed && f.Signal == "" && f.ExitCode >= 0 && !strings.Contains(text, code):
		text += " (" + code + ")"
	}
	return text
}

func (w *explanation) queued(s *starter.StepExplanation) {
	for i, q := range s.Queued {
		if i == maxExplained {
			w.more(len(s.Queued)-i, "failure", "failures", "of the scheduler")
			return
		}
		verb := "waits"
		if s.ForEach && spanSize(q.Partitions) > 1 {
			verb = "wait"
		}
		text := w.who(s, q.Partitions) + verb + " for the scheduler since " + w.ago(q.Since)
		switch {
		case !q.Next.IsZero():
			text += "; Temporal hands over again at " + w.moment(q.Next)
		case w.Scheduler != nil && w.Scheduler.Trouble != "":
			text += ", and nobody leads"
		case w.Scheduler != nil && w.Scheduler.Mesos != "":
			text += ", which has no Mesos master"
		case w.Scheduler != nil && w.Scheduler.Backlog > 0:
			text += fmt.Sprintf(", which is busy: about %s wait there, of all runs", number(int(w.Scheduler.Backlog), "range"))
		}
		if q.Try > 1 && q.LastFailure != "" {
			text += fmt.Sprintf(" (try %d; the last one ended: %s)", q.Try, q.LastFailure)
		}
		w.line(4, "%s", text)
	}
}

func (w *explanation) offers(s *starter.StepExplanation) {
	for i, o := range s.Offers {
		if i == maxExplained {
			w.more(len(s.Offers)-i, "reason", "reasons", "for an agent")
			return
		}
		who := ""
		if s.ForEach {
			who = number(o.Count, "partition") + " "
			if n := spanSize(o.Partitions); n == o.Count {
				who = spansText(o.Partitions) + " "
			}
		}
		verb := "waits"
		if s.ForEach && o.Count != 1 {
			verb = "wait"
		}
		w.line(4, "%s%s for an agent since %s:", who, verb, w.ago(o.Since))
		reason := o.Reason
		if reason == "" {
			reason = "the scheduler has only just taken it on"
		}
		w.line(6, "%s", reason)
	}
}

func (w *explanation) backoffs(s *starter.StepExplanation) {
	for _, b := range s.Backoffs {
		who, verb := "", "waits"
		if s.ForEach {
			who = spansText(b.Partitions) + " "
			if spanSize(b.Partitions) > 1 {
				verb = "wait"
			}
		}
		until := "any moment"
		if left := b.Until.Sub(w.now); left > 0 {
			until = fmt.Sprintf("%s, in %s", w.moment(b.Until), screen.Duration(left))
		}
		w.line(4, "%s%s for attempt %d of %d (%s)", who, verb, b.Attempt, b.After.Attempts, until)
		on := ""
		if b.After.Agent != "" {
			on = " on " + b.After.Agent
		}
		w.line(6, "attempt %d failed%s at %s: %s", b.After.Attempt, on, w.moment(b.After.Ended), attemptText(&b.After))
	}
}

func (w *explanation) tasks(s *starter.StepExplanation) {
	for i, t := range s.Tasks {
		if i == maxExplained {
			w.more(len(s.Tasks)-i, "task", "tasks", "on agents")
			return
		}
		text := w.who(s, t.Spans())
		at := t.Agent
		if at == "" {
			at = "an agent that is not known"
		}
		switch {
		case !t.UnreachableSince.IsZero() && t.PlacedAgain.IsZero():
			text += fmt.Sprintf("%s does not answer since %s, and the task may still run there: it is waited for until the agent is back or the run is killed",
				at, w.ago(t.UnreachableSince))
		case !t.UnreachableSince.IsZero():
			text += fmt.Sprintf("%s does not answer since %s, and the task may still run there: it is placed again at %s",
				at, w.ago(t.UnreachableSince), w.moment(t.PlacedAgain))
		case t.State == "RUNNING":
			text += "runs on " + at
		default:
			text += fmt.Sprintf("is %s on %s", strings.ToLower(t.State), at)
		}
		if t.UnreachableSince.IsZero() && !t.Since.IsZero() {
			text += ", in hand since " + w.ago(t.Since)
		}
		if t.Attempt > 1 {
			text += fmt.Sprintf(", attempt %d", t.Attempt)
		}
		if t.Progress != "" {
			text += ": " + t.Progress
		}
		w.line(4, "%s", text)
	}
}

// held has a line of its own for each command, to be copied.
func (w *explanation) held(s *starter.StepExplanation) {
	for i, h := range s.Held {
		if i == maxExplained {
			w.more(len(s.Held)-i, "task", "tasks", "for a person")
			return
		}
		on := ""
		if h.Agent != "" {
			on = ", was on " + h.Agent
		}
		w.line(4, "%sheld for a person since %s%s:", w.who(s, []starter.Span{{First: h.Partition, Last: h.Partition}}), w.ago(h.Since), on)
		w.line(6, "%s", h.Reason)
		w.line(6, "find out what it has done, then:")
		w.text.WriteString("      " + h.Release + "\n")
	}
}

func (w *explanation) losses(s *starter.StepExplanation) {
	for _, l := range s.Losses {
		text := fmt.Sprintf("the platform has lost %s, which it makes good: that costs no attempt", number(l.Count, "placement"))
		if len(s.Offers) == 0 && l.Reason != "" {
			text += "; the last time: " + l.Reason
		}
		w.line(4, "%s", text)
	}
}

func (w *explanation) more(n int, one, many, what string) {
	if n > 1 {
		one = many
	}
	w.line(4, "… and %d more %s %s; --output json has all", n, one, what)
}

// who names partitions, of steps that have several.
func (w *explanation) who(s *starter.StepExplanation, spans []starter.Span) string {
	if !s.ForEach || len(spans) == 0 {
		return ""
	}
	return spansText(spans) + " "
}
