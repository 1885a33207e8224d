package flow

import (
	"time"

	"github.com/baas-batch/baas/tasklet"
)

// Retry says when an attempt that failed by the user's doing is tried again. What
// the platform lost is placed again without counting here.
type Retry struct {
	Attempts   int         `json:"attempts"` // tries in all; 1 means no retry
	Backoff    Duration    `json:"backoff,omitempty"`
	MaxBackoff Duration    `json:"max_backoff,omitempty"`
	Factor     float64     `json:"factor,omitempty"` // of one backoff over the one before
	On         []RetryRule `json:"on,omitempty"`     // when set, only these failures are retried
	Never      []RetryRule `json:"never,omitempty"`  // these are not; stronger than On
}

// RetryRule matches failures: exit codes From to To, or an outcome.
type RetryRule struct {
	From    int             `json:"from,omitempty"`
	To      int             `json:"to,omitempty"`
	Outcome tasklet.Outcome `json:"outcome,omitempty"`
	Signal  bool            `json:"signal,omitempty"` // ended by a signal of its own
}

// Words for outcomes in `on` and `never`.
var retryWords = map[string]RetryRule{
	"timeout": {Outcome: tasklet.TimedOut},
	"memory":  {Outcome: tasklet.OutOfMemory},
	"disk":    {Outcome: tasklet.DiskFull},
	"signal":  {Signal: true},
}

var retryWordNames = []string{"disk", "memory", "signal", "timeout"}

func (r RetryRule) matches(result tasklet.Result) bool {
	switch {
	case r.Outcome != "":
		return result.Outcome == r.Outcome
	case r.Signal:
		return result.Outcome == tasklet.Failed && result.Signal != ""
	}
	return result.Outcome == tasklet.Failed && result.Signal == "" &&
		r.From <= result.ExitCode && result.ExitCode <= r.To
}

// Again tells whether to try again after the attempt of that number (from 1)
// ended so, and how long to wait before. What was killed, or cannot run as it is
// described, is never tried again.
func (r Retry) Again(attempt int, result tasklet.Result) (time.Duration, bool) {
	switch result.Outcome {
	case tasklet.Failed, tasklet.TimedOut, tasklet.OutOfMemory, tasklet.DiskFull:
	default:
		return 0, false
	}
	if attempt >= r.Attempts || matchesAny(r.Never, result) {
		return 0, false
	}
	if len(r.On) > 0 && !matchesAny(r.On, result) {
		return 0, false
	}
	return r.Wait(attempt), true
}

// Wait is the pause after the attempt of that number, from 1.
func (r Retry) Wait(attempt int) time.Duration {
	wait, limit := float64(r.Backoff), float64(r.MaxBackoff)
	for i := 1; i < attempt && wait < limit; i++ {
		wait *= max(r.Factor, 1)
	}
	if limit > 0 {
		wait = min(wait, limit)
	}
	return time.Duration(wait)
}

func matchesAny(rules []RetryRule, result tasklet.Result) bool {
	for _, rule := range rules {
		if rule.matches(result) {
			return true
		}
	}
	return false
}
