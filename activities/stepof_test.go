package activities

import (
	"testing"

	"github.com/baas-batch/baas/tasklet"
)

func TestStepOf(t *testing.T) {
	id := tasklet.TaskID{WorkflowID: "app-0123456789abcdef", RunID: "6f1d5f2e-0000-4000-8000-000000000000", ActivityID: "render_2-17", First: 40, Generation: 3}
	if got := StepOf(id.String()); got != "app-0123456789abcdef/render_2" {
		t.Errorf("step is %q", got)
	}
	other := id
	other.RunID, other.ActivityID, other.First, other.Generation = "7f1d5f2e-0000-4000-8000-000000000000", "render_2-18", 0, 1
	if StepOf(other.String()) != StepOf(id.String()) {
		t.Error("another range of the step is not counted with it")
	}
	if got := StepOf("somebody else's"); got != "" {
		t.Errorf("a foreign task is of step %q", got)
	}
}
