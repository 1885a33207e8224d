package executor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/baas-batch/baas/tasklet"
)

// store moves objects to and from storage by signed URLs. It repeats what fails,
// with a URL renewed by the leader where the old one is refused or stays silent,
// and goes on until it succeeds, ctx ends, or the failure is final.
type store struct {
	tune   Tuning
	http   *http.Client
	broker *broker
	log    *slog.Logger
	slots  chan struct{} // bounds concurrent tries to move bulk data
	cache  *cache        // nil: none
}

// maxTransfers bounds the inputs and parts that are in flight at once.
const maxTransfers = 8

var (
	// errStalled ends a transfer without progress.
	errStalled = errors.New("no progress")
	// errSuperseded ends an upload whose content has been overtaken.
	errSuperseded = errors.New("superseded")
)

// unavailableError is an object that cannot be had although its URL is fresh.
type unavailableError struct{ cause error }

func (e *unavailableError) Error() string { return e.cause.Error() }
func (e *unavailableError) Unwrap() error { return e.cause }

// httpError is an answer of storage other than success.
type httpError struct{ code int }

func (e *httpError) Error() string {
	return fmt.Sprintf("storage answered %d %s", e.code, http.StatusText(e.code))
}

// refused tells whether a URL was turned down, so that a new one may help.
func refused(err error) bool {
	var he *httpError
	if !errors.As(err, &he) {
		return false
	}
	switch he.code {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone,
		http.StatusRequestedRangeNotSatisfiable: // an object that is too short
		return true
	}
	return false
}

func newStore(tune Tuning, roots *x509.CertPool, b *broker, log *slog.Logger) *store {
	if tune.SinglePut == 0 {
		tune.SinglePut = tasklet.MaxSinglePut
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: tune.Stall,
		MaxIdleConnsPerHost:   maxTransfers,
		IdleConnTimeout:       30 * time.Second,
		DisableCompression:    true, // bytes are hashed and ranged as stored
		ReadBufferSize:        16 << 10,
		WriteBufferSize:       16 << 10,
	}
	return &store{
		tune: tune, broker: b, log: log,
		http:  &http.Client{Transport: transport},
		slots: make(chan struct{}, maxTransfers),
	}
}

// access is one object that may be reached by URL.
type access struct {
	url     string
	header  map[string]string // signed with the URL
	taskID  string
	request tasklet.Request // what to ask for when the URL fails
	// fromGrant picks the URL out of a grant.
	fromGrant func(tasklet.Grant) string
	bulk      bool // takes a slot while it is tried

	question *question
	fresh    bool // the URL came from the leader since the task started
	refusals int  // of fresh URLs, one after the other
}

func grantURL(g tasklet.Grant) string { return g.URL }

// policy says when to stop trying.
type policy struct {
	// refusals of fresh URLs in a row that are final; 0: none.
	refusals int
	// giveUp is asked after each failure; nil: never.
	giveUp func() bool
}

// persist makes tries until one succeeds. The URL is asked for anew at once when
// it was refused, and after some seconds of other failures; the old one is tried
// on until the new one comes.
func (s *store) persist(ctx context.Context, a *access, p policy, try func(ctx context.Context, url string) error) error {
	defer func() {
		if a.question != nil {
			a.question.close()
			a.question = nil
		}
	}()
	wait := backoff{first: 100 * time.Millisecond, max: s.tune.BackoffMax}
	var failing time.Time
	for {
		err := s.once(ctx, a, try)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var local *localError
		if errors.As(err, &local) {
			return err
		}
		if p.giveUp != nil && p.giveUp() {
			return errSuperseded
		}
		if failing.IsZero() {
			failing = time.Now()
			s.log.Info("transfer failed, trying again", "task", a.taskID, "role", a.request.Role, "error", err)
		}
		if refused(err) && a.fresh {
			if a.refusals++; p.refusals > 0 && a.refusals >= p.refusals {
				return &unavailableError{err}
			}
		}
		if a.question != nil || refused(err) || time.Since(failing) > s.tune.RenewAfter {
			renewed, err := s.renew(ctx, a, wait.next())
			if err != nil {
				return err
			}
			if !renewed {
				continue // the asking was the pause
			}
			failing = time.Time{}
			if a.refusals == 0 {
				wait.reset()
				continue
			}
		}
		if !pause(ctx, wait.next()) {
			return context.Cause(ctx)
		}
	}
}

