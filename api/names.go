// Package api is what starter, workflows, activities and worker say to each
// other through Temporal: the names of queues, workflows, activities, queries
// and search attributes, the IDs, and the payloads.
package api

// TaskQueue serves workflows and everything that any worker may do.
const TaskQueue = "baas"

// LaunchQueue is served by the leader of a framework alone.
func LaunchQueue(framework string) string { return "baas-launch-" + framework }

// ControlQueue is served by the leader too, beside the launch queue, so that a
// kill never waits behind a backlog of launches.
func ControlQueue(framework string) string { return "baas-control-" + framework }

// LeadQueue carries the leadership activity of a framework; every worker polls
// it, each with room for one.
func LeadQueue(framework string) string { return "baas-lead-" + framework }

// FrameworkWorkflowID is the ID of the singleton that chooses a framework's leader.
func FrameworkWorkflowID(framework string) string { return "mesos-framework/" + framework }

// DefaultFramework is the framework's name when a platform has only one.
const DefaultFramework = "default"

// Workflow types.
const (
	WorkflowBatchFlow = "BatchFlow"
	WorkflowFramework = "MesosFramework"
	// WorkflowInspect asks the leader of a framework what it holds (InspectInput,
	// Inspection).
	WorkflowInspect = "InspectMesos"
	// WorkflowSweep removes what retention rules let go (SweepInput, SweepResult).
	WorkflowSweep = "SweepStorage"
)

// Activity types.
const (
	// ActivityPrepare reads, checks and compiles the flow (PrepareInput, PrepareResult).
	ActivityPrepare = "Prepare"
	// ActivityRunTasklets runs a range of partitions (LaunchInput, LaunchResult)
	// on the launch queue, completed by ID.
	ActivityRunTasklets = "RunTasklets"
	// ActivityKillTasks ends all tasks of a workflow run (KillInput) on the control queue.
	ActivityKillTasks = "KillTasks"
	// ActivityRelease ends the wait of one partition for a person (ReleaseInput) on
	// the control queue. It fails with ErrorNotHeld where nothing is held.
	ActivityRelease = "ReleaseHeld"
	// ActivityListItems writes down the items of a step with for_each
	// (ListItemsInput, ListItemsResult), where they are not a list of the flow.
	ActivityListItems = "ListItems"
	// ActivityGather makes files of all results of a step (GatherInput, GatherResult),
	// for a step that reduces them.
	ActivityGather = "Gather"
	// ActivitySaveInstance stores the last state of an instance (RunState) before its run closes.
	ActivitySaveInstance = "SaveInstance"
	// ActivityLead leads a framework for as long as it runs (LeadInput, LeadResult) on the lead queue.
	ActivityLead = "LeadFramework"
)

// ActivityInspect tells what the leader holds (InspectInput, Inspection), on the
// control queue.
const ActivityInspect = "InspectFramework"

// ActivitySweep sweeps the next app, or some of it (SweepInput, SweepBatch).
const ActivitySweep = "SweepApp"

// SweepScheduleID is the schedule that starts WorkflowSweep.
const SweepScheduleID = "baas-sweep"

// Queries.
const (
	// QueryState answers with RunState, at any time of a run.
	QueryState = "state"
	// QueryFrameworkID answers with the FrameworkID that MesosFramework leads with.
	QueryFrameworkID = "framework_id"
)

// Signals.
const (
	// SignalKill (KillRequest) says who kills the run and why. It does nothing by
	// itself: send it right before the cancel.
	SignalKill = "kill"
)

// Updates.
const (
	// UpdateRelease (ReleaseRequest, Release) says what became of a task that is
	// held. It fails with ErrorNotHeld or ErrorRefused.
	UpdateRelease = "release"
	// UpdateKillPartitions (KillPartitionsRequest, PartitionKill) ends partitions of a
	// step, which are not tried again. It fails with ErrorRefused.
	UpdateKillPartitions = "kill_partitions"
)

// Types of the application errors that answer updates.
const (
	ErrorNotHeld = "NotHeld" // the task is not held, or not any more
	ErrorRefused = "Refused" // the request makes no sense; nothing was recorded
)

// Types of the application errors that end BatchFlow; none is retried.
const (
	// ErrorInvalidFlow: the flow or its parameters are wrong. The message holds
	// all problems; nothing was started. Prepare fails with it too.
	ErrorInvalidFlow = "InvalidFlow"
	// ErrorRunFailed: a step failed. The message is the reason of the first
	// failure, the details are the RunResult without outputs.
	ErrorRunFailed = "RunFailed"
	// ErrorAlreadyRunning: the instance has a run that has not ended.
	ErrorAlreadyRunning = "AlreadyRunning"
)

// ErrorInvalidItems ends ListItems for good: the source of the items is wrong.
const ErrorInvalidItems = "InvalidItems"

// ErrorInvalidResults ends Gather for good: the results cannot be read.
const ErrorInvalidResults = "InvalidResults"

// ErrorSweep ends WorkflowSweep when it could not sweep all apps; the details are
// the SweepResult.
const ErrorSweep = "SweepIncomplete"

// Search attributes, all of type Keyword but the order date.
const (
	AttributeApp       = "BaasApp"
	AttributeOwner     = "BaasOwner"
	AttributeStatus    = "BaasStatus"
	AttributeOrderDate = "BaasOrderDate" // Datetime
)

// AdhocOwner owns flows that run without registration; it has no secrets.
const AdhocOwner = "adhoc"
