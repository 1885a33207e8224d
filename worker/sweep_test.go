package worker

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/retention"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
)

// scheduleClient is a Temporal client that can do nothing but create schedules, and
// fails first.
type scheduleClient struct {
	client.Client
	answers chan error
}

func (c *scheduleClient) ScheduleClient() client.ScheduleClient { return schedules{answers: c.answers} }

type schedules struct {
	client.ScheduleClient
	answers chan error
}

func (c schedules) Create(ctx context.Context, o client.ScheduleOptions) (client.ScheduleHandle, error) {
	if _, limited := ctx.Deadline(); !limited || o.ID != api.SweepScheduleID {
		return nil, errors.New("asked without a time limit, or for another schedule")
	}
	return nil, <-c.answers
}

// homes are the answers to where the runs are.
type homes struct {
	retention.Runs
	answers chan error
}

func (h homes) Home(context.Context) (api.StoreHome, error) {
	return api.StoreHome{NamespaceID: "here"}, <-h.answers
}

func answers(list ...error) chan error {
	c := make(chan error, len(list))
	for _, err := range list {
		c <- err
	}
	close(c)
	return c
}

// failures counts messages by level.
type failures struct {
	slog.Handler
	said map[slog.Level]int
}

func (failures) Enabled(context.Context, slog.Level) bool { return true }

func (f failures) Handle(_ context.Context, r slog.Record) error {
	f.said[r.Level]++
	return nil
}

func TestSweepIsArrangedInTheEnd(t *testing.T) {
	store, err := file.Open(t.TempDir(), file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	down := errors.New("Temporal is away")
	for _, c := range []struct {
		what             string
		home             string // whose store it is then
		schedules, homes chan error
		warnings, errors int
	}{
		{"the first worker", "here", answers(down, down, nil, nil), answers(down, nil), 3, 0},
		{"the second", "here", answers(temporal.ErrScheduleAlreadyRunning), answers(nil), 0, 0},
		{"one of another Temporal", "there", answers(nil), answers(nil), 0, 1},
	} {
		if c.home != "here" {
			if _, err := storage.PutJSON(t.Context(), store, api.StoreHomeKey, api.StoreHome{NamespaceID: c.home}); err != nil {
				t.Fatal(err)
			}
		}
		said := failures{slog.DiscardHandler, map[slog.Level]int{}}
		cfg := Config{Client: &scheduleClient{answers: c.schedules}, Store: store, Logger: slog.New(said)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		arrangeSweep(ctx, cfg, homes{answers: c.homes}, time.Millisecond)
		if ctx.Err() != nil || len(c.schedules)+len(c.homes) > 0 {
			t.Errorf("%s: ended with %v before it was told all", c.what, ctx.Err())
		}
		cancel()
		if said.said[slog.LevelWarn] != c.warnings || said.said[slog.LevelError] != c.errors {
			t.Errorf("%s: said %v", c.what, said.said)
		}
		var home api.StoreHome
		if err := storage.GetJSON(t.Context(), store, api.StoreHomeKey, 1<<10, &home); err != nil || home.NamespaceID != c.home {
			t.Errorf("%s: the store belongs to %+v, %v", c.what, home, err)
		}
	}
}

// Stop ends the attempts.
func TestSweepIsNotArrangedAfterStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	refused := make(chan error)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		arrangeSweep(ctx, Config{Client: &scheduleClient{answers: refused}, Logger: slog.New(slog.DiscardHandler)}, homes{}, time.Hour)
	}()
	refused <- errors.New("no")
	cancel()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
}
