package remote

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Reopen opens the rest of a body from an absolute offset of the object, which must
// still be the same object.
type Reopen func(ctx context.Context, offset int64) (io.ReadCloser, error)

// maxCuts is how often in a row a download may be cut without a byte in between.
const maxCuts = 5

// Resume reads a body of exactly length bytes that begins at offset, and goes on by
// reopen when the connection is cut.
func Resume(ctx context.Context, body io.ReadCloser, offset, length int64, reopen Reopen) io.ReadCloser {
	return &resuming{ctx: ctx, body: body, offset: offset, left: length, reopen: reopen}
}

type resuming struct {
	ctx          context.Context
	body         io.ReadCloser // nil after a cut
	offset, left int64
	reopen       Reopen
	cuts         int // in a row
}

func (r *resuming) Read(p []byte) (int, error) {
	for {
		if r.left <= 0 {
			return 0, io.EOF
		}
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		if r.body == nil {
			body, err := r.reopen(r.ctx, r.offset)
			if err != nil {
				return 0, err
			}
			r.body = body
		}
		n, err := r.body.Read(p[:min(int64(len(p)), r.left)])
		r.offset, r.left = r.offset+int64(n), r.left-int64(n)
		if n > 0 {
			r.cuts = 0
			return n, nil // an error comes again, or does not matter any more
		}
		if err == nil {
			continue
		}
		r.body.Close()
		r.body = nil
		if r.cuts++; r.cuts > maxCuts {
			return 0, fmt.Errorf("cut %d times in a row at byte %d, %d are missing: %w", r.cuts, r.offset, r.left, noEOF(err))
		}
		if err := Pause(r.ctx, r.cuts); err != nil {
			return 0, err
		}
	}
}

// noEOF: a body that is too short is no end.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *resuming) Close() error {
	r.left = 0
	if r.body == nil {
		return nil
	}
	return r.body.Close()
}

// Pause waits before another try: 100 ms, doubled each time, at most 5 s, with
// jitter.
func Pause(ctx context.Context, tries int) error {
	return Sleep(ctx, Jitter(min(100*time.Millisecond<<min(tries-1, 10), 5*time.Second)))
}
