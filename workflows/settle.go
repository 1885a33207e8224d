package workflows

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

// settle takes in what became of one activity.
func (p *phase) settle(l *launch) {
	s := l.step
	s.state.Active -= len(l.partitions)
	var result api.LaunchResult
	err := l.future.Get(p.wait, &result)
	switch {
	case err != nil && p.stopping:
		// Cancelled before it began or in backoff; or the leader was lost, and
		// Temporal does not retry what is to be cancelled. KillTasks has its tasks.
		return
	case err != nil:
		p.failAll(l, messageOf(err))
		return
	case len(result.Results) != len(l.partitions):
		p.failAll(l, fmt.Sprintf("the platform answered with %d results for %d partitions",
			len(result.Results), len(l.partitions)))
		return
	}
	for i, partition := range l.partitions {
		p.settlePartition(s, l.attempt, partition, result.Results[i])
	}
}

func (p *phase) failAll(l *launch, reason string) {
	for _, partition := range l.partitions {
		l.step.state.Failed++
		p.fail(l.step, l.step.place(partition)+reason)
	}
}

// settlePartition decides what follows one attempt of one partition.
func (p *phase) settlePartition(s *step, attempt, partition int, result tasklet.Result) {
	s.use(result.Usage)
	if s.def.ForEach == nil {
		s.state.ExitStatus = exitStatus(result)
	}
	switch {
	case result.Outcome == tasklet.Succeeded:
		if err := s.outputs.add(partition, result.Outputs); err != nil {
			s.state.Failed++
			p.fail(s, s.place(partition)+err.Error())
			s.halt()
			return
		}
		s.state.Done++
		return
	case result.Outcome == tasklet.Killed && p.stopping:
		return
	}
	wait, again := s.def.Retry.Again(attempt, result)
	if again && !s.halted {
		s.state.Retries++
		p.delay(s, attempt+1, partition, wait)
		return
	}
	if !again || !p.stopping {
		s.state.Failed++ // else the kill alone is why there is no other attempt
	}
	p.fail(s, s.place(partition)+describe(result, attempt, s.def.Retry, again)+
		"; log: baas logs "+s.address(p.id, partition))
}

// delay starts a backoff, or joins one of the same step that ends together with it.
func (p *phase) delay(s *step, attempt, partition int, wait time.Duration) {
	s.delayed++
	if wait <= 0 {
		s.retry(attempt, []int{partition})
		return
	}
	now := workflow.Now(p.ctx)
	due := roundUp(now.Add(wait), clamp(wait/10, time.Millisecond, time.Second))
	for _, d := range p.delays {
		if d.step == s && d.attempt == attempt && d.due.Equal(due) {
			d.partitions = append(d.partitions, partition)
			return
		}
	}
	p.delays = append(p.delays, &delay{
		step:       s,
		attempt:    attempt,
		due:        due,
		partitions: []int{partition},
		future: workflow.NewTimerWithOptions(p.ctx, due.Sub(now), workflow.TimerOptions{
			Summary: fmt.Sprintf("%s: until attempt %d", s.def.ID, attempt),
		}),
	})
}

// roundUp makes partitions that failed at nearly the same time due together.
func roundUp(t time.Time, to time.Duration) time.Time {
	if rounded := t.Truncate(to); !rounded.Equal(t) {
		return rounded.Add(to)
	}
	return t
}

// exitStatus is what `.exit_status` shows: the status that the tasklet named, else
// its exit code; nothing when there was no exit.
func exitStatus(result tasklet.Result) string {
	switch {
	case result.ExitStatus != "":
		return result.ExitStatus
	case result.ExitCode >= 0:
		return strconv.Itoa(result.ExitCode)
	}
	return ""
}

// describe says in one sentence how an attempt ended, and why there is no other;
// again tells that there would have been, had the step not been stopped.
func describe(result tasklet.Result, attempt int, retry flow.Retry, again bool) string {
	text := result.Reason
	if text == "" {
		switch {
		case result.Outcome != tasklet.Failed:
			text = string(result.Outcome)
		case result.Signal != "":
			text = "ended by signal " + result.Signal
		default:
			text = fmt.Sprintf("exit code %d", result.ExitCode)
		}
	}
	switch result.Outcome {
	case tasklet.Platform:
		return text + " (the platform's loss; not charged to retry)"
	case tasklet.Killed, tasklet.Invalid:
		return text
	}
	if retry.Attempts <= 1 {
		return text
	}
	text += fmt.Sprintf(" (attempt %d of %d", attempt, retry.Attempts)
	switch {
	case again:
		text += "; the step was stopped"
	case attempt < retry.Attempts:
		text += "; the retry rules exclude it"
	}
	return text + ")"
}

// shorten cuts text of users to a size, between characters.
func shorten(text string, size int) string {
	if len(text) <= size {
		return text
	}
	cut := size - len("…")
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// trimPlace makes a reason that began after the step's name stand alone.
func trimPlace(reason string) string {
	return strings.TrimLeft(reason, ":, ")
}
