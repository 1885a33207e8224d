// Package mesos is the framework: it subscribes to a Mesos master with mesos-go,
// places tasks on offers, keeps the table of tasks that Mesos holds for it, and
// reconciles. It knows nothing of Temporal; what a task means is its Handler's.
package mesos

import (
	"context"
	"errors"
	"time"
)

// Lease is the leadership that the framework acts under.
type Lease interface {
	// Confirm asks whether the lease still holds. nil: it does. ErrLeaseLost: it
	// does not, for good. Any other error: nobody knows yet; ask again.
	// It is called before every SUBSCRIBE and on "Framework failed over".
	Confirm(ctx context.Context) error
}

var (
	// ErrLeaseLost ends Framework.Run: another scheduler leads.
	ErrLeaseLost = errors.New("leadership lost")
	// ErrFrameworkRemoved ends Framework.Run: the master has removed the
	// framework ID (failover timeout passed, or torn down). It needs a new one.
	ErrFrameworkRemoved = errors.New("framework has been removed by the master")
	// ErrRefused ends Framework.Run: the master will not have this framework as
	// it is (credentials, principal, malformed FrameworkInfo).
	ErrRefused = errors.New("the master refuses the framework")
)

// Handler is told what happens. Its methods are called one at a time, in the
// order of the stream, and must return soon: what takes long is handed on.
type Handler interface {
	// Subscribed is called after each SUBSCRIBED; implicit reconciliation
	// follows by itself.
	Subscribed(s Subscription)
	// Disconnected is called when the subscription has ended, for any reason.
	Disconnected(err error)

	// Placed gives all tasks that one cycle has placed on one agent, before the
	// ACCEPT goes out. It may block while the details are written ahead (the
	// framework calls it outside the event loop, several agents at a time), but no
	// longer than ctx lasts: the next subscription waits for it. It answers for
	// each task with its launch data, or an error: that task is not launched, is
	// forgotten by the framework, and its offer share is returned. Where ctx ends
	// (with the subscription) before the answer (the error is context.Canceled), or
	// an offer is rescinded after it, an Update says DROPPED, with FrameworkSource
	// and no UUID.
	Placed(ctx context.Context, p Placement) []Launch

	// Update is called for every status update. The framework acknowledges
	// nothing by itself: call Framework.Acknowledge when the effect is durable.
	Update(u Update)
	// Message is a framework message from an executor.
	Message(m Message)
	// ExecutorLost and AgentLost report FAILURE events; the tasks' own updates come beside them.
	ExecutorLost(agentID, executorID string, status int)
	AgentLost(agentID string)
}

// Subscription describes one subscription.
type Subscription struct {
	FrameworkID string
	Master      string // address that serves it
	MasterID    string
	Heartbeat   time.Duration
	Repeated    bool // not the first one of this Framework value
}

// Resources of a task or agent. Mem and Disk are bytes; Mesos counts whole MB,
// rounded up.
type Resources struct {
	CPUs float64 `json:"cpus"`
	Mem  int64   `json:"mem"`
	Disk int64   `json:"disk,omitempty"`
	GPUs int     `json:"gpus,omitempty"`
	// Ports is how many; Network is megabits per second.
	Ports   int     `json:"ports,omitempty"`
	Network float64 `json:"network,omitempty"`
}

// Limits of a task beyond the resources that are reserved for it (TaskInfo.limits,
// Mesos 1.10); zero means none of its own. Mem is bytes.
type Limits struct {
	CPUs float64 `json:"cpus,omitempty"`
	Mem  int64   `json:"mem,omitempty"`
}

