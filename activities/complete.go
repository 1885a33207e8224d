package activities

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.temporal.io/api/serviceerror"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tasklet"
)

// maxResult bounds LaunchResult as JSON, in bytes: a result over Temporal's 2 MB
// is answered with success and fails the activity.
const maxResult = 1800 << 10

// advance completes the activity when all results are there, and else notes what
// has come.
func (e *entry) advance() {
	if e.orphan || e.total == 0 {
		return
	}
	if e.done() >= e.total && e.mergeDone() {
		e.complete()
		return
	}
	e.cut()
	if e.in == nil && len(e.packs) == 0 && !e.lapsed {
		e.lapse()
	}
	switch {
	case len(e.acks) == 0 && !e.undecided():
	case e.lapsed:
		e.noted() // the next attempt looks into storage
	case e.ranged != nil:
		e.noteSoon()
	default:
		// The results lie in storage; the note makes them count.
		if err := e.beat(); err != nil {
			e.changed()
		}
	}
}

// complete hands the results to Temporal and acknowledges last (rules 3 and 5).
func (e *entry) complete() {
	if e.retrying {
		return
	}
	if err := e.tell(); err != nil {
		e.log().Warn("cannot complete an activity; trying again", "error", err)
		e.retrying = true
		e.later(e.h.cfg.RetryPause, func() {
			e.retrying = false
			e.advance()
		})
		return
	}
	e.over()
	e.orphan = true // whatever of it still shows up is nobody's
	e.nextBeat.Store(0)
	e.killReachable()
	e.h.remove(e)
}

// tell makes the call. A leader of the past does not: what it holds for lost may
// live on under the next one.
func (e *entry) tell() error {
	if !e.h.cfg.Leading() {
		return errNotLeader
	}
	ctx, cancel := e.h.call()
	defer cancel()
	err := e.h.cfg.Temporal.CompleteActivityByID(ctx, e.h.cfg.Namespace,
		e.key.WorkflowID, e.key.RunID, e.key.ActivityID, e.result(), nil)
	var notFound *serviceerror.NotFound
	if errors.As(err, &notFound) {
		return e.confirmGone()
	}
	return err
}

// confirmGone makes sure that a NotFound means accepted before or not wanted.
func (e *entry) confirmGone() error {
	stands, _, err := e.h.desc.activity(e.h.ctx, e.key)
	if err != nil {
		return err
	}
	if stands == standsClosed || stands == standsGone {
		return nil
	}
	return errors.New("Temporal does not find the activity, and shows it as pending")
}

// result is what the activity is completed with: the results in the order of the
// input, which is the order of their indexes.
func (e *entry) result() api.LaunchResult {
	r := api.LaunchResult{Replaced: e.replaced}
	if e.ranged != nil {
		r.Range = e.ranged.result
		return r
	}
	for _, i := range slices.Sorted(maps.Keys(e.results)) {
		r.Results = append(r.Results, e.results[i])
	}
	return bound(r)
}

// bound takes the outputs of the largest results out until the whole fits.
func bound(r api.LaunchResult) api.LaunchResult {
	size := jsonSize(r)
	if size <= maxResult {
		return r
	}
	largest := slices.Clone(r.Results)
	slices.SortFunc(largest, func(a, b tasklet.Result) int { return cmp.Compare(jsonSize(b.Outputs), jsonSize(a.Outputs)) })
	cut := make(map[int]bool)
	for _, one := range largest {
		if size <= maxResult {
			break
		}
		size -= jsonSize(one.Outputs)
		cut[one.Partition] = true
	}
	for i := range r.Results {
		if one := &r.Results[i]; cut[one.Partition] {
			one.Reason = fmt.Sprintf("the output values of the partitions of one activity come to over %d KiB; write them to files", maxResult>>10)
			one.Outputs = nil
			if one.Outcome == tasklet.Succeeded {
				one.Outcome = tasklet.Failed
			}
		}
	}
	return r
}

func jsonSize(v any) int {
	data, err := json.Marshal(v)
	if err != nil {
		return 0
	}
	return len(data)
}

// checkInput refuses what must not reach Mesos. Workflows make no such input;
// somebody else's client may.
func checkInput(key tasklet.ActivityKey, in api.LaunchInput) error {
	if in.Range != nil {
		if err := checkRange(in); err != nil {
			return err
		}
	} else if len(in.Partitions) == 0 {
		return errors.New("no partitions")
	}
	if (in.Shell == "") == (len(in.Args) == 0) {
		return errors.New("exactly one of a shell command and arguments must be given")
	}
	if in.CPUs <= 0 || in.Mem <= 0 {
		return errors.New("CPUs and memory must be more than nothing")
	}
	last := lastOf(&in)
	for i, p := range in.Partitions {
		if i > 0 && p.Index <= in.Partitions[i-1].Index {
			return errors.New("partitions must be in order and unique")
		}
	}
	id := tasklet.TaskID{
		WorkflowID: key.WorkflowID, RunID: key.RunID, ActivityID: key.ActivityID,
		First: last, Generation: maxGeneration,
	}
	return id.Validate()
}

// maxGeneration is as high a generation as any ID has room for.
const maxGeneration = 9_999_999

// invalidResult says that the whole input cannot be run.
func (h *Handoff) invalidResult(a Attempt, err error) (api.LaunchResult, error) {
	if a.Input.Range != nil {
		return h.invalidRange(a, err)
	}
	var r api.LaunchResult
	for _, p := range a.Input.Partitions {
		r.Results = append(r.Results, decided(p.Index, tasklet.Invalid, err.Error()))
	}
	return r, nil
}
