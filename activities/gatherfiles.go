package activities

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

// Files that lie near one another in one object are read with one request, and such
// parts side by side, ahead of what is written: so a store's delay does not count for
// each file. In memory are at most maxAhead parts, or readAhead of a larger file.
const (
	maxTogether = 200       // files
	maxGap      = 64 << 10  // bytes between two that are read and thrown away
	maxPart     = 256 << 10 // bytes, but for one file alone
	maxAhead    = 16
)

var readAhead = storage.Parallel{PartSize: 2 << 20, Streams: 3}

// together are files of one object, in order, that are read with one request: one
// alone if it is compressed.
type together struct {
	files      []tasklet.FileRef
	partitions int64 // so far, with those of the files

	read chan struct{} // closed when data or err is there; nil for what is not read ahead
	data *bytes.Buffer
	err  error
}

func (t *together) from() int64 { return t.files[0].Offset }

func (t *together) end() int64 {
	last := t.files[len(t.files)-1]
	return last.Offset + last.Size
}

// takes tells whether another file belongs to them.
func (t *together) takes(ref tasklet.FileRef) bool {
	return len(t.files) > 0 && len(t.files) < maxTogether && !ref.IsPacked() && !t.files[0].IsPacked() &&
		ref.Key == t.files[0].Key && ref.Offset >= t.end() && ref.Offset-t.end() <= maxGap &&
		ref.Offset+ref.Size-t.from() <= maxPart
}

// content writes the files that all partitions gave as an output, one behind the other.
func (g *gatherer) content(ctx context.Context, w io.Writer, output string) error {
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	var queue []*together
	var free []*bytes.Buffer
	write := func(most int) error {
		for ; len(queue) > most; queue = queue[1:] {
			t := queue[0]
			if err := g.copy(ctx, w, t); err != nil {
				return err
			}
			if t.data != nil {
				free = append(free, t.data)
			}
			g.done.Store(t.partitions)
		}
		return nil
	}
	next := &together{}
	for one, err := range g.partitions(ctx) {
		if err != nil {
			return err
		}
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
		if len(next.files) > 0 && !next.takes(ref) {
			wait := 0 // what is large has no place in memory
			if next.isSmall() {
				wait = maxAhead - 1
				if next.data = new(bytes.Buffer); len(free) > 0 {
					next.data, free = free[len(free)-1], free[:len(free)-1]
				}
				g.readAhead(ctx, &reading, next)
			}
			queue, next = append(queue, next), &together{}
			if err := write(wait); err != nil {
				return err
			}
		}
		next.files, next.partitions = append(next.files, ref), int64(one.Partition)+1
	}
	if len(next.files) > 0 {
		queue = append(queue, next)
	}
	return write(0)
}

func (t *together) isSmall() bool { return !t.files[0].IsPacked() && t.end()-t.from() <= maxPart }

// readAhead begins to read what is small.
func (g *gatherer) readAhead(ctx context.Context, reading *sync.WaitGroup, t *together) {
	size := t.end() - t.from()
	t.data.Reset()
	t.read = make(chan struct{})
	reading.Go(func() {
		defer close(t.read)
		r, _, err := g.store.Get(ctx, t.files[0].Key, t.from(), size)
		if err != nil {
			t.err = err
			return
		}
		t.data.Grow(int(size) + bytes.MinRead)
		_, err = t.data.ReadFrom(r)
		t.err = errors.Join(err, r.Close())
	})
}

// copy writes files, checked against their hashes.
func (g *gatherer) copy(ctx context.Context, w io.Writer, t *together) (err error) {
	switch {
	case t.files[0].IsPacked():
		return g.copyPacked(ctx, w, t.files[0])
	case t.read != nil:
		<-t.read
		if t.err != nil {
			return t.err
		}
		return t.copy(w, t.data)
	}
	r, _, err := storage.GetParallel(ctx, g.store, t.files[0].Key, t.from(), t.end()-t.from(), readAhead)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return t.copy(w, r)
}

func (t *together) copy(w io.Writer, r io.Reader) error {
	at := t.from()
	for _, file := range t.files {
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

// copyPacked writes a compressed file as it was.
func (l *lister) copyPacked(ctx context.Context, w io.Writer, file tasklet.FileRef) error {
	packed := piped(func(w io.Writer) error {
		return storage.CopyVerified(ctx, w, l.store, storage.Content{Key: file.Key, Size: file.Packed.Size, SHA256: file.Packed.SHA256})
	})
	defer packed.Close()
	hashed, digest := storage.HashWriter(w)
	if err := decompress(hashed, packed, file.Key, file.Size); err != nil {
		return err
	}
	return check(file, digest)
}

// decompress tells an object that is damaged from one that cannot be read.
func decompress(w io.Writer, r io.Reader, key string, most int64) error {
	source := &source{Reader: r}
	err := tree.Decompress(w, source, most)
	var bad *tree.Error
	switch {
	case source.err != nil: // what Decompress says follows from it
		return fmt.Errorf("read %q: %w", key, source.err)
	case errors.As(err, &bad):
		return fmt.Errorf("read %q: %w: %w", key, storage.ErrCorrupt, err)
	}
	return err
}

// source remembers why it could not be read.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
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
