package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"

	"github.com/baas-batch/baas/activities"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// sizes are how many tasks are measured.
var sizes = []int{10_000, 100_000}

// perRun is how many activities a run has pending at most.
const perRun = 500

// BenchmarkLeaderWaiting gives what a waiting task costs its leader, each task in
// an activity of its own. The bound of what may wait is lifted for that.
func BenchmarkLeaderWaiting(b *testing.B) {
	for _, n := range sizes {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			s := newStage(b, 0)
			for b.Loop() {
				l := s.lead(2*n, n)
				for i := range n {
					l.take(i)
				}
				l.await(activities.Load{Waiting: n})
				l.awaitQuiet(n, 0)
				l.report("wait", n)
			}
		})
	}
}

// BenchmarkLeaderRunning gives what a running task costs its leader, each in an
// activity of its own, and how long another leader takes to subscribe and to
// adopt them all: until each has heartbeated once.
func BenchmarkLeaderRunning(b *testing.B) {
	for _, n := range sizes {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			for b.Loop() {
				s := newStage(b, n)
				l := s.lead(1000, 2*n)
				begin := time.Now()
				for i := range n {
					for l.handoff.Load().Waiting >= 1000 {
						time.Sleep(time.Millisecond)
					}
					l.take(i)
				}
				s.farm.until("all tasks run", 8*time.Minute, func() bool { return len(s.farm.running) == n })
				l.await(activities.Load{Placed: n})
				b.ReportMetric(float64(n)/time.Since(begin).Seconds(), "placed/s")
				l.awaitQuiet(2*n, n) // written ahead, and running
				l.report("run", n)

				s.temporal.forget()
				begin = time.Now()
				l = s.lead(1000, 2*n)
				<-l.handoff.Ready()
				if err := l.handoff.TakeOver(b.Context()); err != nil {
					b.Fatal(err)
				}
				l.await(activities.Load{Placed: n})
				b.ReportMetric(time.Since(begin).Seconds(), "adopt-s")
				s.temporal.untilBeaten(b, n)
				b.ReportMetric(time.Since(begin).Seconds(), "adopt+beat-s")
				l.report("adopted", n)
			}
		})
	}
}

// BenchmarkHeartbeats gives the regular heartbeats per second of a full backlog at
// the default time-out, over the time given by -benchtime.
func BenchmarkHeartbeats(b *testing.B) {
	const waiting = 1000
	s := newStage(b, 0)
	l := s.lead(waiting, 2*waiting)
	for i := range waiting {
		l.take(i)
	}
	l.await(activities.Load{Waiting: waiting})
	s.temporal.untilBeaten(b, waiting)
	before, begin := s.temporal.beats.Load(), time.Now()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	b.ReportMetric(float64(s.temporal.beats.Load()-before)/time.Since(begin).Seconds(), "beats/s")
	b.ReportMetric(0, "ns/op")
	l.stop()
}

// stage is all but the leader: a farm, a store, and what a leader sees of Temporal.
type stage struct {
	*testing.B
	farm     *farm
	store    storage.Store
	temporal *memory
}

// newStage has room for so many tasks, a thousand on each agent.
func newStage(b *testing.B, room int) *stage {
	b.Helper()
	return &stage{B: b, farm: newFarm(b, (room+999)/1000, 1001), store: newStore(b), temporal: newMemory()}
}

// understudy is one leader.
type understudy struct {
	*stage
	handoff *activities.Handoff
	fw      *mesos.Framework
	cancel  context.CancelFunc
	ended   chan struct{}
	beats   int64 // of leaders before
}

type valid struct{}

func (valid) Confirm(context.Context) error { return nil }

func (s *stage) lead(waiting, tasks int) *understudy {
	s.Helper()
	l := &understudy{stage: s, ended: make(chan struct{}), beats: s.temporal.beats.Load()}
	l.handoff = activities.New(activities.Config{
		Temporal: s.temporal, Store: s.store, Leader: "bench", Framework: "bench",
		Leading: func() bool { return true }, MaxWaiting: waiting, MaxTasks: tasks,
	})
	var err error
	l.fw, err = mesos.New(mesos.Config{
		Masters: []string{s.farm.master.URL()}, FrameworkID: "bench", ExecutorURI: "executor",
	}, l.handoff, valid{})
	if err != nil {
		s.Fatal(err)
	}
	l.handoff.Bind(l.fw)
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(s.Context())
	go func() {
		defer close(l.ended)
		if err := l.fw.Run(ctx); err != nil {
			s.Error(err)
		}
	}()
	return l
}

