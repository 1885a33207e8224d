package storagetest

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/internal/stream"
)

// Link is a connection that can be broken; the one between a store and its server.
type Link interface {
	// CutAfter resets one connection, the one that brings down the byte after the
	// next n.
	CutAfter(n int64)
	// Reset resets all connections once.
	Reset()
}

// RunCuts proves that a store goes on after its connections were cut, above all in
// mid-body: s talks to its server over link.
func RunCuts(t *testing.T, s storage.Store, link Link, cuts func() int) {
	content := patternBytes(20, 20<<20)
	mustPut(t, s, "large", content)
	t.Run("Get", func(t *testing.T) {
		before := cuts()
		for _, n := range []int64{1 << 20, 9 << 20, 19 << 20} {
			link.CutAfter(n)
			wantContent(t, s, "large", content)
		}
		if cuts() < before+3 {
			t.Errorf("%d connections were cut, want 3", cuts()-before)
		}
		link.CutAfter(1 << 20)
		if b, _, err := get(t.Context(), s, "large", 5<<20, 10<<20); err != nil || !bytes.Equal(b, content[5<<20:15<<20]) {
			t.Errorf("a range: %s, %v", summary(b), err)
		}
	})
	t.Run("GetParallel", func(t *testing.T) {
		before := cuts()
		for _, n := range []int64{100 << 10, 5 << 20, 11 << 20} {
			link.CutAfter(n)
			r, _, err := storage.GetParallel(t.Context(), s, "large", 0, -1, storage.Parallel{PartSize: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, content) {
				t.Errorf("cut after %d bytes: %s, %v", n, summary(b), err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		if cuts() < before+3 {
			t.Errorf("%d connections were cut, want 3", cuts()-before)
		}
	})
	t.Run("Replaced", func(t *testing.T) {
		link.CutAfter(1 << 30)
		r, _, err := s.Get(t.Context(), "large", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
			t.Fatal(err)
		}
		mustPut(t, s, "large", patternBytes(21, 20<<20))
		link.Reset()
		if n, err := io.Copy(io.Discard, r); !errors.Is(err, storage.ErrChanged) {
			t.Errorf("the object was replaced while it was read and the connection cut: %d more bytes, %v; want ErrChanged", n, err)
		}
	})
	t.Run("KeptAlive", func(t *testing.T) {
		before := cuts()
		for range 5 {
			mustPut(t, s, "small", []byte("content"))
			link.Reset() // what is idle now
			wantContent(t, s, "small", []byte("content"))
		}
		if cuts() == before {
			t.Error("no connection was cut")
		}
	})
	t.Run("Put", func(t *testing.T) {
		body := io.MultiReader(pattern(22, 12<<20), stream.ReadFunc(func([]byte) (int, error) {
			link.Reset() // while parts are under way
			return 0, io.EOF
		}))
		if _, err := s.Put(t.Context(), "put", body, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		wantContent(t, s, "put", patternBytes(22, 12<<20))
	})
}
