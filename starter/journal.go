package starter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

// journalTimeout bounds the reading of a run's history.
const journalTimeout = 20 * time.Second

// journal is what the history of a run tells of its attempts; the workflow's own
// state has sums only.
type journal struct {
	plan     runPlan
	launches map[string]*launched             // by activity ID
	tries    map[string]map[int]*partitionTry // by step and partition
	failures map[string][]*Failure            // by step, those for good, in order
	errands  map[string]string                // steps by activity ID: of what is listed or gathered
	partial  bool                             // the history could not be read to its end
}

// runPlan is the part of api.PrepareResult that is of use here: expressions need not
// be compiled.
type runPlan struct {
	Flow struct {
		Steps  []planStep `json:"steps"`
		OnExit []planStep `json:"on_exit"`
	} `json:"flow"`
	Settings api.Settings `json:"settings"`
}

type planStep struct {
	ID                 string         `json:"id"`
	Retry              flow.Retry     `json:"retry"`
	Resources          flow.Resources `json:"resources"`
	AtMostOnce         bool           `json:"at_most_once"`
	UnreachableTimeout flow.Duration  `json:"unreachable_timeout"`
}

func (p *runPlan) step(id string) *planStep {
	for _, list := range [][]planStep{p.Flow.Steps, p.Flow.OnExit} {
		for i := range list {
			if list[i].ID == id {
				return &list[i]
			}
		}
	}
	return &planStep{ID: id}
}

// launched is one RunTasklets activity. JSON is read from api.LaunchInput.
type launched struct {
	Step       string `json:"step"`
	Attempt    int    `json:"attempt"`
	Many       bool   `json:"many"`
	Partitions []struct {
		Index int `json:"i"`
	} `json:"partitions"`
	Range *struct {
		First int `json:"first"`
		Count int `json:"count"`
	} `json:"range"`
	scheduled time.Time
}

// indexes are the partitions of the activity.
func (l *launched) indexes() (out []int) {
	for _, p := range l.Partitions {
		out = append(out, p.Index)
	}
	if l.Range != nil {
		for i := range l.Range.Count {
			out = append(out, l.Range.First+i)
		}
	}
	return out
}

// partitionTry is the last attempt of one partition.
type partitionTry struct {
	attempt int
	failed  *Failure  // nil while it runs, and after a success
	again   time.Time // when the next one is due; zero if there is none
}

// history reads the journal of a run. What cannot be read is left out: an
// explanation with gaps is better than none.
func (c *Client) history(ctx context.Context, x *execution) (*journal, error) {
	j := &journal{
		launches: map[string]*launched{}, tries: map[string]map[int]*partitionTry{}, failures: map[string][]*Failure{},
		errands: map[string]string{},
	}
	reading, cancel := context.WithTimeout(ctx, journalTimeout)
	defer cancel()
	scheduled := map[int64]string{} // activity IDs by event
	events := c.temporal.GetWorkflowHistory(reading, x.workflowID, x.runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		switch {
		case err == nil:
			j.take(event, scheduled)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(c.named(err), ErrNotFound):
			return j, nil // swept meanwhile
		default:
			j.partial = true
			return j, nil
		}
	}
	return j, nil
}

