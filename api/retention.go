package api

import (
	"time"

	"github.com/baas-batch/baas/flow"
)

// StoreHomeKey holds a StoreHome: whose runs the store holds.
const StoreHomeKey = "temporal.json"

// StoreHome is the Temporal namespace whose runs a store holds. The first worker on the
// store writes it, or the first sweep; sweeps for another one refuse.
type StoreHome struct {
	Namespace   string `json:"namespace"`
	NamespaceID string `json:"namespace_id"`
}

// RunRecord is what storage knows of a run that has ended. It lies among the run's
// objects and is the last of them to go. SaveInstance writes it.
type RunRecord struct {
	Run       string          `json:"run"`
	Instance  string          `json:"instance"`
	Status    Status          `json:"status"`
	Started   time.Time       `json:"started"`
	Ended     time.Time       `json:"ended"`
	Retention *flow.Retention `json:"retention,omitempty"` // of the flow that it ran
	// Needs are other runs of the app of which this one's parameters or outputs name objects.
	Needs []string `json:"needs,omitempty"`
	// Found is set when the run left no record, since it was terminated in Temporal.
	// The sweep has written this one when it first saw the run, and Ended is then.
	Found bool `json:"found,omitempty"`
	// Sweep tells what is left of the objects. It is written before the first of
	// them goes, is never taken back, and the sweep asks for open runs once more
	// after that. Prepare looks here for the runs that parameters name. So an open
	// run sees the mark, or the sweep sees the run: at once if it is of the same
	// instance, else as soon as Temporal's listing shows it, a second or so after its
	// start. Only a run that looked here before the mark, and is not listed when the
	// sweep asks, may miss objects that it was given.
	Sweep SweepStage `json:"sweep,omitempty"`
}

// SweepStage is how much of a run has been swept.
type SweepStage string

const (
	SweepNone  SweepStage = ""
	SweepBegun SweepStage = "begun" // any object may be gone
	SweepLogs  SweepStage = "logs"  // only logs are left
)

// SweepInput is the argument of WorkflowSweep and of ActivitySweep.
type SweepInput struct {
	// After is the app that was swept last; empty at the beginning.
	After string `json:"after,omitempty"`
	// Done is what has gone so far.
	Done SweepResult `json:"done,omitzero"`
}

// SweepResult is the result of WorkflowSweep.
type SweepResult struct {
	Apps    int        `json:"apps"` // looked at
	Kept    int        `json:"kept"` // runs
	Swept   SweptSum   `json:"swept"`
	Uploads int        `json:"uploads"` // unfinished, aborted
	ByApp   []SweptApp `json:"by_app,omitempty"`
	// Troubles name apps that could not be swept; the workflow fails with them.
	Troubles []string `json:"troubles,omitempty"`
}

// SweptSum counts what has gone.
type SweptSum struct {
	Runs    int   `json:"runs"`
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

// Add adds another sum.
func (s *SweptSum) Add(o SweptSum) {
	s.Runs, s.Objects, s.Bytes = s.Runs+o.Runs, s.Objects+o.Objects, s.Bytes+o.Bytes
}

// SweptApp is what has gone of one app.
type SweptApp struct {
	App string `json:"app"`
	SweptSum
}

// SweepBatch is the result of ActivitySweep.
type SweepBatch struct {
	App     string   `json:"app,omitempty"`  // that was swept; empty: there is no other
	More    bool     `json:"more,omitempty"` // of this app
	Kept    int      `json:"kept"`           // runs of the app
	Swept   SweptSum `json:"swept"`
	Uploads int      `json:"uploads"`
	Trouble string   `json:"trouble,omitempty"` // why the app was not swept
}
