package executor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	"golang.org/x/sync/errgroup"

	"github.com/baas-batch/baas/tasklet/tree"
)

// parallelGets is how many parts of one download are fetched at once. All
// downloads together are bounded by the store's slots.
const parallelGets = 4

// span is a piece of what is fetched: so many bytes from an offset on.
type span struct{ offset, size int64 }

// cut adds a range to spans, in pieces of at most part bytes.
func cut(spans []span, offset, size, part int64) []span {
	for end := offset + size; offset < end; offset += part {
		spans = append(spans, span{offset, min(part, end-offset)})
	}
	return spans
}

// landing is where spans are written to, several at a time.
type landing interface {
	// at gives a writer for what lies from an offset on.
	at(offset int64) io.WriteCloser
	// verify reads back what was written, in order. What lies before an offset is
	// there when arrived has returned. Its error is a *mismatchError for content
	// that is not as it was stored.
	verify(arrived func(offset int64) error) error
}

// fetchSpans fetches spans of an object, which count from base, side by side. Each
// goes on by itself where it was cut. Errors as of download.
func (s *store) fetchSpans(ctx context.Context, d download, base int64, spans []span, to landing) error {
	for mismatches := 1; ; mismatches++ {
		err := s.fetchOnce(ctx, d, base, spans, to)
		var mismatch *mismatchError
		if !errors.As(err, &mismatch) {
			return err
		}
		if mismatches >= maxMismatches {
			return &unavailableError{err}
		}
		s.log.Warn("fetched again", "task", d.taskID, "role", d.request.Role, "error", err)
	}
}

func (s *store) fetchOnce(ctx context.Context, d download, base int64, spans []span, to landing) error {
	done := make([]chan struct{}, len(spans))
	for i := range done {
		done[i] = make(chan struct{})
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelGets + 1)
	group.Go(func() error {
		next := 0
		return to.verify(func(offset int64) error {
			for ; next < len(spans) && spans[next].offset < offset; next++ {
				select {
				case <-done[next]:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return context.Cause(ctx) // nobody may want the rest
		})
	})
	for i, one := range spans {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			err := s.fetchSpan(ctx, d, base, one, to)
			if err == nil {
				close(done[i])
			}
			return err
		})
	}
	return group.Wait()
}

func (s *store) fetchSpan(ctx context.Context, d download, base int64, one span, to landing) error {
	a := &access{url: d.source.URL, taskID: d.taskID, request: d.request, fromGrant: grantURL, bulk: true}
	return s.persist(ctx, a, policy{refusals: finalRefusals}, func(ctx context.Context, url string) error {
		body, err := s.get(ctx, url, base+one.offset, one.size)
		if err != nil {
			return err
		}
		w := to.at(one.offset)
		n, err := land(w, body)
		_ = body.Close()
		if closed := w.Close(); closed != nil {
			return &localError{closed}
		}
		one.offset, one.size = one.offset+n, one.size-n
		if err == nil && one.size > 0 {
			err = fmt.Errorf("%d bytes missing: %w", one.size, io.ErrUnexpectedEOF)
		}
		return err
	})
}

// verifyStep is how many bytes are waited for at a time.
const verifyStep = 1 << 20

// verifyFile hashes a file whose content counts from an offset of the download.
func verifyFile(f io.ReaderAt, offset, size int64, want string, arrived func(int64) error) error {
	h := sha256.New()
	for at := int64(0); at < size; at += verifyStep {
		n := min(verifyStep, size-at)
		if err := arrived(offset + at + n); err != nil {
			return err
		}
		if _, err := io.Copy(h, io.NewSectionReader(f, at, n)); err != nil {
			return &localError{err}
		}
	}
	if have := hex.EncodeToString(h.Sum(nil)); have != want {
		return &mismatchError{have, want}
	}
	return nil
}

// fileLanding is one file.
type fileLanding struct {
	file   *os.File
	size   int64
	sha256 string
}

func (l *fileLanding) at(offset int64) io.WriteCloser {
	return struct {
		io.Writer
		io.Closer
	}{io.NewOffsetWriter(l.file, offset), io.NopCloser(nil)}
}

func (l *fileLanding) verify(arrived func(int64) error) error {
	return verifyFile(l.file, 0, l.size, l.sha256, arrived)
}

// treeLanding is the files of a directory, as they lie one behind the other.
type treeLanding struct {
	root  *os.Root
	files []tree.Entry // by offset; those that are fetched
}

func (l *treeLanding) at(offset int64) io.WriteCloser { return &treeWriter{landing: l, offset: offset} }

func (l *treeLanding) verify(arrived func(int64) error) error {
	for _, e := range l.files {
		f, err := l.root.Open(e.Path)
		if err != nil {
			return &localError{err}
		}
		err = verifyFile(f, e.Offset, e.Size, e.SHA256.String(), arrived)
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	return nil
}

// treeWriter writes on from one file into the next.
type treeWriter struct {
	landing *treeLanding
	offset  int64
	file    *os.File // nil before the first byte of one
	end     int64    // of the file
	begin   int64
}

// Write implements io.Writer.
func (w *treeWriter) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if w.file == nil || w.offset >= w.end {
			if err := w.next(); err != nil {
				return n, err
			}
		}
		m, err := w.file.WriteAt(p[n:n+int(min(int64(len(p)-n), w.end-w.offset))], w.offset-w.begin)
		n, w.offset = n+m, w.offset+int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (w *treeWriter) next() error {
	if err := w.Close(); err != nil {
		return err
	}
	files := w.landing.files
	i := sort.Search(len(files), func(i int) bool { return files[i].Offset+files[i].Size > w.offset })
	if i == len(files) || files[i].Offset > w.offset {
		return fmt.Errorf("no file at offset %d", w.offset)
	}
	f, err := w.landing.root.OpenFile(files[i].Path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	w.file, w.begin, w.end = f, files[i].Offset, files[i].Offset+files[i].Size
	return nil
}

// Close implements io.Closer.
func (w *treeWriter) Close() error {
	if w.file == nil {
		return nil
	}
	f := w.file
	w.file = nil
	return f.Close()
}
