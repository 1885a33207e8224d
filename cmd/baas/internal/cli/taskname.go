package cli

import (
	"cmp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/cmd/baas/internal/screen"
	"github.com/baas-batch/baas/tasklet"
)

// taskName is a task ID for people: as baas explain and baas logs take it.
type taskName struct {
	run, step  string // run is "" for a task that is not of BAAS, step its ID then
	partition  int
	generation int
}

// maxTaskName leaves room for the other columns of a table.
const maxTaskName = 30

func nameTask(taskID string) taskName {
	id, err := tasklet.ParseTaskID(taskID)
	if err != nil {
		return taskName{step: screen.OneLine(taskID), partition: -1}
	}
	step := id.ActivityID // the step and a number
	if i := strings.LastIndexByte(step, '-'); i > 0 {
		step = step[:i]
	}
	return taskName{api.RunID(id.WorkflowID, id.RunID), step, id.First, id.Generation}
}

// short leaves the run out, and cuts the step's name rather than the partition.
func (n taskName) short(width int) string {
	if n.partition < 0 {
		return clip(n.step, width)
	}
	number := "#" + strconv.Itoa(n.partition)
	return clip(n.step, width-utf8.RuneCountInString(number)) + number
}

func (n taskName) address() string {
	if n.run == "" {
		return n.step
	}
	return n.run + "/" + n.step + "#" + strconv.Itoa(n.partition)
}

func (n taskName) compare(other taskName) int {
	return cmp.Or(cmp.Compare(n.run, other.run), cmp.Compare(n.step, other.step),
		cmp.Compare(n.partition, other.partition), cmp.Compare(n.generation, other.generation))
}