// renew asks for a new URL and waits a while; a later answer is not lost.
func (s *store) renew(ctx context.Context, a *access, d time.Duration) (bool, error) {
	if a.question == nil {
		a.question = s.broker.question(a.taskID, a.request)
	}
	grant, answered, err := a.question.ask(ctx, max(d, s.tune.AskEvery))
	if err != nil || !answered {
		return false, err
	}
	a.question.close()
	a.question = nil
	u := a.fromGrant(grant)
	if u == "" { // an answer to something else: do not ask at full speed
		pause(ctx, d)
		return false, nil
	}
	a.url, a.header, a.fresh = u, grant.Header, true
	return true, nil
}

// localError is a failure on this side that no repetition mends, such as a full disk.
type localError struct{ cause error }

func (e *localError) Error() string { return e.cause.Error() }
func (e *localError) Unwrap() error { return e.cause }

// once makes one try, which ends when it makes no progress for a while.
func (s *store) once(ctx context.Context, a *access, try func(context.Context, string) error) error {
	if a.bulk {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(s.tune.Stall, func() { cancel(errStalled) })
	defer timer.Stop()
	err := try(context.WithValue(ctx, progressKey{}, func() { timer.Reset(s.tune.Stall) }), a.url)
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return fmt.Errorf("%w for %s", errStalled, s.tune.Stall)
	}
	return err
}

type progressKey struct{}

// progressReader tells the stall timer of its context about each read.
type progressReader struct {
	io.Reader
	progress func()
}

func (p progressReader) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if n > 0 {
		p.progress()
	}
	return n, err
}

func withProgress(ctx context.Context, r io.Reader) io.Reader {
	return progressReader{r, ctx.Value(progressKey{}).(func())}
}

// get opens size bytes of an object from offset; size < 0 means all.
func (s *store) get(ctx context.Context, url string, offset, size int64) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, errors.New("malformed URL")
	}
	switch {
	case size >= 0:
		req.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-"+strconv.FormatInt(offset+size-1, 10))
	case offset > 0:
		req.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	body := withProgress(ctx, resp.Body)
	switch resp.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK: // a server without ranges
		if _, err := io.CopyN(io.Discard, body, offset); err != nil {
			_ = resp.Body.Close()
			if err == io.EOF {
				return nil, &httpError{http.StatusRequestedRangeNotSatisfiable}
			}
			return nil, withoutURL(err)
		}
	default:
		return nil, drop(resp)
	}
	if size >= 0 {
		body = io.LimitReader(body, size)
	}
	return struct {
		io.Reader
		io.Closer
	}{body, resp.Body}, nil
}

// put stores size bytes under a signed URL and gives the ETag.
func (s *store) put(ctx context.Context, url string, header map[string]string, body io.ReaderAt, offset, size int64) (etag string, err error) {
	source := &sourceReader{r: io.NewSectionReader(body, offset, size)}
	var reader io.Reader = http.NoBody
	if size > 0 {
		reader = withProgress(ctx, source)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, reader)
	if err != nil {
		return "", errors.New("malformed URL")
	}
	req.ContentLength = size
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := s.http.Do(req)
	if broken := source.failure.Load(); broken != nil {
		return "", &localError{*broken}
	}
	if err != nil {
		return "", withoutURL(err)
	}
	if resp.StatusCode/100 != 2 {
		return "", drop(resp)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10))
	_ = resp.Body.Close()
	return resp.Header.Get("ETag"), nil
}

// sourceReader remembers that what is uploaded could not be read: net/http makes
// such a failure look like one of the connection.
type sourceReader struct {
	r       io.Reader
	failure atomic.Pointer[error]
}

func (s *sourceReader) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && err != io.EOF {
		s.failure.Store(&err)
	}
	return n, err
}

func drop(resp *http.Response) error {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10))
	_ = resp.Body.Close()
	return &httpError{resp.StatusCode}
}
