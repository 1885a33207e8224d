package worker

import (
	"context"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"

	"github.com/baas-batch/baas/activities"
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
			defer activities.Every(ctx, info.HeartbeatTimeout/4, func() { activity.RecordHeartbeat(ctx) })()
		}
	}
	return b.Next.ExecuteActivity(ctx, in)
}
