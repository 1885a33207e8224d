package storage_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/baas-batch/baas/storage"
)

// remote is a store behind a slow line, whose bodies are counted.
type remote struct {
	storage.Store
	wait func(ctx context.Context, offset int64) error // before a body's first byte; may be nil
	body func(offset int64, r io.Reader) io.Reader     // what comes of it; may be nil

	mu         sync.Mutex
	gets       int
	open, most int // bodies
}

func (r *remote) Capabilities() storage.Capabilities { return storage.Capabilities{ParallelGet: true} }

func (r *remote) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	body, info, err := r.Store.Get(ctx, key, offset, length)
	if err != nil {
		return nil, info, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gets, r.open = r.gets+1, r.open+1
	r.most = max(r.most, r.open)
	b := &remoteBody{ReadCloser: body, Reader: body, remote: r}
	if r.body != nil {
		b.Reader = r.body(offset, body)
	}
	b.begin = sync.OnceValue(func() error {
		if r.wait == nil {
			return nil
		}
		return r.wait(ctx, offset)
	})
	return b, info, nil
}

func (r *remote) stillOpen() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open
}

type remoteBody struct {
	io.ReadCloser
	io.Reader
	remote *remote
	begin  func() error
}

func (b *remoteBody) Read(p []byte) (int, error) {
	if err := b.begin(); err != nil {
		return 0, err
	}
	return b.Reader.Read(p)
}

func (b *remoteBody) Close() error {
	b.remote.mu.Lock()
	defer b.remote.mu.Unlock()
	b.remote.open--
	return b.ReadCloser.Close()
}

var parallel = storage.Parallel{PartSize: 1000, Streams: 4}

// remoteWith holds "key" of size bytes.
func remoteWith(t *testing.T, size int) (*remote, []byte) {
	t.Helper()
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i * i >> 7)
	}
	s := open(t)
	if _, err := storage.PutBytes(t.Context(), s, "key", content); err != nil {
		t.Fatal(err)
	}
	return &remote{Store: s}, content
}

func TestGetParallel(t *testing.T) {
	s, content := remoteWith(t, 20_500)
	size := int64(len(content))
	for _, c := range []struct{ offset, length, from, to int64 }{
		{0, -1, 0, size},
		{0, size, 0, size},
		{0, size + 5, 0, size},
		{0, 1<<63 - 1, 0, size},
		{3, 1<<63 - 1, 3, size},
		{1, 1000, 1, 1001},
		{1, 1001, 1, 1002},
		{1, 0, 1, 1},
		{700, 12_345, 700, 13_045},
		{size - 1000, -1, size - 1000, size},
		{size - 1001, -1, size - 1001, size},
		{size, -1, size, size},
		{size + 10, -1, size, size},
	} {
		r, info, err := storage.GetParallel(t.Context(), s, "key", c.offset, c.length, parallel)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(iotest.HalfReader(r))
		if err != nil || !bytes.Equal(got, content[c.from:c.to]) || info.Size != size {
			t.Errorf("Get(%d, %d): %d bytes, %v, %+v", c.offset, c.length, len(got), err, info)
		}
		if err := r.Close(); err != nil || s.stillOpen() != 0 {
			t.Errorf("Close: %v, %d bodies are open", err, s.stillOpen())
		}
	}
	if s.most > parallel.Streams {
		t.Errorf("%d bodies were open at a time", s.most)
	}
	if _, _, err := storage.GetParallel(t.Context(), s, "none", 0, -1, parallel); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("no object: %v", err)
	}
}

