package retention

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/baas-batch/baas/api"
)

// callTimeout bounds one call to Temporal.
const callTimeout = 10 * time.Second

// Temporal asks Temporal for open runs. It must be the Temporal and namespace whose
// runs the store holds: in another one, none of them is open.
type Temporal struct {
	Service   workflowservice.WorkflowServiceClient
	Namespace string

	mu    sync.Mutex
	app   string              // that was asked for last
	needs map[string][]string // of its open runs, by Temporal's run ID
}

// Open implements Runs. Of the runs of a workflow ID, only the latest can be open.
func (t *Temporal) Open(ctx context.Context, instance string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	d, err := t.Service.DescribeWorkflowExecution(ctx, &workflowservice.DescribeWorkflowExecutionRequest{
		Namespace: t.Namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: instance},
	})
	var none *serviceerror.NotFound
	switch info := d.GetWorkflowExecutionInfo(); {
	case errors.As(err, &none):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("describe workflow %s in Temporal: %w", instance, err)
	case info.GetCloseTime() != nil:
		return "", nil
	default:
		return runID(info), nil
	}
}

// Live implements Runs.
func (t *Temporal) Live(ctx context.Context, app string) ([]Live, error) {
	request := &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: t.Namespace, PageSize: 1000,
		Query: fmt.Sprintf("WorkflowType = '%s' AND ExecutionStatus = 'Running' AND (%s = '%s' OR %s IS NULL)",
			api.WorkflowBatchFlow, api.AttributeApp, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(app), api.AttributeApp),
	}
	var list []Live
	seen := map[string][]string{}
	for {
		page, err := t.list(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("list open runs in Temporal: %w", err)
		}
		for _, info := range page.GetExecutions() {
			needed, err := t.needsOf(ctx, app, info.GetExecution())
			if err != nil {
				return nil, err
			}
			seen[info.GetExecution().GetRunId()] = needed
			list = append(list, Live{Run: runID(info), Instance: info.GetExecution().GetWorkflowId(), Needs: needed})
		}
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			t.mu.Lock()
			t.app, t.needs = app, seen // those that have ended are forgotten
			t.mu.Unlock()
			return list, nil
		}
	}
}

func (t *Temporal) list(ctx context.Context, request *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return t.Service.ListWorkflowExecutions(ctx, request)
}

// needsOf gives the runs of which an open run's input names objects.
func (t *Temporal) needsOf(ctx context.Context, app string, x *commonpb.WorkflowExecution) ([]string, error) {
	t.mu.Lock()
	known, ok := t.needs[x.GetRunId()]
	ok = ok && t.app == app
	t.mu.Unlock()
	if ok {
		return known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	h, err := t.Service.GetWorkflowExecutionHistory(ctx, &workflowservice.GetWorkflowExecutionHistoryRequest{
		Namespace: t.Namespace, Execution: x, MaximumPageSize: 1,
	})
	var none *serviceerror.NotFound
	switch {
	case errors.As(err, &none):
		return nil, nil // it has ended, and is forgotten
	case err != nil:
		return nil, fmt.Errorf("input of workflow %s in Temporal: %w", x.GetWorkflowId(), err)
	case len(h.GetHistory().GetEvents()) == 0:
		return nil, fmt.Errorf("input of workflow %s in Temporal: its history is empty", x.GetWorkflowId())
	}
	runs := map[string]bool{}
	for _, p := range h.GetHistory().GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetInput().GetPayloads() {
		if encoding := string(p.GetMetadata()["encoding"]); encoding != "json/plain" {
			return nil, fmt.Errorf("input of workflow %s in Temporal: it is encoded as %q, and cannot be read", x.GetWorkflowId(), encoding)
		}
		namedRuns(app, p.GetData(), runs)
	}
	return slices.Sorted(maps.Keys(runs)), nil
}

func runID(info *workflowpb.WorkflowExecutionInfo) string {
	first := info.GetFirstRunId()
	if first == "" {
		first = info.GetExecution().GetRunId()
	}
	return api.RunID(info.GetExecution().GetWorkflowId(), first)
}
