package starter

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
)

// DefaultListLimit is how many runs List gives when nothing else is asked for.
const DefaultListLimit = 50

// ListOptions select runs.
type ListOptions struct {
	App    string
	Owner  string
	Status api.Status
	Limit  int // DefaultListLimit if 0
}

// Summary is one run in a listing.
type Summary struct {
	Run       string     `json:"run"`
	App       string     `json:"app"`
	Owner     string     `json:"owner"`
	Status    api.Status `json:"status"`
	OrderDate string     `json:"order_date,omitempty"`
	Started   time.Time  `json:"started"`
	Ended     time.Time  `json:"ended,omitzero"`
}

// List gives runs, the newest first. It follows the state of Temporal's listings,
// which lag a little behind.
func (c *Client) List(ctx context.Context, o ListOptions) ([]Summary, error) {
	if o.Limit <= 0 {
		o.Limit = DefaultListLimit
	}
	if c.temporal == nil {
		return c.listStored(ctx, o)
	}
	request := &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: c.namespace, Query: o.query(), PageSize: int32(min(o.Limit, 1000)),
	}
	var list []Summary
	for {
		var page *workflowservice.ListWorkflowExecutionsResponse
		err := c.call(ctx, func(ctx context.Context) (err error) {
			page, err = c.temporal.ListWorkflow(ctx, request)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list runs: %w", err)
		}
		for _, info := range page.GetExecutions() {
			s := summary(info)
			if o.Status != "" && s.Status != o.Status {
				continue
			}
			if list = append(list, s); len(list) == o.Limit {
				return list, nil
			}
		}
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			return list, nil
		}
	}
}

// listStored gives the last run of every instance, as storage has it.
func (c *Client) listStored(ctx context.Context, o ListOptions) ([]Summary, error) {
	var list []Summary
	if c.store == nil {
		return nil, nil
	}
	for info, err := range storage.All(ctx, c.store, storage.ListOptions{Prefix: instancePrefix}) {
		if err != nil {
			return nil, fmt.Errorf("list runs: %w", err)
		}
		var r api.RunState
		if err := storage.GetJSON(ctx, c.store, info.Key, maxInstanceState, &r); err != nil {
			return nil, fmt.Errorf("list runs: %w", err)
		}
		if o.App != "" && r.App != o.App || o.Owner != "" && r.Owner != o.Owner || o.Status != "" && r.Status != o.Status {
			continue
		}
		list = append(list, Summary{
			Run: r.Run, App: r.App, Owner: r.Owner, Status: r.Status,
			OrderDate: r.OrderDate, Started: r.Started, Ended: r.Ended,
		})
	}
	slices.SortFunc(list, func(a, b Summary) int { return b.Started.Compare(a.Started) })
	return list[:min(len(list), o.Limit)], nil
}

// instancePrefix is where api.InstanceKey puts states.
const instancePrefix = "instances/"

// query leaves out what is not a run of its own: the parts of a run that went on
// as new, and those that only relay another run (they have no app).
func (o ListOptions) query() string {
	terms := []string{
		"WorkflowType = " + quote(api.WorkflowBatchFlow),
		"ExecutionStatus != 'ContinuedAsNew'",
		api.AttributeApp + " IS NOT NULL",
	}
	for name, value := range map[string]string{api.AttributeApp: o.App, api.AttributeOwner: o.Owner} {
		if value != "" {
			terms = append(terms, name+" = "+quote(value))
		}
	}
	switch {
	case o.Status == "":
	case o.Status == api.StatusRunning:
		terms = append(terms, "ExecutionStatus = 'Running'")
	default:
		terms = append(terms, "ExecutionStatus != 'Running'")
	}
	return strings.Join(terms, " AND ")
}

func summary(info *workflowpb.WorkflowExecutionInfo) Summary {
	first := info.GetFirstRunId()
	if first == "" {
		first = info.GetExecution().GetRunId()
	}
	s := Summary{
		Run:     api.RunID(info.GetExecution().GetWorkflowId(), first),
		App:     keyword(info, api.AttributeApp),
		Owner:   keyword(info, api.AttributeOwner),
		Status:  closedStatus(info),
		Started: info.GetStartTime().AsTime(),
	}
	if date := keyword(info, api.AttributeOrderDate); len(date) >= len(time.DateOnly) {
		s.OrderDate = date[:len(time.DateOnly)]
	}
	if info.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		s.Ended = info.GetCloseTime().AsTime()
	}
	return s
}
