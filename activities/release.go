package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

var errStopping = errors.New("this leader is stopping")

// ReleaseHeld is the activity api.ActivityRelease. It returns when what the person
// has said survives this leader. Temporal repeats it until a leader has answered, so
// a later try succeeds too where an earlier one has done the work and died.
func (h *Handoff) ReleaseHeld(ctx context.Context, in api.ReleaseInput) error {
	key := tasklet.ActivityKey{WorkflowID: in.WorkflowID, RunID: in.RunID, ActivityID: in.Activity}
	again := activity.IsActivity(ctx) && activity.GetInfo(ctx).Attempt > 1
	answer := make(chan error, 1)
	if !h.hand(key, func(e *entry) {
		if !e.adopt() {
			answer <- errStopping
			return
		}
		answer <- e.releaseHeld(in, again)
	}) {
		return errStopping
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-h.ctx.Done():
		return errStopping
	}
}

// releasedObject is the result object of a task that a person has decided about.
type releasedObject struct {
	tasklet.ResultObject
	Release *api.ReleaseRequest `json:"release,omitempty"`
}

// is tells whether the object stands for that very release.
func (o *releasedObject) is(r api.ReleaseRequest) bool {
	return o.Release != nil && o.Release.Of(r) && o.Release.As == r.As
}

// releaseHeld does what a person has said, if the task is held.
func (e *entry) releaseHeld(in api.ReleaseInput, again bool) error {
	p := e.find(in.Partition, in.Generation)
	if p == nil || p.phase != phaseHeld {
		return e.notReleased(in, p, again)
	}
	if e.prefix != in.Prefix {
		return notHeld("it is a task of another step")
	}
	if !e.h.cfg.Leading() {
		return errNotLeader
	}
	object, err := e.h.heldResult(in)
	if err != nil && !errors.Is(err, storage.ErrNotExist) {
		return err
	}
	if e.ranged != nil {
		err = e.takeHeld(p, object.Results)
	} else {
		e.takeAll(p.first, object.Results)
		err = nil
	}
	if err != nil {
		return err
	}
	if len(e.unfinished(p)) == 0 { // its executor could store it after all, or an earlier try did
		e.drop(p)
		e.changed()
		e.advance()
		if object.is(in.ReleaseRequest) {
			return nil
		}
		return notHeld("its result has come after all")
	}
	if in.As == api.ReleaseNeverRan {
		err = e.launchReleased(p)
	} else {
		err = e.settleReleased(p, in)
	}
	if err == nil {
		e.log().Warn("a person has released a held task", "task", in.Activity, "partition", in.Partition,
			"as", in.As, "by", in.By, "reason", in.Reason)
	}
	return err
}

// settleReleased makes the person's word the task's result, in storage first.
func (e *entry) settleReleased(p *pack, in api.ReleaseInput) error {
	now := time.Now()
	r := tasklet.Result{
		Partition: p.first, Outcome: tasklet.Succeeded, Started: now, Ended: now, Agent: p.agent.Host,
		Reason: fmt.Sprintf("released as %s by %s: %s", in.As, cmp.Or(in.By, "somebody"), in.Reason),
	}
	if in.As == api.ReleaseFailed {
		r.Outcome, r.ExitCode = tasklet.Failed, -1
	}
	object := releasedObject{tasklet.ResultObject{TaskID: e.taskID(p), Results: []tasklet.Result{r}}, &in.ReleaseRequest}
	ctx, cancel := e.h.call()
	defer cancel()
	key := api.ResultKey(in.Prefix, in.Activity, in.Partition, in.Generation)
	if e.ranged != nil {
		object.Results[0].Attempt = p.attempt
	}
	if _, err := storage.PutJSON(ctx, e.h.cfg.Store, key, object); err != nil {
		return err
	}
	if e.ranged == nil {
		put(&e.results, p.first, r)
	} else if err := e.takeHeld(p, object.Results); err != nil {
		return err
	}
	e.drop(p)
	e.changed()
	e.advance()
	return nil
}

