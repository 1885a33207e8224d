// Package retention decides which runs' objects may go, and removes them: by the
// rules of each app's flow, and never what a run that is open, or one that can be
// restarted, needs.
package retention

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
)

// Save stores the record of a run that has ended.
func Save(ctx context.Context, s storage.Store, state api.RunState) error {
	needs := map[string]bool{}
	for _, raw := range state.Params {
		namedRuns(state.App, raw, needs)
	}
	for _, step := range state.Steps {
		for _, raw := range step.Outputs {
			namedRuns(state.App, raw, needs)
		}
	}
	delete(needs, state.Run)
	return put(ctx, s, state.App, api.RunRecord{
		Run: state.Run, Instance: state.Instance, Status: state.Status,
		Started: state.Started, Ended: state.Ended, Retention: state.Retention,
		Needs: slices.Sorted(maps.Keys(needs)),
	})
}

func put(ctx context.Context, s storage.Store, app string, r api.RunRecord) error {
	_, err := storage.PutJSON(ctx, s, api.RunRecordKey(app, r.Run), r)
	return err
}

// namedRuns adds the runs of an app whose objects are named anywhere in JSON. A text
// that only looks like a key keeps a run too many, never one too few.
func namedRuns(app string, raw []byte, runs map[string]bool) {
	for d := json.NewDecoder(bytes.NewReader(raw)); ; {
		token, err := d.Token()
		if err != nil {
			return // its end
		}
		text, _ := token.(string)
		key, ok := strings.CutPrefix(text, api.AppPrefix(app))
		if !ok {
			continue
		}
		run, _, _ := strings.Cut(key, "/")
		if _, ok := instanceOf(app, run); ok {
			runs[run] = true
		}
	}
}

// instanceOf splits a run ID; false where it is none of the app.
func instanceOf(app, run string) (instance string, ok bool) {
	instance, _, err := api.SplitRunID(run)
	return instance, err == nil && strings.HasPrefix(instance, app+"-")
}
