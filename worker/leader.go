package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/baas-batch/baas/activities"
	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
)

// leader serves the leadership activity. It leads at most one term at a time.
type leader struct {
	cfg Config
	log *slog.Logger

	resigned   chan struct{}
	resignOnce sync.Once

	mu      sync.Mutex
	term    *term
	refusal string // by which Mesos refused the last term; said already
}

// term is one term of leadership with all that serves it.
type term struct {
	lease   *lease
	handoff *activities.Handoff
	fw      *mesos.Framework
	queues  []sdkworker.Worker
}

func newLeader(cfg Config) *leader {
	return &leader{cfg: cfg, log: cfg.Logger, resigned: make(chan struct{})}
}

func (l *leader) resign() { l.resignOnce.Do(func() { close(l.resigned) }) }

func (l *leader) leading() bool {
	l.mu.Lock()
	t := l.term
	l.mu.Unlock()
	if t == nil {
		return false
	}
	select {
	case <-t.handoff.Ready():
		return t.lease.Valid()
	default:
		return false
	}
}

// framework gives the framework that this worker leads and what is in hand; nil
// while it does not lead.
func (l *leader) framework() (*mesos.Framework, activities.Load) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == nil {
		return nil, activities.Load{}
	}
	return l.term.fw, l.term.handoff.Load()
}

// load tells what this worker has in hand as the leader; nothing while it does
// not lead.
func (l *leader) load() activities.Load {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == nil {
		return activities.Load{}
	}
	return l.term.handoff.Load()
}

// errResigned ends a leadership in order.
var errResigned = errors.New("this worker stops")

// LeadFramework is the activity api.ActivityLead. It ends with a result only when
// the FrameworkID is used up; any error gives the leadership to the next worker.
func (l *leader) LeadFramework(ctx context.Context, in api.LeadInput) (api.LeadResult, error) {
	select {
	case <-l.resigned:
		return api.LeadResult{}, handOver(errResigned)
	default:
	}
	info := activity.GetInfo(ctx)
	timeout := info.HeartbeatTimeout
	if timeout <= 0 {
		timeout = api.DefaultLeaseTimeout
	}
	t, err := l.begin(in, info.TaskToken, newLease(l.cfg.Client, info.TaskToken, timeout, l.details))
	if err != nil {
		return api.LeadResult{}, err
	}
	l.log.Log(ctx, l.level(), "leading the framework", "framework", in.Framework, "framework_id", in.FrameworkID, "leader", l.cfg.Identity)
	err = l.serve(ctx, t)
	l.end(t)
	if errors.Is(err, mesos.ErrRefused) {
		return api.LeadResult{}, l.refused(err)
	}
	l.log.Info("no longer leading", "framework", in.Framework, "reason", err)
	if errors.Is(err, mesos.ErrFrameworkRemoved) {
		l.log.Error("Mesos has removed the framework and ended all its tasks: a new framework ID is chosen; "+
			"what ran is placed again, but what was to run at most once is held until a person releases it: see baas release --help",
			"framework", in.Framework, "framework_id", in.FrameworkID, "error", err)
		return api.LeadResult{Removed: true, Reason: err.Error()}, nil
	}
	if errors.Is(err, errResigned) || errors.Is(err, mesos.ErrLeaseLost) {
		return api.LeadResult{}, handOver(err)
	}
	return api.LeadResult{}, err
}

// refusedPause is between two tries of a framework that Mesos refuses: a person has
// something to mend.
const refusedPause = 15 * time.Second

