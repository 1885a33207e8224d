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
	Many       bool              `json:"many,omitempty"`
	Partitions []LaunchPartition `json:"partitions"`
}

// LaunchPartition is one partition with its inputs: JSON values, among them
// tasklet.FileRef objects and lists of them.
type LaunchPartition struct {
	Index  int                        `json:"i"`
	Inputs map[string]json.RawMessage `json:"in,omitempty"`
}

// LaunchResult is what RunTasklets is completed with. A failed partition is a
// result, not an activity error: it lands whatever the activity's attempt.
type LaunchResult struct {
	Results []tasklet.Result `json:"results"` // one for each partition, in the order of the input
	// Replaced counts placements that the platform lost and made again.
	Replaced int `json:"replaced,omitempty"`
}

// KillInput is the argument of KillTasks.
type KillInput struct {
	WorkflowID string        `json:"workflow"`
	RunID      string        `json:"run"`             // Temporal's
	Grace      time.Duration `json:"grace,omitempty"` // 0: each task's own
	Reason     string        `json:"reason,omitempty"`
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
