package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

// KillTasks is the activity api.ActivityKillTasks: it ends what this leader holds of
// a workflow run, and returns when the orders are given. Single partitions are noted
// first, so that whoever leads next goes on.
func (h *Handoff) KillTasks(ctx context.Context, in api.KillInput) error {
	var answers []chan error
	for _, e := range h.all() {
		if e.key.WorkflowID != in.WorkflowID || e.key.RunID != in.RunID || in.Step != "" && !ofStep(e.key, in.Step) {
			continue
		}
		answer := make(chan error, 1)
		if e.post(func() { answer <- e.killAs(in) }) {
			answers = append(answers, answer)
		}
	}
	if len(in.Partitions) == 0 {
		return nil
	}
	for _, answer := range answers {
		select {
		case err := <-answer:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-h.ctx.Done():
			return errStopping
		}
	}
	return h.allKnown(ctx, in)
}

// allKnown makes sure that no activity of the step is pending that this leader has
// not heard of: partitions that are to be killed may be in it.
func (h *Handoff) allKnown(ctx context.Context, in api.KillInput) error {
	call, err := h.desc.run(ctx, workflowRun{in.WorkflowID, in.RunID})
	if err != nil || call.closed {
		return err
	}
	for id := range call.pending {
		key := tasklet.ActivityKey{WorkflowID: in.WorkflowID, RunID: in.RunID, ActivityID: id}
		if ofStep(key, in.Step) && h.known(key) == nil {
			return fmt.Errorf("activity %s is not with this leader yet", id)
		}
	}
	return nil
}

// ofStep tells whether an activity is of a step: their IDs are its name and a number.
func ofStep(key tasklet.ActivityKey, step string) bool {
	i := strings.LastIndexByte(key.ActivityID, '-')
	return i > 0 && key.ActivityID[:i] == step
}

// killAs ends all of the activity, or single partitions.
func (e *entry) killAs(in api.KillInput) error {
	switch {
	case e.retired || e.orphan:
		return nil
	case len(in.Partitions) == 0:
		e.cancel(in.Reason, in.Grace)
		return nil
	}
	if !e.adopt() {
		return errStopping
	}
	if e.orphan {
		return nil
	}
	if e.ranged == nil {
		e.killPlain(in)
		return nil
	}
	return e.killPartitions(in.Partitions, in.Reason)
}

// killPlain ends a plain step when its partitions are all to be killed.
func (e *entry) killPlain(in api.KillInput) {
	wanted := make(map[int]bool, len(in.Partitions))
	for _, i := range in.Partitions {
		wanted[i] = true
	}
	if e.in == nil {
		return
	}
	for _, part := range e.in.Partitions {
		if !wanted[part.Index] {
			return
		}
	}
	e.cancel(in.Reason, in.Grace)
}

// killPartitions ends partitions that have not ended, and has none of them tried
// again. The note comes before the orders: what is killed on request must be known
// as such to the next leader.
func (e *entry) killPartitions(list []int, reason string) error {
	r := e.ranged
	any := false
	for _, i := range list {
		if r.has(i) && !r.finished(i) {
			r.at(i).killing, any = true, true
		}
	}
	if !any {
		return nil
	}
	r.asked, r.reason = true, cut(reason, maxReason)
	if err := e.beat(); err != nil {
		return err
	}
	if e.orphan || !r.loaded {
		return nil // resume goes on
	}
	for _, i := range list {
		if !r.has(i) || !r.at(i).killing {
			continue
		}
		if s := r.at(i).state; s == partWaits || s == partPauses {
			e.killed(i)
		}
	}
	for _, p := range slices.Clone(e.packs) {
		e.killWaiting(p)
	}
	e.orders()
	e.advance()
	return nil
}

// killWaiting ends the partitions of a pack that is not in Mesos.
func (e *entry) killWaiting(p *pack) {
	if p.phase != phasePausing && p.phase != phaseFenced && p.phase != phaseWaiting && p.phase != phaseHeld {
		return
	}
	for _, i := range e.unfinished(p) {
		if e.ranged.at(i).killing {
			e.killed(i)
		}
	}
	if len(e.unfinished(p)) == 0 && e.kill(p, 0) {
		e.drop(p)
	}
}

// orderPause is the time between two orders to kill the same partitions: messages to
// executors may be lost.
const orderPause = 2 * time.Second

// orders has executors kill single partitions, until their results come.
func (e *entry) orders() {
	r := e.ranged
	if !r.asked || r.ordered || e.orphan || e.cancelled {
		return
	}
	again := false
	for _, p := range e.packs {
		var list []int
		for _, i := range e.unfinished(p) {
			if r.at(i).killing {
				list = append(list, i)
			}
		}
		if len(list) == 0 {
			continue
		}
		again = true
		if p.phase == phasePlaced && p.executor != "" && p.unreachable.IsZero() {
			e.order(p, list)
		}
	}
	if !again {
		return
	}
	r.ordered = true
	e.later(min(orderPause, e.h.cfg.HeartbeatTimeout/6), func() { r.ordered = false; e.orders() })
}

func (e *entry) order(p *pack, list []int) {
	data, err := json.Marshal(tasklet.Order{TaskID: e.taskID(p), Kill: list})
	if err == nil {
		err = e.h.fw.Send(p.agent.ID, p.executor, data)
	}
	if err != nil {
		e.log().Debug("order to kill partitions", "error", err)
	}
}

// killedOf settles those partitions of a lost pack that are to be killed.
func (e *entry) killedOf(p *pack) {
	for _, i := range e.unfinished(p) {
		if e.ranged.at(i).killing {
			e.killed(i)
		}
	}
}

// rangeDetail is what details say of a Range.
func (e *entry) rangeDetail() *api.RangeDetail {
	r := e.ranged
	d := &api.RangeDetail{
		First: r.first, Failed: r.n[partFailed], Killed: r.n[partKilled],
		Sequence: e.used(0), Launched: r.launched, MaxDetails: r.max, Backoffs: r.backoffs(),
	}
	for _, p := range e.packs {
		if p.phase == phasePlaced && p.state == mesos.Running {
			d.Running += len(e.unfinished(p))
		}
	}
	done := make(bitmap, (len(r.parts)+7)/8)
	var killing []int32
	for i := range r.parts {
		switch {
		case r.parts[i].state.final():
			done.set(i)
		case r.parts[i].killing:
			killing = append(killing, int32(r.first+i))
		}
	}
	if r.done() > 0 {
		d.Bitmap, _ = api.Deflate(done)
	}
	if d.Killing = spans(-1, killing); d.Killing != nil {
		d.Reason = r.reason
	}
	return d
}

// maxDetails bounds the details of this activity, in bytes.
func (e *entry) maxDetails() int {
	if e.ranged == nil || e.ranged.max <= 0 {
		return api.MaxDetails
	}
	return e.ranged.max
}
