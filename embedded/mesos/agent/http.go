package agent

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/mesos/mesos-go/api/v1/lib/encoding"
)

// maxBody bounds a call: TaskStatus.data of 4 MiB, a few hundred tasks.
const maxBody = 64 << 20

const (
	typeJSON     = "application/json"
	typeProtobuf = "application/x-protobuf"
)

// httpError is an answer other than 200 and 202.
type httpError struct {
	code    int
	message string
}

func (e *httpError) Error() string { return e.message }

func refuse(code int, format string, args ...any) *httpError {
	return &httpError{code, fmt.Sprintf(format, args...)}
}

func (a *Agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v1/executor", a.serveExecutor)
	mux.HandleFunc("/api/v1", a.letIn("mesos-agent-readwrite", a.serveOperator))
	mux.HandleFunc("GET /files/browse", a.letIn("mesos-agent-readonly", a.serveBrowse))
	mux.HandleFunc("GET /files/read", a.letIn("mesos-agent-readonly", a.serveRead))
	mux.HandleFunc("GET /files/download", a.letIn("mesos-agent-readonly", a.serveDownload))
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]string{"version": Version})
	})
	// Mesos serves all but /files below the name of the agent's actor, too.
	outer := http.NewServeMux()
	outer.Handle("/slave(1)/", http.StripPrefix("/slave(1)", mux))
	outer.Handle("/", mux)
	return outer
}

// letIn asks for a credential where any are configured.
func (a *Agent) letIn(realm string, serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if principal, secret, _ := r.BasicAuth(); len(a.cfg.Credentials) > 0 {
			want, known := a.cfg.Credentials[principal]
			given, wanted := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(want))
			if subtle.ConstantTimeCompare(given[:], wanted[:]) != 1 || !known {
				w.Header().Set("WWW-Authenticate", fmt.Sprintf("Basic realm=%q", realm))
				http.Error(w, "401 Unauthorized.", http.StatusUnauthorized)
				return
			}
		}
		serve(w, r)
	}
}

func fail(w http.ResponseWriter, err error) {
	var known *httpError
	if !errors.As(err, &known) {
		known = refuse(http.StatusInternalServerError, "%v", err)
	}
	http.Error(w, known.message, known.code)
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", typeJSON)
	_ = json.NewEncoder(w).Encode(value) // who asked has gone
}

// readCall reads a call as Mesos does: a POST of JSON or protobuf.
func readCall(w http.ResponseWriter, r *http.Request, call encoding.Unmarshaler) error {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		return refuse(http.StatusMethodNotAllowed, "Expecting one of { 'POST' }, but received '%s'", r.Method)
	}
	header := r.Header.Get("Content-Type")
	if header == "" {
		return refuse(http.StatusBadRequest, "Expecting 'Content-Type' to be present")
	}
	kind, _, err := mime.ParseMediaType(header)
	if err != nil || kind != typeJSON && kind != typeProtobuf {
		return refuse(http.StatusUnsupportedMediaType, "Expecting 'Content-Type' of %s or %s", typeJSON, typeProtobuf)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return refuse(http.StatusBadRequest, "Failed to read body: %v", err)
	}
	if kind == typeProtobuf {
		if err := call.Unmarshal(body); err != nil {
			return refuse(http.StatusBadRequest, "Failed to parse body into Call protobuf: %v", err)
		}
	} else if err := call.UnmarshalJSON(body); err != nil {
		return refuse(http.StatusBadRequest, "Failed to parse body into JSON: %v", err)
	}
	return nil
}

// accepts tells which of the two forms the caller takes: JSON if any will do.
func accepts(r *http.Request) (asJSON bool, err error) {
	header := strings.Join(r.Header.Values("Accept"), ",")
	if strings.TrimSpace(header) == "" {
		return true, nil
	}
	protobuf := false
	for part := range strings.SplitSeq(header, ",") {
		kind, parameters, err := mime.ParseMediaType(part)
		if err != nil || parameters["q"] == "0" {
			continue
		}
		switch kind {
		case typeJSON, "application/*", "*/*":
			return true, nil
		case typeProtobuf:
			protobuf = true
		}
	}
	if protobuf {
		return false, nil
	}
	return false, refuse(http.StatusNotAcceptable, "Expecting 'Accept' to allow '%s' or '%s'", typeProtobuf, typeJSON)
}

func contentType(asJSON bool) string {
	if asJSON {
		return typeJSON
	}
	return typeProtobuf
}
