package starter

import (
	"context"
	"fmt"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/baas-batch/baas/api"
)

// execution is one run as Temporal knows it.
type execution struct {
	run         string // BAAS's run ID
	workflowID  string
	runID       string // Temporal's, the last of the run's chain
	firstID     string
	description *workflowservice.DescribeWorkflowExecutionResponse
}

func (x *execution) open() bool {
	return x.description.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
}

// find looks a run up by its ID. The ID of an instance means its latest run.
func (c *Client) find(ctx context.Context, id string) (*execution, error) {
	if c.temporal == nil {
		return nil, fmt.Errorf("run %q: %w", id, ErrNotFound)
	}
	instance, suffix, err := api.SplitRunID(id)
	if err != nil {
		x, err := c.latest(ctx, id)
		return x, unknown(id, err)
	}
	x, err := c.latest(ctx, instance)
	switch {
	case err == nil && strings.HasSuffix(x.firstID, suffix):
		return x, nil
	case err == nil:
		x, err = c.older(ctx, instance, suffix)
	case isNotFound(err):
		// The whole may be the ID of an instance that ends like a run's.
		x, err = c.latest(ctx, id)
	}
	return x, unknown(id, err)
}

func unknown(id string, err error) error {
	if isNotFound(err) {
		return fmt.Errorf("run %q: %w", id, ErrNotFound)
	}
	return err
}

// latest gives the latest run of a workflow ID.
func (c *Client) latest(ctx context.Context, workflowID string) (*execution, error) {
	return c.describe(ctx, workflowID, "")
}

func (c *Client) describe(ctx context.Context, workflowID, runID string) (*execution, error) {
	x := &execution{workflowID: workflowID}
	err := c.call(ctx, func(ctx context.Context) (err error) {
		x.description, err = c.temporal.DescribeWorkflowExecution(ctx, workflowID, runID)
		return err
	})
	if err != nil {
		return nil, err
	}
	info := x.description.GetWorkflowExecutionInfo()
	x.runID = info.GetExecution().GetRunId()
	if x.firstID = info.GetFirstRunId(); x.firstID == "" {
		x.firstID = x.runID
	}
	x.run = api.RunID(workflowID, x.firstID)
	return x, nil
}

// older finds a run that is not the instance's latest.
func (c *Client) older(ctx context.Context, workflowID, suffix string) (*execution, error) {
	request := &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: c.namespace,
		Query:     "WorkflowId = " + quote(workflowID),
	}
	for {
		var page *workflowservice.ListWorkflowExecutionsResponse
		err := c.call(ctx, func(ctx context.Context) (err error) {
			page, err = c.temporal.ListWorkflow(ctx, request)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, info := range page.GetExecutions() {
			if id := info.GetExecution().GetRunId(); strings.HasSuffix(id, suffix) {
				return c.lastOfChain(ctx, workflowID, id)
			}
		}
		if len(page.GetNextPageToken()) == 0 {
			return nil, fmt.Errorf("run %q: %w", workflowID+"-"+suffix, ErrNotFound)
		}
		request.NextPageToken = page.GetNextPageToken()
	}
}

// newest gives the last execution of the run that began with firstID.
func (c *Client) newest(ctx context.Context, workflowID, firstID string) (*execution, error) {
	if x, err := c.latest(ctx, workflowID); err == nil && x.firstID == firstID {
		return x, nil
	}
	return c.lastOfChain(ctx, workflowID, firstID)
}

// lastOfChain follows continue-as-new from a run's first execution to its last.
func (c *Client) lastOfChain(ctx context.Context, workflowID, runID string) (*execution, error) {
	for {
		x, err := c.describe(ctx, workflowID, runID)
		if err != nil || x.description.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW {
			return x, err
		}
		event, err := c.closeEvent(ctx, workflowID, runID)
		if err != nil {
			return nil, err
		}
		runID = event.GetWorkflowExecutionContinuedAsNewEventAttributes().GetNewExecutionRunId()
		if runID == "" {
			return x, nil
		}
	}
}

func (c *Client) closeEvent(ctx context.Context, workflowID, runID string) (*historypb.HistoryEvent, error) {
	var response *workflowservice.GetWorkflowExecutionHistoryResponse
	err := c.call(ctx, func(ctx context.Context) (err error) {
		response, err = c.temporal.WorkflowService().GetWorkflowExecutionHistory(ctx, &workflowservice.GetWorkflowExecutionHistoryRequest{
			Namespace:              c.namespace,
			Execution:              &commonpb.WorkflowExecution{WorkflowId: workflowID, RunId: runID},
			HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	if events := response.GetHistory().GetEvents(); len(events) > 0 {
		return events[len(events)-1], nil
	}
	return nil, nil
}

// quote makes a string of Temporal's list filters.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
