package swift

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/baas-batch/baas/storage/internal/remote"
)

// request is a call on an object, or on the container if name is empty. All of them
// may be repeated.
type request struct {
	method string
	name   string
	query  url.Values
	header map[string]string
	body   []byte
}

// statusError is an answer that is no success.
type statusError struct {
	code    int
	details string // the answer's text, in part
}

// unclear is the failure of a call that may still take effect: one of its tries had no
// answer, or one that does not say.
type unclear struct{ error }

func (u unclear) Unwrap() error { return u.error }

// refused tells whether a call has failed that has no effect and never will.
func refused(err error) bool {
	var u unclear
	return err != nil && !errors.As(err, &u)
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("status %d %s", e.code, http.StatusText(e.code))
	if e.details != "" {
		text += ": " + e.details
	}
	return text
}

// do makes a call, again if it fails in a way that may pass. The caller closes the
// answer's body.
func (s *Store) do(ctx context.Context, r request) (response *http.Response, err error) {
	stale, open := "", false // open: a try may still take effect
	defer func() {
		if err != nil && open {
			err = unclear{err}
		}
	}()
	for try := 1; ; try++ {
		who, err := s.login.get(ctx, stale)
		if err != nil {
			return nil, err
		}
		response, err := s.once(ctx, who, r)
		if err == nil && response.StatusCode < 300 {
			return response, nil
		}
		var wait time.Duration
		if err == nil {
			wait = remote.RetryAfter(response.Header, time.Now())
			err = answered(response)
		}
		open = open || !isRefusal(err)
		if ctx.Err() != nil {
			return nil, errors.Join(ctx.Err(), err)
		}
		if try >= remote.MaxTries || !mayPass(err, stale) {
			return nil, err
		}
		if isStatus(err, http.StatusUnauthorized) {
			stale = who.token // it has expired; a new one is asked for once
			continue
		}
		stale = ""
		if err := errors.Join(remote.Sleep(ctx, wait), remote.Pause(ctx, try)); err != nil {
			return nil, err
		}
	}
}

// isRefusal tells whether a try had an answer that says no.
func isRefusal(err error) bool {
	var status *statusError
	return errors.As(err, &status) && status.code < 499 && status.code != http.StatusRequestTimeout
}

// mayPass tells whether another try makes sense.
func mayPass(err error, stale string) bool {
	var status *statusError
	if !errors.As(err, &status) {
		return remote.Passing(err)
	}
	switch status.code {
	case http.StatusUnauthorized:
		return stale == ""
	case http.StatusRequestTimeout, http.StatusTooManyRequests, 498, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func (s *Store) once(ctx context.Context, who session, r request) (*http.Response, error) {
	target := who.account + "/" + escape(s.o.Container)
	if r.name != "" {
		target += "/" + escape(r.name)
	}
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	request, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, err
	}
	for name, value := range r.header {
		request.Header.Set(name, value)
	}
	request.Header.Set("X-Auth-Token", who.token)
	request.Header.Set("User-Agent", "baas")
	response, err := s.http.Do(request)
	if err == nil {
		s.clock.See(response)
	}
	return response, err
}

// escape makes a path of a name: everything but the slashes.
func escape(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return strings.Join(parts, "/")
}

// answered makes an error of an answer and closes it.
func answered(r *http.Response) error {
	defer r.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(r.Body, 500)) // what can be read of it
	return &statusError{r.StatusCode, strings.Join(strings.Fields(plain(string(text))), " ")}
}

// plain takes the tags off Swift's little HTML pages.
func plain(text string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "<")
		b.WriteString(before + " ")
		if !found {
			return b.String()
		}
		_, text, _ = strings.Cut(rest, ">")
	}
}

func isStatus(err error, codes ...int) bool {
	var status *statusError
	return errors.As(err, &status) && slices.Contains(codes, status.code)
}

// finish reads an answer to its end, so that the connection can be used again.
func finish(r *http.Response) error {
	_, err := io.Copy(io.Discard, io.LimitReader(r.Body, 1<<20))
	return errors.Join(err, r.Body.Close())
}

// call is do for answers of which only the headers matter.
func (s *Store) call(ctx context.Context, r request) (http.Header, error) {
	response, err := s.do(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := finish(response); err != nil {
		return nil, unclear{err}
	}
	return response.Header, nil
}
