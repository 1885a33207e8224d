package starter

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/embedded"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// A platform whose framework nobody has ever led: the task is shown as its details
// have it, and the trouble is named.
func TestExplainWithoutLeader(t *testing.T) {
	p := newPlatform(t)
	s := p.startRun(t, "explain")
	defer p.end(t, s, api.StatusSucceeded)
	var e Explanation
	eventually(t, "details of the task", func() bool {
		var err error
		if e, err = p.Explain(t.Context(), s.Run, ExplainOptions{Partition: AllPartitions}); err != nil {
			t.Fatal(err)
		}
		return len(e.Steps) == 1 && len(e.Steps[0].Tasks) == 1
	})
	if len(e.Trouble) != 1 || !strings.HasPrefix(e.Trouble[0], `no worker has led the framework "default"`) || e.Scheduler.Trouble != e.Trouble[0] {
		t.Errorf("trouble %q, scheduler %+v", e.Trouble, e.Scheduler)
	}
	if task := e.Steps[0].Tasks[0]; task.Since.IsZero() || time.Since(task.Since) > time.Hour || task.Heard.IsZero() {
		t.Errorf("task %+v", task)
	}
	if _, err := p.Explain(t.Context(), s.Run, ExplainOptions{Step: "wrok", Partition: AllPartitions}); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `"work"`) {
		t.Errorf("a step that is not there: %v", err)
	}
	if _, err := p.Explain(t.Context(), "greet-0000000000000000-12345678", ExplainOptions{Partition: AllPartitions}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a run that is not there: %v", err)
	}
	if trouble, err := p.workers(t.Context(), time.Now()); trouble != "" || err != nil {
		t.Errorf("workers: %q, %v", trouble, err)
	}
	if trouble, _ := p.workers(t.Context(), time.Now().Add(10*time.Minute)); !strings.Contains(trouble, "since") {
		t.Errorf("workers that have been silent for long: %q", trouble)
	}
}

// Without any worker there is no state of the workflow; what Temporal itself knows
// is told all the same.
func TestExplainWithoutWorker(t *testing.T) {
	server, err := embedded.StartTemporal(t.Context(), embedded.TemporalConfig{NoUI: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Stop() })
	temporal, err := Dial(t.Context(), server.ClientOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(temporal.Close)
	run, err := temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "greet-1", TaskQueue: api.TaskQueue}, api.WorkflowBatchFlow)
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(Config{Temporal: temporal}).Explain(t.Context(), api.RunID("greet-1", run.GetRunID()), ExplainOptions{Partition: AllPartitions})
	if err != nil {
		t.Fatal(err)
	}
	if e.Incomplete == "" || len(e.Trouble) != 2 || !strings.HasPrefix(e.Trouble[0], `no worker polls task queue "baas"`) || e.Status != api.StatusRunning {
		t.Errorf("got %+v", e)
	}
	server.Stop()
	if _, err := New(Config{Temporal: temporal}).Explain(t.Context(), "greet-1-12345678", ExplainOptions{Partition: AllPartitions}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("Temporal is gone: %v", err)
	}
}

// The journal judges failures by the step's own rules.
func TestJournal(t *testing.T) {
	j := &journal{launches: map[string]*launched{}, tries: map[string]map[int]*partitionTry{}, failures: map[string][]*Failure{}}
	j.plan.Flow.Steps = []planStep{{ID: "work", Retry: flow.Retry{
		Attempts: 3, Backoff: flow.Duration(time.Minute), MaxBackoff: flow.Duration(time.Hour), Factor: 2, Never: []flow.RetryRule{{From: 9, To: 9}},
	}}}
	launch := func(attempt int, partitions ...int) *launched {
		l := &launched{Step: "work", Attempt: attempt}
		for _, i := range partitions {
			l.Partitions = append(l.Partitions, struct {
				Index int `json:"i"`
			}{i})
		}
		j.launch("work-"+string(rune('a'+attempt)), l)
		return l
	}
	at := time.Date(2026, 4, 1, 6, 0, 0, 0, time.UTC)
	settle := func(l *launched, partition int, outcome tasklet.Outcome, code int) {
		j.settle(l, &attemptResult{Partition: partition, Outcome: outcome, ExitCode: code}, at)
	}
	first := launch(1, 0, 1, 2, 3, 4, 5)
	settle(first, 0, tasklet.Succeeded, 0)
	settle(first, 1, tasklet.Failed, 1)
	settle(first, 2, tasklet.Failed, 9)
	settle(first, 3, tasklet.Platform, -1)
	settle(first, 4, tasklet.Failed, 1)
	settle(first, 5, tasklet.TimedOut, -1)
	settle(launch(2, 4), 4, tasklet.OutOfMemory, -1)
	launch(2, 5)

	e := &explainer{journal: j, options: ExplainOptions{Partition: AllPartitions}}
	backoffs := e.backoffs("work")
	if len(backoffs) != 2 || backoffs[0].Attempt != 2 || !slices.Equal(backoffs[0].Partitions, []Span{{1, 1}}) || !backoffs[0].Until.Equal(at.Add(time.Minute)) ||
		backoffs[1].Attempt != 3 || !slices.Equal(backoffs[1].Partitions, []Span{{4, 4}}) || !backoffs[1].Until.Equal(at.Add(2*time.Minute)) ||
		backoffs[1].After.Reason != "out of memory" {
		t.Errorf("backoffs %+v", backoffs)
	}
	var lost []int
	for _, f := range j.failures["work"] {
		lost = append(lost, f.Partition)
	}
	if !slices.Equal(lost, []int{2, 3}) || j.failures["work"][0].Reason != "exit code 9" {
		t.Errorf("failed for good: %v", lost)
	}
}

