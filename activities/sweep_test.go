package activities

import (
	"context"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/retention"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
)

// nothingOpen is a Temporal without open runs.
type nothingOpen struct{}

func (nothingOpen) Open(context.Context, string) (string, error) { return "", nil }
func (nothingOpen) Home(context.Context) (api.StoreHome, error) {
	return api.StoreHome{NamespaceID: "here"}, nil
}
func (nothingOpen) Live(context.Context, string, func()) ([]retention.Live, error) { return nil, nil }

// TestSavedRunsAreSwept saves the end of runs as BatchFlow does, and sweeps them in
// batches as SweepStorage does.
func TestSavedRunsAreSwept(t *testing.T) {
	store, err := file.Open(t.TempDir(), file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	preparer := &Preparer{Store: store}
	env.RegisterActivity(preparer.SaveInstance)
	env.RegisterActivity((&Sweeper{Store: store, Runs: nothingOpen{}, Batch: 2}).SweepApp)

	now := time.Now().UTC()
	for n, rules := range []*flow.Retention{nil, nil, nil, {Runs: 1}} {
		instance := api.InstanceID("app", "0123456789abcdef0123")
		state := api.RunState{
			Run: api.RunID(instance, "0000000"+string(rune('0'+n))), Instance: instance, App: "app", Status: api.StatusSucceeded,
			Started: now.Add(time.Duration(n-10) * time.Hour), Ended: now.Add(time.Duration(n-10)*time.Hour + time.Minute), Retention: rules,
		}
		if _, err := storage.PutBytes(t.Context(), store, api.OutputKey(api.StepPrefix("app", state.Run, "a"), 0, 1, 1, "x"), []byte("xyz")); err != nil {
			t.Fatal(err)
		}
		if _, err := env.ExecuteActivity(preparer.SaveInstance, state); err != nil {
			t.Fatal(err)
		}
	}
	var batches []api.SweepBatch
	for in := (api.SweepInput{}); ; {
		value, err := env.ExecuteActivity((&Sweeper{}).SweepApp, in)
		if err != nil {
			t.Fatal(err)
		}
		var b api.SweepBatch
		if err := value.Get(&b); err != nil {
			t.Fatal(err)
		}
		if batches = append(batches, b); b.App == "" {
			break
		}
		if !b.More {
			in.After = b.App
		}
	}
	want := []api.SweepBatch{
		{App: "app", More: true, Swept: api.SweptSum{Runs: 2, Objects: 2, Bytes: 6}},
		{App: "app", Kept: 1, Swept: api.SweptSum{Runs: 1, Objects: 1, Bytes: 3}},
		{},
	}
	if len(batches) != 3 || batches[0] != want[0] || batches[1] != want[1] || batches[2] != want[2] {
		t.Errorf("%+v, want %+v", batches, want)
	}
	var state api.RunState
	if err := storage.GetJSON(t.Context(), store, api.InstanceKey("app", "0123456789abcdef0123"), 1<<20, &state); err != nil || state.Retention == nil {
		t.Errorf("the instance's state: %+v, %v", state, err)
	}

	// A record that is none stops its app, and no other.
	if _, err := storage.PutBytes(t.Context(), store, api.RunRecordKey("app", state.Run), []byte("{")); err != nil {
		t.Fatal(err)
	}
	value, err := env.ExecuteActivity((&Sweeper{}).SweepApp, api.SweepInput{})
	var b api.SweepBatch
	if err != nil || value.Get(&b) != nil || b.App != "app" || b.Trouble == "" {
		t.Errorf("%+v, %v", b, err)
	}
}
