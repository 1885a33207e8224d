package main

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

// stage answers the activities of the scene that plays.
type stage struct {
	client client.Client

	mu      sync.Mutex
	scene   scene
	current api.PrepareResult
	running int
	leads   int
	reached chan struct{} // closed when scene.killAfter tasks run
	killed  chan struct{} // closed by KillTasks
}

func newStage(c client.Client) *stage { return &stage{client: c} }

func (s *stage) begin(scene scene, plan api.PrepareResult) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scene, s.current, s.running = scene, plan, 0
	s.reached, s.killed = make(chan struct{}), make(chan struct{})
}

func (s *stage) register(r worker.ActivityRegistry) {
	for name, f := range map[string]any{
		api.ActivityPrepare:      s.prepare,
		api.ActivityRunTasklets:  s.runTasklets,
		api.ActivityKillTasks:    s.killTasks,
		api.ActivitySaveInstance: func(context.Context, api.RunState) error { return nil },
		api.ActivityLead:         s.lead,
		api.ActivityListItems:    s.listItems,
		api.ActivityGather:       gather,
	} {
		r.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
}

func (s *stage) prepare(context.Context, api.PrepareInput) (api.PrepareResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.scene.invalid != "" {
		return api.PrepareResult{}, temporal.NewNonRetryableApplicationError(s.scene.invalid, api.ErrorInvalidFlow, nil)
	}
	return s.current, nil
}

// started counts a task that runs until it is killed.
func (s *stage) started() (killed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running++; s.running == s.scene.killAfter {
		close(s.reached)
	}
	return s.killed
}

// runTasklets ends at once, as the scene says. In a scene that is killed, steps
// run until they are, and tell so by their result.
func (s *stage) runTasklets(ctx context.Context, in api.LaunchInput) (api.LaunchResult, error) {
	s.mu.Lock()
	scene := s.scene
	s.mu.Unlock()
	outcome := scene.outcome
	switch {
	case scene.killAfter > 0 && (in.Step == "clean" || scene.killOne && in.Step == "next"):
		outcome = succeeds(nil)
	case scene.killAfter > 0:
		select {
		case <-s.started():
		case <-time.After(time.Minute):
			return api.LaunchResult{}, temporal.NewNonRetryableApplicationError("was not killed", "Test", nil)
		}
		outcome = func(api.LaunchInput, api.LaunchPartition) tasklet.Result {
			return tasklet.Result{Outcome: tasklet.Killed, ExitCode: -1, Signal: "SIGTERM"}
		}
		if scene.killOne {
			outcome = onlyFirstKilled
		}
	}
	if in.Range != nil {
		return api.LaunchResult{Range: rangeResult(in, outcome)}, nil
	}
	var result api.LaunchResult
	for _, p := range in.Partitions {
		r := outcome(in, p)
		r.Partition = p.Index
		result.Results = append(result.Results, r)
	}
	return result, nil
}

func onlyFirstKilled(_ api.LaunchInput, p api.LaunchPartition) tasklet.Result {
	if p.Index == 0 {
		return tasklet.Result{Outcome: tasklet.Killed, ExitCode: -1}
	}
	return success(nil)
}

// rangeResult sums up the partitions of a range. Outputs of many stay in the manifest.
func rangeResult(in api.LaunchInput, outcome func(api.LaunchInput, api.LaunchPartition) tasklet.Result) *api.RangeResult {
	r := in.Range
	result := &api.RangeResult{Tasks: 1, Manifest: tasklet.LinesRef{
		Key: api.ManifestKey(api.StepPrefix(in.App, in.Run, in.Step), in.Step, r.First, 1), Size: 1, N: r.Count}}
	if r.Count <= 10 {
		result.Outputs = map[string][]json.RawMessage{}
	}
	for i := range r.Count {
		one := outcome(in, api.LaunchPartition{Index: r.First + i})
		one.Partition = r.First + i
		switch one.Outcome {
		case tasklet.Succeeded:
			result.Succeeded++
		case tasklet.Killed:
			result.Killed++
		default:
			result.Failed++
			if len(result.Failures) < api.MaxFailures {
				result.Failures = append(result.Failures, api.Failure{Attempt: 1, Result: one})
			}
		}
		for _, o := range in.Outputs {
			if result.Outputs != nil {
				result.Outputs[o.Name] = append(result.Outputs[o.Name], one.Outputs[o.Name])
			}
		}
	}
	return result
}

func (s *stage) listItems(_ context.Context, in api.ListItemsInput) (api.ListItemsResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.scene.items
	if in.Outputs != nil {
		n = in.Outputs.N
	}
	key := api.ItemsKey(api.StepPrefix(in.App, in.Run, in.Step), 1)
	return api.ListItemsResult{Items: tasklet.LinesRef{Key: key, Size: 1, N: n}}, nil
}

func gather(_ context.Context, in api.GatherInput) (api.GatherResult, error) {
	var result api.GatherResult
	for _, name := range flow.ReduceInputs(in.Outputs) {
		key := api.GatherKey(api.StepPrefix(in.App, in.Run, in.Step), 1, name)
		result.Files = append(result.Files, tasklet.NewFileRef(key, 1, "ab", name))
	}
	return result, nil
}

// killTasks ends what runs until it is killed. A step that gave up has nothing such.
func (s *stage) killTasks(context.Context, api.KillInput) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.scene.killAfter > 0 {
		close(s.killed)
	}
	return nil
}

// lead is removed once, and then leads until it is cancelled.
func (s *stage) lead(ctx context.Context, _ api.LeadInput) (api.LeadResult, error) {
	s.mu.Lock()
	s.leads++
	first := s.leads == 1
	s.mu.Unlock()
	if first {
		return api.LeadResult{Removed: true, Reason: "torn down"}, nil
	}
	s.started()
	for ctx.Err() == nil {
		activity.RecordHeartbeat(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return api.LeadResult{}, ctx.Err()
}

func success(outputs map[string]string) tasklet.Result {
	r := tasklet.Result{Outcome: tasklet.Succeeded}
	for name, value := range outputs {
		if r.Outputs == nil {
			r.Outputs = map[string]json.RawMessage{}
		}
		r.Outputs[name] = json.RawMessage(value)
	}
	return r
}
