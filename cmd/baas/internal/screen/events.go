package screen

import (
	"fmt"
	"time"

	"github.com/baas-batch/baas/api"
)

// Events tells a run as lines, one for each change: for logs and pipes.
type Events struct {
	every time.Duration // pause between two lines about the progress of one step
	last  map[string]reported
	run   api.Status
}

type reported struct {
	status api.Status
	done   int
	at     time.Time
}

// NewEvents reports the progress of a step at most once per interval.
func NewEvents(every time.Duration) *Events {
	return &Events{every: every, last: map[string]reported{}}
}

// Next gives what has changed since the last state, without times.
func (e *Events) Next(run *api.RunState, now time.Time) []string {
	var lines []string
	if run.Status != e.run && !run.Status.Final() {
		lines = append(lines, fmt.Sprintf("run %s %s", run.Run, run.Status))
	}
	for _, s := range run.Steps {
		if line := e.step(s, now); line != "" {
			lines = append(lines, line)
		}
	}
	if run.Status != e.run && run.Status.Final() {
		line := fmt.Sprintf("run %s %s after %s", run.Run, run.Status, Duration(run.Ended.Sub(run.Started)))
		if why := Why(run.Status, run.Reason); why != "" {
			line += ": " + why
		}
		lines = append(lines, line)
	}
	e.run = run.Status
	return lines
}

func (e *Events) step(s api.StepState, now time.Time) string {
	last, known := e.last[s.ID]
	switch {
	case s.Status == last.status && (s.Done == last.done || !s.ForEach || now.Sub(last.at) < e.every):
		return ""
	case !known && s.Status == api.StatusWaiting:
		e.last[s.ID] = reported{status: s.Status}
		return ""
	}
	e.last[s.ID] = reported{s.Status, s.Done, now}
	line := fmt.Sprintf("step %s %s", s.ID, s.Status)
	if s.ForEach && s.Partitions > 0 {
		line += " " + partitions(&s)
	}
	line += count(s.Retries, "retried")
	if s.Status.Final() && !s.Started.IsZero() {
		line += " after " + Duration(s.Ended.Sub(s.Started))
	}
	if why := Why(s.Status, s.Reason); why != "" {
		line += ": " + why
	}
	return line
}
