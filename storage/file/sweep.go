package file

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/baas-batch/baas/storage"
)

const sweepEvery = time.Hour

// doneAge is how long a completed upload is remembered, so that repeating
// CompleteUpload succeeds: longer than any signed URL lives.
const doneAge = storage.MaxSignedTime + 24*time.Hour

// maybeSweep sweeps when the last time is long ago. Trouble is logged: it must
// not fail the Put that happens to come by.
func (s *Store) maybeSweep() {
	due, now := s.nextSweep.Load(), time.Now()
	if now.UnixNano() < due || !s.nextSweep.CompareAndSwap(due, now.Add(sweepEvery).UnixNano()) {
		return
	}
	if err := s.Sweep(context.Background()); err != nil {
		s.log.Warn("sweeping the file store", "dir", s.dir, "error", err)
	}
}

// Sweep removes temporary files that nobody has written to for Options.TempAge,
// and the memory of uploads that were completed long ago. Open does it, and Put
// once an hour. Unfinished uploads are the caller's: see ListUploads.
func (s *Store) Sweep(ctx context.Context) error {
	return errors.Join(s.sweepTemp(ctx), s.sweepUploads(ctx))
}

func (s *Store) sweepTemp(ctx context.Context) error {
	entries, err := readDir(s.root, tempDir)
	for _, entry := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fi, infoErr := s.temp.Lstat(entry.Name())
		if errors.Is(infoErr, fs.ErrNotExist) {
			continue
		}
		if infoErr == nil && time.Since(fi.ModTime()) > s.tempAge {
			infoErr = s.temp.RemoveAll(entry.Name())
		}
		err = errors.Join(err, infoErr)
	}
	return err
}

func (s *Store) sweepUploads(ctx context.Context) error {
	entries, err := readDir(s.root, uploadsDir)
	for _, entry := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		meta, readErr := s.readMeta(entry.Name())
		if readErr == nil && meta.Done != nil && time.Since(meta.Done.Modified) > doneAge {
			err = errors.Join(err, s.discardUpload(entry.Name()))
		}
	}
	return err
}
