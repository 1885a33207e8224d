package fault

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
)

// coarse is by how much the time of a file may be before that of a clock.
const coarse = 20 * time.Millisecond

// addRange adds what was accepted of a range: the results in its manifest, and those
// of the attempts before, which lie in segments. They count from when they were
// durable. A leader that has looked before goes on from what it has seen, which takes
// it some seconds at most.
func (h *History) addRange(ctx context.Context, s storage.Store, l launch) error {
	prefix := api.StepPrefix(l.App, l.LaunchInput.Run, l.Step)
	segments := api.SegmentPrefix(prefix, l.activity)
	accepted := map[Partition]map[int]Acceptance{} // by attempt
	take := func(a Acceptance, final bool) {
		a.Attempt = max(a.Result.Attempt, 1)
		if accepted[a.Partition] == nil {
			accepted[a.Partition] = map[int]Acceptance{}
		}
		before, ok := accepted[a.Partition][a.Attempt]
		switch {
		case !ok:
		case final: // told when it became durable already
			a.At, a.Seen = before.At, before.Seen
		default:
			return
		}
		accepted[a.Partition][a.Attempt] = a
	}
	var list []storage.Info
	for info, err := range storage.All(ctx, s, storage.ListOptions{Prefix: segments}) {
		if err != nil {
			return err
		}
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b storage.Info) int { return cmp.Compare(generation(a.Key), generation(b.Key)) })
	for _, info := range list {
		err := results(ctx, s, tasklet.LinesRef{Key: info.Key, Size: info.Size}, func(r tasklet.Result) {
			if r.Outcome != tasklet.Platform && r.Outcome != tasklet.Killed {
				take(Acceptance{Partition: Partition{l.Step, r.Partition}, At: info.Modified.Add(coarse), Seen: slack, Result: r}, false)
			}
		})
		if err != nil {
			return err
		}
	}
	err := results(ctx, s, l.manifest, func(r tasklet.Result) {
		take(Acceptance{Partition: Partition{l.Step, r.Partition}, At: l.ended, Result: r}, true)
	})
	for _, byAttempt := range accepted {
		for _, a := range byAttempt {
			h.Accepted = append(h.Accepted, a)
		}
	}
	slices.SortFunc(h.Accepted, func(a, b Acceptance) int {
		return cmp.Or(cmp.Compare(a.Step, b.Step), cmp.Compare(a.Index, b.Index), cmp.Compare(a.Attempt, b.Attempt))
	})
	return err
}

// generation is that of a segment's task.
func generation(key string) int {
	words := strings.Split(key, ".")
	if len(words) < 3 {
		return 0
	}
	n, _ := strconv.Atoi(words[len(words)-2])
	return n
}

func results(ctx context.Context, s storage.Store, ref tasklet.LinesRef, to func(tasklet.Result)) error {
	r, err := lines.Open(ctx, storage.Section(s, ref.Key), ref.Size)
	if err != nil {
		return err
	}
	for one, err := range lines.As[tasklet.Result](r.Values(ctx, 0, r.Len())) {
		if err != nil {
			return err
		}
		to(one)
	}
	return nil
}