// take hands the i-th activity over, as Temporal does.
func (l *understudy) take(i int) {
	l.Helper()
	in := crowd{Owner: "owner-" + strconv.Itoa(i%10), Priority: 3, Last: "forever"}.input()
	in.Bundle = nil
	in.Outputs = []tasklet.Output{{Name: "report", Type: tasklet.TypeFile}}
	in.Partitions[0].Inputs = map[string]json.RawMessage{"account": json.RawMessage(`"account-` + strconv.Itoa(i) + `"`), "month": json.RawMessage(`"2026-01"`)}
	key := tasklet.ActivityKey{
		WorkflowID: fmt.Sprintf("statements-%032x", i/perRun), RunID: fmt.Sprintf("0192f3a0-0000-7000-8000-%012x", i/perRun),
		ActivityID: fmt.Sprintf("render-%d", i%perRun+1),
	}
	token := []byte(fmt.Sprintf("%0150d", i)) // as long as Temporal's
	_, err := l.handoff.Take(activities.Attempt{Key: key, Input: in, Token: token, Number: 1})
	if !errors.Is(err, activity.ErrResultPending) {
		l.Fatal(err)
	}
}

func (l *understudy) await(want activities.Load) {
	l.Helper()
	for deadline := time.Now().Add(8 * time.Minute); l.handoff.Load() != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.Fatalf("a load of %+v, want %+v", l.handoff.Load(), want)
		}
	}
}

// awaitQuiet waits until this leader has made so many heartbeats, and updates are
// acknowledged: what is on its way needs memory, but not for long.
func (l *understudy) awaitQuiet(beats, acks int) {
	l.Helper()
	for deadline := time.Now().Add(8 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		made, sent := l.temporal.beats.Load()-l.beats, l.farm.acks.Load()
		if made >= int64(beats) && sent >= int64(acks) {
			return
		}
		if time.Now().After(deadline) {
			l.Fatalf("%d of %d heartbeats, %d of %d acknowledgements", made, beats, sent, acks)
		}
	}
}

// report gives the heap and the goroutines that go with the leader; what the
// cluster and Temporal have of it stays.
func (l *understudy) report(what string, n int) {
	heap, goroutines := used()
	l.stop()
	l.handoff, l.fw = nil, nil
	rest, others := used()
	l.ReportMetric(float64(heap-rest)/float64(n), what+"-B/task")
	l.ReportMetric(float64(goroutines-others), what+"-goroutines")
	l.ReportMetric(0, "ns/op")
}

func (l *understudy) stop() {
	l.cancel()
	<-l.ended
	l.handoff.Close()
}

func used() (heap int64, goroutines int) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), runtime.NumGoroutine()
}

// memory is Temporal as the hand-off sees it: it keeps the last heartbeat of each
// activity, as Temporal does.
type memory struct {
	beats atomic.Int64

	mu      sync.Mutex
	runs    map[string]map[string]*commonpb.Payloads // details by run and activity
	names   map[string]string                        // workflow IDs by run
	beaten  map[string]struct{}                      // since forget
	changed chan struct{}
}

var _ activities.Temporal = (*memory)(nil)

func newMemory() *memory {
	m := &memory{runs: make(map[string]map[string]*commonpb.Payloads), names: make(map[string]string), changed: make(chan struct{}, 1)}
	m.forget()
	return m
}

// forget forgets who has heartbeated.
func (m *memory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beaten = make(map[string]struct{})
}

// untilBeaten waits until so many activities have heartbeated.
func (m *memory) untilBeaten(b *testing.B, n int) {
	b.Helper()
	deadline := time.After(8 * time.Minute)
	for {
		m.mu.Lock()
		have := len(m.beaten)
		m.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-m.changed:
		case <-deadline:
			b.Fatalf("%d of %d activities have heartbeated", have, n)
		}
	}
}

func (m *memory) RecordActivityHeartbeatByID(_ context.Context, _, workflowID, runID, activityID string, details ...any) error {
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(details...)
	if err != nil {
		return err
	}
	m.beats.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.runs[runID] == nil {
		m.runs[runID], m.names[runID] = make(map[string]*commonpb.Payloads), workflowID
	}
	m.runs[runID][activityID] = payloads
	m.beaten[runID+activityID] = struct{}{}
	select {
	case m.changed <- struct{}{}:
	default:
	}
	return nil
}

// ListWorkflow knows of no earlier run of an instance.
func (m *memory) ListWorkflow(_ context.Context, r *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	answer := &workflowservice.ListWorkflowExecutionsResponse{}
	if strings.HasPrefix(r.GetQuery(), "WorkflowId = ") {
		return answer, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, name := range m.names {
		answer.Executions = append(answer.Executions, &workflowpb.WorkflowExecutionInfo{
			Execution: &commonpb.WorkflowExecution{WorkflowId: name, RunId: id},
			Status:    enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING,
		})
	}
	return answer, nil
}

func (m *memory) DescribeWorkflowExecution(_ context.Context, _, runID string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	answer := &workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING},
	}
	for id, details := range m.runs[runID] {
		answer.PendingActivities = append(answer.PendingActivities, &workflowpb.PendingActivityInfo{
			ActivityId: id, State: enumspb.PENDING_ACTIVITY_STATE_STARTED, HeartbeatDetails: details,
		})
	}
	return answer, nil
}

var errUnexpected = errors.New("nothing ends here")

func (m *memory) CompleteActivity(context.Context, []byte, any, error) error { return errUnexpected }

func (m *memory) CompleteActivityByID(context.Context, string, string, string, string, any, error) error {
	return errUnexpected
}
