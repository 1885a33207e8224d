package fault

import (
	"context"
	"strings"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tasklet"
)

// decide is the person whom lost tasks of at_most_once steps wait for: it says what
// became of each, until the run has ended.
func (r *Run) decide(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		run, err := r.w.Runs.Describe(ctx, r.ID)
		if err != nil {
			continue // the fault of the hour
		}
		if run.Status.Final() {
			return
		}
		for _, held := range run.Held() {
			as := api.ReleaseFailed
			if s, _ := r.Flow.step(held.Step); s.Again {
				as = api.ReleaseNeverRan
			}
			// What cannot be said now is said at the next look.
			_, _ = r.w.Runs.Release(ctx, r.ID, starter.ReleaseOptions{
				Step: held.Step, Partition: held.Partition, As: as, By: personsName, Reason: "a test has lost it",
			})
		}
	}
}

const personsName = "decide"

// released tells whether a result is that person's word.
func released(result tasklet.Result) bool {
	return result.Outcome == tasklet.Failed && strings.HasPrefix(result.Reason, "released as failed by "+personsName)
}
