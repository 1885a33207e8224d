package api

import (
	"encoding/json"
	"time"

	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

// LaunchInput is the argument of RunTasklets: a range of partitions of one step,
// all at the same attempt. A plain step is a range of one.
type LaunchInput struct {
	App     string `json:"app"`
	Owner   string `json:"owner"`
	Run     string `json:"run"`
	Step    string `json:"step"`
	Attempt int    `json:"attempt"` // from 1

	Shell   string            `json:"shell,omitempty"`
	Args    []string          `json:"args,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	Outputs []tasklet.Output  `json:"outputs,omitempty"`
	Bundle  *tasklet.FileRef  `json:"bundle,omitempty"`
	Image   string            `json:"image,omitempty"`
	// Isolation, User, Fetch and Volumes are those of flow.Step.
	Isolation string        `json:"isolation,omitempty"`
	User      string        `json:"user,omitempty"`
	Fetch     []flow.Fetch  `json:"fetch,omitempty"`
	Volumes   []flow.Volume `json:"volumes,omitempty"`
	// Secrets names what the executor asks the leader for; no value is ever here.
	Secrets []tasklet.Secret `json:"secrets,omitempty"`

	CPUs float64 `json:"cpus"`
	Mem  int64   `json:"mem"`            // bytes
	Disk int64   `json:"disk,omitempty"` // bytes
	GPUs int     `json:"gpus,omitempty"`
	// Ports is how many; Network is megabits per second.
	Ports       int               `json:"ports,omitempty"`
	Network     float64           `json:"network,omitempty"`
	Limits      *flow.Limits      `json:"limits,omitempty"`
	Constraints []flow.Constraint `json:"constraints,omitempty"`

	Timeout  time.Duration `json:"timeout,omitempty"`
	Grace    time.Duration `json:"grace"`
	Priority int           `json:"priority,omitempty"`

	// UnreachableTimeout is how long a task on an unreachable agent is waited
	// for before it is placed again; never, when AtMostOnce is set.
	UnreachableTimeout time.Duration `json:"unreachable_timeout"`
	AtMostOnce         bool          `json:"at_most_once,omitempty"`
	Preemptible        bool          `json:"preemptible,omitempty"`

	// FileLists names the inputs that are lists of files, also where one is empty.
	FileLists []string `json:"file_lists,omitempty"`
	// Many tells that the step has partitions, for names that people read.
	Many bool `json:"many,omitempty"`
	// Partitions is empty when Range is set.
	Partitions []LaunchPartition `json:"partitions,omitempty"`
	Range      *Range            `json:"range,omitempty"`
}

// Range is a part of a step with many partitions. Whoever launches it works out the
// inputs, packs partitions into tasks, retries those that fail, and keeps their
// results in storage; only sums come back.
type Range struct {
	First int `json:"first"`
	Count int `json:"count"`
	// Items has those of the range (List) or of the whole step.
	Items    Items         `json:"items"`
	Template flow.Template `json:"template"`
	Retry    flow.Retry    `json:"retry"`
	// Parallel is how many partitions may run at the same time; 0 for no limit.
	Parallel int `json:"parallel,omitempty"`
	// MaxFailed: with more partitions than this failed for good, the rest is given
	// up: what runs is killed, and the range ends. Negative: never.
	MaxFailed int `json:"max_failed"`
	// MaxDetails bounds Details of this activity, in bytes.
	MaxDetails int `json:"max_details"`
	// MaxOutputs is how many bytes of output values the result may carry; with more
	// it carries none, and they are in the manifest only.
	MaxOutputs int `json:"max_outputs,omitempty"`
}

// Items says where the items of partitions are: in List, in an object, or, with
// neither, the integers from From on.
type Items struct {
	From int64 `json:"from,omitempty"` // of partition 0
	// List begins with the item of the range's first partition.
	List []json.RawMessage `json:"list,omitempty"`
	// Object holds the items of all partitions of the step: lines of JSON values.
	Object *tasklet.LinesRef `json:"object,omitempty"`
}

// RangeResult is what became of a Range.
type RangeResult struct {
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed,omitempty"` // for good
	// Killed counts those killed on request, alone or with the run; NotRun those
	// given up because too many had failed.
	Killed  int           `json:"killed,omitempty"`
	NotRun  int           `json:"not_run,omitempty"`
	Retries int           `json:"retries,omitempty"` // attempts after a failure
	Tasks   int           `json:"tasks"`             // Mesos tasks that were launched
	Usage   tasklet.Usage `json:"usage"`             // sums over all attempts; memory is the highest
	// Failures are the first ones, by partition, without outputs.
	Failures []Failure `json:"failures,omitempty"`
	// Manifest has a tasklet.Result for each partition of the range, in order.
	Manifest tasklet.LinesRef `json:"manifest"`
	// Outputs are the output values of all partitions, in order, by name; null for
	// one that has none. nil when they would be over Range.MaxOutputs.
	Outputs map[string][]json.RawMessage `json:"outputs,omitempty"`
}

// Failure is a partition that failed for good, with its last attempt.
type Failure struct {
	Attempt int            `json:"attempt"`
	Result  tasklet.Result `json:"result"`
}

// MaxFailures bounds RangeResult.Failures.
const MaxFailures = 10

// LaunchPartition is one partition with its inputs: JSON values, among them
// tasklet.FileRef objects and lists of them.
type LaunchPartition struct {
	Index  int                        `json:"i"`
	Inputs map[string]json.RawMessage `json:"in,omitempty"`
}

// LaunchResult is what RunTasklets is completed with. A failed partition is a
// result, not an activity error: it lands whatever the activity's attempt.
type LaunchResult struct {
	Results []tasklet.Result `json:"results,omitempty"` // one for each partition, in the order of the input
	// Replaced counts placements that the platform lost and made again.
	Replaced int `json:"replaced,omitempty"`
	// Range is set, and Results are not, when the input had one.
	Range *RangeResult `json:"range,omitempty"`
}

// KillInput is the argument of KillTasks.
type KillInput struct {
	WorkflowID string        `json:"workflow"`
	RunID      string        `json:"run"`             // Temporal's
	Grace      time.Duration `json:"grace,omitempty"` // 0: each task's own
	Reason     string        `json:"reason,omitempty"`
	// Step restricts the kill to one step, Partitions to these of it, which are then
	// not tried again.
	Step       string `json:"step,omitempty"`
	Partitions []int  `json:"partitions,omitempty"`
}

// ListItemsInput is the argument of ListItems: exactly one of the sources is set.
type ListItemsInput struct {
	App   string `json:"app"`
	Owner string `json:"owner"`
	Run   string `json:"run"`
	Step  string `json:"step"`

	// Lines and Values are files: of text lines, of one JSON value a line. Files is
	// a directory.
	Lines  *tasklet.FileRef `json:"lines,omitempty"`
	Values *tasklet.FileRef `json:"values,omitempty"`
	Files  *tasklet.FileRef `json:"files,omitempty"`
	// Objects is a prefix below the owner's part of the store.
	Objects string `json:"objects,omitempty"`
	// Outputs is an output of an earlier step with for_each.
	Outputs *flow.Many `json:"outputs,omitempty"`
	Max     int        `json:"max"` // more items are an error
}

// ListItemsResult tells where the items are. Errors that a person must mend are
// non-retryable, of type ErrorInvalidItems.
type ListItemsResult struct {
	Items tasklet.LinesRef `json:"items"`
}

// GatherInput is the argument of Gather.
type GatherInput struct {
	App   string `json:"app"`
	Owner string `json:"owner"`
	Run   string `json:"run"`
	Step  string `json:"step"` // that reduces
	// Manifests hold the results of the other step, a tasklet.Result for each of its
	// partitions, in order; Outputs are what that step declares.
	Manifests []tasklet.LinesRef `json:"manifests,omitempty"`
	Outputs   []tasklet.Output   `json:"outputs,omitempty"`
}

// GatherResult has the files, each named after the input that it becomes: first
// flow.ReduceResults, then one for each output of type file. Errors that no other
// attempt mends are non-retryable, of type ErrorInvalidResults.
type GatherResult struct {
	Files []tasklet.FileRef `json:"files"`
}

// FrameworkInput is the argument of MesosFramework.
type FrameworkInput struct {
	Name string `json:"name"`
	// FrameworkID is empty at the first start; continue-as-new carries it on.
	FrameworkID string `json:"framework_id,omitempty"`
	// LeaseTimeout is how long a leader may be silent before another worker
	// takes over: the heartbeat timeout of LeadFramework; DefaultLeaseTimeout if 0.
	LeaseTimeout time.Duration `json:"lease_timeout,omitempty"`
}

// DefaultLeaseTimeout is the LeaseTimeout where none is given.
const DefaultLeaseTimeout = 10 * time.Second

// LeadInput is the argument of LeadFramework.
type LeadInput struct {
	Framework   string `json:"framework"`
	FrameworkID string `json:"framework_id"`
}

// LeadDetails are the heartbeat details of LeadFramework.
type LeadDetails struct {
	Leader string `json:"leader"`
	// Mesos says why there is no subscription to a Mesos master; "" while there is.
	Mesos string `json:"mesos,omitempty"`
}

// LeadResult ends a leadership for good: the ID cannot be used again.
type LeadResult struct {
	Removed bool   `json:"removed"`
	Reason  string `json:"reason,omitempty"`
}
