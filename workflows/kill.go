package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
)

// maxKilledBy bounds the name of who kills, in bytes.
const maxKilledBy = 100

// noteKill reads who kills the run, and why. The signal with it came before the
// cancel; a cancel by other means than BAAS's client has none, as workflow code
// does not see the reason of a cancel.
func (r *run) noteKill() {
	if r.kill != nil {
		return
	}
	var last, next api.KillRequest
	for signals := workflow.GetSignalChannel(r.ctx, api.SignalKill); signals.ReceiveAsync(&next); {
		last, next = next, api.KillRequest{}
	}
	r.kill = &api.KillRequest{By: shorten(last.By, maxKilledBy), Reason: shorten(last.Reason, maxReason-2*maxKilledBy)}
}

// killReason says why what was killed has ended.
func (r *run) killReason() string { return r.kill.Text() }

func andBefore(reason string) string {
	if reason == "" {
		return ""
	}
	return "; before that: " + reason
}

// killTasks has the leader end tasks of this run.
func (p *phase) killTasks(in api.KillInput, summary string) {
	p.killing = append(p.killing, workflow.ExecuteActivity(
		p.control(p.wait, summary), api.ActivityKillTasks, p.ofThisRun(in)))
}

func (r *run) ofThisRun(in api.KillInput) api.KillInput {
	execution := workflow.GetInfo(r.ctx).WorkflowExecution
	in.WorkflowID, in.RunID = execution.ID, execution.RunID
	return in
}

// control are the options of an activity that tells the leader something.
func (r *run) control(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           r.plan.Settings.ControlQueue,
		StartToCloseTimeout: time.Minute,
		HeartbeatTimeout:    shortHeartbeat,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, MaximumInterval: 10 * time.Second},
		Summary:             summary,
	})
}
