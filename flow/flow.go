// Package flow owns the flow language: the YAML file that describes a batch
// flow, its checks, its expressions and the graph of its steps.
//
// It is pure and deterministic, because it runs inside workflow code: files come
// in through an fs.FS, and no result depends on time, chance or map order.
package flow

import (
	"encoding/json"
	"io/fs"
	"time"

	"github.com/google/cel-go/common/types/ref"

	"github.com/baas-batch/baas/tasklet"
)

// PlanVersion is raised when the JSON form of a Flow changes in a way that older
// code would misread.
const PlanVersion = 1

// Limits of a flow file.
const (
	MaxFileSize       = 1 << 20 // bytes
	MaxSteps          = 2000    // steps and on_exit together
	MaxParams         = 200
	MaxVariables      = 1000    // of one env
	MaxSecrets        = 50      // of one step
	MaxNesting        = 32      // levels of lists and maps
	MaxNodes          = 2e5     // YAML values, aliases counted as often as they are used
	MaxNameLength     = 63      // bytes of the name of a flow, step, parameter, input or output
	MaxText           = 4 << 20 // bytes of all values, aliases and defaults counted as often as they are used
	MaxExpression     = 4096    // characters of one expression
	MaxExpressions    = 10_000
	MaxExpressionText = 256 << 10 // bytes of all expressions, as often as they are used
	MaxProblems       = 200       // reported at once
	MaxAttempts       = 1000
	MaxPartitions     = 1_000_000
	MaxEvaluationCost = 1_000_000 // steps of one evaluation: variables read, calls made, and 8 bytes of text or 8 list elements handled
)

// What a step gets when neither it nor `defaults:` says otherwise.
const (
	DefaultCPUs               = 0.5
	DefaultMem                = 256 * 1000 * 1000 // bytes
	DefaultGrace              = 30 * time.Second
	DefaultUnreachableTimeout = 5 * time.Minute
	DefaultBackoff            = 10 * time.Second
	DefaultFactor             = 2.0
	DefaultMaxBackoff         = 10 * time.Minute
	DefaultPriority           = 3 // of 1 (first) to 5 (last), as in Temporal
)

// Flow is a checked flow file. As JSON it is the plan of a run: it holds all that
// evaluation needs, and evaluates as it did before it was written.
type Flow struct {
	Version     int      `json:"v"`
	Name        string   `json:"name"`
	Owner       string   `json:"owner,omitempty"` // as the file says; the registered app has the last word
	Description string   `json:"description,omitempty"`
	Params      []Param  `json:"params,omitempty"`
	Steps       []Step   `json:"steps"`             // in file order
	OnExit      []Step   `json:"on_exit,omitempty"` // run when the steps have ended, however they ended
	Expect      Duration `json:"expect,omitempty"`  // a longer run is "long-running"
	Notify      *Notify  `json:"notify,omitempty"`
	// Retention says when the objects of the app's runs may go; nil: as the platform says.
	Retention *Retention `json:"retention,omitempty"`
	Priority  int        `json:"priority,omitempty"`

	programs *programs
	fixed    map[outputName]ref.Val // of a Template: values that do not change, as CEL has them
}

// Notify says whom to tell of what. It is kept for the alerts, which read it
// from the plan; nothing acts upon it yet.
type Notify struct {
	Email []string `json:"email,omitempty"`
	On    []string `json:"on,omitempty"` // failure, success, long_running
}

// Param is one parameter of a flow.
type Param struct {
	Name        string            `json:"name"`
	Type        Type              `json:"type"`
	Description string            `json:"description,omitempty"`
	Required    bool              `json:"required,omitempty"` // has no default
	Default     json.RawMessage   `json:"default,omitempty"`
	Pattern     string            `json:"pattern,omitempty"` // RE2, matched against the whole text of a string
	Choices     []json.RawMessage `json:"choices,omitempty"`
	Identity    bool              `json:"identity"` // its value is part of the instance's identity
}

