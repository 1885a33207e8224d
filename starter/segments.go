package starter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
)

// segment is an object with the logs of some partitions; see tasklet.Segments.
type segment struct {
	storage.Info
	api.SegmentName
}

// segments gives what the segments of a step hold, in the order of their tasks.
func (f *follower) segments(ctx context.Context, prefix, step string) error {
	var of string // the one activity whose segments matter
	if f.options.Partition >= 0 {
		result, activity, err := f.manifested(ctx, prefix, f.options.Partition)
		switch {
		case err != nil:
			return err
		case result == nil:
		case result.Attempt <= 1:
			return f.fromResult(ctx, prefix, step, *result)
		default:
			of = activity
		}
	}
	found, err := f.unread(ctx, prefix, of)
	if err != nil {
		return err
	}
	for _, s := range found {
		if err := f.fromSegment(ctx, prefix, step, s); err != nil {
			return err
		}
		f.read[s.Key] = true
	}
	return nil
}

// unread lists the segments that were not read yet, of one activity or of all ("").
func (f *follower) unread(ctx context.Context, prefix, activity string) (found []segment, err error) {
	listed := prefix + "segments/"
	if activity != "" {
		listed = api.SegmentPrefix(prefix, activity)
	}
	for info, err := range storage.All(ctx, f.store, storage.ListOptions{Prefix: listed}) {
		if err != nil {
			return nil, err
		}
		name, ok := api.ParseSegmentKey(prefix, info.Key)
		// A task holds no partition before its first one.
		if p := f.options.Partition; !ok || f.read[info.Key] || p >= 0 && name.First > p {
			continue
		}
		found = append(found, segment{info, name})
	}
	slices.SortFunc(found, func(a, b segment) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Number, b.Number))
	})
	return found, nil
}

// manifested finds a partition of an activity that has ended, and that activity; nil
// while there is none.
func (f *follower) manifested(ctx context.Context, prefix string, partition int) (*tasklet.Result, string, error) {
	var best storage.Info
	activity, first := "", -1
	for info, err := range storage.All(ctx, f.store, storage.ListOptions{Prefix: api.ManifestPrefix(prefix)}) {
		if err != nil {
			return nil, "", err
		}
		// Several leaders may have written one: what counts is the same in all.
		name, n, ok := api.ParseManifestKey(prefix, info.Key)
		if ok && n <= partition && n >= first {
			best, activity, first = info, name, n
		}
	}
	if first < 0 {
		return nil, "", nil
	}
	r, err := lines.Open(ctx, storage.Section(f.store, best.Key), best.Size)
	if err != nil {
		return nil, "", fmt.Errorf("manifest %s: %w", best.Key, err)
	}
	for result, err := range lines.As[tasklet.Result](r.Values(ctx, partition-first, partition-first+1)) {
		if err != nil {
			return nil, "", fmt.Errorf("manifest %s: %w", best.Key, err)
		}
		return &result, activity, nil
	}
	return nil, "", nil // it belongs to an activity that has not ended
}

// logOf names the log of a result as the live one is named, and says where it lies.
// A result without a log, or whose log is an object of its own, has none here.
func logOf(prefix, step string, r tasklet.Result) (id logID, p place, ok bool) {
	if r.Log == nil {
		return id, p, false
	}
	s, ok := api.ParseSegmentKey(prefix, r.Log.Key)
	if !ok {
		return id, p, false
	}
	attempt := max(r.Attempt, 1)
	return logID{
		key:  api.LogKey(prefix, r.Partition, attempt, s.Generation),
		step: step, partition: r.Partition, attempt: attempt, generation: s.Generation,
	}, place{r.Log.Key, r.Log.Offset, r.Log.Size}, true
}

func (f *follower) fromResult(ctx context.Context, prefix, step string, r tasklet.Result) error {
	id, p, ok := logOf(prefix, step, r)
	if !ok || f.state(id).done {
		return nil
	}
	return f.fromStorage(ctx, id, p)
}

// fromSegment gives the logs of one segment with one read of them all.
func (f *follower) fromSegment(ctx context.Context, prefix, step string, s segment) error {
	r, err := lines.Open(ctx, storage.Section(f.store, s.Key), s.Size)
	if err != nil {
		return fmt.Errorf("segment %s: %w", s.Key, err)
	}
	var results []tasklet.Result
	for one, err := range lines.As[tasklet.Result](r.Values(ctx, 0, r.Len())) {
		if err != nil {
			return fmt.Errorf("segment %s: %w", s.Key, err)
		}
		if one.Log == nil || one.Log.Key != s.Key || f.options.Partition >= 0 && one.Partition != f.options.Partition {
			continue
		}
		results = append(results, one)
	}
	if len(results) == 0 {
		return nil
	}
	slices.SortFunc(results, func(a, b tasklet.Result) int { return cmp.Compare(a.Log.Offset, b.Log.Offset) })
	last := results[len(results)-1].Log
	at := results[0].Log.Offset
	object, _, err := f.store.Get(ctx, s.Key, at, last.Offset+last.Size-at)
	if err != nil {
		return err
	}
	defer object.Close()
	for _, one := range results {
		if one.Log.Offset < at {
			continue // no executor writes so
		}
		if _, err := io.CopyN(io.Discard, object, one.Log.Offset-at); err != nil {
			return early(err)
		}
		at = one.Log.Offset
		id, _, ok := logOf(prefix, step, one)
		if !ok {
			continue
		}
		if f.logs[id.key] != nil { // some of it was given live
			if err := f.fromResult(ctx, prefix, step, one); err != nil {
				return err
			}
			continue
		}
		if err := f.pass(id, io.LimitReader(object, one.Log.Size)); err != nil {
			return early(err)
		}
		at += one.Log.Size
	}
	return nil
}

func early(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
