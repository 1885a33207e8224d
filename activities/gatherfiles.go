package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// Files that lie near one another in one object are read with one request.
const (
	maxTogether = 1000     // files
	maxGap      = 64 << 10 // bytes between two that are read and thrown away
)

// content writes the files that all partitions gave as an output, one behind the other.
func (g *gatherer) content(ctx context.Context, w io.Writer, output string) error {
	var together []tasklet.FileRef
	end := int64(0)
	partitions := int64(0)
	flush := func() error {
		err := g.copy(ctx, w, together)
		together = together[:0]
		g.done.Store(partitions)
		return err
	}
	for one, err := range g.partitions(ctx) {
		if err != nil {
			return err
		}
		partitions++
		if isNothing(one.Outputs[output]) {
			continue
		}
		ref, err := fileOf(one, output)
		if err == nil {
			err = g.mayRead(ref.Key)
		}
		if err != nil {
			return err
		}
		near := len(together) > 0 && len(together) < maxTogether && !ref.IsPacked() && !together[0].IsPacked() &&
			ref.Key == together[0].Key && ref.Offset >= end && ref.Offset-end <= maxGap
		if !near {
			if err := flush(); err != nil {
				return err
			}
		}
		together, end = append(together, ref), ref.Offset+ref.Size
	}
	return flush()
}

// copy writes files of one object, in order.
func (g *gatherer) copy(ctx context.Context, w io.Writer, files []tasklet.FileRef) (err error) {
	switch {
	case len(files) == 0:
		return nil
	case files[0].IsPacked():
		return g.copyPacked(ctx, w, files[0])
	}
	from, last := files[0].Offset, files[len(files)-1]
	r, _, err := storage.GetParallel(ctx, g.store, last.Key, from, last.Offset+last.Size-from, storage.Parallel{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	at := from
	for _, file := range files {
		if _, err := io.CopyN(io.Discard, r, file.Offset-at); err != nil {
			return tooShort(file, err)
		}
		hashed, digest := storage.HashWriter(w)
		if _, err := io.CopyN(hashed, r, file.Size); err != nil {
			return tooShort(file, err)
		}
		if err := check(file, digest); err != nil {
			return err
		}
		at = file.Offset + file.Size
	}
	return nil
}

func (g *gatherer) copyPacked(ctx context.Context, w io.Writer, file tasklet.FileRef) error {
	r, err := g.open(ctx, file)
	if err != nil {
		return err
	}
	defer r.Close()
	hashed, digest := storage.HashWriter(w)
	if _, err := io.Copy(hashed, r); err != nil {
		return fmt.Errorf("read %q: %w", file.Key, err)
	}
	return check(file, digest)
}

func check(file tasklet.FileRef, digest *storage.Digest) error {
	if digest.Size() != file.Size || !strings.EqualFold(digest.SHA256(), file.SHA256) {
		return fmt.Errorf("read %q: %w: %d bytes from offset %d", file.Key, storage.ErrCorrupt, file.Size, file.Offset)
	}
	return nil
}

func tooShort(file tasklet.FileRef, err error) error {
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: it ends before byte %d", storage.ErrCorrupt, file.Offset+file.Size)
	}
	return fmt.Errorf("read %q: %w", file.Key, err)
}