// Step is one node of the graph, with the defaults of the file and the
// definition of its tasklet filled in.
type Step struct {
	ID          string `json:"id"`
	Description string `json:"description,omitempty"`

	// Needs lists the steps that must have ended well (or been skipped) before
	// this one: those that it names and those that its expressions read, in file
	// order. For a step of on_exit they are other steps of on_exit.
	Needs []string `json:"needs,omitempty"`
	When  *Expr    `json:"when,omitempty"` // false: the step is skipped, which counts as done

	ForEach  *ForEach `json:"for_each,omitempty"` // nil for a plain step, which is one partition
	Parallel int      `json:"parallel,omitempty"` // partitions at the same time; 0 for no limit
	// MinSuccess is nil when all partitions must succeed. With FailFast the step ends
	// as soon as it cannot be reached any more.
	MinSuccess *MinSuccess `json:"min_success,omitempty"`
	FailFast   bool        `json:"fail_fast,omitempty"`
	// Reduce is a step with for_each whose results this one gets, beside With: as the
	// inputs that ReduceInputs names. It is one of Needs.
	Reduce string `json:"reduce,omitempty"`

	// Exactly one of Shell and Args is set, as in tasklet.Launch.
	Shell string   `json:"shell,omitempty"`
	Args  []string `json:"args,omitempty"`
	// Tasklet is name@version as resolved when the file was read, or the path of
	// the tasklet's file in the app; empty for `run:`.
	Tasklet string `json:"tasklet,omitempty"`
	// Bundle tells that the command needs the app's files.
	Bundle     bool `json:"bundle,omitempty"`
	Checkpoint bool `json:"checkpoint,omitempty"` // the tasklet says that it can go on from a checkpoint

	With    []Binding        `json:"with,omitempty"` // with the defaults of the tasklet's inputs
	Env     []Binding        `json:"env,omitempty"`  // of type string
	Secrets []tasklet.Secret `json:"secrets,omitempty"`
	Outputs []tasklet.Output `json:"outputs,omitempty"`

	Retry     Retry     `json:"retry"`
	Timeout   Duration  `json:"timeout,omitempty"` // wall time of one attempt; 0 for none
	Grace     Duration  `json:"grace,omitempty"`   // from SIGTERM to SIGKILL
	Resources Resources `json:"resources"`
	Limits    *Limits   `json:"limits,omitempty"`
	// Constraints all hold for each task.
	Constraints []Constraint `json:"constraints,omitempty"`
	Image       string       `json:"image,omitempty"`
	// Isolation is IsolationTask, or empty: tasks share executors.
	Isolation string  `json:"isolation,omitempty"`
	User      string  `json:"user,omitempty"` // empty: a throw-away user for each task
	Fetch     []Fetch `json:"fetch,omitempty"`
	// Volumes are directories of the agent that the image's container has.
	Volumes  []Volume `json:"volumes,omitempty"`
	Priority int      `json:"priority,omitempty"` // 1 (first) to 5 (last)

	// AtMostOnce: never placed again without a person's word once it may have run.
	AtMostOnce bool `json:"at_most_once,omitempty"`
	// Preemptible: it may run on resources that are taken back at any moment.
	Preemptible bool `json:"preemptible,omitempty"`
	// UnreachableTimeout is how long a task on an unreachable agent is waited for.
	UnreachableTimeout Duration `json:"unreachable_timeout,omitempty"`

	unsure bool // while parsing: what it runs is broken, so any output may be read
}

// Resources of one partition.
type Resources struct {
	CPUs float64 `json:"cpus"`
	Mem  int64   `json:"mem"`            // bytes
	Disk int64   `json:"disk,omitempty"` // bytes; 0 for no limit
	GPUs float64 `json:"gpus,omitempty"`
	// Ports is how many; Network is megabits per second.
	Ports   int     `json:"ports,omitempty"`
	Network float64 `json:"network,omitempty"`
}

