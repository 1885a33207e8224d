package retention

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
)

// Uploads aborts the unfinished multipart uploads that are older than UploadAge: of
// runs that are not open, and of files and bundles whose sender must be gone. With
// an app, only those of its runs. It gives how many there were. Errors: ErrForeign,
// ErrNoAnswer, and those of the store.
func (s *Sweeper) Uploads(ctx context.Context, app string) (int, error) {
	if err := s.checkHome(ctx); err != nil {
		return 0, err
	}
	prefixes := []string{api.RunsPrefix, "files/", "bundles/"}
	if app != "" {
		prefixes = []string{api.AppPrefix(app)}
	}
	aborted := 0
	for _, prefix := range prefixes {
		uploads, err := s.Store.ListUploads(ctx, prefix)
		if err != nil {
			return aborted, err
		}
		n, err := s.abort(ctx, uploads)
		aborted += n
		if err != nil {
			return aborted, err
		}
	}
	return aborted, nil
}

// abort aborts those uploads that may go. Those of one run follow one another, so
// that each run is asked for once, right before.
func (s *Sweeper) abort(ctx context.Context, uploads []storage.Upload) (aborted int, err error) {
	slices.SortFunc(uploads, func(a, b storage.Upload) int { return strings.Compare(a.Key, b.Key) })
	before := s.now().Add(-cmp.Or(s.UploadAge, DefaultUploadAge))
	var asked, open string // the run that was asked for, and what is open of its instance
	for _, u := range uploads {
		if !u.Created.Before(before) {
			continue
		}
		app, run, instance, ofRun := runOf(u.Key)
		if !ofRun && strings.HasPrefix(u.Key, api.RunsPrefix) {
			continue // not ours to touch
		}
		if ofRun && asked != run {
			if open, err = s.Runs.Open(ctx, instance); err != nil {
				return aborted, fmt.Errorf("%w: instance %s: %w", ErrNoAnswer, instance, err)
			}
			asked = run
		}
		if ofRun && open == run {
			continue
		}
		if !s.DryRun {
			if err := s.Store.AbortUpload(ctx, u.Key, u.ID); err != nil {
				return aborted, err
			}
		}
		aborted++
		s.progress()
		s.tell(Item{App: app, Run: run, What: WhatUpload, Key: u.Key, Reason: "unfinished since " + u.Created.UTC().Format(time.DateTime) + " UTC"})
	}
	return aborted, nil
}

// runOf names the run that a key belongs to.
func runOf(key string) (app, run, instance string, ok bool) {
	rest, ok := strings.CutPrefix(key, api.RunsPrefix)
	parts := strings.SplitN(rest, "/", 3)
	if !ok || len(parts) < 3 {
		return "", "", "", false
	}
	if instance, ok = instanceOf(parts[0], parts[1]); !ok {
		return "", "", "", false
	}
	return parts[0], parts[1], instance, true
}
