package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

// RunInput is the one argument of BatchFlow.
type RunInput struct {
	// Source is the flow of an app that is not registered.
	Source *FlowSource `json:"source,omitempty"`
	// Params are the values given; what is missing gets its default. Files are
	// tasklet.FileRef objects.
	Params map[string]json.RawMessage `json:"params,omitempty"`
	// OrderDate is the business date, YYYY-MM-DD; the day of the start if empty.
	OrderDate string `json:"order_date,omitempty"`
	// Requested names who asked for the run, for the audit trail.
	Requested string `json:"requested,omitempty"`
	// Relayed is set by a BatchFlow that was started under another ID than its
	// instance's and starts the right one: that one must not do so again.
	Relayed bool `json:"relayed,omitempty"`
	// Continued is set by the run itself when it goes on in a new history.
	Continued *Continued `json:"continued,omitempty"`
}

// FlowSource is a flow file inside a bundle.
type FlowSource struct {
	Bundle tasklet.FileRef `json:"bundle"`
	Path   string          `json:"path"` // of the flow file, relative to the bundle's root
}

// PrepareInput is the argument of Prepare.
type PrepareInput struct {
	Run RunInput `json:"run"`
}

// PrepareResult is all that the interpreter needs. It stands in history, so
// that a replay depends on nothing else.
type PrepareResult struct {
	Flow     flow.Flow        `json:"flow"` // compiled: tasklets resolved
	Bundle   *tasklet.FileRef `json:"bundle,omitempty"`
	Owner    string           `json:"owner"`
	Params   map[string]any   `json:"params"` // bound and complete
	Identity string           `json:"identity"`
	Settings Settings         `json:"settings"`
	// Images has the names with digests of images that were pinned, by the names
	// that steps give.
	Images map[string]string `json:"images,omitempty"`
}

// Image gives the name of an image as this run has pinned it.
func (r *PrepareResult) Image(name string) string {
	if pinned := r.Images[name]; pinned != "" {
		return pinned
	}
	return name
}

// Settings are the platform's at the start of the run.
type Settings struct {
	LaunchQueue      string        `json:"launch_queue"`
	ControlQueue     string        `json:"control_queue"`
	HeartbeatTimeout time.Duration `json:"heartbeat_timeout"` // of RunTasklets
	MaxPending       int           `json:"max_pending"`       // RunTasklets activities at a time
	// RangeSize is how many partitions of a for_each step one activity takes at
	// most. Zero is how runs went that began before there were Ranges: activities of
	// a few partitions, whose retries and outputs the workflow keeps.
	RangeSize int `json:"range_size,omitempty"`
	// RangeFrom is from how many partitions on a step is cut into ranges. One with
	// fewer has an activity for each partition, as long as it asks for nothing that
	// only ranges give.
	RangeFrom int `json:"range_from,omitempty"`
}

// Status of a run or a step.
type Status string

const (
	StatusWaiting   Status = "waiting"
	StatusRunning   Status = "running"
	StatusSucceeded Status = "succeeded"
	StatusFailed    Status = "failed"
	StatusKilled    Status = "killed"
	StatusSkipped   Status = "skipped" // `when` was false
	StatusBlocked   Status = "blocked" // never started: a step that it needs did not succeed
)

// Final tells whether the status will not change any more.
func (s Status) Final() bool {
	return s != StatusWaiting && s != StatusRunning
}

// RunState answers QueryState and is what SaveInstance stores.
type RunState struct {
	Run       string                     `json:"run"`
	Instance  string                     `json:"instance"`
	App       string                     `json:"app"`
	Owner     string                     `json:"owner"`
	Status    Status                     `json:"status"`
	Reason    string                     `json:"reason,omitempty"` // of the first failure
	Requested string                     `json:"requested,omitempty"`
	OrderDate string                     `json:"order_date,omitempty"`
	Started   time.Time                  `json:"started"`
	Ended     time.Time                  `json:"ended,omitzero"`
	Params    map[string]json.RawMessage `json:"params,omitempty"`
	Steps     []StepState                `json:"steps"` // in file order, then on_exit
	// Releases are what persons have said of tasks that were held, oldest first;
	// of many, the latest.
	Releases []Release `json:"releases,omitempty"`
	// Kills are those of single partitions, oldest first; of many, the latest.
	Kills []PartitionKill `json:"kills,omitempty"`
	// Retention is the flow's; the sweep goes by that of the app's newest run.
	Retention *flow.Retention `json:"retention,omitempty"`
	// Kill is set once the run is being killed.
	Kill *KillRequest `json:"kill,omitempty"`
	// Relay is set when this workflow was started under another ID than its
	// instance's: it only waits for that run, which has the steps.
	Relay *Relay `json:"relay,omitempty"`
}

// KillRequest says who kills a run and why; both may be empty.
type KillRequest struct {
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Text says why what was killed has ended; k may be nil.
func (k *KillRequest) Text() string {
	text := "killed on request"
	if k == nil {
		return text
	}
	if k.By != "" {
		text = "killed by " + k.By
	}
	if k.Reason != "" {
		text += ": " + k.Reason
	}
	return text
}

// Relay names the workflow that does the work.
type Relay struct {
	WorkflowID string `json:"workflow"`
	RunID      string `json:"run"` // Temporal's; empty until it has started
}

// StepState is one step of a run.
type StepState struct {
	ID         string   `json:"id"`
	Needs      []string `json:"needs,omitempty"`
	OnExit     bool     `json:"on_exit,omitempty"`
	ForEach    bool     `json:"for_each,omitempty"`
	Status     Status   `json:"status"`
	Reason     string   `json:"reason,omitempty"`
	ExitStatus string   `json:"exit_status,omitempty"`
	Partitions int      `json:"partitions"` // 0 until known
	Done       int      `json:"done"`       // succeeded
	Failed     int      `json:"failed"`     // for good
	// Killed counts partitions that were killed alone, and not with the run. NotRun
	// counts, when a step in ranges has ended, those that were given up or killed with
	// it: with them all Partitions are accounted for.
	Killed int `json:"killed,omitempty"`
	NotRun int `json:"not_run,omitempty"`
	Active int `json:"active"` // handed to the scheduler: running, waiting, or ended a moment ago
	// Running and Waiting divide Active: what an agent has, and what waits for a
	// fitting offer. The workflow does not know; the Go client fills them in.
	Running int           `json:"running"`
	Waiting int           `json:"waiting"`
	Retries int           `json:"retries"`
	Started time.Time     `json:"started,omitzero"`
	Ended   time.Time     `json:"ended,omitzero"`
	Usage   tasklet.Usage `json:"usage"` // sums; memory is the highest
	// Outputs of a step that succeeded; with for_each a list for each, in partition
	// order, where null stands for an optional output that was not written and for
	// one of a partition that did not succeed; or a flow.Many.
	Outputs map[string]json.RawMessage `json:"outputs,omitempty"`
}

// Lost says how many partitions neither succeeded nor failed, such as "2 killed, 5 not
// run"; "" if there are none.
func (s *StepState) Lost() string {
	var parts []string
	if s.Killed > 0 {
		parts = append(parts, fmt.Sprintf("%d killed", s.Killed))
	}
	if s.NotRun > 0 {
		parts = append(parts, fmt.Sprintf("%d not run", s.NotRun))
	}
	return strings.Join(parts, ", ")
}

// RunResult is the result of BatchFlow.
type RunResult struct {
	Run     string                                `json:"run"`
	Status  Status                                `json:"status"`
	Outputs map[string]map[string]json.RawMessage `json:"outputs,omitempty"` // by step and name
}
