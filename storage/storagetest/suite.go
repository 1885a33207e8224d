// Package storagetest proves that a storage backend keeps the contract of
// storage.Store: give Run a harness that makes fresh stores.
package storagetest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
)

// Harness tells the suite about a backend. Only New is required.
type Harness struct {
	// New gives a fresh, empty store that is ready to sign URLs, and closes it
	// when t ends.
	New func(t *testing.T) storage.Store
	// Client opens signed URLs; nil is http.DefaultClient.
	Client *http.Client
	// ManyKeys is how many keys the long listing has; 0 is 10,000.
	ManyKeys int
	// LargeSize is the size in bytes of the large object; 0 is 64 MiB.
	LargeSize int64
	// MaxMemory bounds the heap, in bytes, while the large object passes; 0 is 32 MiB.
	MaxMemory uint64
	// RefusesNesting says that the store refuses "x" beside "x/y" itself, with
	// ErrInvalidKey.
	RefusesNesting bool
	// KeepsCutPuts says that the server is known to store what came of a signed PUT
	// whose connection ended in mid-body. Results name objects with size and hash, so
	// such a piece is never taken for the whole.
	KeepsCutPuts bool
	// PartsStayOpen says that a part's URL can replace the part also after
	// CompleteUpload, until it expires. The object cannot be read then.
	PartsStayOpen bool
	// ListLag is how long a listing may lag behind a change.
	ListLag time.Duration
}

// Run runs the whole suite.
func Run(t *testing.T, h Harness) {
	h.Client = cmp.Or(h.Client, http.DefaultClient)
	h.ManyKeys = cmp.Or(h.ManyKeys, 10_000)
	h.LargeSize = cmp.Or(h.LargeSize, 64<<20)
	h.MaxMemory = cmp.Or(h.MaxMemory, 32<<20)
	t.Run("Objects", h.testObjects)
	t.Run("Failures", h.testFailures)
	t.Run("List", h.testList)
	t.Run("Sign", h.testSign)
	t.Run("Multipart", h.testMultipart)
	t.Run("Try", h.testTry)
}

// testTry: a store that works passes its own check, which leaves nothing.
func (h Harness) testTry(t *testing.T) {
	s, tried := h.New(t), 0
	if err := storage.Try(t.Context(), s, func(string, time.Duration, error) { tried++ }); err != nil || tried < 7 {
		t.Errorf("after %d trials: %v", tried, err)
	}
	h.wantKeys(t, s, storage.ListOptions{}, nil)
	h.wantNoUploads(t, s)
}

// pattern is size bytes that anyone can make again from the seed.
func pattern(seed uint64, size int64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return io.LimitReader(rand.NewChaCha8(key), size)
}

func patternBytes(seed uint64, size int64) []byte {
	b, _ := io.ReadAll(pattern(seed, size)) // cannot fail
	return b
}

func mustPut(t *testing.T, s storage.Store, key string, content []byte) storage.Info {
	t.Helper()
	info, err := storage.PutBytes(t.Context(), s, key, content)
	if err != nil {
		t.Fatalf("Put %q: %v", key, err)
	}
	return info
}

func get(ctx context.Context, s storage.Store, key string, offset, length int64) ([]byte, storage.Info, error) {
	r, info, err := s.Get(ctx, key, offset, length)
	if err != nil {
		return nil, info, err
	}
	b, err := io.ReadAll(r)
	return b, info, errors.Join(err, r.Close())
}

func wantContent(t *testing.T, s storage.Store, key string, want []byte) {
	t.Helper()
	got, info, err := get(t.Context(), s, key, 0, -1)
	if err != nil {
		t.Fatalf("Get %q: %v", key, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("Get %q: %s, want %s", key, summary(got), summary(want))
	}
	if info.Key != key || info.Size != int64(len(want)) || info.ETag == "" || info.Modified.IsZero() {
		t.Fatalf("Get %q: info %+v, want size %d, an ETag and a time", key, info, len(want))
	}
}

// wantNothing: no object and, in the listing, no key.
func (h Harness) wantNothing(t *testing.T, s storage.Store, key string) {
	t.Helper()
	if _, err := s.Stat(t.Context(), key); !errors.Is(err, storage.ErrNotExist) {
		t.Fatalf("Stat %q: %v, want ErrNotExist", key, err)
	}
	if _, _, err := get(t.Context(), s, key, 0, -1); !errors.Is(err, storage.ErrNotExist) {
		t.Fatalf("Get %q: %v, want ErrNotExist", key, err)
	}
	h.wantKeys(t, s, storage.ListOptions{Prefix: key}, nil)
}

func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func summary(b []byte) string {
	if len(b) <= 64 {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%d bytes with SHA-256 %x", len(b), sha256.Sum256(b))
}

// eventually waits until check is content, or for limit; then check's word stands.
func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-tick.C
	}
}

// heapMeter passes bytes on and notes the highest live heap over what it was
// at the start.
type heapMeter struct {
	r          io.Reader
	base, peak uint64
	sinceLast  int
}

func newHeapMeter(r io.Reader) *heapMeter {
	return &heapMeter{r: r, base: liveHeap()}
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (m *heapMeter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if m.sinceLast += n; m.sinceLast >= 8<<20 {
		m.sinceLast = 0
		m.peak = max(m.peak, liveHeap())
	}
	return n, err
}

func (m *heapMeter) used() uint64 { return max(m.peak, m.base) - m.base }
