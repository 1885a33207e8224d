package master

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

const (
	mediaProtobuf = "application/x-protobuf"
	mediaJSON     = "application/json"

	// maxBody bounds one call; Mesos itself has no limit.
	maxBody = 128 << 20

	realmScheduler = "mesos-master-scheduler"
	realmReadWrite = "mesos-master-readwrite"
)

var errSlowSubscriber = errors.New("the subscriber does not read its events")

// httpError is an answer other than success.
type httpError struct {
	code    int
	message string
}

func (e *httpError) Error() string { return e.message }

func httpErrorf(code int, format string, args ...any) *httpError {
	return &httpError{code, fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) *httpError {
	return httpErrorf(http.StatusBadRequest, format, args...)
}

func (m *Master) handler() http.Handler {
	mux := http.NewServeMux()
	for _, prefix := range []string{"", "/master"} {
		mux.Handle(prefix+"/api/v1/scheduler", m.endpoint(realmScheduler, m.serveScheduler))
		mux.Handle(prefix+"/api/v1", m.endpoint(realmReadWrite, m.serveOperator))
		mux.HandleFunc("GET "+prefix+"/health", func(http.ResponseWriter, *http.Request) {})
		mux.HandleFunc(prefix+"/redirect", m.serveRedirect)
	}
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaJSON)
		_ = json.NewEncoder(w).Encode(map[string]string{"version": Version})
	})
	return m.tracked(mux)
}

// tracked lets Stop wait for all requests.
func (m *Master) tracked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !m.requests.enter() {
			panic(http.ErrAbortHandler)
		}
		defer m.requests.leave()
		next.ServeHTTP(w, r)
	})
}

// endpoint does what all calls have in common, in the order in which Mesos does it.
func (m *Master) endpoint(realm string, serve func(w http.ResponseWriter, r *http.Request, principal string) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		principal, ok := m.authenticate(r)
		if !ok {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf("Basic realm=%q", realm))
			writeError(w, httpErrorf(http.StatusUnauthorized, "401 Unauthorized."))
			return
		}
		err := m.available(w, r)
		if err == nil {
			err = serve(w, r, principal)
		}
		if err != nil {
			writeError(w, err)
		}
	})
}

// available refuses calls that this master cannot take now.
func (m *Master) available(w http.ResponseWriter, r *http.Request) error {
	if leader, since := m.leadership.get(); since.IsZero() {
		return redirect(w, leader, delegated(r))
	}
	select {
	case <-m.ready:
	default:
		return httpErrorf(http.StatusServiceUnavailable, "Master has not finished recovery")
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return httpErrorf(http.StatusMethodNotAllowed, "405 Method Not Allowed. Expecting one of { 'POST' }, but received '%s'", r.Method)
	}
	return nil
}

// authenticate answers the principal ("" without credentials configured).
func (m *Master) authenticate(r *http.Request) (string, bool) {
	if len(m.cfg.Credentials) == 0 {
		return "", true
	}
	principal, secret, ok := r.BasicAuth()
	if !ok {
		return "", false
	}
	want, known := m.cfg.Credentials[principal]
	a, b := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(want))
	return principal, known && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func writeError(w http.ResponseWriter, err error) {
	var he *httpError
	if !errors.As(err, &he) {
		he = httpErrorf(http.StatusServiceUnavailable, "%v", err)
	}
	if he.message != "" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	w.WriteHeader(he.code)
	_, _ = io.WriteString(w, he.message)
}

// message is a call or a response in either encoding.
type message interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// decode reads a call in the encoding that Content-Type names.
func decode(r *http.Request, into message) error {
	contentType := r.Header.Get("Content-Type")
	if contentType == "" {
		return badRequest("Expecting 'Content-Type' to be present")
	}
	if contentType != mediaProtobuf && contentType != mediaJSON {
		return httpErrorf(http.StatusUnsupportedMediaType, "Expecting 'Content-Type' of %s or %s", mediaJSON, mediaProtobuf)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return badRequest("Failed to read body: %v", err)
	}
	if len(body) > maxBody {
		return httpErrorf(http.StatusRequestEntityTooLarge, "Body is larger than %d bytes", maxBody)
	}
	if contentType == mediaProtobuf {
		if err := into.Unmarshal(body); err != nil {
			return badRequest("Failed to parse body into Call protobuf")
		}
		return nil
	}
	return decodeJSON(body, into)
}

// accepts follows the rules of Accept as libprocess does: no header accepts all.
func accepts(r *http.Request, media string) bool {
	values := r.Header.Values("Accept")
	if len(values) == 0 {
		return true
	}
	for _, part := range strings.Split(strings.Join(values, ","), ",") {
		kind, params, _ := strings.Cut(strings.ToLower(strings.ReplaceAll(part, " ", "")), ";")
		if kind != media && kind != "application/*" && kind != "*/*" {
			continue
		}
		if q, ok := strings.CutPrefix(params, "q="); ok && strings.Trim(q, "0.") == "" {
			continue
		}
		return true
	}
	return false
}

// answerType chooses the encoding of an answer; JSON is preferred, as in Mesos.
func answerType(r *http.Request) (string, error) {
	switch {
	case accepts(r, mediaJSON):
		return mediaJSON, nil
	case accepts(r, mediaProtobuf):
		return mediaProtobuf, nil
	}
	return "", httpErrorf(http.StatusNotAcceptable, "Expecting 'Accept' to allow '%s' or '%s'", mediaProtobuf, mediaJSON)
}

func writeMessage(w http.ResponseWriter, media string, msg message) error {
	var data []byte
	var err error
	if media == mediaJSON {
		data, err = json.Marshal(msg)
	} else {
		data, err = msg.Marshal()
	}
	if err != nil {
		return httpErrorf(http.StatusInternalServerError, "encode: %v", err)
	}
	w.Header().Set("Content-Type", media)
	_, _ = w.Write(data)
	return nil
}
