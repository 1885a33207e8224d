package starter

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tasklet"
)

// ExplainOptions select what is explained.
type ExplainOptions struct {
	Step      string // all steps that are not done if empty
	Partition int    // AllPartitions, or an index from 0
}

// Explanation says why a run stands where it stands.
type Explanation struct {
	Run     string           `json:"run"`
	Status  api.Status       `json:"status"`
	Reason  string           `json:"reason,omitempty"` // of the first failure
	Kill    *api.KillRequest `json:"kill,omitempty"`
	Started time.Time        `json:"started"`
	Ended   time.Time        `json:"ended,omitzero"`
	// Trouble is what keeps the run as a whole from going on, a sentence each.
	Trouble   []string          `json:"trouble"`
	Scheduler *Scheduler        `json:"scheduler,omitempty"` // nil when the run has ended
	Steps     []StepExplanation `json:"steps"`               // in file order, then on_exit
	// Incomplete says what could not be found out.
	Incomplete string `json:"incomplete,omitempty"`
}

// StepExplanation says what one step waits for, what runs and what failed.
type StepExplanation struct {
	api.StepState
	WaitsFor []Need      `json:"waits_for,omitempty"` // steps that it needs and that have not succeeded
	Queued   []Queued    `json:"queued,omitempty"`    // in Temporal, for the leader
	Offers   []OfferWait `json:"offers,omitempty"`    // with the leader, for an agent
	Backoffs []Backoff   `json:"backoffs,omitempty"`  // for their next attempt
	Tasks    []Placed    `json:"tasks,omitempty"`     // on agents
	Held     []HeldTask  `json:"held,omitempty"`      // for a person
	Losses   []Loss      `json:"losses,omitempty"`    // that the platform makes good
	// Failure is the first that is for good, Failures how many there are.
	Failure  *Failure `json:"failure,omitempty"`
	Failures int      `json:"failures,omitempty"`
}

// Need is a step that another one waits for.
type Need struct {
	Step   string     `json:"step"`
	Status api.Status `json:"status"`
}

// Span is a range of partitions, both ends included.
type Span struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// Queued is what no leader has in its hands.
type Queued struct {
	Partitions  []Span    `json:"partitions"`
	Since       time.Time `json:"since"`
	Try         int32     `json:"try"`           // of Temporal, the highest: above 1 after a change of leader
	Next        time.Time `json:"next,omitzero"` // when Temporal hands the first of them over again
	LastFailure string    `json:"last_failure,omitempty"`
}

// OfferWait is what waits for an agent, with the leader's word on why.
type OfferWait struct {
	Partitions []Span    `json:"partitions"` // those that are placed or done already may be among them
	Count      int       `json:"count"`
	Since      time.Time `json:"since"` // handed to the scheduler
	Reason     string    `json:"reason,omitempty"`
	Heard      time.Time `json:"heard,omitzero"` // when the leader said so
}

// Backoff is what waits for its next attempt.
type Backoff struct {
	Partitions []Span    `json:"partitions"`
	Attempt    int       `json:"attempt"` // the next one
	Until      time.Time `json:"until"`   // of the first of them, to a second
	After      Failure   `json:"after"`   // the last failure of that one
}

// Placed is one task on an agent.
type Placed struct {
	Partitions Span      `json:"partitions"`
	Parts      []Span    `json:"parts,omitempty"` // of Partitions, where the task has not all of them
	Attempt    int       `json:"attempt"`
	State      string    `json:"state"` // of Mesos, or PLACING
	Agent      string    `json:"agent,omitempty"`
	Since      time.Time `json:"since,omitzero"` // handed to the scheduler; zero of a range, whose tasks come later
	Progress   string    `json:"progress,omitempty"`
	Heard      time.Time `json:"heard,omitzero"` // when the leader said so
	// UnreachableSince is set while the agent does not answer; at PlacedAgain the
	// platform gives it up, never if that is zero.
	UnreachableSince time.Time `json:"unreachable_since,omitzero"`
	PlacedAgain      time.Time `json:"placed_again,omitzero"`
}

