package retention

import (
	"cmp"
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
	app   string          // that was asked for last
	known map[string]Live // its open runs, by Temporal's run ID
}

// Home implements Runs. A namespace's ID stays the same when Temporal starts again, or
// fails over to another cluster.
func (t *Temporal) Home(ctx context.Context) (api.StoreHome, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	d, err := t.Service.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: t.Namespace})
	if err != nil {
		return api.StoreHome{}, fmt.Errorf("describe namespace %s in Temporal: %w", t.Namespace, err)
	}
	return api.StoreHome{Namespace: t.Namespace, NamespaceID: d.GetNamespaceInfo().GetId()}, nil
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
		first := cmp.Or(info.GetFirstRunId(), info.GetExecution().GetRunId())
		return api.RunID(instance, first), nil
	}
}

// Live implements Runs.
func (t *Temporal) Live(ctx context.Context, app string, progress func()) ([]Live, error) {
	request := &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: t.Namespace, PageSize: 1000,
		Query: fmt.Sprintf("WorkflowType = '%s' AND ExecutionStatus = 'Running' AND (%s = '%s' OR %s IS NULL)",
			api.WorkflowBatchFlow, api.AttributeApp, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(app), api.AttributeApp),
	}
	var list []Live
	seen := map[string]Live{}
	for {
		page, err := t.list(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("list open runs in Temporal: %w", err)
		}
		progress()
		for _, info := range page.GetExecutions() {
			live, err := t.live(ctx, app, info.GetExecution())
			if err != nil {
				return nil, err
			}
			progress()
			if live.Run != "" {
				seen[info.GetExecution().GetRunId()] = live
				list = append(list, live)
			}
		}
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			t.mu.Lock()
			t.app, t.known = app, seen // those that have ended are forgotten
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

// live tells of an open run; the zero value, if it has ended and is forgotten. It reads
// the first event of the history, as listings name neither the input nor the first of
// the runs that have gone on as new.
func (t *Temporal) live(ctx context.Context, app string, x *commonpb.WorkflowExecution) (Live, error) {
	t.mu.Lock()
	known, ok := t.known[x.GetRunId()]
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
		return Live{}, nil
	case err != nil:
		return Live{}, fmt.Errorf("input of workflow %s in Temporal: %w", x.GetWorkflowId(), err)
	case len(h.GetHistory().GetEvents()) == 0:
		return Live{}, fmt.Errorf("input of workflow %s in Temporal: its history is empty", x.GetWorkflowId())
	}
	started := h.GetHistory().GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
	runs := map[string]bool{}
	for _, p := range started.GetInput().GetPayloads() {
		if encoding := string(p.GetMetadata()["encoding"]); encoding != "json/plain" {
			return Live{}, fmt.Errorf("%w: the input of workflow %s in Temporal is encoded as %q", ErrUnreadable, x.GetWorkflowId(), encoding)
		}
		namedRuns(app, p.GetData(), runs)
	}
	first := cmp.Or(started.GetFirstExecutionRunId(), x.GetRunId())
	return Live{Run: api.RunID(x.GetWorkflowId(), first), Instance: x.GetWorkflowId(), Needs: slices.Sorted(maps.Keys(runs))}, nil
}
