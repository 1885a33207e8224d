package activities

import (
	"errors"
	"testing"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/testsuite"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tasklet"
)

// called is a rig whose activity is the one of the SDK's test environment.
func called(t *testing.T) *rig {
	r := newRig(t)
	r.key.WorkflowID, r.key.RunID = "default-test-workflow-id", "default-test-run-id"
	return r
}

// call runs the activity as Temporal does.
func (r *rig) call(in api.LaunchInput, details *api.Details) (api.LaunchResult, error) {
	r.Helper()
	env := new(testsuite.WorkflowTestSuite).NewTestActivityEnvironment()
	env.RegisterActivityWithOptions(r.h.RunTasklets, activity.RegisterOptions{Name: api.ActivityRunTasklets})
	if details != nil {
		env.SetHeartbeatDetails(*details)
	}
	var result api.LaunchResult
	value, err := env.ExecuteActivity(api.ActivityRunTasklets, in)
	if err == nil {
		err = value.Get(&result)
	}
	return result, err
}

func TestTheActivityIsCompletedLater(t *testing.T) {
	r := called(t)
	if _, err := r.call(input(0), nil); !errors.Is(err, activity.ErrResultPending) {
		t.Errorf("error %v", err)
	}
	r.until("submit 0.1")
	r.h.Close()
	if _, err := r.call(input(0), nil); err == nil || errors.Is(err, activity.ErrResultPending) {
		t.Errorf("from a leader that has stopped: %v", err)
	}
}

// Packed details come through Temporal too.
func TestTheActivityReadsItsDetails(t *testing.T) {
	r := called(t)
	details := held(1, "RUNNING", 0)
	details.Tasks[0].Generation = 7
	packed, err := details.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.call(input(0), &packed); !errors.Is(err, activity.ErrResultPending) {
		t.Fatal(err)
	}
	r.until("reconcile 0.7 on a1")
}

func TestBadInputIsAResult(t *testing.T) {
	for name, spoil := range map[string]func(*api.LaunchInput){
		"two commands":   func(in *api.LaunchInput) { in.Args = []string{"true"} },
		"no command":     func(in *api.LaunchInput) { in.Shell = "" },
		"no memory":      func(in *api.LaunchInput) { in.Mem = 0 },
		"twice the same": func(in *api.LaunchInput) { in.Partitions[1].Index = in.Partitions[0].Index },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			in := input(0, 1)
			spoil(&in)
			result, err := r.call(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range result.Results {
				if one.Outcome != tasklet.Invalid || one.Reason == "" {
					t.Errorf("result %+v", one)
				}
			}
			if len(result.Results) != 2 || len(r.h.all()) != 0 {
				t.Errorf("%d results, %d entries", len(result.Results), len(r.h.all()))
			}
		})
	}
	r := newRig(t)
	if result, err := r.call(input(), nil); err != nil || len(result.Results) != 0 {
		t.Errorf("without partitions: %+v, %v", result, err)
	}
}

// NotFound is believed only if Describe agrees (rule 3).
func TestCompletionThatIsNotFound(t *testing.T) {
	r := newRig(t)
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.set(func() { r.completeErr = notFound })
	r.update(0, 1, "FINISHED", withResults(ok(0)))
	r.untilN("complete 7 refused", 3)
	r.never("ack 0.1 FINISHED")
	r.set(func() { r.pending = false }) // the first call had been accepted after all
	r.until("ack 0.1 FINISHED")
}

func TestHeartbeatThatFailsIsRepeatedSoon(t *testing.T) {
	r := newRig(t) // the regular one is far
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.set(func() { r.beatErr = errors.New("unavailable") })
	r.look(func(e *entry) { e.heartbeat() })
	r.until("beat refused")
	before := r.count("beat")
	r.set(func() { r.beatErr = nil })
	r.untilN("beat", before+1)
}