// Spans are the partitions of the task.
func (p *Placed) Spans() []Span {
	if len(p.Parts) > 0 {
		return p.Parts
	}
	return []Span{p.Partitions}
}

// Loss is what the platform has lost of partitions that are not finished. It is
// not charged to retry.
type Loss struct {
	Partitions []Span `json:"partitions"` // of the activity
	Count      int    `json:"count"`      // placements
	Reason     string `json:"reason,omitempty"`
}

// Failure is how one attempt of one partition failed.
type Failure struct {
	Partition int             `json:"partition"`
	Attempt   int             `json:"attempt,omitempty"` // of Attempts
	Attempts  int             `json:"attempts,omitempty"`
	Outcome   tasklet.Outcome `json:"outcome,omitempty"`
	ExitCode  int             `json:"exit_code"` // -1 when there was no exit
	Signal    string          `json:"signal,omitempty"`
	Reason    string          `json:"reason"`
	Agent     string          `json:"agent,omitempty"`
	Started   time.Time       `json:"started,omitzero"`
	Ended     time.Time       `json:"ended,omitzero"`
	LogTail   []string        `json:"log_tail,omitempty"` // its last lines

	log *tasklet.FileRef
}

// Explain says of each step that is not done what it waits for or how it failed;
// of a step that is named, whatever its state. It asks the workflow, Temporal and
// storage, and nobody else. Errors: ErrNotFound for a run, step or partition that
// is not there, ErrUnreachable.
func (c *Client) Explain(ctx context.Context, id string, o ExplainOptions) (Explanation, error) {
	run, err := c.Describe(ctx, id)
	if err != nil {
		return Explanation{}, err
	}
	e := &explainer{client: c, run: &run, options: o, now: time.Now(), journal: &journal{}}
	e.out = Explanation{
		Run: run.Run, Status: run.Status, Reason: run.Reason, Kill: run.Kill, Started: run.Started, Ended: run.Ended,
		Trouble: []string{}, Steps: []StepExplanation{}, Incomplete: run.Incomplete,
	}
	if run.TemporalRunID != "" && c.temporal != nil {
		if err := e.ask(ctx); err != nil {
			return Explanation{}, err
		}
	}
	if err := e.steps(ctx); err != nil {
		return Explanation{}, err
	}
	return e.out, nil
}

// explainer gathers one explanation.
type explainer struct {
	client  *Client
	run     *Run
	options ExplainOptions
	now     time.Time
	journal *journal
	x       *execution // nil when Temporal has forgotten the run
	out     Explanation
}

// ask gathers what Temporal knows besides the run's own state.
func (e *explainer) ask(ctx context.Context) (err error) {
	if e.x, err = e.client.describe(ctx, e.run.WorkflowID, e.run.TemporalRunID); err != nil {
		return unknown(e.run.Run, err)
	}
	if e.journal, err = e.client.history(ctx, e.x); err != nil {
		return err
	}
	if e.journal.partial && e.out.Incomplete == "" {
		e.out.Incomplete = "the run's history could not be read to its end, so attempts may be missing"
	}
	if e.run.Status.Final() {
		return nil
	}
	trouble, err := e.client.workers(ctx, e.now)
	if err != nil {
		return err
	}
	e.complain(trouble)
	scheduler, err := e.client.scheduler(ctx, e.journal.framework())
	if err != nil {
		return err
	}
	e.out.Scheduler = &scheduler
	e.complain(scheduler.Trouble)
	e.complain(scheduler.Mesos)
	e.chores()
	return nil
}

func (e *explainer) complain(trouble string) {
	if trouble != "" {
		e.out.Trouble = append(e.out.Trouble, trouble)
	}
}

