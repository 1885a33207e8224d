package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/baas-batch/baas/storage"
)

// ServeHTTP answers GET, HEAD and PUT of signed URLs: 403 with the reason for
// one that is not valid, 404, and 405.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	public := g.public[r.URL.Path]
	g.mu.Unlock()
	t := &transfer{ResponseWriter: w, control: http.NewResponseController(w), idle: g.opts.IdleTimeout}
	t.extendWrite()
	if public != nil {
		public.ServeHTTP(t, r)
		return
	}
	g.serve(t, r)
	g.log.Debug("gateway", "method", r.Method, "path", r.URL.Path, "status", cmp.Or(t.status, http.StatusOK), "from", r.RemoteAddr)
}

func (g *Gateway) serve(w *transfer, r *http.Request) {
	serve, method := g.get, http.MethodGet
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPut:
		serve, method = g.put, http.MethodPut
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT")
		fail(w, http.StatusMethodNotAllowed, "only GET, HEAD and PUT are served")
		return
	}
	grant, sig, err := parseGrant(r.URL)
	if err == nil {
		err = grant.verify(g.secret, sig, g.now())
	}
	if err == nil && grant.method != method {
		err = errors.New("the URL is signed for " + grant.method)
	}
	if err != nil {
		fail(w, http.StatusForbidden, "forbidden: "+err.Error())
		return
	}
	serve(w, r, grant)
}

func (g *Gateway) get(w *transfer, r *http.Request, grant grant) {
	f, info, err := g.store.openObject(context.WithoutCancel(r.Context()), grant.key)
	if err != nil {
		g.failStore(w, r, err)
		return
	}
	defer f.Close()
	h := w.Header()
	h.Set("ETag", quote(info.ETag))
	// Never shown by a browser as a page of this host.
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", info.Modified, f)
}

func (g *Gateway) put(w *transfer, r *http.Request, grant grant) {
	if r.Header.Get("Content-Range") != "" {
		fail(w, http.StatusBadRequest, "Content-Range: an object is put whole")
		return
	}
	if max := g.opts.MaxSize; max > 0 {
		if r.ContentLength > max {
			failBody(w, &http.MaxBytesError{Limit: max})
			return
		}
		r.Body = http.MaxBytesReader(w.ResponseWriter, r.Body, max)
	}
	// A body that is cut short reads as an error, with Content-Length and
	// chunked alike, and so nothing is stored. One that came whole is stored,
	// also when its sender has left since.
	body := &idleReader{r: r.Body, control: w.control, idle: w.idle}
	etag, err := g.store.putGrant(context.WithoutCancel(r.Context()), grant, body)
	w.extendWrite()
	switch {
	case body.err != nil:
		failBody(w, body.err)
		return
	case err != nil:
		g.failStore(w, r, err)
		return
	}
	w.Header().Set("ETag", quote(etag))
	w.WriteHeader(http.StatusOK)
}

func (s *Store) putGrant(ctx context.Context, g grant, body io.Reader) (etag string, err error) {
	if g.part != 0 {
		return s.putPart(ctx, g.key, g.upload, g.part, body)
	}
	info, err := s.Put(ctx, g.key, body, storage.PutOptions{})
	return info.ETag, err
}

func failBody(w *transfer, err error) {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("an object has at most %d bytes here", tooLarge.Limit))
	case errors.Is(err, os.ErrDeadlineExceeded):
		fail(w, http.StatusRequestTimeout, "the body stood still for too long")
	default:
		fail(w, http.StatusBadRequest, "the body was cut short or is malformed")
	}
}

func (g *Gateway) failStore(w *transfer, r *http.Request, err error) {
	switch {
	case errors.Is(err, storage.ErrNotExist):
		fail(w, http.StatusNotFound, "no such object or upload")
		return
	case errors.Is(err, storage.ErrInvalidKey):
		fail(w, http.StatusConflict, err.Error())
		return
	}
	g.log.Error("the gateway's store failed", "method", r.Method, "path", r.URL.Path, "error", err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		fail(w, http.StatusInsufficientStorage, "the store is full")
		return
	}
	fail(w, http.StatusInternalServerError, "the store failed")
}

func fail(w http.ResponseWriter, status int, reason string) { http.Error(w, reason, status) }

func quote(etag string) string { return `"` + etag + `"` }

// transfer gives each piece of an answer its own time, so that a client that
// stands still is dropped and a slow one is not.
type transfer struct {
	http.ResponseWriter
	control *http.ResponseController
	idle    time.Duration
	status  int
}

// Unwrap is for http.ResponseController.
func (t *transfer) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *transfer) WriteHeader(status int) {
	t.status = status
	t.ResponseWriter.WriteHeader(status)
}

func (t *transfer) extendWrite() {
	// Recorders in tests and other servers may have no deadlines.
	_ = t.control.SetWriteDeadline(time.Now().Add(t.idle))
}

func (t *transfer) Write(p []byte) (int, error) {
	t.extendWrite()
	return t.ResponseWriter.Write(p)
}

// piece is how many bytes must get through within the idle time.
const piece = 512 << 10

// ReadFrom keeps the way open for sendfile(2), piece by piece.
func (t *transfer) ReadFrom(src io.Reader) (n int64, err error) {
	left := int64(1) << 62
	if limited, ok := src.(*io.LimitedReader); ok {
		src, left = limited.R, limited.N
		defer func() { limited.N -= n }()
	}
	for left > 0 {
		t.extendWrite()
		chunk := min(piece, left)
		copied, err := io.Copy(t.ResponseWriter, io.LimitReader(src, chunk))
		n += copied
		left -= copied
		if err != nil || copied < chunk {
			return n, err
		}
	}
	return n, nil
}

// idleReader gives each read its own time.
type idleReader struct {
	r       io.Reader
	control *http.ResponseController
	idle    time.Duration
	err     error // of r, but for io.EOF
}

func (i *idleReader) Read(p []byte) (int, error) {
	_ = i.control.SetReadDeadline(time.Now().Add(i.idle))
	n, err := i.r.Read(p)
	if err != nil && err != io.EOF {
		i.err = err
	}
	if err != nil {
		// The server watches the connection while the object is published: no
		// deadline of ours may look to it as if the client had gone.
		_ = i.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
