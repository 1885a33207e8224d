package api

import "time"

// ReleaseAs is what a person says of a partition that is held.
type ReleaseAs string

// What ReleaseAs can be.
const (
	ReleaseNeverRan ReleaseAs = "never-ran" // it is launched again
	ReleaseRan      ReleaseAs = "ran"       // it counts as succeeded, without outputs
	ReleaseFailed   ReleaseAs = "failed"    // the attempt failed; the step's retry decides
)

// Valid tells whether it is one of these.
func (as ReleaseAs) Valid() bool {
	return as == ReleaseNeverRan || as == ReleaseRan || as == ReleaseFailed
}

// ReleaseRequest is the argument of UpdateRelease: a person's word on what became
// of a task that is held. It names the task, not the partition alone, so that an
// order never meets a task that the person has not seen.
type ReleaseRequest struct {
	Activity   string    `json:"activity"` // ID of the RunTasklets activity
	Step       string    `json:"step"`
	Partition  int       `json:"partition"`
	Generation int       `json:"generation"`
	As         ReleaseAs `json:"as"`
	By         string    `json:"by,omitempty"`
	Reason     string    `json:"reason"`
}

// Of tells whether both are about the same task.
func (r ReleaseRequest) Of(other ReleaseRequest) bool {
	return r.Activity == other.Activity && r.Partition == other.Partition && r.Generation == other.Generation
}

// Release is a ReleaseRequest that was carried out; the answer of UpdateRelease.
type Release struct {
	ReleaseRequest
	At time.Time `json:"at"`
}

// ReleaseInput is the argument of ReleaseHeld.
type ReleaseInput struct {
	WorkflowID string `json:"workflow"`
	RunID      string `json:"run"`    // Temporal's
	Prefix     string `json:"prefix"` // StepPrefix
	ReleaseRequest
}

// KillPartitionsRequest is the argument of UpdateKillPartitions.
type KillPartitionsRequest struct {
	Step       string `json:"step"`
	Partitions []int  `json:"partitions"` // at most MaxKillPartitions
	By         string `json:"by,omitempty"`
	Reason     string `json:"reason,omitempty"`
}

// MaxKillPartitions bounds KillPartitionsRequest.Partitions.
const MaxKillPartitions = 10_000

// PartitionKill is a KillPartitionsRequest that was passed on to the leader; the answer
// of UpdateKillPartitions.
type PartitionKill struct {
	Step   string    `json:"step"`
	Spans  string    `json:"spans"` // "#3, 7–9"; of many, the first
	Count  int       `json:"count"` // partitions
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}
