package workflows

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

// ranges is what a step with for_each holds while it runs: its partitions are cut
// into parts, each one activity, and only sums of them come back. What it holds grows
// with the parts, never with the partitions, but for items that stand in the flow.
type ranges struct {
	listing  bool // the items are being listed: no part is known
	items    api.Items
	template flow.Template
	size     int    // bytes of the template as JSON
	parts    []part // in order of their partitions
	next     int    // the first that was never launched
	shares   []int  // of `parallel`, that no part in flight has; nil without a bound

	ctx    workflow.Context // of the activities
	cancel workflow.CancelFunc

	minimum int    // partitions that must succeed
	reason  string // of the first failure
	broken  bool   // the platform failed: no number of successes mends that
	gaveUp  bool   // by fail_fast
}

// part is one range of a step's partitions.
type part struct {
	first, count int
	share        int // of `parallel`; 0 for no limit
	active       bool
	manifest     tasklet.LinesRef
	outputs      map[string][]json.RawMessage // nil when they are in the manifest only
}

// needsRanges tells whether a step asks for what only ranges give.
func needsRanges(def *flow.Step, items flow.Items) bool {
	return items.Source != nil || def.MinSuccess != nil || def.FailFast || def.Reduce != ""
}

// inRanges tells whether a step is cut into ranges: one of many partitions, and one
// that could not run otherwise.
func (p *phase) inRanges(s *step, items flow.Items) bool {
	settings := &p.plan.Settings
	if s.def.ForEach == nil || settings.RangeSize == 0 {
		return false
	}
	return items.Len() >= settings.RangeFrom || needsRanges(s.def, items) ||
		slices.ContainsFunc(p.run.steps, func(other *step) bool { return other.def.Reduce == s.def.ID })
}

// beginRanges starts a step with for_each.
func (p *phase) beginRanges(s *step, items flow.Items) {
	s.state.Status = api.StatusRunning
	s.ranges = &ranges{}
	s.ranges.ctx, s.ranges.cancel = workflow.WithCancel(p.ctx)
	if items.Source != nil {
		p.list(s, items.Source)
		return
	}
	s.ranges.items.From = items.From
	for i, item := range items.List {
		raw, err := json.Marshal(item)
		if err == nil && len(raw) > maxRangeItems {
			err = fmt.Errorf("it has %d bytes, at most %d are allowed: pass large values as files", len(raw), maxRangeItems)
		}
		if err != nil {
			p.breakOff(s, fmt.Sprintf(": for_each: element %d: %v", i, err))
			return
		}
		s.ranges.items.List = append(s.ranges.items.List, raw)
	}
	p.cut(s, items.Len())
}

// breakOff fails a step whatever its partitions do, and launches no more of them.
func (p *phase) breakOff(s *step, reason string) {
	s.ranges.broken = true
	p.fail(s, reason)
	s.halt()
}

// cut divides the partitions of a step once their number is known.
func (p *phase) cut(s *step, n int) {
	r := s.ranges
	s.state.Partitions = n
	r.minimum = s.def.MinSuccess.Of(n)
	if n == 0 {
		return
	}
	var err error
	if r.template, err = p.plan.Flow.Template(s.def, p.scope()); err != nil {
		p.breakOff(s, ": "+err.Error())
		return
	}
	if raw, err := json.Marshal(r.template); err == nil {
		r.size = len(raw)
	}
	r.parts = cutParts(n, p.plan.Settings.RangeSize, r.items.List)
	r.shares = shares(s.def.Parallel, min(maxRanges, len(r.parts)))
}

// cutParts divides n partitions into parts of one size, cut earlier where the items
// of the flow's list become too large for one activity.
func cutParts(n, most int, items []json.RawMessage) []part {
	size := min(most, max(minRangeSize, (n+maxRanges-1)/maxRanges))
	var parts []part
	for first := 0; first < n; {
		count := min(size, n-first)
		if items != nil {
			count = fitting(items[first : first+count])
		}
		parts = append(parts, part{first: first, count: count})
		first += count
	}
	return parts
}

// fitting is how many items go into one activity, at least one.
func fitting(items []json.RawMessage) int {
	bytes := 0
	for i, raw := range items {
		if bytes += len(raw) + 1; i > 0 && bytes > maxRangeItems {
			return i
		}
	}
	return len(items)
}

// shares divides a bound on partitions among the parts that may be in flight: at
// most that many, the larger shares last, as they are taken from the end.
func shares(parallel, parts int) []int {
	if parallel <= 0 {
		return nil
	}
	parts = min(parts, parallel)
	all := make([]int, parts)
	for i := range all {
		all[len(all)-1-i] = (parallel + parts - 1 - i) / parts
	}
	return all
}

// rangeDue tells whether there is a part to launch.
func (s *step) rangeDue() bool {
	r := s.ranges
	return s.state.Status == api.StatusRunning && !s.halted && r.next < len(r.parts) &&
		(s.def.Parallel <= 0 || len(r.shares) > 0)
}

// pending tells whether a partition is with the leader.
func (r *ranges) pending(partition int) bool {
	for _, part := range r.parts {
		if part.first <= partition && partition < part.first+part.count {
			return part.active
		}
	}
	return false
}

// launchRange launches the next part of a step. It gives the size of its input.
func (p *phase) launchRange(s *step) (size int) {
	r := s.ranges
	part := &r.parts[r.next]
	r.next++
	if last := len(r.shares) - 1; last >= 0 {
		part.share, r.shares = r.shares[last], r.shares[:last]
	}
	in := p.input(s, 1)
	in.Range = p.rangeOf(s, part)
	for _, raw := range in.Range.Items.List {
		size += len(raw) + 1
	}
	part.active = true
	p.ranges++
	s.state.Active += part.count
	s.launched++
	p.launches = append(p.launches, &launch{
		step: s,
		part: part,
		future: workflow.ExecuteActivity(
			p.options(r.ctx, s, s.def.ID+" "+part.span()), api.ActivityRunTasklets, in),
	})
	return size + r.size + len(in.Shell)
}

