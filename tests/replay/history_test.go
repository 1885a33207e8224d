package replay

import (
	"encoding/json"
	"regexp"
	"slices"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	"github.com/baas-batch/baas/api"
)

// scheduled gives an activity's event by its ID.
func scheduled(t *testing.T, history *historypb.History, id string) *historypb.HistoryEvent {
	t.Helper()
	i := slices.IndexFunc(history.Events, func(e *historypb.HistoryEvent) bool {
		return e.GetActivityTaskScheduledEventAttributes().GetActivityId() == id
	})
	if i < 0 {
		t.Fatalf("no activity %s", id)
	}
	return history.Events[i]
}

// position is where the first activity of a type was scheduled.
func position(t *testing.T, history *historypb.History, activity string) int {
	t.Helper()
	i := slices.IndexFunc(history.Events, func(e *historypb.HistoryEvent) bool {
		return e.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() == activity
	})
	if i < 0 {
		t.Fatalf("no activity of type %s", activity)
	}
	return i
}

func text(t *testing.T, data []byte) (s string) {
	t.Helper()
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return s
}

// TestActivitiesAsPeopleSeeThem checks what the Web UI shows, on a real server.
func TestActivitiesAsPeopleSeeThem(t *testing.T) {
	for _, tc := range []struct{ file, id, summary string }{
		{"diamond", "d-1", "d"},
		{"bounded", "many-12", "many #11"},
		{"partitions", "many-1", "many #0–9"},
		{"retries", "many-7", `many #[024, ]+, attempt 2`}, // as many as came due together
	} {
		event := scheduled(t, read(t, "testdata/"+tc.file+".json"), tc.id)
		if got := text(t, event.GetUserMetadata().GetSummary().GetData()); !regexp.MustCompile("^" + tc.summary + "$").MatchString(got) {
			t.Errorf("%s %s: summary %q, want %s", tc.file, tc.id, got, tc.summary)
		}
		a := event.GetActivityTaskScheduledEventAttributes()
		if a.GetPriority().GetPriorityKey() != 3 || a.GetPriority().GetFairnessKey() != api.AdhocOwner {
			t.Errorf("%s %s: priority %v", tc.file, tc.id, a.GetPriority())
		}
		if a.GetRetryPolicy().GetMaximumAttempts() != 0 {
			t.Errorf("%s %s: %d attempts at most, want no limit", tc.file, tc.id, a.GetRetryPolicy().GetMaximumAttempts())
		}
	}
}

func TestSearchAttributes(t *testing.T) {
	for file, end := range map[string]string{"diamond": "succeeded", "failure": "failed", "killed": "killed"} {
		got := map[string]string{}
		first := 0
		for _, event := range read(t, "testdata/"+file+".json").Events {
			fields := event.GetUpsertWorkflowSearchAttributesEventAttributes().GetSearchAttributes().GetIndexedFields()
			for name, payload := range fields {
				got[name] = text(t, payload.GetData())
			}
			first = max(first, len(fields))
		}
		want := map[string]string{
			api.AttributeApp: file, api.AttributeOwner: api.AdhocOwner,
			api.AttributeStatus: end, api.AttributeOrderDate: "2026-01-31T00:00:00Z",
		}
		for name, value := range want {
			if got[name] != value {
				t.Errorf("%s: %s is %q, want %q", file, name, got[name], value)
			}
		}
		if first != len(want) {
			t.Errorf("%s: the first event sets %d attributes, want %d", file, first, len(want))
		}
	}
}

// TestKilledRun checks the order of a kill, on a real server: the kill at once,
// then the results of the tasks, then on_exit, then the state, then Canceled.
func TestKilledRun(t *testing.T) {
	history := read(t, "testdata/killed.json")
	kill, save := position(t, history, api.ActivityKillTasks), position(t, history, api.ActivitySaveInstance)
	clean := slices.Index(history.Events, scheduled(t, history, "clean-1"))
	if kill > clean || clean > save {
		t.Errorf("kill at event %d, on_exit at %d, state at %d", kill, clean, save)
	}
	begun, results := 0, 0
	for _, event := range history.Events[:clean] {
		switch event.EventType {
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			begun++
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
			results++
		}
	}
	if begun != results {
		t.Errorf("on_exit began when %d of %d activities had ended", results, begun)
	}
	if last := history.Events[len(history.Events)-1]; last.EventType != enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED {
		t.Errorf("the run ended with %v", last.EventType)
	}
}