// level keeps the tries that follow a refusal quiet.
func (l *leader) level() slog.Level {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refusal != "" {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// refused says a refusal once, and has Temporal try again after a pause, maybe with a
// worker that is configured otherwise.
func (l *leader) refused(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	level := slog.LevelError
	if l.refusal == err.Error() {
		level = slog.LevelDebug
	}
	l.refusal = err.Error()
	l.log.Log(context.Background(), level, "no framework: trying again until this is mended", "every", refusedPause, "error", err)
	return temporal.NewApplicationErrorWithOptions(err.Error(), "MesosRefuses", temporal.ApplicationErrorOptions{
		NextRetryDelay: refusedPause, Cause: err,
	})
}

// accepted ends what refused began.
func (l *leader) accepted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusal = ""
}

// handOver gives the leadership to the next worker at once, and is no cause for
// alarm.
func handOver(err error) error {
	return temporal.NewApplicationErrorWithOptions(err.Error(), "LeadershipEnded", temporal.ApplicationErrorOptions{
		Category: temporal.ApplicationErrorCategoryBenign, NextRetryDelay: time.Millisecond, Cause: err,
	})
}

// details show in the Temporal Web UI and in baas explain who leads, and what keeps
// the leader from placing anything.
func (l *leader) details() any {
	d := api.LeadDetails{Leader: l.cfg.Identity}
	if fw, _ := l.framework(); fw != nil {
		d.Mesos = fw.Trouble()
	}
	return d
}

func (l *leader) begin(in api.LeadInput, token []byte, lease *lease) (*term, error) {
	handoff := activities.New(activities.Config{
		Temporal:         l.cfg.Client,
		Namespace:        l.cfg.Namespace,
		Store:            l.cfg.Store,
		Secrets:          l.cfg.Secrets,
		Users:            l.cfg.Users,
		Volumes:          l.cfg.Volumes,
		Leading:          lease.Valid,
		Leader:           l.cfg.Identity,
		Framework:        l.cfg.Framework,
		Logger:           l.log,
		HeartbeatTimeout: l.cfg.HeartbeatTimeout,
		MaxWaiting:       l.cfg.MaxWaiting,
		MaxTasks:         l.cfg.MaxTasks,
		FirstPack:        l.cfg.FirstPack,
		URLLifetime:      l.cfg.URLLifetime,
	})
	cfg := l.cfg.Mesos
	cfg.FrameworkID, cfg.GroupOf = in.FrameworkID, activities.StepOf
	if cfg.Logger == nil {
		cfg.Logger = l.log
	}
	fw, err := mesos.New(cfg, handoff, lease)
	if err != nil {
		handoff.Close()
		return nil, fmt.Errorf("framework: %w", err)
	}
	handoff.Bind(fw)
	t := &term{lease: lease, handoff: handoff, fw: fw}
	l.mu.Lock()
	l.term = t
	l.mu.Unlock()
	return t, nil
}

// serve runs the framework and, once it has subscribed, polls for activities.
func (l *leader) serve(ctx context.Context, t *term) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	running.Go(func() {
		t.lease.keep(ctx, func(err error) { l.log.Warn("leadership", "error", err) })
	})
	ended := make(chan error, 1)
	running.Go(func() { ended <- t.fw.Run(ctx) })

	select {
	case <-t.handoff.Ready():
		l.accepted()
		if err := l.poll(t); err != nil {
			return err
		}
		running.Go(func() {
			if err := t.handoff.TakeOver(ctx); err != nil && ctx.Err() == nil {
				l.log.Warn("cannot list what the last leader held; heartbeat time-outs will tell", "error", err)
			}
		})
	case err := <-ended:
		return err
	case <-t.lease.Lost():
		return mesos.ErrLeaseLost
	case <-l.resigned:
		return errResigned
	case <-ctx.Done():
		return ctx.Err()
	}
	var err error
	select {
	case err = <-ended:
	case <-t.lease.Lost():
		err = mesos.ErrLeaseLost
	case <-ctx.Done():
		err = ctx.Err()
	case <-l.resigned:
		err = errResigned
	}
	t.stopPolling()
	if errors.Is(err, errResigned) {
		release, done := context.WithTimeout(context.WithoutCancel(ctx), l.cfg.StopTimeout)
		t.handoff.Release(release)
		done()
	}
	return err
}

// poll starts to serve the launch and control queues.
func (l *leader) poll(t *term) error {
	fixed, err := sdkworker.NewFixedSizeSlotSupplier(4)
	if err != nil {
		return err
	}
	tuner, err := sdkworker.NewCompositeTuner(sdkworker.CompositeTunerOptions{
		WorkflowSlotSupplier: fixed, LocalActivitySlotSupplier: fixed, NexusSlotSupplier: fixed,
		SessionActivitySlotSupplier: fixed, ActivitySlotSupplier: t.handoff.Slots(),
	})
	if err != nil {
		return err
	}
	launch := sdkworker.New(l.cfg.Client, api.LaunchQueue(l.cfg.Framework), sdkworker.Options{
		Identity: l.cfg.Identity, DisableWorkflowWorker: true,
		Tuner: tuner, MaxConcurrentActivityTaskPollers: launchPollers,
		WorkerStopTimeout: l.cfg.StopTimeout,
	})
	launch.RegisterActivityWithOptions(t.handoff.RunTasklets, activity.RegisterOptions{Name: api.ActivityRunTasklets})
	control := sdkworker.New(l.cfg.Client, api.ControlQueue(l.cfg.Framework), sdkworker.Options{
		Identity: l.cfg.Identity, DisableWorkflowWorker: true,
		WorkerStopTimeout: l.cfg.StopTimeout,
		Interceptors:      []interceptor.WorkerInterceptor{&alive{}},
	})
	control.RegisterActivityWithOptions(t.handoff.KillTasks, activity.RegisterOptions{Name: api.ActivityKillTasks})
	control.RegisterActivityWithOptions(t.handoff.ReleaseHeld, activity.RegisterOptions{Name: api.ActivityRelease})
	control.RegisterActivityWithOptions((&inspector{leader: l.cfg.Identity, fw: t.fw}).inspect, activity.RegisterOptions{Name: api.ActivityInspect})
	for _, w := range []sdkworker.Worker{launch, control} {
		if err := w.Start(); err != nil {
			t.stopPolling()
			return fmt.Errorf("poll for activities: %w", err)
		}
		t.queues = append(t.queues, w)
	}
	return nil
}

// launchPollers bounds the long polls on the launch queue.
const launchPollers = 5

func (t *term) stopPolling() {
	for _, w := range t.queues {
		w.Stop()
	}
	t.queues = nil
}

func (l *leader) end(t *term) {
	l.mu.Lock()
	l.term = nil
	l.mu.Unlock()
	t.stopPolling()
	t.handoff.Close()
}
