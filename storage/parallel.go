package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/baas-batch/baas/storage/internal/stream"
)

// Parallel says how GetParallel reads. It holds Streams parts in memory.
type Parallel struct {
	PartSize int64 // bytes; 0: 4 MiB
	Streams  int   // parts that are under way at a time; 0: 4; 1: like Get
}

// GetParallel is Get for what may be large: where that is faster (see
// Capabilities.ParallelGet), what is longer than a part is fetched in ranges side by
// side, ahead of the reader. An object that is replaced in between is ErrChanged.
func GetParallel(ctx context.Context, s Store, key string, offset, length int64, p Parallel) (io.ReadCloser, Info, error) {
	partSize, streams := cmp.Or(max(p.PartSize, 0), 4<<20), cmp.Or(max(p.Streams, 0), 4)
	if !s.Capabilities().ParallelGet || streams == 1 || length >= 0 && length <= partSize {
		return s.Get(ctx, key, offset, length)
	}
	ctx, stop := context.WithCancel(ctx)
	// The first part tells how many more there are.
	first, info, err := s.Get(ctx, key, offset, partSize)
	if err != nil {
		stop()
		return nil, info, err
	}
	end := info.Size
	if length >= 0 && length < end-offset {
		end = offset + length
	}
	if end-offset <= partSize {
		return stopping{first, stop}, info, nil
	}
	fetch := func(ctx context.Context, from int64, into []byte) (int, error) {
		if from == offset {
			return readAll(first, into)
		}
		body, now, err := s.Get(ctx, key, from, int64(len(into)))
		if err != nil {
			return 0, err
		}
		if now.ETag != info.ETag {
			return 0, errors.Join(fmt.Errorf("get %q: %w", key, ErrChanged), body.Close())
		}
		return readAll(body, into)
	}
	return stream.Ahead(ctx, stop, offset, end, partSize, streams, fetch), info, nil
}

// stopping ends a context when it is closed.
type stopping struct {
	io.ReadCloser
	stop func()
}

func (s stopping) Close() error {
	defer s.stop()
	return s.ReadCloser.Close()
}

// readAll fills b from r, and closes that.
func readAll(r io.ReadCloser, b []byte) (int, error) {
	n, err := io.ReadFull(r, b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, errors.Join(err, r.Close())
}
