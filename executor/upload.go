package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/baas-batch/baas/tasklet"
)

// upload is an object to store.
type upload struct {
	taskID  string
	target  tasklet.Target
	request tasklet.Request
	body    io.ReaderAt
	size    int64
	giveUp  func() bool // see policy
}

// upload stores an object, in parts when it is large. It does not give up: its
// error is a *deniedError, errSuperseded, or the cause of ctx's end.
func (s *store) upload(ctx context.Context, u upload) error {
	if u.size > s.tune.SinglePut {
		return s.multipart(ctx, u)
	}
	a := &access{url: u.target.URL, header: u.target.Header, taskID: u.taskID, request: u.request, fromGrant: grantURL}
	return s.persist(ctx, a, policy{giveUp: u.giveUp}, func(ctx context.Context, url string) error {
		_, err := s.put(ctx, url, a.header, u.body, 0, u.size)
		return err
	})
}

// uploadAnywhere stores an object at its target or, where it has none, where the
// leader wants it, and gives its key.
func (s *store) uploadAnywhere(ctx context.Context, u upload) (key string, err error) {
	if u.target.Key == "" {
		if u.target, err = s.target(ctx, u.taskID, u.request); err != nil {
			return "", err
		}
	}
	return u.target.Key, s.upload(ctx, u)
}

// target asks the leader for a place for an object.
func (s *store) target(ctx context.Context, taskID string, r tasklet.Request) (tasklet.Target, error) {
	g, err := s.broker.ask(ctx, s.tune, taskID, r)
	if err == nil && g.Key == "" {
		err = &deniedError{"it gave no place for the " + string(r.Role)}
	}
	return tasklet.Target{Key: g.Key, URL: g.URL, Header: g.Header}, err
}

const (
	signBatch     = 20 // part URLs asked for at once
	parallelParts = 3
	maxRestarts   = 3 // of a multipart upload that the store has lost
)

func (s *store) multipart(ctx context.Context, u upload) error {
	for restart := 0; ; restart++ {
		begun, err := s.move(ctx, u, tasklet.Multipart{Begin: true, Size: u.size})
		if err != nil {
			return err
		}
		if begun.UploadID == "" {
			return &deniedError{"it gave no upload"}
		}
		err = s.parts(ctx, u, begun.UploadID, begun.PartSize)
		var denied *deniedError
		if errors.As(err, &denied) && restart < maxRestarts {
			s.log.Warn("multipart upload starts again", "task", u.taskID, "error", err)
			continue
		}
		if err != nil {
			s.abort(ctx, u, begun.UploadID)
		}
		return err
	}
}

// move asks the leader for one move of a multipart upload until it is granted.
func (s *store) move(ctx context.Context, u upload, m tasklet.Multipart) (tasklet.Grant, error) {
	r := u.request
	r.Multipart = &m
	return s.broker.ask(ctx, s.tune, u.taskID, r)
}

// abort tells the leader once: what it misses, its sweep finds.
func (s *store) abort(ctx context.Context, u upload, id string) {
	r := u.request
	r.Multipart = &tasklet.Multipart{UploadID: id, Abort: true}
	q := s.broker.question(u.taskID, r)
	defer q.close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.tune.AskEvery)
	defer cancel()
	_, _, _ = q.ask(ctx, s.tune.AskEvery)
}

// parts uploads all parts, some at a time, and completes the upload.
func (s *store) parts(ctx context.Context, u upload, id string, partSize int64) error {
	count, err := partCount(u.size, partSize)
	if err != nil {
		return err
	}
	done := make([]tasklet.Part, count)
	for first := 1; first <= count; first += signBatch {
		numbers := make([]int, 0, signBatch)
		for n := first; n < first+signBatch && n <= count; n++ {
			numbers = append(numbers, n)
		}
		signed, err := s.move(ctx, u, tasklet.Multipart{UploadID: id, Sign: numbers})
		if err != nil {
			return err
		}
		group, gctx := errgroup.WithContext(ctx)
		group.SetLimit(parallelParts)
		for _, n := range numbers {
			group.Go(func() (err error) {
				done[n-1], err = s.part(gctx, u, id, n, partSize, signed)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	_, err = s.move(ctx, u, tasklet.Multipart{UploadID: id, Complete: done})
	return err
}

// maxParts is the most parts that one upload has (S3's limit).
const maxParts = 10_000

// partCount tells in how many parts size bytes go up.
func partCount(size, partSize int64) (int, error) {
	if size < 0 || partSize <= 0 {
		return 0, &deniedError{"it gave no part size"}
	}
	count := size / partSize
	if size%partSize > 0 {
		count++
	}
	if count > maxParts {
		return 0, &deniedError{fmt.Sprintf("%d bytes in parts of %d are more than %d parts", size, partSize, maxParts)}
	}
	return int(count), nil
}

func (s *store) part(ctx context.Context, u upload, id string, n int, partSize int64, signed tasklet.Grant) (tasklet.Part, error) {
	offset := int64(n-1) * partSize
	size := min(partSize, u.size-offset)
	r := u.request
	r.Multipart = &tasklet.Multipart{UploadID: id, Sign: []int{n}}
	a := &access{
		url: signed.Parts[n], header: signed.Header, taskID: u.taskID, request: r, bulk: true,
		fromGrant: func(g tasklet.Grant) string { return g.Parts[n] },
	}
	part := tasklet.Part{Number: n}
	err := s.persist(ctx, a, policy{giveUp: u.giveUp}, func(ctx context.Context, url string) (err error) {
		part.ETag, err = s.put(ctx, url, a.header, u.body, offset, size)
		return err
	})
	if err != nil {
		return part, fmt.Errorf("part %d: %w", n, err)
	}
	return part, nil
}

// joined is several pieces read as one.
type joined struct {
	mu     sync.Mutex
	open   func(i int) (io.ReaderAt, io.Closer, error)
	ends   []int64 // offset after each piece
	last   int     // the piece that is open, or -1
	reader io.ReaderAt
	closer io.Closer
}

// newJoined reads pieces of the given sizes, of which it holds one open at a time.
func newJoined(sizes []int64, open func(i int) (io.ReaderAt, io.Closer, error)) *joined {
	j := &joined{open: open, ends: make([]int64, len(sizes)), last: -1}
	var sum int64
	for i, n := range sizes {
		sum += n
		j.ends[i] = sum
	}
	return j
}

// ReadAt implements io.ReaderAt.
func (j *joined) ReadAt(b []byte, offset int64) (n int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for n < len(b) {
		i, _ := slices.BinarySearch(j.ends, offset+1)
		if i == len(j.ends) {
			return n, io.EOF
		}
		if i != j.last {
			if err := j.use(i); err != nil {
				return n, err
			}
		}
		start := int64(0)
		if i > 0 {
			start = j.ends[i-1]
		}
		want := min(int64(len(b)-n), j.ends[i]-offset)
		m, err := j.reader.ReadAt(b[n:n+int(want)], offset-start)
		n, offset = n+m, offset+int64(m)
		if int64(m) < want {
			return n, fmt.Errorf("file %d became shorter: %w", i, err)
		}
	}
	return n, nil
}

func (j *joined) use(i int) error {
	j.close()
	reader, closer, err := j.open(i)
	if err != nil {
		return err
	}
	j.last, j.reader, j.closer = i, reader, closer
	return nil
}

func (j *joined) close() {
	if j.closer != nil {
		_ = j.closer.Close()
	}
	j.last, j.closer, j.reader = -1, nil, nil
}
