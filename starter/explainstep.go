package starter

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"

	"github.com/baas-batch/baas/api"
)

// step explains one step.
func (e *explainer) step(s *api.StepState) StepExplanation {
	out := StepExplanation{StepState: *s}
	if s.Status == api.StatusWaiting || s.Status == api.StatusBlocked {
		for _, id := range s.Needs {
			if need, ok := e.run.Step(id); ok && need.Status != api.StatusSucceeded && need.Status != api.StatusSkipped {
				out.WaitsFor = append(out.WaitsFor, Need{id, need.Status})
			}
		}
		if s.OnExit && len(out.WaitsFor) == 0 && s.Status == api.StatusWaiting {
			out.WaitsFor = e.unfinished()
		}
	}
	for i := range e.run.Activities {
		if a := &e.run.Activities[i]; a.Step == s.ID {
			e.activity(&out, a)
		}
	}
	slices.SortStableFunc(out.Tasks, func(a, b Placed) int { return cmp.Compare(a.Partitions.First, b.Partitions.First) })
	slices.SortStableFunc(out.Held, func(a, b HeldTask) int { return cmp.Compare(a.Partition, b.Partition) })
	for i := range out.Queued {
		out.Queued[i].Partitions = merged(out.Queued[i].Partitions)
	}
	for i := range out.Offers {
		out.Offers[i].Partitions = merged(out.Offers[i].Partitions)
	}
	if s.Status == api.StatusRunning && e.run.Kill == nil {
		out.Backoffs = append(e.backoffs(s.ID), e.rangeBackoffs(s.ID)...)
	}
	e.failed(&out)
	return out
}

// unfinished are the steps that those of on_exit wait for.
func (e *explainer) unfinished() (needs []Need) {
	for _, s := range e.run.Steps {
		if !s.OnExit && !s.Status.Final() {
			needs = append(needs, Need{s.ID, s.Status})
		}
	}
	return needs
}

// activity adds what one activity of a step tells.
func (e *explainer) activity(out *StepExplanation, a *Activity) {
	pending := e.pending(a.ID)
	indexes := e.indexes(a)
	if e.options.Partition >= 0 {
		if len(indexes) > 0 && !slices.Contains(indexes, e.options.Partition) {
			return
		}
		indexes = []int{e.options.Partition}
	}
	since := pending.GetScheduledTime().AsTime()
	if l := e.journal.launches[a.ID]; l != nil {
		since = l.scheduled // the time above is that of the last try
	}
	var heard time.Time
	if t := pending.GetLastHeartbeatTime(); t != nil {
		heard = t.AsTime()
	}
	for _, t := range a.Details.Tasks {
		p := e.placed(out.ID, a, t, since, heard)
		if e.options.Partition >= 0 && !t.Holds(e.options.Partition) {
			continue
		}
		if t.Held != nil {
			out.Held = append(out.Held, e.run.heldTask(a, t))
		} else {
			out.Tasks = append(out.Tasks, p)
		}
	}
	done := a.Details.Range.Ended()
	rest := slices.DeleteFunc(slices.Clone(indexes), func(i int) bool {
		return done(i) || backingOff(a, i) || slices.ContainsFunc(a.Details.Tasks, func(t api.TaskDetail) bool { return t.Holds(i) })
	})
	if n := a.Details.Replaced; n > 0 {
		out.lose(Loss{Partitions: spans(indexes), Count: n, Reason: a.Details.Reason})
	}
	count := len(rest)
	switch d := &a.Details; {
	case e.options.Partition >= 0:
	case d.Range == nil:
		count = max(0, count-d.Done)
	default: // spans of pauses and the bitmap may have been cut
		count = min(count, d.Unplaced())
	}
	switch {
	case pending.GetState() == enumspb.PENDING_ACTIVITY_STATE_SCHEDULED:
		q := Queued{Partitions: spans(rest), Since: since, Try: a.Try, LastFailure: a.LastFailure}
		if t := pending.GetNextAttemptScheduleTime(); t != nil {
			q.Next = t.AsTime()
		}
		out.queue(q)
	case count > 0:
		out.wait(OfferWait{Partitions: spans(rest), Count: count, Since: since, Reason: a.Details.Reason, Heard: heard})
	}
}

// wait adds to what waits for the same reason; the latest word on it is kept.
func (s *StepExplanation) wait(w OfferWait) {
	for i := range s.Offers {
		o := &s.Offers[i]
		if Gist(o.Reason) != Gist(w.Reason) {
			continue
		}
		if w.Heard.After(o.Heard) {
			o.Reason = w.Reason
		}
		o.Partitions = append(o.Partitions, w.Partitions...)
		o.Count += w.Count
		o.Heard = latest(o.Heard, w.Heard)
		if w.Since.Before(o.Since) {
			o.Since = w.Since
		}
		return
	}
	s.Offers = append(s.Offers, w)
}

func (e *explainer) pending(id string) *workflowpb.PendingActivityInfo {
	if e.x != nil {
		for _, p := range e.x.description.GetPendingActivities() {
			if p.GetActivityId() == id {
				return p
			}
		}
	}
	return nil // its getters answer with zero values
}

// indexes are the partitions of an activity.
func (e *explainer) indexes(a *Activity) []int {
	if l := e.journal.launches[a.ID]; l != nil {
		return l.indexes()
	}
	return nil
}

