package storagetest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/internal/stream"
)

func (h Harness) testFailures(t *testing.T) {
	t.Run("FailingReader", h.testFailingReader)
	t.Run("CancelledPut", h.testCancelledPut)
	t.Run("CancelledBefore", h.testCancelledBefore)
	t.Run("CancelledGet", h.testCancelledGet)
}

// failureSizes reach below and beyond what a store sends in one piece.
func (h Harness) failureSizes() []int64 { return []int64{0, 10, h.LargeSize / 2} }

func (h Harness) testFailingReader(t *testing.T) {
	s, ctx := h.New(t), t.Context()
	broken := errors.New("the producer broke")
	for _, failure := range []error{broken, io.ErrUnexpectedEOF} {
		for _, size := range h.failureSizes() {
			r := io.MultiReader(pattern(3, size), stream.ReadFunc(func([]byte) (int, error) { return 0, failure }))
			_, err := s.Put(ctx, "fresh/key", r, storage.PutOptions{})
			wantError(t, "Put", err, failure)
			h.wantNothing(t, s, "fresh/key")
		}
	}
	mustPut(t, s, "old", []byte("old content"))
	r := io.MultiReader(strings.NewReader("new"), stream.ReadFunc(func([]byte) (int, error) { return 0, broken }))
	_, err := s.Put(ctx, "old", r, storage.PutOptions{})
	wantError(t, "Put over an object", err, broken)
	wantContent(t, s, "old", []byte("old content"))
	h.wantNoUploads(t, s)
}

func (h Harness) testCancelledPut(t *testing.T) {
	s := h.New(t)
	mustPut(t, s, "old", []byte("old content"))
	for _, size := range h.failureSizes() {
		for _, key := range []string{"fresh/key", "old"} {
			ctx, cancel := context.WithCancel(t.Context())
			// The body itself goes on: only the context says no.
			r := io.MultiReader(pattern(4, size), stream.ReadFunc(func([]byte) (int, error) {
				cancel()
				return 0, io.EOF
			}))
			_, err := s.Put(ctx, key, r, storage.PutOptions{})
			wantError(t, "Put", err, context.Canceled)
			cancel()
		}
		h.wantNothing(t, s, "fresh/key")
		wantContent(t, s, "old", []byte("old content"))
	}
	h.wantNoUploads(t, s)
}

func (h Harness) testCancelledBefore(t *testing.T) {
	s := h.New(t)
	mustPut(t, s, "key", []byte("content"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Put(ctx, "other", strings.NewReader("x"), storage.PutOptions{})
	wantError(t, "Put", err, context.Canceled)
	_, _, err = get(ctx, s, "key", 0, -1)
	wantError(t, "Get", err, context.Canceled)
	_, err = s.Stat(ctx, "key")
	wantError(t, "Stat", err, context.Canceled)
	_, err = s.List(ctx, storage.ListOptions{})
	wantError(t, "List", err, context.Canceled)
	wantError(t, "Delete", s.Delete(ctx, "key"), context.Canceled)
	wantContent(t, s, "key", []byte("content"))
	h.wantNothing(t, s, "other")
}

func (h Harness) testCancelledGet(t *testing.T) {
	s := h.New(t)
	if _, err := s.Put(t.Context(), "large", pattern(5, h.LargeSize), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, _, err := s.Get(ctx, "large", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if n, err := io.Copy(io.Discard, r); err == nil {
		t.Errorf("after the cancel the reader gave %d bytes more and ended well", n)
	}
}

func (h Harness) wantNoUploads(t *testing.T, s storage.Store) {
	t.Helper()
	if uploads, err := s.ListUploads(t.Context(), ""); err != nil || len(uploads) != 0 {
		t.Errorf("ListUploads: %+v, %v; want none left behind", uploads, err)
	}
}