// takeHeld takes what is known after all of a held task of a Range: what its executor
// has stored, and what a person has said.
func (e *entry) takeHeld(p *pack, said []tasklet.Result) error {
	if !e.ranged.ready(e) {
		return errNeedsInput // asked for already
	}
	results, err := e.readTask(e.id(p.first, p.generation), p)
	if err != nil {
		return err
	}
	kept, err := e.keep(p, said)
	if err != nil {
		return err
	}
	e.takeRange(p, p.generation, append(results, kept...))
	return nil
}

// launchReleased places the task again once Temporal has noted that it is no longer
// held. Where the input is not known, Temporal is asked for it: the attempt to come
// finds a partition without a task.
func (e *entry) launchReleased(p *pack) error {
	held := p.held
	p.phase, p.state, p.held = phasePausing, "", nil
	if err := e.beat(); err != nil {
		p.phase, p.state, p.held = phaseHeld, heldState, held
		return err
	}
	e.replaced++
	if e.in == nil {
		e.drop(p)
		e.lapse()
		return nil
	}
	e.submit(p)
	return nil
}

// notReleased answers for a task that is not held, or not any more.
func (e *entry) notReleased(in api.ReleaseInput, p *pack, again bool) error {
	if again {
		done, err := e.released(in)
		if done || err != nil {
			return err
		}
	}
	switch {
	case e.cancelled:
		return notHeld("it is being killed")
	case e.orphan:
		return notHeld("it has ended")
	case p != nil:
		return notHeld(fmt.Sprintf("it is %s", p.state))
	case e.finished(in.Partition):
		return notHeld("it has a result")
	}
	return notHeld("it has been placed again, or is about to be")
}

// released tells whether an earlier try has carried the release out. What is held
// gets another placement by a release alone, and so a higher generation.
func (e *entry) released(in api.ReleaseInput) (bool, error) {
	object, err := e.h.heldResult(in)
	switch {
	case err == nil:
		return object.is(in.ReleaseRequest), nil
	case !errors.Is(err, storage.ErrNotExist):
		return false, err
	case in.As != api.ReleaseNeverRan || e.cancelled:
		return false, nil
	}
	p := e.find(in.Partition, in.Generation)
	if e.orphan || e.ranged != nil && e.finished(in.Partition) {
		return e.h.laterResult(in)
	}
	return e.used(in.Partition) >= in.Generation && (p == nil || p.phase == phasePausing), nil
}

// heldResult reads the result object of the task that a release is about.
func (h *Handoff) heldResult(in api.ReleaseInput) (o releasedObject, err error) {
	ctx, cancel := h.call()
	defer cancel()
	key := api.ResultKey(in.Prefix, in.Activity, in.Partition, in.Generation)
	err = storage.GetJSON(ctx, h.cfg.Store, key, maxResultObject, &o)
	return o, err
}

// laterResult tells whether a later placement of the partition has a result.
func (h *Handoff) laterResult(in api.ReleaseInput) (bool, error) {
	ctx, cancel := h.call()
	defer cancel()
	prefix := api.ResultPrefix(in.Prefix, in.Activity)
	for info, err := range storage.All(ctx, h.cfg.Store, storage.ListOptions{Prefix: fmt.Sprintf("%s%d.", prefix, in.Partition)}) {
		if err != nil {
			return false, err
		}
		if _, generation, ok := parseResultKey(info.Key[len(prefix):]); ok && generation > in.Generation {
			return true, nil
		}
	}
	// Of a Range: a task that is to run at most once has one partition.
	segments, err := listSegments(ctx, h.cfg.Store, in.Prefix, in.Activity, fmt.Sprintf("%d.", in.Partition))
	return slices.ContainsFunc(segments, func(s segment) bool { return s.generation > in.Generation }), err
}

func notHeld(why string) error {
	return temporal.NewNonRetryableApplicationError(why, api.ErrorNotHeld, nil)
}
