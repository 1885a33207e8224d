package masters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/master"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tests/harness"
	"github.com/baas-batch/baas/tests/syncbuf"
)

const patience = harness.Patience

// cluster starts an embedded cluster with one agent.
func cluster(t *testing.T, change func(*embeddedmesos.Config)) *embeddedmesos.Cluster {
	t.Helper()
	cfg := embeddedmesos.Config{
		Dir:    harness.Dir(t),
		Master: master.Config{AllocationInterval: 20 * time.Millisecond, HeartbeatInterval: time.Second},
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	}
	if change != nil {
		change(&cfg)
	}
	c, err := embeddedmesos.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// scheduler is a framework that only subscribes.
type scheduler struct {
	t      *testing.T
	fw     *mesos.Framework
	log    *record
	opened chan mesos.Subscription
	closed chan error
	ended  chan error // Run's
	stop   func()     // ends Run and waits
}

// subscribe runs a framework against masters until the test ends.
func subscribe(t *testing.T, masters string, change func(*mesos.Config)) *scheduler {
	t.Helper()
	s := &scheduler{
		t: t, log: &record{}, opened: make(chan mesos.Subscription, 100), closed: make(chan error, 100), ended: make(chan error, 1),
	}
	cfg := mesos.Config{
		Masters: []string{masters}, FrameworkID: fmt.Sprintf("masters-%d", time.Now().UnixNano()), User: "nobody",
		ExecutorURI: "/bin/true", Logger: slog.New(slog.NewTextHandler(s.log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if s.fw, err = mesos.New(cfg, s, held{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.ended <- s.fw.Run(ctx)
	}()
	s.stop = func() {
		cancel()
		<-over
	}
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("the framework has logged:\n%s", s.log)
		}
	})
	return s
}

// held is a lease that never ends.
type held struct{}

func (held) Confirm(context.Context) error { return nil }

func (s *scheduler) Subscribed(sub mesos.Subscription) { s.opened <- sub }
func (s *scheduler) Disconnected(err error)            { s.closed <- err }

func (s *scheduler) Placed(_ context.Context, p mesos.Placement) []mesos.Launch {
	out := make([]mesos.Launch, len(p.Tasks))
	for i := range out {
		out[i].Err = errors.New("nothing is launched here")
	}
	return out
}

func (s *scheduler) Update(mesos.Update)             {}
func (s *scheduler) Message(mesos.Message)           {}
func (s *scheduler) ExecutorLost(_, _ string, _ int) {}
func (s *scheduler) AgentLost(string)                {}

// await waits for the next subscription.
func (s *scheduler) await() mesos.Subscription {
	s.t.Helper()
	select {
	case sub := <-s.opened:
		return sub
	case err := <-s.ended:
		s.t.Fatalf("the framework has ended: %v", err)
	case <-time.After(patience):
		s.t.Fatal("no subscription")
	}
	return mesos.Subscription{}
}

// awaitEnd waits for the end of Run.
func (s *scheduler) awaitEnd() error {
	s.t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(patience):
		s.t.Fatal("the framework does not end")
	}
	return nil
}

// warned waits for a warning with all of these words, and wants it to be the only one.
func (s *scheduler) warned(words ...string) {
	s.t.Helper()
	harness.Eventually(s.t, "no warning", func() bool { return len(s.log.warnings()) > 0 })
	w := s.log.warnings()
	for _, word := range words {
		if !strings.Contains(w[0], word) {
			s.t.Errorf("the warning does not say %q: %s", word, w[0])
		}
	}
	if len(w) > 1 {
		s.t.Errorf("%d warnings, want one: %s", len(w), strings.Join(w, ""))
	}
}

// record keeps what is logged.
type record struct{ syncbuf.Buffer }

func (r *record) warnings() (out []string) {
	for line := range strings.Lines(r.String()) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			out = append(out, line)
		}
	}
	return out
}

// logged wants words so many times in what the framework has logged.
func (s *scheduler) logged(words string, times int) {
	s.t.Helper()
	if n := strings.Count(s.log.String(), words); n != times {
		s.t.Errorf("%q is logged %d times, want %d", words, n, times)
	}
}