// chores tells of the run's own work that does not get on: workflow tasks that
// fail, and activities other than tasks.
func (e *explainer) chores() {
	if task := e.x.description.GetPendingWorkflowTask(); task.GetAttempt() > 2 {
		e.complain(fmt.Sprintf("the workflow's code has failed %d times in a row: see the run's page in Temporal", task.GetAttempt()-1))
	}
	for _, p := range e.x.description.GetPendingActivities() {
		what := map[string]string{
			api.ActivityPrepare:      "the flow is being read",
			api.ActivitySaveInstance: "the run's last state is being stored",
			api.ActivityKillTasks:    "the order to kill its tasks waits for the leader",
			api.ActivityRelease:      "the release of a held task waits for the leader",
			api.ActivityListItems:    "the items of " + e.journal.errand(p.GetActivityId()) + " are being listed",
			api.ActivityGather:       "the results for " + e.journal.errand(p.GetActivityId()) + " are being gathered",
		}[p.GetActivityType().GetName()]
		if what == "" {
			continue
		}
		if why := p.GetLastFailure().GetMessage(); why != "" {
			what += fmt.Sprintf(", try %d; the last one failed: %s", p.GetAttempt(), why)
		} else if p.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED || e.now.Sub(p.GetScheduledTime().AsTime()) < 10*time.Second {
			continue
		}
		e.complain(what)
	}
}

// steps explains those that were asked for.
func (e *explainer) steps(ctx context.Context) error {
	if err := e.check(); err != nil {
		return err
	}
	states := e.run.Steps
	if len(states) == 0 {
		states = e.guessed()
	}
	for i := range states {
		s := &states[i]
		named := e.options.Step == s.ID
		if e.options.Step != "" && !named || !named && (s.Status == api.StatusSucceeded || s.Status == api.StatusSkipped) {
			continue
		}
		step := e.step(s)
		if err := e.tail(ctx, step.Failure); err != nil {
			return err
		}
		e.out.Steps = append(e.out.Steps, step)
	}
	return nil
}

// check finds mistakes in what was asked.
func (e *explainer) check() error {
	if e.options.Step == "" || len(e.run.Steps) == 0 {
		if e.options.Step != "" && e.run.Status.Final() {
			return fmt.Errorf("step %q of run %s: %w: the run has no steps", e.options.Step, e.run.Run, ErrNotFound)
		}
		return nil
	}
	s, ok := e.run.Step(e.options.Step)
	switch {
	case !ok:
		return fmt.Errorf("step %q of run %s: %w%s", e.options.Step, e.run.Run, ErrNotFound, suggest(e.options.Step, e.run))
	case s.Partitions > 0 && e.options.Partition >= s.Partitions:
		return fmt.Errorf("partition %d of step %q: %w: it has %d, from 0", e.options.Partition, s.ID, ErrNotFound, s.Partitions)
	}
	return nil
}

// guessed are the steps of a run whose workflow does not answer, as far as
// activities show them.
func (e *explainer) guessed() (states []api.StepState) {
	for _, a := range e.run.Activities {
		if !slices.ContainsFunc(states, func(s api.StepState) bool { return s.ID == a.Step }) {
			many := e.journal.launches[a.ID] != nil && e.journal.launches[a.ID].Many
			states = append(states, api.StepState{ID: a.Step, Status: api.StatusRunning, ForEach: many})
		}
	}
	return states
}

const (
	tailBytes = 4 << 10
	tailLines = 10
)

// tail reads the last lines of a failure's log. A log that is not there, or not to
// be had, has none.
func (e *explainer) tail(ctx context.Context, f *Failure) error {
	if f == nil || f.log == nil || f.log.Size == 0 || e.client.store == nil {
		return nil
	}
	from := max(0, f.log.Size-tailBytes)
	object, _, err := e.client.store.Get(ctx, f.log.Key, f.log.Offset+from, min(f.log.Size, tailBytes))
	if err != nil {
		return ctx.Err()
	}
	defer object.Close()
	data, err := io.ReadAll(io.LimitReader(object, tailBytes))
	if err != nil {
		return ctx.Err()
	}
	lines := strings.Split(strings.TrimRight(strings.ToValidUTF8(string(data), "?"), "\n"), "\n")
	if from > 0 {
		lines = lines[1:] // the first may be half a line
	}
	lines = lines[max(0, len(lines)-tailLines):]
	if len(lines) > 1 || len(lines) == 1 && lines[0] != "" {
		f.LogTail = lines
	}
	return nil
}