func (j *journal) take(event *historypb.HistoryEvent, scheduled map[int64]string) {
	if a := event.GetWorkflowExecutionStartedEventAttributes(); a != nil {
		// Where a run goes on in a new history, it brings its plan with it.
		var in struct {
			Continued struct {
				Plan runPlan `json:"plan"`
			} `json:"continued"`
		}
		if converter.GetDefaultDataConverter().FromPayloads(a.GetInput(), &in) == nil {
			j.plan = in.Continued.Plan
		}
		return
	}
	if a := event.GetActivityTaskScheduledEventAttributes(); a != nil {
		scheduled[event.GetEventId()] = a.GetActivityId()
		if a.GetActivityType().GetName() == api.ActivityPrepare {
			scheduled[event.GetEventId()] = ""
		}
		var in launched
		if converter.GetDefaultDataConverter().FromPayloads(a.GetInput(), &in) != nil {
			return
		}
		switch a.GetActivityType().GetName() {
		case api.ActivityRunTasklets:
			in.scheduled = event.GetEventTime().AsTime()
			j.launch(a.GetActivityId(), &in)
		case api.ActivityListItems, api.ActivityGather:
			j.errands[a.GetActivityId()] = in.Step
		}
		return
	}
	a := event.GetActivityTaskCompletedEventAttributes()
	if a == nil {
		return
	}
	id := scheduled[a.GetScheduledEventId()]
	if id == "" {
		// Should it not be readable, rules of retry are not known, and no more.
		_ = converter.GetDefaultDataConverter().FromPayloads(a.GetResult(), &j.plan)
		return
	}
	var result attemptResults
	if l := j.launches[id]; l != nil && converter.GetDefaultDataConverter().FromPayloads(a.GetResult(), &result) == nil {
		for i := range result.Results {
			j.settle(l, &result.Results[i], event.GetEventTime().AsTime())
		}
		for _, f := range result.Range.Failures {
			j.fail(l.Step, f.Attempt, &f.Result)
		}
	}
}

// errand names the step whose items are listed, or that is to get what is gathered.
func (j *journal) errand(activity string) string { return cmp.Or(j.errands[activity], "a step") }

func (j *journal) launch(id string, in *launched) {
	j.launches[id] = in
	if j.tries[in.Step] == nil {
		j.tries[in.Step] = map[int]*partitionTry{}
	}
	for _, p := range in.Partitions {
		j.tries[in.Step][p.Index] = &partitionTry{attempt: in.Attempt}
	}
}

// attemptResults is api.LaunchResult without outputs.
type attemptResults struct {
	Results []attemptResult `json:"results"`
	Range   struct {
		// Of partitions that are not tried again, the first ones.
		Failures []struct {
			Attempt int           `json:"attempt"`
			Result  attemptResult `json:"result"`
		} `json:"failures"`
	} `json:"range"`
}

type attemptResult struct {
	Partition int              `json:"i"`
	Outcome   tasklet.Outcome  `json:"outcome"`
	ExitCode  int              `json:"exit"`
	Signal    string           `json:"signal"`
	Reason    string           `json:"reason"`
	Started   time.Time        `json:"started"`
	Ended     time.Time        `json:"ended"`
	Agent     string           `json:"agent"`
	Log       *tasklet.FileRef `json:"log"`
}

// settle judges one result by the rules that the workflow goes by.
func (j *journal) settle(l *launched, r *attemptResult, at time.Time) {
	try := &partitionTry{attempt: l.Attempt}
	j.tries[l.Step][r.Partition] = try
	if r.Outcome == tasklet.Succeeded {
		return
	}
	retry := j.plan.step(l.Step).Retry
	try.failed = j.failure(l.Step, l.Attempt, r)
	wait, again := retry.Again(l.Attempt, tasklet.Result{Outcome: r.Outcome, ExitCode: r.ExitCode, Signal: r.Signal})
	if again {
		try.again = at.Add(wait)
		return
	}
	j.failures[l.Step] = append(j.failures[l.Step], try.failed)
}

// fail notes a partition of a range that is not tried again.
func (j *journal) fail(step string, attempt int, r *attemptResult) {
	j.failures[step] = append(j.failures[step], j.failure(step, attempt, r))
}

func (j *journal) failure(step string, attempt int, r *attemptResult) *Failure {
	return &Failure{
		Partition: r.Partition, Attempt: attempt, Attempts: max(1, j.plan.step(step).Retry.Attempts),
		Outcome: r.Outcome, ExitCode: r.ExitCode, Signal: r.Signal, Reason: r.reason(),
		Agent: r.Agent, Started: r.Started, Ended: r.Ended, log: r.Log,
	}
}

func (r *attemptResult) reason() string {
	switch {
	case r.Reason != "":
		return r.Reason
	case r.Outcome != tasklet.Failed:
		return string(r.Outcome)
	case r.Signal != "":
		return "ended by signal " + r.Signal
	}
	return fmt.Sprintf("exit code %d", r.ExitCode)
}
