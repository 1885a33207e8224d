package harness

import (
	"context"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
)

// SegmentsBefore gives the segments of a step that were stored before a moment.
func SegmentsBefore(ctx context.Context, s storage.Store, r starter.Run, step string, moment time.Time) (found []storage.Info, err error) {
	prefix := api.StepPrefix(r.App, r.Run, step) + "segments/"
	for info, err := range storage.All(ctx, s, storage.ListOptions{Prefix: prefix}) {
		if err != nil {
			return nil, err
		}
		if info.Modified.Before(moment) {
			found = append(found, info)
		}
	}
	return found, nil
}

// Done gives the partitions that have ended well, by the results in segments.
func Done(ctx context.Context, s storage.Store, segments []storage.Info) (map[int]bool, error) {
	done := map[int]bool{}
	for _, info := range segments {
		r, err := lines.Open(ctx, storage.Section(s, info.Key), info.Size)
		if err != nil {
			return nil, err
		}
		for one, err := range lines.As[tasklet.Result](r.Values(ctx, 0, r.Len())) {
			if err != nil {
				return nil, err
			}
			if one.Outcome == tasklet.Succeeded {
				done[one.Partition] = true
			}
		}
	}
	return done, nil
}
