package storagetest

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
)

// RunSkew proves that a store works where the server's clock is ahead of ours, or
// behind if ahead is negative: its calls succeed, and signed URLs open for the time
// that was asked for, by our clock. new gives a store that has made no call yet.
func RunSkew(t *testing.T, ahead time.Duration, new func(t *testing.T) storage.Store) {
	h := Harness{Client: http.DefaultClient}
	content := []byte("content")
	t.Run("Calls", func(t *testing.T) {
		s := new(t)
		_, err := s.Stat(t.Context(), "first")
		wantError(t, "the first call, Stat of no object", err, storage.ErrNotExist)
		info := mustPut(t, s, "key", content)
		wantContent(t, s, "key", content)
		stat, err := s.Stat(t.Context(), "key")
		if err != nil || stat.ETag != info.ETag {
			t.Errorf("Stat: %+v, %v", stat, err)
		}
		// The difference is there.
		if off := time.Until(stat.Modified) - ahead; off.Abs() > time.Minute {
			t.Errorf("Modified is %s, %s from what the server's clock says", stat.Modified, off)
		}
	})
	t.Run("SignedURLs", func(t *testing.T) {
		s := new(t) // so that nothing is known of the server's clock
		put := sign(t, s, "key", http.MethodPut, signedFor)
		if a := h.do(t, http.MethodPut, put, nil, content); !a.ok() {
			t.Fatalf("PUT: %d %s", a.status, a.body)
		}
		a := h.do(t, http.MethodGet, sign(t, s, "key", http.MethodGet, signedFor), nil, nil)
		if !a.ok() || !bytes.Equal(a.body, content) {
			t.Errorf("GET: %d %s", a.status, a.body)
		}
		id := create(t, s, "parts")
		complete(t, s, "parts", id, h.sendPart(t, s, "parts", id, 1, content))
		wantContent(t, s, "parts", content)
	})
	t.Run("Expiry", func(t *testing.T) { h.expires(t, new(t)) })
}
