package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Copy copies an object, also between stores. count, if not nil, is told of each
// piece of bytes that has been read.
func Copy(ctx context.Context, from Store, key string, to Store, target string, count func(n int)) (_ Info, err error) {
	r, info, err := GetParallel(ctx, from, key, 0, -1, Parallel{})
	if err != nil {
		return Info{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	stored, err := to.Put(ctx, target, &whole{r: r, left: info.Size, count: count}, PutOptions{})
	if err != nil {
		return Info{}, fmt.Errorf("copy %q: %w", key, err)
	}
	return stored, nil
}

// whole fails instead of ending early, so that a part is never stored as the whole.
type whole struct {
	r     io.Reader
	left  int64
	count func(n int)
}

func (w *whole) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.left -= int64(n)
	if w.count != nil && n > 0 {
		w.count(n)
	}
	if err == io.EOF && w.left != 0 {
		return n, fmt.Errorf("%w: it ends %d bytes from its size", ErrCorrupt, w.left)
	}
	return n, err
}
