package fault

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tests/harness"
)

// frameworks are the IDs of all frameworks that have ever registered: those that
// the master knows, and those that were torn down.
func (w *crashWorld) frameworks() (known, gone []string) {
	w.Helper()
	type framework struct {
		FrameworkInfo struct {
			ID struct{ Value string } `json:"id"`
		} `json:"framework_info"`
	}
	var answer struct {
		GetFrameworks struct {
			Frameworks []framework `json:"frameworks"`
			Completed  []framework `json:"completed_frameworks"`
		} `json:"get_frameworks"`
	}
	w.do(w.operator(w.Context(), `{"type": "GET_FRAMEWORKS"}`, &answer))
	for _, f := range answer.GetFrameworks.Frameworks {
		known = append(known, f.FrameworkInfo.ID.Value)
	}
	for _, f := range answer.GetFrameworks.Completed {
		gone = append(gone, f.FrameworkInfo.ID.Value)
	}
	return known, gone
}

// oneFramework checks how many frameworks have ever registered: one for each time
// that the singleton was started anew.
func (w *crashWorld) oneFramework(births int) {
	w.Helper()
	if known, gone := w.frameworks(); len(known) != 1 || len(gone) != births-1 {
		w.Errorf("the frameworks %v have registered, after %v; want one after %d", known, gone, births-1)
	}
}

var birthCrashes = slices.Concat(
	call("start of MesosFramework", 1, underWay),
	call("choice of the FrameworkID", 1, underWay),
	[]crash{at("taken LeadFramework", 1, underWay)},
	call("SUBSCRIBE", 1, underWay),
	event("SUBSCRIBED", 1, underWay),
)

// brief is a flow that uses the framework at all.
var brief = Flow{Name: "brief", Unreachable: Unreachable, Steps: []Step{
	{Name: "work", Tasks: 2, Long: 50 * time.Millisecond}, {Name: "once", Tasks: 2, Needs: []string{"work"}, AtMostOnce: true},
}}

// Workers die while the FrameworkID is chosen and used for the first time: whoever
// leads in the end uses one that nobody else has used meanwhile.
func TestCrashAtBirth(t *testing.T) {
	t.Parallel()
	w := newCrashWorld(t)
	outer := w.TB.(*testing.T)
	w.Leader()
	harness.Eventually(t, "no framework registers", func() bool {
		known, _ := w.frameworks()
		return len(known) == 1
	})
	births := 1
	for range rounds(outer) {
		for _, c := range birthCrashes {
			outer.Run(string(c.point), func(t *testing.T) {
				w.TB = t
				t.Cleanup(func() { w.TB = outer })
				w.unborn()
				births++
				s := scene{w: w, flow: func() Flow { return brief }}
				o := w.order(c)
				w.revive()
				s.die(o, c)
				w.revive()
				s.begin(c)
				for _, r := range s.runs {
					w.judge(r)
				}
				w.oneFramework(births)
			})
		}
	}
	w.report()
}

// unborn ends all workers and the singleton, so that they are as never started.
func (w *crashWorld) unborn() {
	w.Helper()
	w.do(w.control.Set(nil))
	for _, v := range w.Workers {
		if v.Running() {
			w.do(v.Kill())
		}
	}
	ctx, cancel := context.WithTimeout(w.Context(), 30*time.Second)
	defer cancel()
	w.do(w.Client.TerminateWorkflow(ctx, api.FrameworkWorkflowID(api.DefaultFramework), "", "a new beginning"))
	known, _ := w.frameworks()
	for _, id := range known { // their executors go, and make room
		w.do(w.operator(ctx, fmt.Sprintf(`{"type": "TEARDOWN", "teardown": {"framework_id": {"value": %q}}}`, id), nil))
	}
}
