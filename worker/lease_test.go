package worker

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/mesos"
)

const leaseTimeout = 10 * time.Second

var errUnreachable = errors.New("connection refused")

// heartbeats is a Temporal that answers heartbeats as it is told.
type heartbeats func(ctx context.Context) error

func (h heartbeats) RecordActivityHeartbeat(ctx context.Context, _ []byte, _ ...any) error {
	return h(ctx)
}

// inTurn answers with one error after the other, and then with the last one.
func inTurn(answers ...error) heartbeats {
	return func(context.Context) error {
		err := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		return err
	}
}

func TestLeaseIsValidForItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLease(inTurn(nil), nil, leaseTimeout, nil)
		for range 3 {
			if err := l.Confirm(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(leaseTimeout - time.Nanosecond)
			if !l.Valid() {
				t.Fatal("not valid within its time-out")
			}
			time.Sleep(time.Nanosecond) // as long as the process was stopped
			if l.Valid() {
				t.Fatal("valid after a pause of its time-out")
			}
		}
	})
}

// Temporal counts from the heartbeat's arrival, which may be as early as the call.
func TestLeaseCountsFromTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLease(heartbeats(func(context.Context) error { time.Sleep(4 * time.Second); return nil }), nil, leaseTimeout, nil)
		if err := l.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(leaseTimeout - 4*time.Second)
		if l.Valid() {
			t.Error("valid for longer than Temporal waits")
		}
	})
}

func TestLateAnswerDoesNotShortenTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		l := newLease(heartbeats(func(context.Context) error {
			if asked.Add(1) == 1 {
				time.Sleep(4 * time.Second)
			}
			return nil
		}), nil, leaseTimeout, nil)
		go func() { _ = l.Confirm(t.Context()) }()
		time.Sleep(2 * time.Second)
		if err := l.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(leaseTimeout - time.Second) // the first was asked more than a time-out ago
		if !l.Valid() {
			t.Error("an earlier question counts")
		}
	})
}

func TestLeaseIsLostForGood(t *testing.T) {
	for name, refusal := range map[string]error{
		"another attempt": serviceerror.NewNotFound("activity already timed out"),
		"cancelled":       temporal.NewCanceledError(),
		"paused":          activity.ErrActivityPaused,
		"reset":           activity.ErrActivityReset,
	} {
		t.Run(name, func(t *testing.T) {
			l := newLease(inTurn(refusal, nil), nil, leaseTimeout, nil)
			for range 2 { // the second heartbeat would be accepted
				if err := l.Confirm(t.Context()); !errors.Is(err, mesos.ErrLeaseLost) {
					t.Fatalf("answer %v", err)
				}
			}
			if l.Valid() {
				t.Error("still valid")
			}
			select {
			case <-l.Lost():
			default:
				t.Error("nobody is told")
			}
		})
	}
}

func TestUnansweredLeaseIsNeitherLostNorLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		l := newLease(heartbeats(hang), nil, leaseTimeout, nil)
		began := time.Now()
		if err := l.Confirm(t.Context()); err == nil || errors.Is(err, mesos.ErrLeaseLost) {
			t.Errorf("answer %v", err)
		}
		if took := time.Since(began); took > leaseTimeout/2 {
			t.Errorf("waited %s", took)
		}
		if !l.Valid() {
			t.Error("no longer valid, though nobody else can lead yet")
		}
		time.Sleep(leaseTimeout / 2)
		if l.Valid() {
			t.Error("valid without confirmation")
		}
		l.temporal = inTurn(nil)
		if err := l.Confirm(t.Context()); err != nil || !l.Valid() {
			t.Errorf("confirmed late: %v, valid %v", err, l.Valid())
		}
	})
}

func TestKeep(t *testing.T) {
	t.Run("holds the lease, and says each trouble once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLease(inTurn(nil, errUnreachable, errUnreachable, nil, errUnreachable, nil), nil, leaseTimeout, nil)
			ctx, cancel := context.WithCancel(t.Context())
			var said []error
			done := make(chan struct{})
			go func() {
				defer close(done)
				l.keep(ctx, func(err error) { said = append(said, err) })
			}()
			time.Sleep(5 * leaseTimeout)
			if !l.Valid() {
				t.Error("the lease has run out")
			}
			cancel()
			<-done
			if len(said) != 2 || slices.ContainsFunc(said, func(err error) bool { return !errors.Is(err, errUnreachable) }) {
				t.Errorf("said %v", said)
			}
		})
	})
	t.Run("ends with the lease", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLease(inTurn(nil, serviceerror.NewNotFound("gone")), nil, leaseTimeout, nil)
			l.keep(t.Context(), func(error) {})
			if l.Valid() {
				t.Error("still valid")
			}
		})
	})
}