func (e *explainer) placed(step string, a *Activity, t api.TaskDetail, since, heard time.Time) Placed {
	p := Placed{
		Partitions: Span{t.First, t.Last()}, Attempt: cmp.Or(t.Attempt, a.Details.Attempt),
		State: t.State, Agent: a.agent(t), Since: since, Progress: t.Progress, Heard: heard,
	}
	for _, part := range t.Parts {
		p.Parts = append(p.Parts, Span{part[0], part[1]})
	}
	if a.Details.Range != nil {
		p.Since = time.Time{} // that of the range
	}
	if t.UnreachableSince != nil {
		p.UnreachableSince = *t.UnreachableSince
		if plan := e.journal.plan.step(step); !plan.AtMostOnce && plan.UnreachableTimeout > 0 {
			p.PlacedAgain = p.UnreachableSince.Add(time.Duration(plan.UnreachableTimeout))
		}
	}
	return p
}

// backoffs are the partitions of a step that wait for their next attempt, by the
// number of that.
func (e *explainer) backoffs(step string) []Backoff {
	byAttempt := map[int][]int{}
	tries := e.journal.tries[step]
	for partition, try := range tries {
		if !try.again.IsZero() && (e.options.Partition < 0 || e.options.Partition == partition) {
			byAttempt[try.attempt+1] = append(byAttempt[try.attempt+1], partition)
		}
	}
	var out []Backoff
	for _, attempt := range slices.Sorted(maps.Keys(byAttempt)) {
		partitions := slices.Sorted(slices.Values(byAttempt[attempt]))
		first := slices.MinFunc(partitions, func(a, b int) int { return tries[a].again.Compare(tries[b].again) })
		out = append(out, Backoff{
			Partitions: spans(partitions), Attempt: attempt, Until: tries[first].again, After: *tries[first].failed,
		})
	}
	return out
}

// rangeBackoffs are those that the leader keeps: of partitions in ranges.
func (e *explainer) rangeBackoffs(step string) (out []Backoff) {
	for _, a := range e.run.Activities {
		if a.Step != step || a.Details.Range == nil {
			continue
		}
		for _, b := range a.Details.Range.Backoffs {
			parts := b.Parts
			if p := e.options.Partition; p >= 0 {
				parts = slices.DeleteFunc(slices.Clone(parts), func(s [2]int) bool { return p < s[0] || p > s[1] })
				if len(parts) > 0 {
					parts = [][2]int{{p, p}}
				}
			}
			one := Backoff{Attempt: b.Attempt, Until: b.Until}
			for _, s := range parts {
				one.Partitions = append(one.Partitions, Span{s[0], s[1]})
			}
			if len(one.Partitions) == 0 {
				continue
			}
			r := b.After
			one.After = *e.journal.failure(step, b.Attempt-1, &attemptResult{
				Partition: r.Partition, Outcome: r.Outcome, ExitCode: r.ExitCode, Signal: r.Signal, Reason: r.Reason,
				Started: r.Started, Ended: r.Ended, Agent: r.Agent,
			})
			out = append(out, one)
		}
	}
	return out
}

// backingOff tells of a partition of an activity whether it waits for another attempt.
func backingOff(a *Activity, partition int) bool {
	if a.Details.Range == nil {
		return false
	}
	return slices.ContainsFunc(a.Details.Range.Backoffs, func(b api.BackoffDetail) bool {
		return slices.ContainsFunc(b.Parts, func(s [2]int) bool { return s[0] <= partition && partition <= s[1] })
	})
}

// failed adds the first failure that is for good.
func (e *explainer) failed(out *StepExplanation) {
	failures := e.journal.failures[out.ID]
	if e.options.Partition >= 0 {
		failures = slices.DeleteFunc(slices.Clone(failures), func(f *Failure) bool { return f.Partition != e.options.Partition })
	}
	// A kill ends partitions that did not fail.
	out.Failures = len(failures)
	if out.Failures > 0 {
		out.Failure = failures[0]
		if e.options.Partition < 0 {
			out.Failures = max(out.Failures, out.Failed) // of many, the first ones are told
		}
		return
	}
	if out.Status == api.StatusFailed && e.options.Partition < 0 {
		out.Failure, out.Failures = &Failure{ExitCode: -1, Reason: out.Reason}, max(1, out.Failed)
	}
}

// lose adds to what was lost in the same way.
func (s *StepExplanation) lose(l Loss) {
	for i := range s.Losses {
		if o := &s.Losses[i]; Gist(o.Reason) == Gist(l.Reason) {
			o.Partitions = merged(append(o.Partitions, l.Partitions...))
			o.Count += l.Count
			return
		}
	}
	s.Losses = append(s.Losses, l)
}

// queue adds to what waits for the scheduler after the same failure.
func (s *StepExplanation) queue(q Queued) {
	for i := range s.Queued {
		o := &s.Queued[i]
		if o.LastFailure != q.LastFailure || o.Next.IsZero() != q.Next.IsZero() {
			continue
		}
		o.Partitions = append(o.Partitions, q.Partitions...)
		o.Try = max(o.Try, q.Try)
		if q.Since.Before(o.Since) {
			o.Since = q.Since
		}
		if q.Next.Before(o.Next) {
			o.Next = q.Next
		}
		return
	}
	s.Queued = append(s.Queued, q)
}

// Gist is a reason without its numbers: reasons of the same gist differ in when
// they were given, and in places in a queue.
func Gist(reason string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) || r == ',' || r == '.' {
			return -1
		}
		return r
	}, reason)
}

// merged puts ranges in order and joins those that touch.
func merged(list []Span) []Span {
	slices.SortFunc(list, func(a, b Span) int { return cmp.Compare(a.First, b.First) })
	out := []Span{}
	for _, s := range list {
		if last := len(out) - 1; last >= 0 && s.First <= out[last].Last+1 {
			out[last].Last = max(out[last].Last, s.Last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// spans sums ascending numbers up.
func spans(numbers []int) []Span {
	out := []Span{}
	for _, n := range numbers {
		if last := len(out) - 1; last >= 0 && out[last].Last == n-1 {
			out[last].Last = n
			continue
		}
		out = append(out, Span{n, n})
	}
	return out
}