// Nothing comes before as many parts are under way as may be.
func TestGetParallelIsParallel(t *testing.T) {
	s, content := remoteWith(t, 20_500)
	var under sync.WaitGroup
	under.Add(parallel.Streams)
	s.wait = func(_ context.Context, offset int64) error {
		if offset < int64(parallel.Streams)*parallel.PartSize {
			under.Done()
			under.Wait()
		}
		return nil
	}
	r, _, err := storage.GetParallel(t.Context(), s, "key", 0, -1, parallel)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	one, _, err := storage.GetParallel(t.Context(), s, "key", 5000, -1, storage.Parallel{PartSize: 1000, Streams: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	before := s.gets
	if got, err := io.ReadAll(one); err != nil || !bytes.Equal(got, content[5000:]) || s.gets != before {
		t.Errorf("one stream: %d bytes, %v, %d more calls", len(got), err, s.gets-before)
	}
}

// The error of a part comes after all the bytes before it, and again.
func TestGetParallelFails(t *testing.T) {
	broken := errors.New("the line broke")
	for name, c := range map[string]struct {
		offset, came int64
		want         error
		at           int
	}{
		"at the beginning of a part": {5000, 0, broken, 5000},
		"in a part":                  {5000, 300, broken, 5300},
		"in the first part":          {0, 7, broken, 7},
		"in the last part":           {20_000, 100, broken, 20_100},
		"short":                      {7000, 999, io.ErrUnexpectedEOF, 7999},
		"empty":                      {7000, 0, io.ErrUnexpectedEOF, 7000},
	} {
		s, content := remoteWith(t, 20_500)
		s.body = func(offset int64, r io.Reader) io.Reader {
			if offset != c.offset {
				return r
			}
			r = io.LimitReader(r, c.came)
			if c.want == broken {
				r = io.MultiReader(r, iotest.ErrReader(broken))
			}
			return r
		}
		r, _, err := storage.GetParallel(t.Context(), s, "key", 0, -1, parallel)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if !errors.Is(err, c.want) || errors.Is(err, io.EOF) || !bytes.Equal(got, content[:c.at]) {
			t.Errorf("%s: %d bytes, %v; want %d, %v", name, len(got), err, c.at, c.want)
		}
		if n, err := r.Read(make([]byte, 10)); n > 0 || !errors.Is(err, c.want) {
			t.Errorf("%s: afterwards %d bytes, %v", name, n, err)
		}
		if err := r.Close(); err != nil || s.stillOpen() != 0 {
			t.Errorf("%s: Close: %v, %d bodies are open", name, err, s.stillOpen())
		}
	}
}

func TestGetParallelOfAnObjectThatChanges(t *testing.T) {
	for name, change := range map[string]struct {
		do   func(s storage.Store) error
		want error
	}{
		"replaced": {func(s storage.Store) error {
			_, err := storage.PutBytes(t.Context(), s, "key", make([]byte, 20_500))
			return err
		}, storage.ErrChanged},
		"deleted": {func(s storage.Store) error { return s.Delete(t.Context(), "key") }, storage.ErrNotExist},
	} {
		s, content := remoteWith(t, 20_500)
		r, _, err := storage.GetParallel(t.Context(), s, "key", 0, -1, parallel)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		first := make([]byte, 1500)
		if _, err := io.ReadFull(r, first); err != nil {
			t.Fatal(err)
		}
		if err := change.do(s.Store); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(r)
		if got := append(first, rest...); !errors.Is(err, change.want) || !bytes.Equal(got, content[:len(got)]) {
			t.Errorf("%s: %d bytes, %v; want %v after bytes of the old object", name, len(got), err, change.want)
		}
	}
}

// Neither a cancel nor Close leaves a body open or a goroutine behind: a leftover of
// the latter would hold a body.
func TestGetParallelEnds(t *testing.T) {
	for name, end := range map[string]func(cancel func(), r io.ReadCloser) error{
		"cancel": func(cancel func(), r io.ReadCloser) error {
			cancel()
			_, err := io.ReadAll(r)
			return errors.Join(err, r.Close())
		},
		"close": func(_ func(), r io.ReadCloser) error {
			if err := r.Close(); err != nil {
				return err
			}
			_, err := io.ReadAll(r)
			return err
		},
	} {
		s, _ := remoteWith(t, 20_500)
		stuck := make(chan struct{}, parallel.Streams)
		s.wait = func(ctx context.Context, _ int64) error {
			stuck <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		r, _, err := storage.GetParallel(ctx, s, "key", 0, -1, parallel)
		if err != nil {
			t.Fatal(err)
		}
		for range parallel.Streams {
			<-stuck
		}
		if err := end(cancel, r); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		if s.stillOpen() != 0 {
			t.Errorf("%s: %d bodies are open", name, s.stillOpen())
		}
		cancel()
	}
}
