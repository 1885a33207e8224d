package workflows

import (
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
func (r *run) killReason() string {
	text := "killed on request"
	if r.kill == nil {
		return text
	}
	if r.kill.By != "" {
		text = "killed by " + r.kill.By
	}
	if r.kill.Reason != "" {
		text += ": " + r.kill.Reason
	}
	return text
}

func andBefore(reason string) string {
	if reason == "" {
		return ""
	}
	return "; before that: " + reason
}
