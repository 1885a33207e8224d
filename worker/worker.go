package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/baas-batch/baas/activities"
	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/retention"
	"github.com/baas-batch/baas/workflows"
)

// Worker is a running worker.
type Worker struct {
	cfg     Config
	main    sdkworker.Worker
	lead    sdkworker.Worker
	leader  *leader
	stopped sync.Once

	stopArranging context.CancelFunc
	arranging     sync.WaitGroup
}

// Start starts a worker, and the framework's singleton workflow if nobody has
// yet. Temporal must be reachable, or ctx ends the wait.
func Start(ctx context.Context, cfg Config) (*Worker, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	w := &Worker{cfg: cfg, leader: newLeader(cfg), stopArranging: func() {}}
	w.main = sdkworker.New(cfg.Client, api.TaskQueue, sdkworker.Options{
		Identity:          cfg.Identity,
		WorkerStopTimeout: cfg.StopTimeout,
		Interceptors:      []interceptor.WorkerInterceptor{&alive{}},
		// Machines of batch are busy, and workflows wait for nothing but Temporal: a second
		// without progress, the SDK's default, is no deadlock.
		DeadlockDetectionTimeout: 30 * time.Second,
	})
	workflows.Register(w.main)
	preparer := &activities.Preparer{Store: cfg.Store, Catalog: cfg.Catalog, Settings: cfg.settings(), Images: cfg.Images}
	sweeper := &activities.Sweeper{
		Store: cfg.Store, Rules: cfg.Retention, UploadAge: cfg.UploadAge,
		Runs: &retention.Temporal{Service: cfg.Client.WorkflowService(), Namespace: cfg.Namespace},
	}
	w.main.RegisterActivityWithOptions(sweeper.SweepApp, activity.RegisterOptions{Name: api.ActivitySweep})
	w.main.RegisterActivityWithOptions(preparer.Prepare, activity.RegisterOptions{Name: api.ActivityPrepare})
	w.main.RegisterActivityWithOptions(preparer.ListItems, activity.RegisterOptions{Name: api.ActivityListItems})
	w.main.RegisterActivityWithOptions(preparer.Gather, activity.RegisterOptions{Name: api.ActivityGather})
	w.main.RegisterActivityWithOptions(preparer.SaveInstance, activity.RegisterOptions{Name: api.ActivitySaveInstance})

	w.lead = sdkworker.New(cfg.Client, api.LeadQueue(cfg.Framework), sdkworker.Options{
		Identity:                           cfg.Identity,
		DisableWorkflowWorker:              true,
		MaxConcurrentActivityExecutionSize: 1,
		MaxConcurrentActivityTaskPollers:   1,
		WorkerStopTimeout:                  cfg.StopTimeout,
	})
	w.lead.RegisterActivityWithOptions(w.leader.LeadFramework, activity.RegisterOptions{Name: api.ActivityLead})

	if err := w.main.Start(); err != nil {
		return nil, fmt.Errorf("start of the workflow worker: %w", err)
	}
	if err := w.lead.Start(); err != nil {
		w.main.Stop()
		return nil, fmt.Errorf("start of the leadership worker: %w", err)
	}
	if err := startFramework(ctx, cfg); err != nil {
		w.Stop()
		return nil, err
	}
	if !cfg.NoSweep {
		var arranging context.Context
		arranging, w.stopArranging = context.WithCancel(context.WithoutCancel(ctx))
		w.arranging.Go(func() { arrangeSweep(arranging, cfg, sweeper.Runs, arrangeAgain) })
	}
	return w, nil
}

// Leading tells whether this worker leads the framework and has subscribed to
// Mesos.
func (w *Worker) Leading() bool { return w.leader.leading() }

// Load tells how much this worker has in hand as the leader of the framework.
func (w *Worker) Load() activities.Load { return w.leader.load() }

// Stop gives the leadership up, lets activities under way end, and returns when
// all is quiet. Tasks in Mesos run on: the next leader takes them over.
func (w *Worker) Stop() {
	w.stopped.Do(func() {
		w.stopArranging()
		w.arranging.Wait()
		w.leader.resign()
		w.lead.Stop()
		w.main.Stop()
	})
}

// startFramework makes sure that the singleton workflow runs.
func startFramework(ctx context.Context, cfg Config) error {
	input := api.FrameworkInput{Name: cfg.Framework, LeaseTimeout: cfg.LeaseTimeout}
	for {
		_, err := cfg.Client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID:                       api.FrameworkWorkflowID(cfg.Framework),
			TaskQueue:                api.TaskQueue,
			WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
			WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
			StaticSummary:            "Mesos framework " + cfg.Framework,
		}, api.WorkflowFramework, input)
		var unavailable *serviceerror.Unavailable
		if !errors.As(err, &unavailable) {
			if err != nil {
				return fmt.Errorf("start of the framework's workflow: %w", err)
			}
			return nil
		}
		cfg.Logger.Warn("Temporal is not available; trying again", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
