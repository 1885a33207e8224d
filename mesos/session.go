package mesos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"
)

var (
	errSilent     = errors.New("no event for too long")
	errFailedOver = errors.New("failed over to another scheduler")
)

// session is one subscription.
type session struct {
	f      *Framework
	ctx    context.Context // ends with the subscription
	client *client
	sender *sender
	end    context.CancelCauseFunc
	master string
	roles  []string // that it began with
	calls  callRecord
}

// callRecord is how calls fare, known to the sender alone.
type callRecord struct {
	failing time.Time // since when; zero: the last one did not fail
	said    bool      // aloud
}

// failingFor is how long calls may fail before that is said aloud: when the master
// dies, calls mostly fail a moment before the stream ends, which is said anyway.
const failingFor = 2 * time.Second

// call queues a call of this subscription.
func (s *session) call(c *scheduler.Call, done func(error)) {
	c.FrameworkID = &mesos.FrameworkID{Value: s.f.cfg.FrameworkID}
	s.sender.enqueue(c, done)
}

// send makes one queued call. A call that fails does not cost the subscription:
// the stream or the watchdog tell when that is broken.
func (s *session) send(ctx context.Context, c *scheduler.Call) error {
	err := s.client.send(ctx, c)
	if ctx.Err() != nil {
		return err
	}
	var status *statusError
	switch {
	case err == nil:
		if s.calls.said {
			s.f.log.Info("the Mesos master takes calls again", "master", s.master)
		}
		s.calls = callRecord{}
		return nil
	case errors.As(err, &status) && status.location != "":
		s.end(&redirectError{status.location})
	case status != nil && status.code == http.StatusUnauthorized:
		// The next subscription reads the credentials anew.
		s.end(fmt.Errorf("the master no longer takes the credentials: %w", err))
	case status != nil && status.code < 500:
		s.f.log.Warn("the Mesos master refuses a call", "call", c.Type.String(), "master", s.master, "error", err)
	default:
		s.sayFailing(c, err)
	}
	s.f.metrics.FailedCalls.Add(1)
	return err
}

// sayFailing says a trouble aloud once, when it has lasted for a while.
func (s *session) sayFailing(c *scheduler.Call, err error) {
	if s.calls.failing.IsZero() {
		s.calls.failing = time.Now()
	}
	level := slog.LevelDebug
	if !s.calls.said && time.Since(s.calls.failing) > failingFor {
		s.calls.said, level = true, slog.LevelWarn
	}
	s.f.log.Log(context.Background(), level, "calls to the Mesos master fail; they are made again",
		"call", c.Type.String(), "master", s.master, "error", err)
}

