package retention

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// fakeService answers for workflows of which the test says the input.
type fakeService struct {
	workflowservice.WorkflowServiceClient
	infos  map[string]*workflowpb.WorkflowExecutionInfo
	inputs map[string]*commonpb.Payload // by Temporal's run ID
	err    error
	query  string
	reads  int  // of histories
	ended  bool // what is listed is forgotten
}

func (f *fakeService) DescribeNamespace(_ context.Context, r *workflowservice.DescribeNamespaceRequest, _ ...grpc.CallOption) (*workflowservice.DescribeNamespaceResponse, error) {
	return &workflowservice.DescribeNamespaceResponse{NamespaceInfo: &namespacepb.NamespaceInfo{Name: r.GetNamespace(), Id: "id of " + r.GetNamespace()}}, f.err
}

func (f *fakeService) DescribeWorkflowExecution(_ context.Context, r *workflowservice.DescribeWorkflowExecutionRequest, _ ...grpc.CallOption) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	info := f.infos[r.GetExecution().GetWorkflowId()]
	if info == nil && f.err == nil {
		return nil, serviceerror.NewNotFound("no such workflow")
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: info}, f.err
}

// ListWorkflowExecutions gives one on each page.
func (f *fakeService) ListWorkflowExecutions(_ context.Context, r *workflowservice.ListWorkflowExecutionsRequest, _ ...grpc.CallOption) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	f.query = r.GetQuery()
	var open []string
	for id, info := range f.infos {
		if info.GetCloseTime() == nil {
			open = append(open, id)
		}
	}
	slices.Sort(open)
	i := len(r.GetNextPageToken())
	shown := &workflowpb.WorkflowExecutionInfo{Execution: f.infos[open[i]].GetExecution()} // without the first run
	page := &workflowservice.ListWorkflowExecutionsResponse{Executions: []*workflowpb.WorkflowExecutionInfo{shown}}
	if i+1 < len(open) {
		page.NextPageToken = make([]byte, i+1)
	}
	return page, f.err
}

func (f *fakeService) GetWorkflowExecutionHistory(_ context.Context, r *workflowservice.GetWorkflowExecutionHistoryRequest, _ ...grpc.CallOption) (*workflowservice.GetWorkflowExecutionHistoryResponse, error) {
	f.reads++
	if f.ended {
		return nil, serviceerror.NewNotFound("no such run")
	}
	event := &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{
		WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
			FirstExecutionRunId: f.infos[r.GetExecution().GetWorkflowId()].GetFirstRunId(),
			Input:               &commonpb.Payloads{Payloads: []*commonpb.Payload{f.inputs[r.GetExecution().GetRunId()]}},
		},
	}}
	return &workflowservice.GetWorkflowExecutionHistoryResponse{History: &historypb.History{Events: []*historypb.HistoryEvent{event}}}, f.err
}

func payload(encoding, data string) *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte(encoding)}, Data: []byte(data)}
}

func newFakeService() *fakeService {
	f := &fakeService{infos: map[string]*workflowpb.WorkflowExecutionInfo{}, inputs: map[string]*commonpb.Payload{}}
	for n := range 3 {
		id := fmt.Sprintf("0000-%08x", n)
		now := id + "-now" // after a continue-as-new or a reset
		f.infos[instance(app, n)] = &workflowpb.WorkflowExecutionInfo{Execution: &commonpb.WorkflowExecution{WorkflowId: instance(app, n), RunId: now}, FirstRunId: id}
		f.inputs[now] = payload("json/plain", fmt.Sprintf(`{"params": {"x": {"key": %q}}}`, objects(app, runName(app, 7, n))[2]))
	}
	f.infos[instance(app, 2)].CloseTime = timestamppb.Now()
	return f
}

func TestTemporalTellsWhatIsOpen(t *testing.T) {
	f := newFakeService()
	runs := &Temporal{Service: f, Namespace: "default"}
	for n, want := range []string{runName(app, 0, 0), runName(app, 1, 1), "", ""} { // open, open, closed, not known
		if got, err := runs.Open(t.Context(), instance(app, n)); err != nil || got != want {
			t.Errorf("instance %d: %q, %v, want %q", n, got, err, want)
		}
	}
	calls := 0
	progress := func() { calls++ }
	for range 3 {
		live, err := runs.Live(t.Context(), app, progress)
		if err != nil || len(live) != 2 || live[1].Run != runName(app, 1, 1) || live[1].Instance != instance(app, 1) ||
			!slices.Equal(live[1].Needs, []string{runName(app, 7, 1)}) {
			t.Fatalf("%+v, %v", live, err)
		}
	}
	if calls != 12 { // a page and a run each, twice
		t.Errorf("progress was told %d times", calls)
	}
	if f.reads != 2 {
		t.Errorf("the inputs of two runs were read %d times", f.reads)
	}
	if live, err := runs.Live(t.Context(), `o'th\er`, progress); err != nil || len(live[0].Needs) > 0 || f.reads != 4 {
		t.Errorf("another app: %+v, %v, %d reads", live, err, f.reads)
	}
	if !strings.Contains(f.query, `BaasApp = 'o\'th\\er' OR BaasApp IS NULL`) {
		t.Error(f.query)
	}
}

func TestTemporalThatCannotTell(t *testing.T) {
	f := newFakeService()
	f.inputs["0000-00000001-now"] = payload("binary/encrypted", "?")
	runs := &Temporal{Service: f, Namespace: "default"}
	if live, err := runs.Live(t.Context(), app, func() {}); !errors.Is(err, ErrUnreadable) || !strings.Contains(err.Error(), "binary/encrypted") {
		t.Errorf("an input that cannot be read: %+v, %v", live, err)
	}
	for _, f.err = range []error{serviceerror.NewUnavailable("down"), serviceerror.NewNamespaceNotFound("other")} {
		if got, err := runs.Open(t.Context(), instance(app, 2)); err == nil {
			t.Errorf("%v: open is %q", f.err, got)
		}
		if live, err := runs.Live(t.Context(), app, func() {}); err == nil {
			t.Errorf("%v: live are %+v", f.err, live)
		}
		if home, err := runs.Home(t.Context()); err == nil {
			t.Errorf("%v: home is %+v", f.err, home)
		}
	}
}

func TestTemporalHasForgottenWhatItListed(t *testing.T) {
	f := newFakeService()
	f.ended = true
	runs := &Temporal{Service: f, Namespace: "default"}
	if live, err := runs.Live(t.Context(), app, func() {}); err != nil || len(live) > 0 {
		t.Errorf("%+v, %v", live, err)
	}
	home, err := runs.Home(t.Context())
	if err != nil || home.NamespaceID != "id of default" || home.Namespace != "default" {
		t.Errorf("%+v, %v", home, err)
	}
}
