package activities

import (
	"strings"

	"github.com/baas-batch/baas/tasklet"
)

// StepOf tells from a task's ID which step of which instance it belongs to: the
// same for all its partitions and attempts. "" for an ID of no task of ours.
// Activity IDs are the step's name and a number; see workflows.
func StepOf(taskID string) string {
	id, err := tasklet.ParseTaskID(taskID)
	if err != nil {
		return ""
	}
	step := id.ActivityID
	if i := strings.LastIndexByte(step, '-'); i > 0 {
		step = step[:i]
	}
	return id.WorkflowID + "/" + step
}
