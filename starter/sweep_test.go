package starter

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/retention"
	"github.com/baas-batch/baas/storage"
)

// An app that cannot be swept is told of at the end, and the next one is swept; a store
// of another Temporal is left alone.
func TestSweepByHand(t *testing.T) {
	p := newPlatform(t)
	ended := time.Now().Add(-48 * time.Hour)
	var runs []api.RunState
	for _, app := range []string{"sweep-a", "sweep-b"} {
		instance := api.InstanceID(app, "0123456789abcdef0123")
		state := api.RunState{Run: api.RunID(instance, "00000001"), Instance: instance, App: app, Status: api.StatusSucceeded, Started: ended, Ended: ended}
		if err := retention.Save(t.Context(), p.store, state); err != nil {
			t.Fatal(err)
		}
		runs = append(runs, state)
	}
	broken := api.RunRecordKey("sweep-a", runs[0].Run)
	if _, err := storage.PutBytes(t.Context(), p.store, broken, []byte("{")); err != nil {
		t.Fatal(err)
	}
	sum, err := p.Sweep(t.Context(), SweepOptions{Rules: flow.Retention{Outputs: flow.Duration(time.Hour)}})
	if !errors.Is(err, retention.ErrUnreadable) || !strings.Contains(err.Error(), broken) {
		t.Errorf("the broken record: %v", err)
	}
	if len(sum.Apps) != 1 || sum.Apps[0].App != "sweep-b" || sum.Apps[0].Swept != 1 {
		t.Errorf("swept: %+v", sum)
	}
	if _, err := p.store.Stat(t.Context(), broken); err != nil {
		t.Errorf("what is not understood has gone: %v", err)
	}

	if err := retention.Save(t.Context(), p.store, runs[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := storage.PutJSON(t.Context(), p.store, api.StoreHomeKey, api.StoreHome{Namespace: "default", NamespaceID: "another"}); err != nil {
		t.Fatal(err)
	}
	sum, err = p.Sweep(t.Context(), SweepOptions{Rules: flow.Retention{Outputs: flow.Duration(time.Hour)}})
	if !errors.Is(err, retention.ErrForeign) || len(sum.Apps) > 0 {
		t.Errorf("a store of another Temporal: %+v, %v", sum, err)
	}
	if _, err := p.store.Stat(t.Context(), api.RunRecordKey("sweep-b", runs[1].Run)); err != nil {
		t.Errorf("what belongs to another Temporal has gone: %v", err)
	}
}