// Limits of one partition, beyond what it asks for; zero means that there is none
// of its own.
type Limits struct {
	CPUs float64 `json:"cpus,omitempty"`
	Mem  int64   `json:"mem,omitempty"` // bytes
}

// Binding gives a name a value: an input of a step, or a variable of its environment.
type Binding struct {
	Name    string `json:"name"`
	Type    Type   `json:"type"` // declared by the tasklet; else the type of the value
	Value   Value  `json:"value"`
	Pattern string `json:"pattern,omitempty"` // RE2, matched against the whole of a text
}

// ForEach gives the items of a step's partitions: a list, a range of integers, or
// something in storage.
type ForEach struct {
	List *Value `json:"list,omitempty"`
	// From and To are both set for a range, which includes both ends.
	From *Value `json:"from,omitempty"`
	To   *Value `json:"to,omitempty"`
	// Lines and Values are files, of text lines and of one JSON value a line; Files
	// is a directory; Objects is a prefix below the owner's part of the store.
	Lines   *Value `json:"lines,omitempty"`
	Values  *Value `json:"values,omitempty"`
	Files   *Value `json:"files,omitempty"`
	Objects *Value `json:"objects,omitempty"`
	Item    Type   `json:"item"` // type of one item
}

// Options of Parse.
type Options struct {
	// Files is the app's directory: where `tasklet: ./x.yaml` is read and where
	// the files of `run: ./x` must be. When nil, such files are taken to be there
	// and a tasklet from a file is a problem.
	Files fs.FS
	// Catalog finds `tasklet: name@1`; when nil there is none.
	Catalog Catalog
}

// Catalog finds published tasklets. Its answers must not change while a file is
// parsed; versions that were given once are immutable.
type Catalog interface {
	// Find gives the tasklet of that name with the newest version that the
	// reference allows: "1" takes the newest 1.x.y, "1.2.0" that one. The error
	// is an *UnknownTaskletError when there is none.
	Find(name, version string) (*Tasklet, error)
	// Names lists all names, sorted; used for suggestions.
	Names() []string
}

// Scope is what expressions read.
type Scope struct {
	Params map[string]any        // as Bind returned them, before or after a round trip through JSON
	Steps  map[string]StepResult // of the steps that have ended
	Item   any                   // of this partition
	Index  int                   // of this partition, from 0
	Run    RunInfo
}

// StepResult is what expressions may read of a step that has ended.
type StepResult struct {
	Status     string         `json:"status"`                // one of the Status constants
	ExitStatus string         `json:"exit_status,omitempty"` // named by the tasklet, else the exit code; of a plain step
	Count      int            `json:"count"`                 // partitions
	Outputs    map[string]any `json:"outputs,omitempty"`     // with for_each: a list per output, in item order
}

// How a step ended, as `steps.<id>.status` shows it.
const (
	StatusSucceeded = "succeeded"
	StatusFailed    = "failed"
	StatusSkipped   = "skipped" // by its `when`
	StatusKilled    = "killed"  // on request
	StatusNotRun    = "not run" // what it needs did not end well
)

// RunInfo is what `run.` shows.
type RunInfo struct {
	ID    string `json:"id"`
	App   string `json:"app"`
	Owner string `json:"owner"`
	Date  string `json:"date"` // the order date, YYYY-MM-DD

	// The rest is for steps of on_exit.
	Status     string `json:"status,omitempty"` // succeeded, failed or killed
	FailedStep string `json:"failed_step,omitempty"`
	Reason     string `json:"reason,omitempty"`
}

// Step finds a step by its ID, in Steps and in OnExit.
func (f *Flow) Step(id string) (*Step, bool) {
	for _, list := range [][]Step{f.Steps, f.OnExit} {
		for i := range list {
			if list[i].ID == id {
				return &list[i], true
			}
		}
	}
	return nil, false
}

// Param finds a parameter by its name.
func (f *Flow) Param(name string) (*Param, bool) {
	for i := range f.Params {
		if f.Params[i].Name == name {
			return &f.Params[i], true
		}
	}
	return nil, false
}
