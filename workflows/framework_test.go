package workflows

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
)

// runFramework leads with the given answers, one per leadership, then cancels.
func runFramework(t *testing.T, in api.FrameworkInput, answers ...func() (api.LeadResult, error)) (
	env *testsuite.TestWorkflowEnvironment, led []api.LeadInput, infos []activity.Info) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env = suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute)
	env.SetWorkerOptions(patient)
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: api.FrameworkWorkflowID(in.Name), TaskQueue: api.TaskQueue})
	Register(env)
	env.RegisterActivityWithOptions(func(ctx context.Context, in api.LeadInput) (api.LeadResult, error) {
		led, infos = append(led, in), append(infos, activity.GetInfo(ctx))
		if len(led) > len(answers) {
			env.CancelWorkflow()
			return api.LeadResult{}, activity.ErrResultPending
		}
		return answers[len(led)-1]()
	}, activity.RegisterOptions{Name: api.ActivityLead})
	env.ExecuteWorkflow(api.WorkflowFramework, in)
	if !env.IsWorkflowCompleted() {
		t.Fatal("the workflow did not end")
	}
	return env, led, infos
}

func TestFrameworkChoosesItsIDOnce(t *testing.T) {
	env, led, infos := runFramework(t, api.FrameworkInput{Name: "default", LeaseTimeout: 3 * time.Second},
		func() (api.LeadResult, error) { return api.LeadResult{}, nil })

	if len(led) != 2 || led[0] != led[1] {
		t.Fatalf("led with %+v, want the same ID twice", led)
	}
	if !regexp.MustCompile(`^baas-default-[0-9a-f]{12}$`).MatchString(led[0].FrameworkID) {
		t.Errorf("framework ID %q", led[0].FrameworkID)
	}
	same(t, "framework", led[0].Framework, "default")
	same(t, "heartbeat timeout", infos[0].HeartbeatTimeout, 3*time.Second)
	same(t, "task queue", infos[0].TaskQueue, api.LeadQueue("default"))

	value, err := env.QueryWorkflow(api.QueryFrameworkID)
	if err != nil {
		t.Fatal(err)
	}
	var id string
	if err := value.Get(&id); err != nil {
		t.Fatal(err)
	}
	same(t, "query", id, led[0].FrameworkID)
	var canceled *temporal.CanceledError
	if err := env.GetWorkflowError(); !errors.As(err, &canceled) {
		t.Errorf("ended with %v, want CanceledError", err)
	}
}

func TestFrameworkRemovedGetsNewID(t *testing.T) {
	_, led, infos := runFramework(t, api.FrameworkInput{Name: "default", FrameworkID: "baas-default-000000000000"},
		func() (api.LeadResult, error) { return api.LeadResult{Removed: true, Reason: "torn down"}, nil },
		func() (api.LeadResult, error) {
			return api.LeadResult{}, temporal.NewNonRetryableApplicationError("refused", "Refused", nil)
		})
	if len(led) != 3 {
		t.Fatalf("led %d times, want 3", len(led))
	}
	same(t, "first ID", led[0].FrameworkID, "baas-default-000000000000")
	if led[1].FrameworkID == led[0].FrameworkID || led[2] != led[1] {
		t.Errorf("led with %+v, want a new ID that stays after an error", led)
	}
	same(t, "lease", infos[0].HeartbeatTimeout, api.DefaultLeaseTimeout)
}

func TestFrameworkContinuesAsNewWithItsID(t *testing.T) {
	answers := slices.Repeat([]func() (api.LeadResult, error){
		func() (api.LeadResult, error) { return api.LeadResult{}, nil },
	}, roundsPerRun)
	env, led, _ := runFramework(t, api.FrameworkInput{Name: "default"}, answers...)
	var again *workflow.ContinueAsNewError
	if err := env.GetWorkflowError(); !errors.As(err, &again) {
		t.Fatalf("ended with %v, want ContinueAsNewError", err)
	}
	same(t, "rounds", len(led), roundsPerRun)
	var in api.FrameworkInput
	if err := converter.GetDefaultDataConverter().FromPayloads(again.Input, &in); err != nil {
		t.Fatal(err)
	}
	same(t, "ID carried on", in.FrameworkID, led[0].FrameworkID)
}
