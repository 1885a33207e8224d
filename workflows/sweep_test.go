package workflows

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
)

// sweepWith runs the sweep's workflow with an activity in place of the real one.
func sweepWith(t *testing.T, in api.SweepInput, batch func(api.SweepInput) (api.SweepBatch, error)) (api.SweepResult, error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetDisableRegistrationAliasing(true)
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute)
	env.SetWorkerOptions(patient)
	Register(env)
	env.RegisterActivityWithOptions(func(_ context.Context, in api.SweepInput) (api.SweepBatch, error) { return batch(in) },
		activity.RegisterOptions{Name: api.ActivitySweep})
	env.ExecuteWorkflow(api.WorkflowSweep, in)
	if !env.IsWorkflowCompleted() {
		t.Fatal("the workflow did not end")
	}
	var result api.SweepResult
	if err := env.GetWorkflowError(); err != nil {
		return result, err
	}
	return result, env.GetWorkflowResult(&result)
}

func TestSweepGoesOverAllApps(t *testing.T) {
	var after []string
	tries := 0
	result, err := sweepWith(t, api.SweepInput{}, func(in api.SweepInput) (api.SweepBatch, error) {
		if tries++; tries == 2 {
			return api.SweepBatch{}, errors.New("storage does not answer")
		}
		after = append(after, in.After)
		switch len(after) {
		case 1:
			return api.SweepBatch{App: "a", More: true, Kept: 9, Swept: api.SweptSum{Runs: 5, Objects: 50, Bytes: 500}}, nil
		case 2:
			return api.SweepBatch{App: "a", Kept: 3, Swept: api.SweptSum{Runs: 1, Objects: 2, Bytes: 3}}, nil
		case 3:
			return api.SweepBatch{App: "b", Kept: 4}, nil
		}
		return api.SweepBatch{Uploads: 7}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "apps asked for", strings.Join(after, ","), ",,a,b")
	same(t, "apps", result.Apps, 2)
	same(t, "kept", result.Kept, 7)
	same(t, "uploads", result.Uploads, 7)
	sum := api.SweptSum{Runs: 6, Objects: 52, Bytes: 503}
	same(t, "swept", result.Swept, sum)
	if len(result.ByApp) != 1 || result.ByApp[0] != (api.SweptApp{App: "a", SweptSum: sum}) {
		t.Errorf("by app: %+v", result.ByApp)
	}
	if details := sweepDetails(result); !strings.Contains(details, "| `a` | 6 | 52 | 503 |") {
		t.Error(details)
	}
}

func TestSweepFailsWithAppsThatItLeftOut(t *testing.T) {
	calls := 0
	_, err := sweepWith(t, api.SweepInput{}, func(api.SweepInput) (api.SweepBatch, error) {
		if calls++; calls == 1 {
			return api.SweepBatch{App: "a", Trouble: "runs/a/x/run.json is broken"}, nil
		}
		return api.SweepBatch{}, nil
	})
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() != api.ErrorSweep || !strings.Contains(app.Message(), "runs/a/x/run.json") || calls != 2 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

func TestSweepGoesOnAsNew(t *testing.T) {
	_, err := sweepWith(t, api.SweepInput{}, func(in api.SweepInput) (api.SweepBatch, error) {
		return api.SweepBatch{App: in.After + "a", Kept: 1}, nil
	})
	var again *workflow.ContinueAsNewError
	if !errors.As(err, &again) {
		t.Errorf("%v", err)
	}
}
