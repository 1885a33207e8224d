package starter

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
)

// ReleaseOptions say what became of a task that is held.
type ReleaseOptions struct {
	Step      string
	Partition int // from 0; AllPartitions only for a step without for_each
	As        api.ReleaseAs
	Reason    string // required
	By        string
}

// releasePatience bounds the wait for the leader: longer than it takes another
// worker to lead.
const releasePatience = 30 * time.Second

// NotHeldError tells that there is nothing to release.
type NotHeldError struct {
	Task string // "step" or "step#partition"
	Why  string
}

func (e *NotHeldError) Error() string { return fmt.Sprintf("%s is not held: %s", e.Task, e.Why) }

// Is makes errors.Is(err, ErrNotFound) true: there is no such held task.
func (e *NotHeldError) Is(target error) bool { return target == ErrNotFound }

// Release says what became of a task that is held for a person, and returns when
// the run's history has it and the leader has acted upon it. What has been said
// before is not said twice: the answer is then the release of that time. Errors:
// ErrNotFound for a run or step that is not there, an *EndedError, a *NotHeldError;
// ErrUnreachable, also where the release is recorded and no leader has acted yet.
func (c *Client) Release(ctx context.Context, id string, o ReleaseOptions) (api.Release, error) {
	run, err := c.unfinished(ctx, id)
	if err != nil {
		return api.Release{}, err
	}
	request, before, err := run.releaseRequest(o)
	if before != nil || err != nil {
		return deref(before), err
	}
	return c.release(ctx, &run, request)
}

// unfinished describes a run that has not ended, and whose steps are known.
func (c *Client) unfinished(ctx context.Context, id string) (Run, error) {
	run, err := c.Describe(ctx, id)
	switch {
	case err != nil:
		return run, err
	case run.Status.Final():
		return run, &EndedError{Run: run.Run, Status: run.Status}
	case run.Incomplete != "":
		return run, &UnreachableError{What: "a worker", Address: c.address, Err: errors.New(run.Incomplete)}
	}
	return run, nil
}

// releaseRequest finds the held task. Where it was released so before, that is
// given instead.
func (r *Run) releaseRequest(o ReleaseOptions) (request api.ReleaseRequest, before *api.Release, err error) {
	s, ok := r.Step(o.Step)
	if !ok {
		return request, nil, fmt.Errorf("step %q of run %s: %w%s", o.Step, r.Run, ErrNotFound, suggest(o.Step, r))
	}
	task := o.Step
	switch {
	case s.ForEach && o.Partition < 0:
		return request, nil, &NotHeldError{Task: task, Why: "it has partitions: name one, such as " + task + "#0"}
	case s.ForEach:
		task = fmt.Sprintf("%s#%d", o.Step, o.Partition)
	}
	partition := max(0, o.Partition)
	for _, held := range r.Held() {
		if held.Step == o.Step && held.Partition == partition {
			return api.ReleaseRequest{
				Activity: held.Activity, Step: o.Step, Partition: partition, Generation: held.Generation,
				As: o.As, By: o.By, Reason: o.Reason,
			}, nil, nil
		}
	}
	for i := len(r.Releases) - 1; i >= 0; i-- {
		one := &r.Releases[i]
		switch {
		case one.Step != o.Step || one.Partition != partition:
		case one.As == o.As:
			return request, one, nil
		default:
			return request, nil, &NotHeldError{Task: task, Why: fmt.Sprintf("it was released as %s by %s: %s", one.As, one.By, one.Reason)}
		}
	}
	return request, nil, &NotHeldError{Task: task, Why: fmt.Sprintf("no task of it waits for a person; the step is %s", s.Status)}
}

func (c *Client) release(ctx context.Context, run *Run, request api.ReleaseRequest) (done api.Release, err error) {
	err = c.update(ctx, run, api.UpdateRelease, request, &done)
	var app *temporal.ApplicationError
	if errors.As(err, &app) && app.Type() == api.ErrorNotHeld {
		return done, &NotHeldError{Task: fmt.Sprintf("%s#%d", request.Step, request.Partition), Why: app.Message()}
	}
	return done, plainError(err)
}

// update has a run's workflow act upon a person's word, and waits until it has. What
// the workflow answers is an ApplicationError; ErrUnreachable, also where the word is
// recorded and no leader has acted yet.
func (c *Client) update(ctx context.Context, run *Run, name string, request, done any) error {
	limited, cancel := context.WithTimeout(ctx, releasePatience)
	defer cancel()
	update, err := c.temporal.UpdateWorkflow(limited, client.UpdateWorkflowOptions{
		UpdateID: name + "-" + rand.Text(), WorkflowID: run.WorkflowID, RunID: run.TemporalRunID,
		UpdateName: name, Args: []any{request}, WaitForStage: client.WorkflowUpdateStageAccepted,
	})
	recorded := err == nil
	if recorded {
		err = update.Get(limited, done)
	}
	var app *temporal.ApplicationError
	switch {
	case err == nil || ctx.Err() != nil:
		return errors.Join(ctx.Err(), err)
	case errors.As(err, &app):
		return err
	case recorded && limited.Err() != nil:
		return &UnreachableError{What: "the leader", Address: c.address,
			Err: errors.New("the order is recorded with the run, and is carried out when a worker leads")}
	}
	return c.named(err)
}

// plainError leaves the words for a person of what a workflow answers.
func plainError(err error) error {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return errors.New(app.Message())
	}
	return err
}

func deref(r *api.Release) api.Release {
	if r == nil {
		return api.Release{}
	}
	return *r
}

// HeldTask is a task that waits for a person's word.
type HeldTask struct {
	Step       string    `json:"step"`
	Partition  int       `json:"partition"`
	Activity   string    `json:"activity"`
	Generation int       `json:"generation"`
	Agent      string    `json:"agent,omitempty"`
	Since      time.Time `json:"since"`
	Reason     string    `json:"reason,omitempty"`
	// Release is the command that ends the wait, with its choices.
	Release string `json:"release"`
}

// Held lists the tasks that wait for a person's word: each was to run at most once,
// is lost, and nobody knows whether it ran.
func (r *Run) Held() (list []HeldTask) {
	for i := range r.Activities {
		a := &r.Activities[i]
		for _, t := range a.Details.Tasks {
			if t.Held != nil {
				list = append(list, r.heldTask(a, t))
			}
		}
	}
	slices.SortStableFunc(list, func(a, b HeldTask) int {
		return cmp.Or(cmp.Compare(a.Step, b.Step), cmp.Compare(a.Partition, b.Partition))
	})
	return list
}

func (r *Run) heldTask(a *Activity, t api.TaskDetail) HeldTask {
	h := HeldTask{
		Step: a.Step, Partition: t.First, Activity: a.ID, Generation: t.Generation,
		Agent: a.agent(t), Since: t.Held.Since, Reason: t.Held.Reason,
	}
	address := r.Run + "/" + a.Step
	if s, ok := r.Step(a.Step); !ok || s.ForEach {
		address += fmt.Sprintf("#%d", t.First)
	}
	h.Release = "baas release " + address + " --as never-ran|ran|failed --reason TEXT"
	return h
}
