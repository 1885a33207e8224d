package storagetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/baas-batch/baas/storage"
)

// Gate stands before a store's server and has its way with the calls that join parts.
// The server gets these whole and in full, also when the client has left.
type Gate struct {
	URL string

	proxy *httputil.ReverseProxy
	joins func(*http.Request) bool

	mu   sync.Mutex
	seen int
	at   func(forward func()) (answer bool) // nil: pass on
	late []func()
}

// NewGate gives a gate before the server of that URL; joins knows the calls that make
// an object of parts.
func NewGate(t *testing.T, server string, joins func(*http.Request) bool) *Gate {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	g := &Gate{joins: joins, proxy: &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.Out.Host = p.In.Host // it is signed
	}}}
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	g.URL = s.URL
	return g
}

// ServeHTTP implements http.Handler.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	at := g.at
	g.mu.Unlock()
	if at == nil || !g.joins(r) {
		g.proxy.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	g.mu.Lock()
	g.seen++
	g.mu.Unlock()
	answer := httptest.NewRecorder()
	answered := at(func() {
		whole := r.Clone(context.WithoutCancel(r.Context()))
		whole.Body = io.NopCloser(bytes.NewReader(body))
		g.proxy.ServeHTTP(answer, whole)
	})
	if !answered {
		panic(http.ErrAbortHandler) // the connection ends
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()) // who has left reads nothing
}

// set says what becomes of the joins from now on.
func (g *Gate) set(at func(forward func()) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at, g.seen, g.late = at, 0, nil
}

// count tells how many joins came since.
func (g *Gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen
}

// hold has no join reach the server, and none answered, until deliver.
func (g *Gate) hold() {
	g.set(func(forward func()) bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.late = append(g.late, forward)
		return false
	})
}

// deliver lets the first join that was held reach the server.
func (g *Gate) deliver(t *testing.T) {
	t.Helper()
	g.mu.Lock()
	late := g.late
	g.mu.Unlock()
	if len(late) == 0 {
		t.Fatal("no join was held")
	}
	late[0]()
}

// RunJoins proves that an object which replaces another is the old or the new one, as
// a whole, whatever becomes of the call that makes it; and that what is left is listed.
// s talks to its server over gate.
func RunJoins(t *testing.T, s storage.Store, gate *Gate) {
	before, after := patternBytes(30, 7<<20), patternBytes(31, 13<<20)
	h := Harness{Client: http.DefaultClient}
	old := func(t *testing.T, key string) {
		gate.set(nil)
		mustPut(t, s, key, before)
		t.Cleanup(func() { gate.set(nil) })
	}
	for name, cancelFirst := range map[string]bool{"CancelledBefore": true, "CancelledAfter": false} {
		t.Run(name, func(t *testing.T) {
			old(t, name)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			gate.set(func(forward func()) bool {
				if cancelFirst {
					cancel()
				}
				forward()
				cancel()
				return true
			})
			_, err := s.Put(ctx, name, bytes.NewReader(after), storage.PutOptions{})
			if ctx.Err() == nil || err != nil && !errors.Is(err, context.Canceled) {
				t.Fatalf("Put: %v, its context: %v", err, ctx.Err())
			}
			wantContent(t, s, name, after) // the server had got it all
			h.wantNoUploads(t, s)
		})
	}
	t.Run("AnswerLost", func(t *testing.T) {
		old(t, "lost")
		gate.set(func(forward func()) bool {
			forward()
			return gate.count() > 1
		})
		info, err := s.Put(t.Context(), "lost", bytes.NewReader(after), storage.PutOptions{})
		if err != nil || gate.count() < 2 {
			t.Fatalf("Put: %v, after %d calls", err, gate.count())
		}
		wantContent(t, s, "lost", after)
		if stat, err := s.Stat(t.Context(), "lost"); err != nil || stat.ETag != info.ETag {
			t.Errorf("Put gives ETag %q, Stat %q, %v", info.ETag, stat.ETag, err)
		}
		h.wantNoUploads(t, s)
	})
	late := func(t *testing.T, key string, join func() error) {
		gate.hold()
		if err := join(); err == nil {
			t.Fatal("a join without an answer is told as a success")
		}
		wantContent(t, s, key, before)
		h.abortAll(t, s, 1)
		gate.deliver(t)
		wantContent(t, s, key, after)
		h.abortAll(t, s, 0)
		h.wantNoUploads(t, s)
		wantContent(t, s, key, after)
	}
	t.Run("LatePut", func(t *testing.T) {
		old(t, "put")
		late(t, "put", func() error {
			_, err := s.Put(t.Context(), "put", bytes.NewReader(after), storage.PutOptions{})
			return err
		})
	})
	t.Run("LateUpload", func(t *testing.T) {
		old(t, "upload")
		id := create(t, s, "upload")
		parts := []storage.UploadPart{
			h.sendPart(t, s, "upload", id, 1, after[:6<<20]), h.sendPart(t, s, "upload", id, 2, after[6<<20:]),
		}
		late(t, "upload", func() error {
			_, err := s.CompleteUpload(t.Context(), "upload", id, parts)
			return err
		})
	})
}

// abortAll aborts what is listed, as a sweep does, which is at least so many uploads.
func (h Harness) abortAll(t *testing.T, s storage.Store, least int) {
	t.Helper()
	uploads, err := s.ListUploads(t.Context(), "")
	if err != nil || len(uploads) < least {
		t.Errorf("ListUploads: %+v, %v; want %d or more", uploads, err, least)
	}
	for _, u := range uploads {
		if err := s.AbortUpload(t.Context(), u.Key, u.ID); err != nil {
			t.Errorf("AbortUpload %+v: %v", u, err)
		}
	}
}