// subscribeLoop holds one subscription after the other, until ctx ends (nil) or
// there is no point in going on.
func (f *Framework) subscribeLoop(ctx context.Context) error {
	var (
		failures int    // in a row
		hint     string // of the leading master
		quiet    bool   // the trouble has been said aloud
	)
	for {
		opened, err := f.subscribe(ctx, hint, func(master string) {
			if quiet {
				f.log.Info("the Mesos master is back", "master", master)
				quiet = false
			}
		})
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrLeaseLost) || errors.Is(err, ErrFrameworkRemoved) || errors.Is(err, ErrRefused) {
			return err
		}
		// A subscription that has lasted clears the record.
		if !opened.IsZero() && time.Since(opened) > f.cfg.Timings.BackoffMax || errors.Is(err, errLeaderMoved) {
			failures = 0
		}
		hint = ""
		var redirect *redirectError
		if errors.As(err, &redirect) {
			hint = redirect.to
		}
		if redirect == nil || failures > 0 {
			f.sayOnce(&quiet, err)
		}
		wait := time.Duration(0)
		if redirect == nil || failures > maxRedirects {
			wait = backoff(failures, f.cfg.Timings.BackoffMin, f.cfg.Timings.BackoffMax)
		}
		failures++
		if f.pause(ctx, wait) {
			failures = 0
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// pause waits, but no longer than until ZooKeeper names another leading master:
// that one is asked at once.
func (f *Framework) pause(ctx context.Context, d time.Duration) (news bool) {
	if f.detector == nil || d == 0 {
		sleep(ctx, d)
		return false
	}
	waiting, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	leader, _, _ := f.detector.now()
	f.detector.follow(waiting, leader, func(error) { news = true })
	return news
}

// maxRedirects are followed without a pause: masters in the middle of an election
// may point at each other.
const maxRedirects = 5

func (f *Framework) sayOnce(quiet *bool, err error) {
	if *quiet {
		f.log.Debug("still no subscription", "error", err)
		return
	}
	*quiet = true
	f.log.Warn("not subscribed to a Mesos master; trying again until it is back",
		"masters", f.cfg.addresses(), "error", err)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// subscribe holds one subscription until it ends. opened is zero if it never
// came to be.
func (f *Framework) subscribe(ctx context.Context, hint string, back func(master string)) (opened time.Time, err error) {
	f.renewAccess()
	leader, err := f.findLeader(ctx, hint)
	if err != nil {
		f.noteTrouble(err)
		return opened, err
	}
	base := leader.base
	if err := f.lease.Confirm(ctx); err != nil {
		err = fmt.Errorf("before subscribing: %w", err)
		f.noteTrouble(err)
		return opened, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel(nil)
	if f.detector != nil {
		following.Go(func() { f.detector.follow(ctx, leader, cancel) })
	}

	c := newClient(&f.cfg, f.access.Load(), base)
	defer c.close()
	guard := newWatchdog(f.cfg.Timings.Call, func() { cancel(errSilent) })
	defer guard.stop()
	f.mu.Lock()
	roles := f.resubscribe()
	f.mu.Unlock()
	stream, err := c.subscribe(ctx, calls.Subscribe(f.frameworkInfo(roles)))
	if err != nil {
		err = f.subscribeError(base, roles, cause(ctx, err))
		f.noteTrouble(err)
		return opened, err
	}
	defer stream.Close()

	s := &session{f: f, client: c, master: base, end: cancel, roles: roles}
	s.sender = newSender(s.send)
	opened, err = s.serve(ctx, stream, guard, back)
	return opened, err
}

// cause prefers the reason for which the context was ended.
func cause(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return context.Cause(ctx)
}

// serve reads the stream to its end.
func (s *session) serve(ctx context.Context, stream mesos.Response, guard *watchdog, back func(string)) (opened time.Time, err error) {
	first, err := next(ctx, stream)
	if err == nil {
		err = s.opening(first)
	}
	if err != nil {
		s.f.noteTrouble(err)
		return opened, err
	}
	back(s.master)
	opened = time.Now()

	callers, stopCalls := context.WithCancel(ctx)
	var sending sync.WaitGroup
	s.ctx = callers
	sending.Go(func() { s.sender.run(callers) })
	silence := heartbeat(first.Subscribed) * time.Duration(s.f.cfg.Timings.WatchdogBeats)
	guard.stop()
	s.f.connected(s, first.Subscribed)
	for err == nil {
		guard.start(silence)
		var e *scheduler.Event
		if e, err = next(ctx, stream); err == nil {
			guard.stop() // the handler's time is not the master's silence
			err = s.f.handle(e)
		}
	}
	guard.stop()
	s.f.disconnected(err)
	stopCalls()
	sending.Wait()
	s.f.placements.Wait()
	s.f.tellDisconnected(err)
	return opened, err
}

func next(ctx context.Context, stream mesos.Response) (*scheduler.Event, error) {
	var e scheduler.Event
	if err := stream.Decode(&e); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the master has closed the event stream")
		}
		return nil, cause(ctx, err)
	}
	return &e, nil
}

// opening checks the first event.
func (s *session) opening(e *scheduler.Event) error {
	switch e.Type {
	case scheduler.Event_SUBSCRIBED:
		if id := e.GetSubscribed().GetFrameworkID().GetValue(); id != s.f.cfg.FrameworkID {
			return fmt.Errorf("%w: it answers with framework ID %q to %q", ErrRefused, id, s.f.cfg.FrameworkID)
		}
		return nil
	case scheduler.Event_ERROR:
		err := streamError(e)
		if !errors.Is(err, ErrFrameworkRemoved) && !errors.Is(err, errFailedOver) {
			err = s.refusedBy(err)
		}
		return err
	}
	return fmt.Errorf("the event stream begins with %s", e.Type)
}

func (f *Framework) frameworkInfo(roles []string) *mesos.FrameworkInfo {
	info := &mesos.FrameworkInfo{
		ID:              &mesos.FrameworkID{Value: f.cfg.FrameworkID},
		Name:            f.cfg.Name,
		User:            f.cfg.User,
		Roles:           roles,
		Checkpoint:      ptr(true),
		FailoverTimeout: ptr(f.cfg.FailoverTimeout.Seconds()),
	}
	for _, s := range []struct {
		value string
		field **string
	}{{f.access.Load().Principal, &info.Principal}, {f.cfg.WebUI, &info.WebUiURL}, {f.cfg.Hostname, &info.Hostname}} {
		if s.value != "" {
			*s.field = ptr(s.value)
		}
	}
	capabilities := []mesos.FrameworkInfo_Capability_Type{
		mesos.FrameworkInfo_Capability_PARTITION_AWARE,
		mesos.FrameworkInfo_Capability_TASK_KILLING_STATE,
		mesos.FrameworkInfo_Capability_MULTI_ROLE,
		mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT,
		mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES,
	}
	if f.cfg.GPUs {
		capabilities = append(capabilities, mesos.FrameworkInfo_Capability_GPU_RESOURCES)
	}
	if f.cfg.RemoteRegions {
		capabilities = append(capabilities, mesos.FrameworkInfo_Capability_REGION_AWARE)
	}
	for _, c := range capabilities {
		info.Capabilities = append(info.Capabilities, mesos.FrameworkInfo_Capability{Type: c})
	}
	return info
}

func heartbeat(s *scheduler.Event_Subscribed) time.Duration {
	if seconds := s.GetHeartbeatIntervalSeconds(); seconds > 0 {
		return time.Duration(seconds * float64(time.Second))
	}
	return 15 * time.Second
}
