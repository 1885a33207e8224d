package tasklet

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxIDLength is the longest task ID that Mesos takes, in bytes
// (src/common/validation.cpp of Mesos).
const MaxIDLength = 255

const idSeparator = "~"

// TaskID names one Mesos task, and says by itself which Temporal activity waits
// for it. It is never used twice: what is placed again has a new Generation, and
// what is tried again is a new activity.
type TaskID struct {
	WorkflowID string
	RunID      string // Temporal's run ID, not BAAS's
	ActivityID string
	First      int // index of the first partition in the task
	Generation int // 1 for the first placement
}

// String gives the form that Mesos sees.
func (id TaskID) String() string {
	return strings.Join([]string{
		id.WorkflowID, id.RunID, id.ActivityID,
		strconv.Itoa(id.First), strconv.Itoa(id.Generation),
	}, idSeparator)
}

// Validate tells whether Mesos would take the ID.
func (id TaskID) Validate() error {
	for _, part := range []string{id.WorkflowID, id.RunID, id.ActivityID} {
		if part == "" {
			return fmt.Errorf("task ID %q: a part is empty", id)
		}
		if !utf8.ValidString(part) {
			return fmt.Errorf("task ID %q: not UTF-8", id)
		}
		for _, r := range part {
			if r == '/' || r == '\\' || r == '~' || r < ' ' || r == 0x7f {
				return fmt.Errorf("task ID %q: character %q is not allowed", id, r)
			}
		}
	}
	if id.First < 0 || id.Generation < 1 {
		return fmt.Errorf("task ID %q: partition or generation out of range", id)
	}
	if n := len(id.String()); n > MaxIDLength {
		return fmt.Errorf("task ID of %d bytes: Mesos takes at most %d", n, MaxIDLength)
	}
	return nil
}

// Activity is the ID without partition and generation: all tasks that work for
// one activity share it.
func (id TaskID) Activity() ActivityKey {
	return ActivityKey{id.WorkflowID, id.RunID, id.ActivityID}
}

// ActivityKey names one Temporal activity.
type ActivityKey struct {
	WorkflowID string
	RunID      string
	ActivityID string
}

// String is for logs.
func (k ActivityKey) String() string {
	return k.WorkflowID + idSeparator + k.RunID + idSeparator + k.ActivityID
}

// ParseTaskID reads what String wrote, and nothing else: each task has one ID.
func ParseTaskID(s string) (TaskID, error) {
	parts := strings.Split(s, idSeparator)
	if len(parts) != 5 {
		return TaskID{}, fmt.Errorf("task ID %q: want 5 parts separated by %q, have %d", s, idSeparator, len(parts))
	}
	first, err := strconv.Atoi(parts[3])
	if err != nil {
		return TaskID{}, fmt.Errorf("task ID %q: partition: %w", s, err)
	}
	generation, err := strconv.Atoi(parts[4])
	if err != nil {
		return TaskID{}, fmt.Errorf("task ID %q: generation: %w", s, err)
	}
	id := TaskID{parts[0], parts[1], parts[2], first, generation}
	if id.String() != s {
		return TaskID{}, fmt.Errorf("task ID %q: its numbers are not written as in %q", s, id)
	}
	return id, id.Validate()
}
