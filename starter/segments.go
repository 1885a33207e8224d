package starter

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
)

// segment is an object with the logs of some partitions; see tasklet.Segments.
type segment struct {
	storage.Info
	activity                  string
	first, generation, number int
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
	base := prefix + "segments/"
	listed := base
	if activity != "" {
		listed = api.SegmentPrefix(prefix, activity)
	}
	for info, err := range storage.All(ctx, f.store, storage.ListOptions{Prefix: listed}) {
		if err != nil {
			return nil, err
		}
		s, ok := parseSegment(strings.TrimPrefix(info.Key, base))
		// A task holds no partition before its first one.
		if p := f.options.Partition; !ok || f.read[info.Key] || p >= 0 && s.first > p {
			continue
		}
		s.Info = info
		found = append(found, s)
	}
	slices.SortFunc(found, func(a, b segment) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.generation, b.generation), cmp.Compare(a.number, b.number))
	})
	return found, nil
}

// parseSegment reads what api.SegmentKey wrote after its prefix.
func parseSegment(name string) (s segment, ok bool) {
	parts := strings.Split(name, ".")
	if len(parts) != 4 {
		return s, false
	}
	s.activity = parts[0]
	for i, into := range []*int{&s.first, &s.generation, &s.number} {
		n, err := strconv.Atoi(parts[i+1])
		if err != nil || n < 0 {
			return s, false
		}
		*into = n
	}
	return s, true
}

// manifested finds a partition of an activity that has ended, and that activity; nil
// while there is none.
func (f *follower) manifested(ctx context.Context, prefix string, partition int) (*tasklet.Result, string, error) {
	base := api.ManifestPrefix(prefix)
	var best storage.Info
	activity, first := "", -1
	for info, err := range storage.All(ctx, f.store, storage.ListOptions{Prefix: base}) {
		if err != nil {
			return nil, "", err
		}
		name, n, ok := parseManifest(strings.TrimPrefix(info.Key, base))
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
	for raw, err := range r.Values(ctx, partition-first, partition-first+1) {
		var result tasklet.Result
		if err == nil {
			err = json.Unmarshal(raw, &result)
		}
		if err != nil {
			return nil, "", fmt.Errorf("manifest %s: %w", best.Key, err)
		}
		return &result, activity, nil
	}
	return nil, "", nil // it belongs to an activity that has not ended
}

// parseManifest reads what api.ManifestKey wrote after its prefix. Several leaders may
// have written one of the same activity; what counts is the same in all.
func parseManifest(name string) (activity string, first int, ok bool) {
	words := strings.Split(name, ".")
	if len(words) < 2 {
		return "", 0, false
	}
	first, err := strconv.Atoi(words[1])
	return words[0], first, err == nil && first >= 0
}

// logOf names the log of a result as the live one is named, and says where it lies.
// A result without a log, or whose log is an object of its own, has none here.
func logOf(prefix, step string, r tasklet.Result) (id logID, p place, ok bool) {
	if r.Log == nil {
		return id, p, false
	}
	base := prefix + "segments/"
	s, ok := parseSegment(strings.TrimPrefix(r.Log.Key, base))
	if !ok || !strings.HasPrefix(r.Log.Key, base) {
		return id, p, false
	}
	attempt := max(r.Attempt, 1)
	return logID{
		key:  api.LogKey(prefix, r.Partition, attempt, s.generation),
		step: step, partition: r.Partition, attempt: attempt, generation: s.generation,
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
	for raw, err := range r.Values(ctx, 0, r.Len()) {
		var one tasklet.Result
		if err == nil {
			err = json.Unmarshal(raw, &one)
		}
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
