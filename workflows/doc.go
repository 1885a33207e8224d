// Package workflows is the deterministic orchestration: BatchFlow, which runs the
// steps of a flow as activities, and MesosFramework, which chooses the one leader
// of a Mesos framework. SweepStorage and InspectMesos are small chores.
//
// BatchFlow is an event loop over plain state: each turn starts the steps whose
// needs have ended, launches ranges of partitions as far as the bounds allow, and
// waits for the next activity, timer or kill. There is no coroutine per step or
// activity, so that a turn costs the same however much is pending.
package workflows

import (
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
)

// Register makes the workflows known to a worker under the names of package api.
func Register(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(BatchFlow, workflow.RegisterOptions{Name: api.WorkflowBatchFlow})
	r.RegisterWorkflowWithOptions(MesosFramework, workflow.RegisterOptions{Name: api.WorkflowFramework})
	r.RegisterWorkflowWithOptions(SweepStorage, workflow.RegisterOptions{Name: api.WorkflowSweep})
	r.RegisterWorkflowWithOptions(InspectMesos, workflow.RegisterOptions{Name: api.WorkflowInspect})
}
