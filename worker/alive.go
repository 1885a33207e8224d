package worker

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"

	"github.com/baas-batch/baas/api"
)

// alive heartbeats for the short activities while they run, so that Temporal gives
// what was lost with a worker, or on the way to it, to another one within seconds.
// The activities themselves may take minutes.
type alive struct {
	interceptor.WorkerInterceptorBase
}

func (*alive) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &beating{interceptor.ActivityInboundInterceptorBase{Next: next}}
}

type beating struct {
	interceptor.ActivityInboundInterceptorBase
}

func (b *beating) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	info := activity.GetInfo(ctx)
	switch info.ActivityType.Name {
	case api.ActivityPrepare, api.ActivitySaveInstance, api.ActivityKillTasks, api.ActivityRelease:
		if info.HeartbeatTimeout > 0 {
			defer beat(ctx, info.HeartbeatTimeout/4)()
		}
	}
	return b.Next.ExecuteActivity(ctx, in)
}

// beat heartbeats until stop, which waits for its end.
func beat(ctx context.Context, every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				activity.RecordHeartbeat(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}
