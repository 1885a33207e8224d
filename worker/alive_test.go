package worker

import (
	"context"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/testsuite"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
)

// A short activity heartbeats as long as it runs; one that does so itself is left
// alone.
func TestAlive(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{api.ActivityPrepare: true, api.ActivityKillTasks: true, api.ActivityRunTasklets: false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var suite testsuite.WorkflowTestSuite
			env := suite.NewTestWorkflowEnvironment()
			env.SetWorkerOptions(sdkworker.Options{Interceptors: []interceptor.WorkerInterceptor{&alive{}}})
			beats := make(chan struct{}, 100)
			env.SetOnActivityHeartbeatListener(func(*activity.Info, converter.EncodedValues) { beats <- struct{}{} })
			env.RegisterActivityWithOptions(func(context.Context) error {
				patience := time.Second
				if want {
					patience = 20 * time.Second
				}
				select {
				case <-beats:
					if !want {
						t.Error("it heartbeats")
					}
				case <-time.After(patience):
					if want {
						t.Error("no heartbeat")
					}
				}
				return nil
			}, activity.RegisterOptions{Name: name})
			env.SetTestTimeout(time.Minute)
			env.ExecuteWorkflow(func(ctx workflow.Context) error {
				ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
					StartToCloseTimeout: time.Minute, HeartbeatTimeout: 2 * time.Second,
				})
				return workflow.ExecuteActivity(ctx, name).Get(ctx, nil)
			})
			if err := env.GetWorkflowError(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
