package replay

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/workflows"
)

func read(t *testing.T, path string) *historypb.History {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	history, err := client.HistoryFromJSON(f, client.HistoryJSONOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return history
}

// replay runs today's code over a history, under the workflow ID that it had.
func replay(t *testing.T, history *historypb.History) error {
	t.Helper()
	started := history.Events[0].GetWorkflowExecutionStartedEventAttributes()
	if started.GetWorkflowId() == "" {
		t.Fatal("the history does not name its workflow")
	}
	r := worker.NewWorkflowReplayer()
	workflows.Register(r)
	return r.ReplayWorkflowHistoryWithOptions(quiet, history, worker.ReplayWorkflowHistoryOptions{
		OriginalExecution: workflow.Execution{ID: started.WorkflowId, RunID: started.OriginalExecutionRunId},
	})
}

var quiet = log.NewStructuredLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))

func TestHistoriesReplay(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < 10 {
		t.Fatalf("%d histories in testdata, want at least 10", len(paths))
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			if err := replay(t, read(t, path)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestReplayNoticesAChange makes sure that the check above can fail.
func TestReplayNoticesAChange(t *testing.T) {
	history := read(t, "testdata/diamond.json")
	for _, event := range history.Events {
		if a := event.GetActivityTaskScheduledEventAttributes(); a != nil && a.ActivityId == "b-1" {
			a.ActivityId = "other-1"
		}
	}
	if err := replay(t, history); err == nil {
		t.Error("a history with another activity replays")
	}
}

// TestHistoryGrowsWithRanges bounds the events of a step of 2,000 partitions.
func TestHistoryGrowsWithRanges(t *testing.T) {
	history := read(t, "testdata/partitions.json")
	activities := 0
	for _, event := range history.Events {
		if event.EventType == enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED {
			activities++
		}
	}
	const ranges, prepareAndSave = 200, 2
	if activities != ranges+prepareAndSave {
		t.Errorf("%d activities, want %d", activities, ranges+prepareAndSave)
	}
	// Three events per activity, and at most three of a workflow task for each.
	if n := len(history.Events); n > 6*activities+50 {
		t.Errorf("%d events for %d activities", n, activities)
	}
}
