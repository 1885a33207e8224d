// Package stream holds readers that all of storage uses: those that end with their
// context, and those that fetch ranges side by side.
package stream

import (
	"context"
	"io"
)

// ReadFunc is a function as an io.Reader.
type ReadFunc func([]byte) (int, error)

// Read implements io.Reader.
func (f ReadFunc) Read(p []byte) (int, error) { return f(p) }

// WithContext reads from r, and ends with the context's error once that is cancelled.
func WithContext(ctx context.Context, r io.Reader) io.Reader {
	return ReadFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}
