package swift

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/storagetest"
	"github.com/baas-batch/baas/tests/servers"
)

func TestJoins(t *testing.T) {
	server := servers.StartSwift(t)
	server.Credentials(t)
	gate := storagetest.NewGate(t, "http://"+server.Address(), func(r *http.Request) bool {
		return r.Method == http.MethodPut && r.URL.Query().Get("multipart-manifest") == "put"
	})
	// The account's URL is that of the address at which it was asked for.
	t.Setenv("ST_AUTH", gate.URL+"/auth/v1.0")
	s := storagetest.Open(t, server.Container(t, "container")).(*Store)
	storagetest.RunJoins(t, s, gate)

	// Each segment is part of an object, or about to expire.
	whole := map[string]bool{}
	objects, err := s.listing(t.Context(), "", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		h, err := s.head(t.Context(), o.Name)
		if err != nil {
			t.Fatal(err)
		}
		whole[h.Get(uploadLabel)] = true
	}
	segments := 0
	for _, o := range objects {
		rest, segment := strings.CutPrefix(o.Name, partsDir)
		if !segment {
			continue
		}
		segments++
		id, _, _ := strings.Cut(rest, "/")
		if h, err := s.head(t.Context(), o.Name); err != nil || h != nil && !whole[id] && h.Get("X-Delete-At") == "" {
			t.Errorf("segment %s of no object stays: %v, %v", o.Name, h, err)
		}
	}
	if segments == 0 {
		t.Error("there are no segments: nothing is shown")
	}
}

// An object that is in place is no failure, whatever becomes of the one before; what
// is left of that is listed until it is gone.
func TestSegmentsThatDoNotExpire(t *testing.T) {
	server := servers.StartSwift(t)
	server.Credentials(t)
	s := storagetest.Open(t, server.Container(t, "container")).(*Store)
	put := func() string {
		t.Helper()
		content := strings.Repeat("content ", 1<<20)
		if _, err := s.Put(t.Context(), "key", strings.NewReader(content), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		h, err := s.head(t.Context(), "key")
		if err != nil || h.Get(uploadLabel) == "" {
			t.Fatalf("%v, %v", h, err)
		}
		return h.Get(uploadLabel)
	}
	segments := func(id string) int64 {
		t.Helper()
		var n atomic.Int64
		err := s.partsOf(t.Context(), id, func(ctx context.Context, name string) error {
			h, err := s.head(ctx, name)
			if h != nil {
				n.Add(1)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n.Load()
	}
	old := put()
	var refusals atomic.Int64
	s.http.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodPost {
			return s.transport.RoundTrip(r)
		}
		refusals.Add(1)
		return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody, Request: r}, nil
	})
	now := put()
	if refusals.Load() == 0 || segments(old) == 0 {
		t.Fatalf("%d calls refused, %d segments left: nothing is shown", refusals.Load(), segments(old))
	}
	if _, err := s.CompleteUpload(t.Context(), "key", old, []storage.UploadPart{{Number: 1, ETag: "x"}}); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("completing what was replaced: %v", err)
	}
	uploads, err := s.ListUploads(t.Context(), "")
	if err != nil || len(uploads) != 1 || uploads[0].ID != old || uploads[0].Key != "key" {
		t.Fatalf("ListUploads: %+v, %v; want %s", uploads, err, old)
	}
	if err := s.AbortUpload(t.Context(), "key", old); err != nil {
		t.Fatal(err)
	}
	if uploads, err = s.ListUploads(t.Context(), ""); err != nil || len(uploads) != 0 || segments(old) != 0 || segments(now) == 0 {
		t.Errorf("after the sweep: %+v, %v, %d and %d segments", uploads, err, segments(old), segments(now))
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