// A run that goes on in a new history brings its plan with it.
func TestJournalOfANewHistory(t *testing.T) {
	payloads := func(v any) *commonpb.Payloads {
		t.Helper()
		p, err := converter.GetDefaultDataConverter().ToPayloads(v)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	in := api.RunInput{Continued: &api.Continued{}}
	in.Continued.Plan.Flow.Steps = []flow.Step{{ID: "work", Retry: flow.Retry{Attempts: 7}}}
	j := &journal{errands: map[string]string{}}
	scheduled := map[int64]string{}
	j.take(&historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{
		WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{Input: payloads(in)},
	}}, scheduled)
	if got := j.plan.step("work").Retry.Attempts; got != 7 {
		t.Errorf("%d attempts", got)
	}
	j.take(&historypb.HistoryEvent{EventId: 5, Attributes: &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{
		ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{
			ActivityId: "5", ActivityType: &commonpb.ActivityType{Name: api.ActivityListItems},
			Input: payloads(api.ListItemsInput{Step: "work"}),
		},
	}}, scheduled)

	list := &workflowpb.PendingActivityInfo{
		ActivityId: "5", ActivityType: &commonpb.ActivityType{Name: api.ActivityListItems}, Attempt: 3,
		LastFailure: &failurepb.Failure{Message: "no such object"},
	}
	e := &explainer{journal: j, x: &execution{description: &workflowservice.DescribeWorkflowExecutionResponse{
		PendingActivities: []*workflowpb.PendingActivityInfo{list},
	}}}
	e.chores()
	if want := []string{"the items of work are being listed, try 3; the last one failed: no such object"}; !slices.Equal(e.out.Trouble, want) {
		t.Errorf("trouble %q", e.out.Trouble)
	}
}

// What pauses or is in a pack does not wait for an agent, even where not all of the
// spans stand in the details.
func TestExplainCountsWhatWaits(t *testing.T) {
	a := Activity{ID: "work-1", Step: "work", Details: api.Details{
		Total: 100, Done: 10,
		Tasks: []api.TaskDetail{{First: 5, Count: 3, Parts: [][2]int{{5, 6}, {9, 9}}, State: "RUNNING"}},
		Range: &api.RangeDetail{Running: 3, Backoffs: []api.BackoffDetail{{Attempt: 2, Count: 30, Parts: [][2]int{{20, 24}}}}},
	}}
	l := &launched{Step: "work"}
	l.Range = &struct {
		First int `json:"first"`
		Count int `json:"count"`
	}{0, 100}
	e := &explainer{
		journal: &journal{launches: map[string]*launched{"work-1": l}},
		run:     &Run{Activities: []Activity{a}}, options: ExplainOptions{Partition: AllPartitions},
	}
	var out StepExplanation
	e.activity(&out, &a)
	if len(out.Offers) != 1 || out.Offers[0].Count != 57 {
		t.Errorf("offers %+v", out.Offers)
	}
	if len(out.Tasks) != 1 || !slices.Equal(out.Tasks[0].Spans(), []Span{{5, 6}, {9, 9}}) || !out.Tasks[0].Since.IsZero() {
		t.Errorf("tasks %+v", out.Tasks)
	}
}

func TestWaitsAreGrouped(t *testing.T) {
	at := time.Date(2026, 4, 1, 6, 0, 0, 0, time.UTC)
	var s StepExplanation
	for i, reason := range []string{"busy; before it: 1,200 older tasks", "no agent", "busy; before it: 7 older tasks", "busy; before it: 99 older tasks"} {
		s.wait(OfferWait{Partitions: []Span{{3 - i, 3 - i}}, Count: 1, Since: at.Add(-time.Duration(i)), Heard: at.Add(time.Duration(i % 3)), Reason: reason})
	}
	if len(s.Offers) != 2 || s.Offers[0].Count != 3 || s.Offers[0].Reason != "busy; before it: 7 older tasks" || !s.Offers[0].Since.Equal(at.Add(-3)) {
		t.Errorf("offers %+v", s.Offers)
	}
	if got := merged(s.Offers[0].Partitions); !slices.Equal(got, []Span{{0, 1}, {3, 3}}) {
		t.Errorf("partitions %v", got)
	}
}

func TestLogTail(t *testing.T) {
	p := newPlatform(t)
	e := &explainer{client: p.Client}
	tail := func(text string) []string {
		t.Helper()
		if _, err := p.store.Put(t.Context(), "log", strings.NewReader(text), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		ref := tasklet.NewFileRef("log", int64(len(text)), "", "log")
		f := &Failure{log: &ref}
		if err := e.tail(context.Background(), f); err != nil {
			t.Fatal(err)
		}
		return f.LogTail
	}
	for text, want := range map[string][]string{
		"":             nil,
		"\n":           nil,
		"one":          {"one"},
		"one\ntwo\n":   {"one", "two"},
		"b\xffd\n":     {"b?d"},
		"1\n\n3\n\n\n": {"1", "", "3"},
		strings.Repeat("x", tailBytes) + "\nlast\n":    {"last"},
		strings.Repeat("1234567890\n", 1000) + "end\n": append(slices.Repeat([]string{"1234567890"}, tailLines-1), "end"),
	} {
		if got := tail(text); !slices.Equal(got, want) {
			t.Errorf("of %d bytes: %q, want %q", len(text), got, want)
		}
	}
	gone := tasklet.NewFileRef("nothing", 10, "", "log")
	if err := e.tail(context.Background(), &Failure{log: &gone}); err != nil {
		t.Errorf("a log that was swept: %v", err)
	}
}
