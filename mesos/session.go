package mesos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
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

// redirectError sends the next SUBSCRIBE to another master.
type redirectError struct{ to string }

func (e *redirectError) Error() string { return "the leading master is " + e.to }

// session is one subscription.
type session struct {
	f      *Framework
	ctx    context.Context // ends with the subscription
	client *client
	sender *sender
	end    context.CancelCauseFunc
	master string
}

// call queues a call of this subscription.
func (s *session) call(c *scheduler.Call, done func(error)) {
	c.FrameworkID = &mesos.FrameworkID{Value: s.f.cfg.FrameworkID}
	s.sender.enqueue(c, done)
}

// send makes one queued call. A call that fails does not cost the subscription:
// the stream or the watchdog tell when that is broken.
func (s *session) send(ctx context.Context, c *scheduler.Call) error {
	err := s.client.send(ctx, c)
	if err == nil || ctx.Err() != nil {
		return err
	}
	s.f.metrics.FailedCalls.Add(1)
	s.f.log.Warn("call to the Mesos master failed", "call", c.Type.String(), "master", s.master, "error", err)
	var status *statusError
	if errors.As(err, &status) && status.location != "" {
		s.end(&redirectError{status.location})
	}
	return err
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
		if !opened.IsZero() && time.Since(opened) > f.cfg.Timings.BackoffMax {
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
		if !sleep(ctx, wait) {
			return nil
		}
	}
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
		"masters", strings.Join(f.cfg.Masters, ","), "error", err)
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
	base, err := f.findLeader(ctx, hint)
	if err != nil {
		f.noteTrouble(err)
		return opened, err
	}
	if err := f.lease.Confirm(ctx); err != nil {
		err = fmt.Errorf("before subscribing: %w", err)
		f.noteTrouble(err)
		return opened, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	c := newClient(&f.cfg, base)
	defer c.close()
	guard := newWatchdog(f.cfg.Timings.Call, func() { cancel(errSilent) })
	defer guard.stop()
	stream, err := c.subscribe(ctx, calls.Subscribe(f.frameworkInfo()))
	if err != nil {
		err = f.subscribeError(base, cause(ctx, err))
		f.noteTrouble(err)
		return opened, err
	}
	defer stream.Close()

	s := &session{f: f, client: c, master: base, end: cancel}
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
			err = fmt.Errorf("%w: %w (check roles, principal and the master's ACLs)", ErrRefused, err)
		}
		return err
	}
	return fmt.Errorf("the event stream begins with %s", e.Type)
}

// streamError reads an ERROR event; Mesos tells the cases apart by text only
// (src/master/master.cpp).
func streamError(e *scheduler.Event) error {
	message := e.GetError().GetMessage()
	switch {
	case strings.Contains(message, "has been removed"):
		return ErrFrameworkRemoved
	case strings.Contains(message, "failed over"):
		return errFailedOver
	}
	return fmt.Errorf("the master reports: %s", message)
}

// subscribeError says what to do about a refused SUBSCRIBE.
func (f *Framework) subscribeError(base string, err error) error {
	var status *statusError
	if !errors.As(err, &status) {
		return fmt.Errorf("subscribe to %s: %w", base, err)
	}
	switch status.code {
	case http.StatusTemporaryRedirect:
		if status.location != "" {
			return &redirectError{status.location}
		}
	case http.StatusUnauthorized:
		return fmt.Errorf("%w: %s does not accept the credentials of principal %q: set principal and secret as in the master's --credentials (%w)",
			ErrRefused, base, f.cfg.Principal, status)
	case http.StatusForbidden:
		return fmt.Errorf("%w: %s does not let principal %q register with roles %v as user %q: change register_frameworks and run_tasks in its --acls (%w)",
			ErrRefused, base, f.cfg.Principal, f.cfg.Roles, f.cfg.User, status)
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusUnsupportedMediaType:
		return fmt.Errorf("%w: %s: principal %q, roles %v: %w", ErrRefused, base, f.cfg.Principal, f.cfg.Roles, status)
	}
	return fmt.Errorf("subscribe to %s: %w", base, status)
}

// findLeader asks the masters, the hinted one first, until one knows the leader.
func (f *Framework) findLeader(ctx context.Context, hint string) (string, error) {
	candidates := f.cfg.Masters
	if hint != "" {
		candidates = append([]string{hint}, candidates...)
	}
	var errs []error
	var asked []string
	for i := 0; i < len(candidates) && ctx.Err() == nil; i++ {
		base := candidates[i]
		if slices.Contains(asked, base) {
			continue
		}
		asked = append(asked, base)
		err := f.leads(ctx, base)
		var redirect *redirectError
		switch {
		case err == nil:
			return base, nil
		case errors.As(err, &redirect) && len(asked) <= len(f.cfg.Masters)+maxRedirects:
			candidates = slices.Insert(slices.Clone(candidates), i+1, redirect.to)
		}
		errs = append(errs, fmt.Errorf("%s: %w", base, err))
	}
	// Not wrapped: where a redirect has led nowhere there is none to follow.
	return "", fmt.Errorf("no leading master: %v", cause(ctx, errors.Join(errs...)))
}

// leads tells by nil that a master leads, or may: who is not let in to the
// operator API learns from the answer to SUBSCRIBE.
func (f *Framework) leads(ctx context.Context, base string) error {
	c := newClient(&f.cfg, base)
	defer c.close()
	info, err := c.leader(ctx)
	var status *statusError
	switch {
	case err == nil && info == nil:
		return errors.New("it knows of no leading master")
	case err == nil || !errors.As(err, &status):
		return err
	case status.location != "":
		return &redirectError{status.location}
	case status.code >= 500 || status.code == http.StatusTemporaryRedirect || status.code == http.StatusTooManyRequests:
		return err
	}
	return nil
}

func (f *Framework) frameworkInfo() *mesos.FrameworkInfo {
	info := &mesos.FrameworkInfo{
		ID:              &mesos.FrameworkID{Value: f.cfg.FrameworkID},
		Name:            f.cfg.Name,
		User:            f.cfg.User,
		Roles:           f.cfg.Roles,
		Checkpoint:      ptr(true),
		FailoverTimeout: ptr(f.cfg.FailoverTimeout.Seconds()),
	}
	for _, s := range []struct {
		value string
		field **string
	}{{f.cfg.Principal, &info.Principal}, {f.cfg.WebUI, &info.WebUiURL}, {f.cfg.Hostname, &info.Hostname}} {
		if s.value != "" {
			*s.field = ptr(s.value)
		}
	}
	capabilities := []mesos.FrameworkInfo_Capability_Type{
		mesos.FrameworkInfo_Capability_PARTITION_AWARE,
		mesos.FrameworkInfo_Capability_TASK_KILLING_STATE,
		mesos.FrameworkInfo_Capability_MULTI_ROLE,
		mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT,
	}
	if f.cfg.GPUs {
		capabilities = append(capabilities, mesos.FrameworkInfo_Capability_GPU_RESOURCES)
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
