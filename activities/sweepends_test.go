package activities

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/retention"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
)

// stubborn is a store that asks before it removes anything.
type stubborn struct {
	storage.Store
	may func(ctx context.Context, key string) error
}

func (s stubborn) Delete(ctx context.Context, key string) error {
	if err := s.may(ctx, key); err != nil {
		return err
	}
	return s.Store.Delete(ctx, key)
}

// oldRuns is a store with runs of apps, each with one object, that may all go.
func oldRuns(t *testing.T, may func(context.Context, string) error, apps ...string) stubborn {
	t.Helper()
	store, err := file.Open(t.TempDir(), file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	ended := time.Now().Add(-100 * 24 * time.Hour)
	for i, app := range apps {
		instance := api.InstanceID(app, "0123456789abcdef0123")
		state := api.RunState{
			Run: api.RunID(instance, "0000000"+string(rune('0'+i))), Instance: instance, App: app, Status: api.StatusSucceeded,
			Started: ended, Ended: ended,
		}
		if _, err := storage.PutBytes(t.Context(), store, api.OutputKey(api.StepPrefix(app, state.Run, "a"), 0, 1, 1, "x"), []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := retention.Save(t.Context(), store, state); err != nil {
			t.Fatal(err)
		}
	}
	return stubborn{store, may}
}

var oneHour = flow.Retention{Outputs: flow.Duration(time.Hour)}

// An app with an object that cannot be removed is left out after some attempts.
func TestAnAppThatCannotBeSweptIsTrouble(t *testing.T) {
	var mu sync.Mutex
	refused := 0
	store := oldRuns(t, func(_ context.Context, key string) error {
		if strings.HasPrefix(key, api.AppPrefix("a")) {
			mu.Lock()
			defer mu.Unlock()
			refused++
			return errors.New("the object is locked")
		}
		return nil
	}, "a", "b")
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.RegisterActivity((&Sweeper{Store: store, Runs: nothingOpen{}, Rules: oneHour}).SweepApp)
	env.ExecuteWorkflow(func(ctx workflow.Context) ([]api.SweepBatch, error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: time.Hour, RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Second, MaximumAttempts: 15},
		})
		batches := make([]api.SweepBatch, 2)
		for i, after := range []string{"", "a"} {
			if err := workflow.ExecuteActivity(ctx, (&Sweeper{}).SweepApp, api.SweepInput{After: after}).Get(ctx, &batches[i]); err != nil {
				return nil, err
			}
		}
		return batches, nil
	})
	var batches []api.SweepBatch
	if err := env.GetWorkflowResult(&batches); err != nil {
		t.Fatal(err)
	}
	if b := batches[0]; b.App != "a" || !strings.Contains(b.Trouble, "locked") || b.More || b.Swept.Runs != 0 || refused != sweepAttempts {
		t.Errorf("the app that cannot be swept: %+v, after %d attempts", b, refused)
	}
	if b := batches[1]; b.App != "b" || b.Trouble != "" || b.Swept.Runs != 1 {
		t.Errorf("the other one: %+v", b)
	}
}

// noAnswer is a Temporal that is away.
type noAnswer struct{ nothingOpen }

func (noAnswer) Live(context.Context, string, func()) ([]retention.Live, error) {
	return nil, errors.New("Temporal is away")
}

// elsewhere is a Temporal whose store is another one.
type elsewhere struct{ nothingOpen }

func (elsewhere) Home(context.Context) (api.StoreHome, error) {
	return api.StoreHome{NamespaceID: "elsewhere"}, nil
}

func TestASweepThatTemporalEnds(t *testing.T) {
	store := oldRuns(t, func(_ context.Context, key string) error { t.Errorf("%s is removed", key); return nil }, "a")
	if err := retention.Claim(t.Context(), store, api.StoreHome{NamespaceID: "here"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		runs retention.Runs
		want string
		more bool // attempts
	}{{noAnswer{}, "Temporal is away", true}, {elsewhere{}, "another Temporal", false}} {
		var suite testsuite.WorkflowTestSuite
		env := suite.NewTestActivityEnvironment()
		s := &Sweeper{Store: store, Runs: c.runs, Rules: oneHour}
		env.RegisterActivity(s.SweepApp)
		for _, after := range []string{"", "a"} { // the app, and the uploads
			_, err := env.ExecuteActivity(s.SweepApp, api.SweepInput{After: after})
			if after == "a" && c.more {
				continue // uploads ask only for runs that have some
			}
			var app *temporal.ApplicationError
			if !errors.As(err, &app) || !strings.Contains(err.Error(), c.want) || app.NonRetryable() == c.more {
				t.Errorf("after %q: %v", after, err)
			}
		}
		if s.ofApp(t.Context(), retention.ErrNoAnswer, 2*sweepAttempts) {
			t.Error("Temporal's silence is an app's trouble")
		}
	}
}

// A worker that stops ends the sweep with what is done, or to be tried again.
func TestSweepEndsWithItsWorker(t *testing.T) {
	for _, cutAt := range []string{"-00000000/a/", "-00000001/a/"} {
		stop := make(chan struct{})
		store := oldRuns(t, func(ctx context.Context, key string) error {
			if !strings.Contains(key, cutAt) {
				return nil
			}
			close(stop)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Minute):
				return errors.New("the sweep goes on")
			}
		}, "a", "a")
		var suite testsuite.WorkflowTestSuite
		env := suite.NewTestActivityEnvironment()
		env.SetWorkerStopChannel(stop)
		s := &Sweeper{Store: store, Runs: nothingOpen{}, Rules: oneHour}
		env.RegisterActivity(s.SweepApp)
		value, err := env.ExecuteActivity(s.SweepApp, api.SweepInput{})
		if cutAt == "-00000000/a/" {
			var app *temporal.ApplicationError
			if !errors.As(err, &app) || app.NonRetryable() || app.Message() != errWorkerStops.Error() {
				t.Errorf("stopped at the first run: %v", err)
			}
			continue
		}
		var b api.SweepBatch
		if err != nil || value.Get(&b) != nil || !b.More || b.Swept.Runs != 1 || b.App != "a" || b.Trouble != "" {
			t.Errorf("stopped at the second run: %+v, %v", b, err)
		}
	}
}