// Task is one thing to place.
type Task struct {
	ID        string // at most 255 bytes, no '/', never used before
	Name      string // for people: step and partition
	Owner     string
	Priority  int // higher first
	Resources Resources
	Executor  ExecutorSpec
	// Preemptible tasks may use revocable resources, and rather do.
	Preemptible bool
	// Timeout is when the executor ends the task, 0 for never: it is not placed
	// where it could not end before the agent is maintained.
	Timeout time.Duration
	// Grace is the time between SIGTERM and SIGKILL on a kill.
	Grace time.Duration
	// AvoidAgents are agent IDs to keep away from while there are others.
	AvoidAgents []string
	// Reads are its largest inputs: it is rather placed where they are; see Holds.
	Reads []Content
	// Limits, where not zero, are what the agent lets the task have at most: its
	// executor then serves no other task.
	Limits Limits
	// Constraints say which agents it may go to: all of them hold, always.
	Constraints []Constraint
	// Ports are those that it has been given: set by the framework in a Placement.
	Ports     []int
	Submitted time.Time // for fairness and for saying how long it waits
}

// ExecutorSpec says which executor serves a task. Tasks of equal specs share an
// executor on an agent; the ExecutorID is a digest over all of it and over the
// framework's own executor settings.
type ExecutorSpec struct {
	Owner string
	Image string // "" for the agent's own file system
	// Isolation, when set, makes the executor this task's alone.
	Isolation string
	// URIs are fetched into the executor's sandbox before it starts.
	URIs URIs
	// Volumes stand in the container; they need an Image.
	Volumes Volumes

	revocable revocable // set by the framework, for preemptible tasks
}

// Placement is what one cycle puts on one agent.
type Placement struct {
	Agent       Agent
	Executor    string // ExecutorID
	Tasks       []Task // all of one executor
	NewExecutor bool   // as far as the framework knows
}

// Launch answers for one task of a Placement, in the same order.
type Launch struct {
	Data []byte // TaskInfo.data
	// Labels are shown by Mesos; at most a few short ones, nothing secret.
	Labels map[string]string
	Err    error // do not launch
}

// Agent is an agent as its offers describe it.
type Agent struct {
	ID       string `json:"id"`
	Hostname string `json:"hostname"`
	// Endpoint is host:port of the agent's HTTP API, https://host:port where it
	// speaks TLS.
	Endpoint string `json:"endpoint"`
}

// State is a task state without Mesos types.
type State string

// The states, named as Mesos names them.
const (
	Staging        State = "STAGING"
	Starting       State = "STARTING"
	Running        State = "RUNNING"
	Killing        State = "KILLING"
	Finished       State = "FINISHED"
	FailedState    State = "FAILED"
	KilledState    State = "KILLED"
	ErrorState     State = "ERROR"
	Lost           State = "LOST"
	Dropped        State = "DROPPED"
	Unreachable    State = "UNREACHABLE"
	Gone           State = "GONE"
	GoneByOperator State = "GONE_BY_OPERATOR"
	Unknown        State = "UNKNOWN"
)

// Live tells whether the task may still run. UNREACHABLE and KILLING are live, and
// so is a state that this version does not know: nothing is placed again on a guess.
func (s State) Live() bool {
	switch s {
	case Finished, FailedState, KilledState, ErrorState, Lost, Dropped, Gone, GoneByOperator, Unknown:
		return false
	}
	return true
}

// Update is one status update, or the answer to a reconciliation.
type Update struct {
	TaskID     string
	State      State
	Source     string // "MASTER", "AGENT", "EXECUTOR" or ""
	Reason     string // without "REASON_", "" when unset
	Message    string
	Data       []byte // tasklet.StatusData from our executor; nil on reconciliation
	AgentID    string
	ExecutorID string
	UUID       []byte // nil: must not be acknowledged
	Time       time.Time
	// Unreachable since, when the state is UNREACHABLE and the master knows.
	UnreachableSince time.Time
}

// Reconciled tells whether the update answers a reconciliation rather than
// reporting an event.
func (u Update) Reconciled() bool { return u.Reason == "RECONCILIATION" }

// Message is a framework message from an executor.
type Message struct {
	AgentID    string
	ExecutorID string
	Data       []byte
}

// TaskRef names a task and, when known, its agent. Without the agent Mesos
// answers UNKNOWN for tasks on unreachable agents.
type TaskRef struct {
	TaskID  string
	AgentID string
}
