package fault

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tests/harness"
)

// waiting is a flow whose tasks all wait at the gate, some of them for resources.
func waiting() Flow {
	return Flow{Name: "waiting", Unreachable: Unreachable, Steps: []Step{
		{Name: "work", Tasks: 10, Gated: 1, Attempts: 2},
		{Name: "once", Tasks: 4, Gated: 1, AtMostOnce: true},
	}}
}

var killCrashes = slices.Concat(
	[]crash{at("taken KillTasks", 1, underWay)},
	call("result of KillTasks", 1, underWay),
	call("KILL", 5, underWay),
	event("UPDATE of an end", 5, underWay),
	call("completion", 8, underWay),
	call("ACKNOWLEDGE of an end", 5, underWay),
)

// The leader dies while it kills a run: whatever lives is killed by the next one.
func TestCrashInKill(t *testing.T) {
	t.Parallel()
	w := newCrashWorld(t)
	w.each(killCrashes, scene{
		flow: waiting, shut: true,
		stir: func(r *Run) {
			r.UnderWay(0, 6)
			harness.Eventually(w, "the run cannot be killed", func() bool {
				err := w.Runs.Kill(w.Context(), r.ID, "wrong month", "ann")
				var ended *starter.EndedError // by a kill whose answer did not come
				return err == nil || errors.As(err, &ended)
			})
		},
		judge: w.judgeKilled,
	})
	w.oneFramework(1)
	w.report()
}

// judgeKilled checks that a run has ended as killed, and that nothing of it is left.
func (w *crashWorld) judgeKilled(r *Run) {
	w.Helper()
	last := r.Wait()
	if last.Status != api.StatusKilled || !strings.HasPrefix(last.Reason, "killed by ann: wrong month") {
		w.Errorf("the run ended as %s (%s), want killed", last.Status, last.Reason)
	}
	ctx, cancel := context.WithTimeout(w.Context(), harness.Patience)
	defer cancel()
	ledger := r.Ledger()
	history, err := r.History(ctx)
	w.do(err)
	c := &checker{w: w.World, r: r, ledger: ledger, history: history}
	c.leftovers(ctx)
	c.overlaps()
	type attempt struct {
		Partition
		n int
	}
	started := make(map[attempt]bool)
	for _, e := range ledger {
		switch a := (attempt{e.Partition, e.Attempt}); {
		case e.Kind != Began:
			c.report("%s, although it was killed at the gate", e)
		case started[a], e.Attempt > 1:
			c.report("%s, which had been started before", e)
		default:
			started[a] = true
		}
	}
	for _, a := range history.Accepted {
		if a.Result.Outcome == "platform" && started[attempt{a.Partition, a.Attempt}] {
			c.report("%s has run and was taken for lost: %s", a.Partition, a.Result.Reason)
		}
	}
	// An activity that is to be cancelled is not tried again: it may end by a
	// time-out, or when a new leader hands it back.
	for _, text := range c.violations {
		w.Errorf("BAAS_SEED=%d: %s", w.Seed, text)
	}
}

var messageCrashes = slices.Concat(event("MESSAGE", 3, underWay), call("MESSAGE", 3, underWay))

// The leader dies while it gives executors new URLs in place of those that storage
// refuses.
func TestCrashInMessage(t *testing.T) {
	t.Parallel()
	w := newCrashWorld(t)
	w.Gateway.Set(StorageFault{Method: http.MethodPut, Every: 4, Status: http.StatusForbidden})
	w.each(messageCrashes, scene{flow: mixed, judge: w.judge})
	if w.Gateway.Struck() == 0 {
		t.Error("storage has refused nothing")
	}
	w.oneFramework(1)
	w.report()
}
