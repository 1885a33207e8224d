package stream

import (
	"context"
	"io"
	"sync"
)

// Fetch fills into with the bytes from offset on; fewer come with an error, which is
// not io.EOF. It ends soon after its context.
type Fetch func(ctx context.Context, offset int64, into []byte) (n int, err error)

// Ahead reads the bytes from offset up to end in parts of partSize bytes, the last
// one may be shorter. The next parts are fetched side by side while one is read,
// parallel in all, each of which has a buffer. The error of a part comes where its
// bytes end. Close calls stop, which shall end ctx, and waits for what is under way.
func Ahead(ctx context.Context, stop func(), offset, end, partSize int64, parallel int, fetch Fetch) io.ReadCloser {
	a := &ahead{ctx: ctx, stop: stop, fetch: fetch, next: offset, end: end, partSize: partSize}
	for len(a.queue) < parallel && a.next < a.end {
		a.launch(nil)
	}
	return a
}

type ahead struct {
	ctx      context.Context
	stop     func()
	fetch    Fetch
	partSize int64
	next     int64 // offset of the part to launch next
	end      int64
	queue    []*part // the first one is being read
	err      error   // once there is one, for ever
	under    sync.WaitGroup
}

type part struct {
	done   chan struct{} // closed when the rest is set
	buffer []byte
	left   []byte // of what came
	err    error
}

// launch fetches the next part into buffer, or into a new one.
func (a *ahead) launch(buffer []byte) {
	offset, size := a.next, min(a.partSize, a.end-a.next)
	if buffer == nil {
		buffer = make([]byte, size)
	}
	p := &part{done: make(chan struct{}), buffer: buffer}
	a.queue, a.next = append(a.queue, p), offset+size
	a.under.Go(func() {
		defer close(p.done)
		n, err := a.fetch(a.ctx, offset, buffer[:size])
		p.left, p.err = buffer[:n], err
	})
}

func (a *ahead) Read(b []byte) (int, error) {
	for a.err == nil {
		if a.err = a.ctx.Err(); a.err != nil {
			break
		}
		if len(a.queue) == 0 {
			return 0, io.EOF
		}
		p := a.queue[0]
		<-p.done
		if len(p.left) > 0 {
			n := copy(b, p.left)
			p.left = p.left[n:]
			return n, nil
		}
		if a.err = p.err; a.err == nil {
			a.queue = a.queue[1:]
			if a.next < a.end {
				a.launch(p.buffer)
			}
			p.buffer = nil
		}
	}
	return 0, a.err
}

func (a *ahead) Close() error {
	a.stop()
	a.under.Wait()
	a.queue = nil
	return nil
}
