package fault

import (
	"bytes"
	"context"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"

	"github.com/baas-batch/baas/api"
)

// intercept makes points of a worker's calls to Temporal.
func (c *crasher) intercept(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	subject := c.temporalSubject(req)
	if subject != "" {
		c.pass(CrashPoint("before " + subject))
	}
	err := invoke(ctx, method, req, reply, conn, opts...)
	if err != nil {
		return err
	}
	if subject != "" {
		c.pass(CrashPoint("after " + subject))
	}
	switch r := reply.(type) {
	case *workflowservice.PollActivityTaskQueueResponse:
		c.taken(r)
	case *workflowservice.RespondWorkflowTaskCompletedResponse:
		for _, task := range r.GetActivityTasks() { // handed out at once, to the worker that ordered them
			c.taken(task)
		}
	}
	return nil
}

// taken makes a point of an activity that has come to the worker.
func (c *crasher) taken(task *workflowservice.PollActivityTaskQueueResponse) {
	if len(task.GetTaskToken()) == 0 {
		return
	}
	name := task.GetActivityType().GetName()
	c.mu.Lock()
	c.activities[string(task.GetTaskToken())] = name
	c.mu.Unlock()
	c.pass(CrashPoint("taken " + name))
}

// temporalSubject names what a call means to the hand-off; "" for all others.
func (c *crasher) temporalSubject(req any) string {
	switch r := req.(type) {
	case *workflowservice.RecordActivityTaskHeartbeatByIdRequest:
		if holds(r.GetDetails(), `"PLACING"`) {
			return "write-ahead"
		}
		if c.lessHeld(r) {
			return "heartbeat of a release"
		}
		return "heartbeat"
	case *workflowservice.RespondActivityTaskCompletedByIdRequest:
		return "completion"
	case *workflowservice.RespondActivityTaskFailedRequest:
		if r.GetFailure().GetApplicationFailureInfo().GetType() == "HandedBack" {
			return "hand-back"
		}
	case *workflowservice.RecordActivityTaskHeartbeatRequest:
		return "lease"
	case *workflowservice.DescribeWorkflowExecutionRequest:
		return "description"
	case *workflowservice.ListWorkflowExecutionsRequest:
		if strings.Contains(r.GetQuery(), "WorkflowId =") {
			return "list of earlier runs"
		}
		return "list of runs"
	case *workflowservice.StartWorkflowExecutionRequest:
		return "start of " + r.GetWorkflowType().GetName()
	case *workflowservice.RespondActivityTaskCompletedRequest:
		c.mu.Lock()
		defer c.mu.Unlock()
		return "result of " + c.activities[string(r.GetTaskToken())]
	case *workflowservice.RespondWorkflowTaskCompletedRequest:
		return workflowSubject(r)
	}
	return ""
}

// lessHeld tells whether an activity has fewer tasks that are held than by its last
// heartbeat.
func (c *crasher) lessHeld(r *workflowservice.RecordActivityTaskHeartbeatByIdRequest) bool {
	held := 0
	for _, p := range r.GetDetails().GetPayloads() {
		held += bytes.Count(p.GetData(), []byte(`"held":{`))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id := r.GetWorkflowId() + r.GetRunId() + r.GetActivityId()
	before := c.held[id]
	c.held[id] = held
	return held < before
}

func holds(payloads *commonpb.Payloads, text string) bool {
	for _, p := range payloads.GetPayloads() {
		if bytes.Contains(p.GetData(), []byte(text)) {
			return true
		}
	}
	return false
}

// workflowSubject names what a workflow decides.
func workflowSubject(r *workflowservice.RespondWorkflowTaskCompletedRequest) string {
	for _, command := range r.GetCommands() {
		switch command.GetCommandType() {
		case enums.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK:
			switch command.GetScheduleActivityTaskCommandAttributes().GetActivityType().GetName() {
			case api.ActivityLead:
				return "choice of the FrameworkID"
			case api.ActivityRunTasklets:
				return "order of tasks"
			case api.ActivityRelease:
				return "order of a release"
			}
		case enums.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION, enums.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION:
			return "end of the run"
		}
	}
	return ""
}
