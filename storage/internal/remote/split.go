package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/baas-batch/baas/storage/internal/stream"
)

// Plan says how large the parts of a stream are whose length nobody knows.
type Plan struct {
	First int64 // bytes of each of the first parts
	Most  int64 // bytes that a part may grow to; at least First
	Parts int   // how many there may be
	// Memory bounds, in bytes, the parts that are held at a time. A part that is
	// larger goes alone.
	Memory int64
}

// NewPlan is the plan of all backends; firstSize 0 is 6 MiB.
func NewPlan(firstSize int64, parts int) Plan {
	return Plan{First: cmp.Or(firstSize, 6<<20), Most: 64 << 20, Parts: parts, Memory: 24 << 20}
}

// Size is the number of bytes of part n, counted from 1. Parts grow, so that short
// streams take little memory and long ones few parts: the size is doubled after
// each tenth of the parts.
func (p Plan) Size(n int) int64 {
	size := p.First
	for range (n - 1) / max(p.Parts/10, 1) {
		if size >= p.Most/2 {
			return max(p.Most, p.First)
		}
		size *= 2
	}
	return size
}

// Part is one part of a stream. Body is the caller's until send returns.
type Part struct {
	Number int // from 1
	Body   []byte
}

// Sinks take what Split reads: either whole, once, for a stream that is shorter than
// its first part, or begin, send for each part, side by side, and join at the end.
type Sinks struct {
	Whole func(context.Context, []byte) error
	Begin func(context.Context) error
	Send  func(context.Context, Part) error
	Join  func(ctx context.Context, parts int) error // see Finish
	// Abort throws the parts away; it is called after an error of Begin and later.
	// It must leave those of a Join that may still take effect.
	Abort func(context.Context) error
}

const (
	// abortTime bounds the cleaning up after a failure, whose context has mostly ended.
	abortTime = 20 * time.Second
	// finishTime is how long a call goes on after its context that must not be left
	// half-way.
	finishTime = 20 * time.Second
	// Settled is after what time a call has no effect any more whose answer did not
	// come. Servers go on with a call whose client has left.
	Settled = time.Hour
)

// Finish has do go on for a while after ctx has ended, so that it is known what became
// of it.
func Finish(ctx context.Context, do func(context.Context) error) error {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(finishTime, cancel) })()
	return do(own)
}

// ErrTooLong: the stream has more bytes than the plan's parts can hold.
var ErrTooLong = errors.New("the stream is too long")

// Split reads r to its end and has it sent. It returns the bytes of r.
func Split(ctx context.Context, r io.Reader, plan Plan, to Sinks) (size int64, err error) {
	s := splitter{plan: plan, budget: semaphore.NewWeighted(plan.Memory), to: to}
	first, last, err := s.read(ctx, r, 1)
	if err != nil {
		return 0, err
	}
	if last {
		return int64(len(first.Body)), to.Whole(ctx, first.Body)
	}
	parts := 0
	if err = to.Begin(ctx); err == nil {
		size, parts, err = s.parts(ctx, r, first)
	}
	if err == nil {
		err = Finish(ctx, func(ctx context.Context) error { return to.Join(ctx, parts) })
	}
	if err == nil {
		return size, nil
	}
	cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	if left := to.Abort(cleaning); left != nil {
		err = errors.Join(err, fmt.Errorf("its parts are left for the sweep: %w", left))
	}
	return 0, err
}

// parts sends a stream that goes on after its first part.
func (s *splitter) parts(ctx context.Context, r io.Reader, part Part) (size int64, parts int, err error) {
	cancellable, stop := context.WithCancel(ctx)
	defer stop()
	group, sending := errgroup.WithContext(cancellable)
	for last := false; len(part.Body) > 0; {
		next := part // part is read anew meanwhile
		size, parts = size+int64(len(next.Body)), next.Number
		group.Go(func() error {
			defer s.release(next)
			return s.to.Send(sending, next)
		})
		if last {
			break
		}
		if part, last, err = s.read(sending, r, parts+1); err != nil {
			failed := sending.Err() != nil && ctx.Err() == nil // a part, not the stream
			stop()
			if sent := group.Wait(); failed {
				err = sent
			}
			return size, parts, err
		}
	}
	return size, parts, group.Wait()
}

type splitter struct {
	plan   Plan
	budget *semaphore.Weighted
	to     Sinks

	mu   sync.Mutex
	free [][]byte // buffers of the size of the moment
}

// read fills the next part; last tells that the stream has ended.
func (s *splitter) read(ctx context.Context, r io.Reader, n int) (p Part, last bool, err error) {
	if n > s.plan.Parts {
		more, err := fill(stream.WithContext(ctx, r), make([]byte, 1), 1)
		switch {
		case len(more) > 0:
			return p, false, fmt.Errorf("%w: more than %d parts", ErrTooLong, s.plan.Parts)
		case err == io.EOF:
			return Part{Number: n}, true, context.Cause(ctx)
		}
		return p, false, err
	}
	size := s.plan.Size(n)
	if err := s.budget.Acquire(ctx, s.weight(size)); err != nil {
		return p, false, err
	}
	p.Number = n
	p.Body, err = fill(stream.WithContext(ctx, r), s.buffer(n, size), size)
	if err == io.EOF {
		// The context may have ended with the stream.
		return p, true, context.Cause(ctx)
	}
	return p, false, err
}

// maxEmptyReads is how often in a row a reader may give neither bytes nor an error.
const maxEmptyReads = 100

// fill reads size bytes into b, or into a longer one; fewer come with the reader's
// own error. Only io.EOF is an end: a stream that was cut gives io.ErrUnexpectedEOF.
func fill(r io.Reader, b []byte, size int64) ([]byte, error) {
	for filled, empty := 0, 0; ; {
		n, err := r.Read(b[filled:])
		filled += n
		switch {
		case int64(filled) == size && err == io.EOF:
			return b[:filled], nil // it comes again
		case int64(filled) == size || err != nil:
			return b[:filled], err
		}
		if empty++; n > 0 {
			empty = 0
		} else if empty == maxEmptyReads {
			return b[:filled], io.ErrNoProgress
		}
		if filled == len(b) {
			longer := make([]byte, min(int64(len(b))*16, size))
			copy(longer, b)
			b = longer
		}
	}
}

func (s *splitter) weight(size int64) int64 { return min(size, s.plan.Memory) }

// short is as much of a stream, in bytes, as is read before it gets a whole part's
// buffer: most objects are small.
const short = 64 << 10

func (s *splitter) buffer(n int, size int64) []byte {
	if n == 1 {
		return make([]byte, min(short, size))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		if int64(cap(b)) >= size {
			return b[:size]
		}
		s.free = nil // too small from now on
	}
	return make([]byte, size)
}

func (s *splitter) release(p Part) {
	size := int64(cap(p.Body))
	s.mu.Lock()
	s.free = append(s.free, p.Body[:0])
	s.mu.Unlock()
	s.budget.Release(s.weight(size))
}
