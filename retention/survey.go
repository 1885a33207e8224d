package retention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
)

// ErrUnreadable is the error for an app with a record that is none, or with an open
// run whose input is not JSON. It is not swept: what that run refers to is not known.
var ErrUnreadable = errors.New("what a run refers to cannot be read")

const (
	maxRecord = 16 << 20 // bytes
	// parallel is how many calls to the store are under way at a time.
	parallel = 16
)

// NextApp gives the app that follows another one in storage, "" after the last.
func NextApp(ctx context.Context, s storage.Store, after string) (string, error) {
	from := ""
	if after != "" {
		from = past(api.AppPrefix(after))
	}
	page, err := s.List(ctx, storage.ListOptions{Prefix: api.RunsPrefix, After: from, Limit: 1})
	if err != nil || len(page.Items) == 0 {
		return "", err
	}
	app, _, _ := strings.Cut(strings.TrimPrefix(page.Items[0].Key, api.RunsPrefix), "/")
	return app, nil
}

// past is where a listing goes on behind all keys with a prefix that ends in "/".
func past(prefix string) string { return strings.TrimSuffix(prefix, "/") + "0" } // '0' follows '/'

// runsOf calls each with the runs of an app of which storage has anything. It reads
// one page of keys at a time, and leaps over the rest of the run that a page ends in.
func (s *Sweeper) runsOf(ctx context.Context, app string, each func(run, instance string) error) error {
	prefix, last := api.AppPrefix(app), ""
	opts := storage.ListOptions{Prefix: prefix}
	for {
		page, err := s.Store.List(ctx, opts)
		if err != nil {
			return err
		}
		for _, info := range page.Items {
			run, _, _ := strings.Cut(strings.TrimPrefix(info.Key, prefix), "/")
			if run == last {
				continue
			}
			last = run
			if instance, ok := instanceOf(app, run); ok { // else it is not ours to touch
				if err := each(run, instance); err != nil {
					return err
				}
			}
		}
		if page.Next == "" {
			return nil
		}
		opts.After = past(prefix + last + "/")
		s.progress()
	}
}

// seen is what storage says of a run.
type seen struct {
	api.RunRecord
	made bool // here, as there is none
}

// survey reads the records of an app's runs; those of open runs are left out. What
// has none gets one, which goes by the same rules as the others.
func (s *Sweeper) survey(ctx context.Context, app string) ([]api.RunRecord, error) {
	var runs []*seen
	group, reading := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	listed := s.runsOf(reading, app, func(run, instance string) error {
		r := &seen{}
		runs = append(runs, r)
		group.Go(func() (err error) {
			*r, err = s.record(reading, app, run, instance)
			return err
		})
		return nil
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if listed != nil {
		return nil, listed
	}
	ended := make([]api.RunRecord, 0, len(runs))
	for _, r := range runs {
		if r.Run != "" && !r.made {
			ended = append(ended, r.RunRecord)
		}
	}
	newest := newestOf(ended)
	for _, r := range runs {
		if !r.made {
			continue
		}
		if newest != nil {
			r.Retention = newest.Retention
		}
		if !s.DryRun {
			if err := put(ctx, s.Store, app, r.RunRecord); err != nil {
				return nil, err
			}
			s.progress()
		}
		ended = append(ended, r.RunRecord)
	}
	return ended, nil
}

// record reads the record of a run. One is made up for a run that has none and is not
// open: the rules count from now. The zero record stands for an open run.
func (s *Sweeper) record(ctx context.Context, app, run, instance string) (seen, error) {
	r, err := s.load(ctx, app, run)
	if !errors.Is(err, storage.ErrNotExist) {
		return seen{RunRecord: r}, err
	}
	open, err := s.Runs.Open(ctx, instance)
	if err != nil {
		return seen{}, fmt.Errorf("%w: instance %s: %w", ErrNoAnswer, instance, err)
	}
	if open == run {
		return seen{}, nil
	}
	// It is written before a run closes: so there is one if it has closed just now.
	if r, err = s.load(ctx, app, run); !errors.Is(err, storage.ErrNotExist) {
		return seen{RunRecord: r}, err
	}
	now := s.now().UTC()
	return seen{api.RunRecord{Run: run, Instance: instance, Status: api.StatusFailed, Started: now, Ended: now, Found: true}, true}, nil
}

func (s *Sweeper) load(ctx context.Context, app, run string) (api.RunRecord, error) {
	var r api.RunRecord
	key := api.RunRecordKey(app, run)
	raw, _, err := storage.GetBytes(ctx, s.Store, key, maxRecord)
	if errors.Is(err, storage.ErrTooLarge) {
		return r, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(raw, &r); err != nil || r.Run != run {
		return r, fmt.Errorf("%w: %s is no record of the run", ErrUnreadable, key)
	}
	return r, nil
}
