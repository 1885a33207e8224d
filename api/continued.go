package api

import (
	"time"

	"github.com/baas-batch/baas/tasklet"
)

// Continued is a run between two histories: Temporal bounds how long one may be. It
// is taken while no activity is pending.
type Continued struct {
	Plan        PrepareResult   `json:"plan"`
	Started     time.Time       `json:"started"`
	Steps       []ContinuedStep `json:"steps"` // in file order, then on_exit
	Reason      string          `json:"reason,omitempty"`
	FailedStep  string          `json:"failed_step,omitempty"`
	Killed      bool            `json:"killed,omitempty"` // the steps were; on_exit runs
	Kill        *KillRequest    `json:"kill,omitempty"`
	OutputBytes int             `json:"output_bytes,omitempty"`
	Releases    []Release       `json:"releases,omitempty"`
	Kills       []PartitionKill `json:"kills,omitempty"`
}

// ContinuedStep is one step of it. One that runs has no for_each.
type ContinuedStep struct {
	State    StepState `json:"state"`
	Launched int       `json:"launched,omitempty"` // activities so far
	Attempt  int       `json:"attempt,omitempty"`  // that follows, of one that has failed before
	Due      time.Time `json:"due,omitzero"`       // of that attempt
	// Manifests are those of a step that another one reduces; Gathered is what one
	// that reduces has got.
	Manifests []tasklet.LinesRef `json:"manifests,omitempty"`
	Gathered  []tasklet.FileRef  `json:"gathered,omitempty"`
}
