package starter

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
)

// MesosOptions select what is looked at.
type MesosOptions struct {
	Framework string // api.DefaultFramework if empty
	What      string // one of the api.Inspect constants
	Limit     int    // rows; at most and by default api.MaxInspectRows
}

// MesosView is what the leader of a framework held at a moment.
type MesosView struct {
	Framework string    `json:"framework"`
	Leader    string    `json:"leader"`
	At        time.Time `json:"at"`
	mesos.View
}

// inspectPatience bounds the wait for a leader, and for a worker to pass the
// question on.
const inspectPatience = 25 * time.Second

// Mesos asks the leader of a framework what it holds, by a short workflow. Errors:
// an *UnreachableError where Temporal does not answer, or nobody leads.
func (c *Client) Mesos(ctx context.Context, o MesosOptions) (MesosView, error) {
	if o.Framework == "" {
		o.Framework = api.DefaultFramework
	}
	out := MesosView{Framework: o.Framework}
	if c.temporal == nil {
		return out, &UnreachableError{What: "Temporal", Address: c.address, Err: errors.New("it is not known where it is")}
	}
	// What Temporal says of leader and workers is faster than a time-out.
	trouble, err := c.workers(ctx, time.Now())
	if err != nil {
		return out, err
	}
	if trouble != "" {
		return out, &UnreachableError{What: "the leader of framework " + o.Framework, Err: errors.New(trouble)}
	}
	answer, err := c.inspect(ctx, o)
	if err != nil {
		return out, c.noAnswer(ctx, o.Framework, err)
	}
	out.Leader, out.At = answer.Leader, answer.At
	if err := json.Unmarshal(answer.View, &out.View); err != nil {
		return out, fmt.Errorf("the leader's answer cannot be read: %w", err)
	}
	return out, nil
}

func (c *Client) inspect(ctx context.Context, o MesosOptions) (answer api.Inspection, err error) {
	ctx, cancel := context.WithTimeout(ctx, inspectPatience)
	defer cancel()
	run, err := c.temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       "mesos-inspect/" + o.Framework + "/" + rand.Text(),
		TaskQueue:                api.TaskQueue,
		WorkflowExecutionTimeout: inspectPatience,
		StaticSummary:            "baas mesos " + o.What,
	}, api.WorkflowInspect, api.InspectInput{Framework: o.Framework, What: o.What, Limit: o.Limit})
	if err != nil {
		return answer, err
	}
	err = run.Get(ctx, &answer)
	return answer, err
}

// noAnswer says why the leader has not answered.
func (c *Client) noAnswer(ctx context.Context, framework string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var failed *temporal.WorkflowExecutionError
	if !errors.As(err, &failed) && !errors.Is(err, context.DeadlineExceeded) {
		return c.named(err)
	}
	s, asking := c.scheduler(ctx, framework)
	if asking != nil {
		return asking
	}
	why := errors.New(s.Trouble)
	if s.Trouble == "" {
		why = fmt.Errorf("no answer: %w", err)
	}
	return &UnreachableError{What: "the leader of framework " + framework, Address: s.Leader, Err: why}
}
