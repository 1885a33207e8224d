package activities

import (
	"context"
	"io"
	"testing"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
)

// lateStore completes no write before it is told to.
type lateStore struct {
	storage.Store
	complete <-chan struct{}
}

func (s *lateStore) Put(ctx context.Context, key string, r io.Reader, o storage.PutOptions) (storage.Info, error) {
	info, err := s.Store.Put(ctx, key, r, o)
	select {
	case <-s.complete:
	case <-ctx.Done():
		return info, ctx.Err()
	}
	return info, err
}

// The listing of items heartbeats also while it waits for the store.
func TestListItemsHeartbeatsWhileTheStoreIsSlow(t *testing.T) {
	w := newItemWorld(t)
	ref := w.put("files/x", "one\ntwo\n")
	beats := make(chan struct{})
	heard := 0
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.SetOnActivityHeartbeatListener(func(*activity.Info, converter.EncodedValues) {
		if heard++; heard == 1 {
			close(beats)
		}
	})
	p := &Preparer{Store: &lateStore{w.store, beats}}
	env.RegisterActivityWithOptions(p.ListItems, activity.RegisterOptions{Name: api.ActivityListItems})
	value, err := env.ExecuteActivity(api.ActivityListItems, api.ListItemsInput{
		App: "app", Owner: "team", Run: "app-1", Step: "each", Lines: ref, Max: 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	var result api.ListItemsResult
	if err := value.Get(&result); err != nil || result.Items.N != 2 {
		t.Errorf("%+v, %v", result, err)
	}
}
