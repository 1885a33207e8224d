package mesos

import (
	"math"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// newUpdate reads a status update. A state or reason that mesos-go does not know
// comes as its number.
func newUpdate(s *mesos.TaskStatus) Update {
	u := Update{
		TaskID:     s.TaskID.Value,
		Message:    s.GetMessage(),
		Data:       s.Data,
		AgentID:    s.GetAgentID().GetValue(),
		ExecutorID: s.GetExecutorID().GetValue(),
	}
	// The getters of unset optional fields answer with defaults that mislead:
	// GetReason says COMMAND_EXECUTOR_FAILED, GetSource says MASTER.
	if s.State != nil {
		u.State = State(strings.TrimPrefix(s.State.String(), "TASK_"))
	}
	if s.Source != nil {
		u.Source = strings.TrimPrefix(s.Source.String(), "SOURCE_")
	}
	if s.Reason != nil {
		u.Reason = strings.TrimPrefix(s.Reason.String(), "REASON_")
	}
	if len(s.UUID) > 0 {
		u.UUID = s.UUID
	}
	if s.Timestamp != nil {
		sec, frac := math.Modf(*s.Timestamp)
		u.Time = time.Unix(int64(sec), int64(frac*1e9))
	}
	if s.UnreachableTime != nil {
		u.UnreachableSince = time.Unix(0, s.UnreachableTime.Nanoseconds)
	}
	return u
}
