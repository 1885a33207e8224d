package storage

import (
	"context"
	"io"
)

// Section gives a function that reads parts of one object, as lines.Open takes it.
func Section(s Store, key string) func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	return func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		r, _, err := s.Get(ctx, key, offset, length)
		return r, err
	}
}
