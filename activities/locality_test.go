package activities

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

func encoded(t *testing.T, v any) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The framework is told of the large files that a task reads, and of those that it
// has stored.
func TestLargeFilesAreTold(t *testing.T) {
	ref := func(sha string, size int64) tasklet.FileRef {
		return tasklet.NewFileRef("runs/app/x/"+sha, size, sha, sha)
	}
	r := newRig(t)
	in := input()
	in.Partitions = []api.LaunchPartition{{Index: 0, Inputs: map[string]json.RawMessage{
		"small":  encoded(t, ref("small", minNear-1)),
		"large":  encoded(t, ref("large", minNear)),
		"again":  encoded(t, ref("large", minNear)),
		"list":   encoded(t, []tasklet.FileRef{ref("larger", 3*minNear), ref("tiny", 1)}),
		"value":  encoded(t, "text"),
		"forged": encoded(t, map[string]any{"$type": 7, "size": 1 << 40}),
	}}}
	r.deliver(in, api.Details{}, 1)
	r.until("submit 0.1")
	want := []mesos.Content{{ID: "larger", Size: 3 * minNear}, {ID: "large", Size: minNear}}
	r.mu2.Lock()
	reads := r.tasks[r.id(0, 1)].Reads
	r.mu2.Unlock()
	if !slices.Equal(reads, want) {
		t.Errorf("the task reads %v, want %v", reads, want)
	}
	r.offer(0, 1)
	result := ok(0)
	result.Outputs = map[string]json.RawMessage{"report": encoded(t, ref("written", 2*minNear)), "note": encoded(t, ref("note", 5))}
	r.update(0, 1, mesos.Finished, withResults(result))
	r.until("x1 on a1 holds 16777216 bytes of written")
	r.never("x1 on a1 holds 5 bytes of note")
}