func (p *phase) rangeOf(s *step, part *part) *api.Range {
	r := s.ranges
	out := &api.Range{
		First:      part.first,
		Count:      part.count,
		Items:      r.items,
		Template:   r.template,
		Retry:      s.def.Retry,
		Parallel:   part.share,
		MaxFailed:  -1,
		MaxDetails: maxRangeDetails,
	}
	if r.items.List != nil {
		out.Items.List = r.items.List[part.first : part.first+part.count]
	}
	if s.def.FailFast {
		out.MaxFailed = s.state.Partitions - r.minimum
	}
	if len(s.def.Outputs) > 0 {
		out.MaxOutputs = maxStepOutputs / len(r.parts)
	}
	return out
}

// span names the partitions: "#0–14999".
func (r *part) span() string {
	if r.count == 1 {
		return fmt.Sprintf("#%d", r.first)
	}
	return fmt.Sprintf("#%d–%d", r.first, r.first+r.count-1)
}

// settleRange takes in what became of one part.
func (p *phase) settleRange(l *launch) {
	s, r, part := l.step, l.step.ranges, l.part
	part.active = false
	p.ranges--
	s.state.Active -= part.count
	if part.share > 0 {
		r.shares = append(r.shares, part.share)
	}
	var answer api.LaunchResult
	err := l.future.Get(p.wait, &answer)
	if err != nil && (p.stopping || r.gaveUp) {
		return // cancelled before it began or in backoff; KillTasks has its tasks
	}
	result := answer.Range
	if err == nil {
		err = checkResult(part, result)
	}
	if err != nil {
		s.state.Failed += part.count
		r.broken = true
		p.fail(s, ", partitions "+part.span()+": "+messageOf(err))
		return
	}
	part.manifest, part.outputs = result.Manifest, result.Outputs
	s.state.Done += result.Succeeded
	s.state.Failed += result.Failed
	s.state.Retries += result.Retries
	s.use(result.Usage)
	if !p.stopping && !r.gaveUp {
		s.state.Killed += result.Killed
	}
	p.noteFailure(s, result)
}

// checkResult refuses the answer of a leader that does not account for all partitions.
func checkResult(part *part, result *api.RangeResult) error {
	if result == nil {
		return fmt.Errorf("the platform answered without a result")
	}
	n := result.Succeeded + result.Failed + result.Killed + result.NotRun
	if n != part.count || min(result.Succeeded, result.Failed, result.Killed, result.NotRun) < 0 {
		return fmt.Errorf("the platform answered for %d of %d partitions", n, part.count)
	}
	return nil
}

// noteFailure keeps the reason of the step's first failure. It becomes the run's when
// the step cannot succeed any more.
func (p *phase) noteFailure(s *step, result *api.RangeResult) {
	r := s.ranges
	if r.reason == "" {
		if r.reason = p.failureOf(s, result); r.reason != "" {
			s.state.Reason = cmp.Or(s.state.Reason, shorten(trimPlace(r.reason), p.reasonRoom()))
		}
	}
	if s.state.Failed+s.state.Killed <= s.state.Partitions-r.minimum {
		return
	}
	p.failed(s, r.reason)
	if s.def.FailFast && !r.gaveUp && !p.stopping {
		p.giveUp(s)
	}
}

func (p *phase) failureOf(s *step, result *api.RangeResult) string {
	switch {
	case len(result.Failures) > 0:
		f := result.Failures[0]
		_, again := s.def.Retry.Again(f.Attempt, f.Result)
		return s.place(f.Result.Partition) + describe(f.Result, f.Attempt, s.def.Retry, again) +
			"; log: baas logs " + s.address(p.id, f.Result.Partition)
	case result.Failed > 0:
		return fmt.Sprintf(": %d partitions failed", result.Failed)
	case result.Killed > 0 && !p.stopping && !s.ranges.gaveUp:
		return fmt.Sprintf(": %d partitions were killed on request", result.Killed)
	}
	return ""
}

// giveUp ends what runs of a step that has too many failures.
func (p *phase) giveUp(s *step) {
	s.ranges.gaveUp = true
	s.halt()
	if s.state.Active == 0 {
		return
	}
	s.ranges.cancel()
	p.killTasks(api.KillInput{Step: s.def.ID, Reason: "given up: too many partitions have failed"}, "kill the tasks of "+s.def.ID)
}

// finishRanges says in words how a step ended, and publishes what one that succeeded
// gives.
func (p *phase) finishRanges(s *step) {
	n, r := s.state.Partitions, s.ranges
	r.cancel() // nothing is in flight; frees the context
	s.state.NotRun = max(0, n-s.state.Done-s.state.Failed-s.state.Killed)
	switch s.state.Status {
	case api.StatusSucceeded:
		if lost := n - s.state.Done; lost > 0 {
			s.state.Reason = shorten(fmt.Sprintf("%d of %d partitions did not succeed, as min_success allows; the first: %s",
				lost, n, trimPlace(r.reason)), p.reasonRoom())
		}
		s.keepManifests()
		p.publishRanges(s)
	case api.StatusFailed:
		p.fail(s, cmp.Or(r.reason, fmt.Sprintf(": %d of %d partitions succeeded, %d must", s.state.Done, n, r.minimum)))
	}
}
