package activities

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tasklet"
)

// TakeOver adopts the activities that an earlier leader of the framework held,
// as far as Temporal's listing shows their runs already; heartbeat time-outs and
// Mesos bring the rest.
func (h *Handoff) TakeOver(ctx context.Context) error {
	request := &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: h.cfg.Namespace,
		Query:     fmt.Sprintf("WorkflowType = '%s' AND ExecutionStatus = 'Running'", api.WorkflowBatchFlow),
	}
	for {
		page, err := h.cfg.Temporal.ListWorkflow(ctx, request)
		if err != nil {
			return err
		}
		for _, info := range page.GetExecutions() {
			run := workflowRun{info.GetExecution().GetWorkflowId(), info.GetExecution().GetRunId()}
			if err := h.takeOver(ctx, run); err != nil {
				return err
			}
		}
		request.NextPageToken = page.GetNextPageToken()
		if len(request.NextPageToken) == 0 {
			return nil
		}
	}
}

func (h *Handoff) takeOver(ctx context.Context, run workflowRun) error {
	call, err := h.desc.run(ctx, run)
	if err != nil || call.closed {
		return err
	}
	for id, p := range call.pending {
		stands, details, err := read(p)
		if err != nil || stands != standsRunning && stands != standsCanceled || details.Framework != h.cfg.Framework {
			continue
		}
		e := h.entry(tasklet.ActivityKey{WorkflowID: run.workflowID, RunID: run.runID, ActivityID: id})
		if e == nil {
			return context.Canceled
		}
		e.post(func() {
			if !e.known() {
				e.adoptAs(stands, details)
			}
		})
	}
	return nil
}

// known tells whether this leader has the activity's input or details.
func (e *entry) known() bool { return e.in != nil || e.orphan || e.prefix != "" }

// adopt makes sure that an entry which Mesos told of, not Temporal, knows what
// its details say. False when the hand-off closes meanwhile.
func (e *entry) adopt() bool {
	for !e.known() {
		stands, details, err := e.h.desc.activity(e.h.ctx, e.key)
		switch {
		case e.h.ctx.Err() != nil:
			return false
		case err == nil:
			e.adoptAs(stands, details)
			return true
		}
		e.log().Warn("cannot ask Temporal about a task's activity; trying again", "error", err)
		select {
		case <-e.h.ctx.Done():
			return false
		case <-time.After(e.h.cfg.RetryPause):
		}
	}
	return true
}

func (e *entry) adoptAs(stands standing, details api.Details) {
	if stands == standsClosed || stands == standsGone {
		e.abandon()
		return
	}
	e.adoptDetails(details)
	if e.ranged == nil {
		e.adoptResults()
	} else if stands != standsCanceled {
		e.lapse() // what is to be tried again, and how, stands in the input
	}
	e.askMesos()
	if stands == standsCanceled {
		e.cancel("cancelled", 0)
	}
	e.changed()
}

// adoptResults adds what is finished already. Partitions that are neither
// finished nor placed need their input, which only Temporal has.
func (e *entry) adoptResults() {
	if e.prefix == "" {
		e.lapse()
		return
	}
	err := e.loadResults()
	if err != nil {
		e.log().Warn("cannot look for results", "error", err)
	}
	e.packs = slices.DeleteFunc(e.packs, func(p *pack) bool { return p.phase == phaseHeld && e.finished(p.first) })
	placed := 0
	for _, p := range e.packs {
		if !e.finished(p.first) {
			placed += p.count()
		}
	}
	if err != nil || placed+len(e.results) < e.total {
		e.lapse()
		return
	}
	e.advance()
}

// lapse ends the heartbeats, so that Temporal hands the activity over again with
// its input: at once if the token is known, else when the heartbeat times out.
func (e *entry) lapse() {
	e.lapsed = true
	e.nextBeat.Store(0)
	e.noted()
	e.awaitAttempt()
	e.watch()
	ctx, cancel := e.h.call()
	defer cancel()
	e.giveBack(ctx, "the leader has changed, and asks for the activity again", time.Millisecond)
}

// watch asks now and then how a lapsed activity stands: where the run has closed,
// or is to be killed, no attempt will come.
func (e *entry) watch() {
	if e.watching {
		return
	}
	e.watching = true
	e.later(e.h.cfg.HeartbeatTimeout, func() {
		e.watching = false
		if e.lapsed && !e.orphan {
			_ = e.inquire()
			e.watch()
		}
	})
}

// handedBack is the error type of attempts that a leader has given back.
const handedBack = "HandedBack"

// giveBack fails the attempt, and no other: the call is fenced by its token.
// Temporal hands the activity over again after a pause, which must not be 0.
func (e *entry) giveBack(ctx context.Context, why string, pause time.Duration) {
	if e.token == nil || !e.h.cfg.Leading() {
		return
	}
	err := e.h.cfg.Temporal.CompleteActivity(ctx, e.token, nil, temporal.NewApplicationErrorWithOptions(
		why, handedBack, temporal.ApplicationErrorOptions{NextRetryDelay: pause, Category: temporal.ApplicationErrorCategoryBenign}))
	if err != nil {
		e.log().Debug("hand an attempt back", "error", err)
	}
	e.token = nil
}
