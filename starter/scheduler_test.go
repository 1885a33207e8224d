package starter

import (
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/baas-batch/baas/api"
)

// What keeps a leader from placing anything stands in its heartbeat details; those of
// another attempt say nothing of this one.
func TestSchedulerWithoutMaster(t *testing.T) {
	const why = "no Mesos master found yet, tried since 03:04:05 UTC: connection refused"
	for leader, want := range map[string]string{"node1": why, "node2": ""} {
		details, err := converter.GetDefaultDataConverter().ToPayloads(api.LeadDetails{Leader: "node1", Mesos: why})
		if err != nil {
			t.Fatal(err)
		}
		var s Scheduler
		s.read(&execution{description: &workflowservice.DescribeWorkflowExecutionResponse{
			PendingActivities: []*workflowpb.PendingActivityInfo{{
				ActivityType: &commonpb.ActivityType{Name: api.ActivityLead}, State: enumspb.PENDING_ACTIVITY_STATE_STARTED,
				LastWorkerIdentity: leader, HeartbeatDetails: details,
			}},
		}})
		if s.Mesos != want || s.Trouble != "" || s.Leader != leader {
			t.Errorf("%s: got %+v, want %q", leader, s, want)
		}
	}
}
