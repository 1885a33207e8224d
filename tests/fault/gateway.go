package fault

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// StorageFault is what befalls requests to the storage gateway. The zero value is
// a gateway in good health.
type StorageFault struct {
	Method string // only these; both GET and PUT if empty
	Every  int    // every so manieth; all if 0
	// Delay comes before anything else.
	Delay time.Duration
	// Status is the answer in place of the gateway's, such as 503, or 507 for a
	// full disk.
	Status int
	// Break resets the connection in the middle of the body.
	Break bool
}

// Gateway is the way of executors to storage, under a test's control.
type Gateway struct {
	inner  http.Handler
	server *http.Server
	addr   string
	served chan struct{}

	mu      sync.Mutex
	fault   StorageFault
	changed chan struct{} // closed at the next Set
	seen    int           // requests that the present fault might strike
	struck  int
}

func newGateway(inner http.Handler) (*Gateway, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &Gateway{inner: inner, addr: listener.Addr().String(), served: make(chan struct{}), changed: make(chan struct{})}
	g.server = &http.Server{Handler: g, ReadHeaderTimeout: 20 * time.Second}
	go func() {
		defer close(g.served)
		_ = g.server.Serve(listener) // it ends by stop
	}()
	return g, nil
}

// Set sets what befalls requests from now on; a delay that is under way ends.
func (g *Gateway) Set(f StorageFault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault, g.seen = f, 0
	close(g.changed)
	g.changed = make(chan struct{})
}

// Heal ends the fault.
func (g *Gateway) Heal() { g.Set(StorageFault{}) }

// Struck counts the requests that a fault has befallen.
func (g *Gateway) Struck() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.struck
}

// strike decides about one request.
func (g *Gateway) strike(method string) (f StorageFault, changed <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f = g.fault
	if f.Method != "" && f.Method != method || f == (StorageFault{}) {
		return StorageFault{}, g.changed
	}
	if g.seen++; f.Every > 1 && g.seen%f.Every != 0 {
		return StorageFault{}, g.changed
	}
	g.struck++
	return f, g.changed
}

// ServeHTTP serves a request as the present fault lets it.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, changed := g.strike(r.Method)
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case f.Status != 0:
		http.Error(w, http.StatusText(f.Status), f.Status)
	case f.Break && r.Method == http.MethodPut:
		_, _ = io.CopyN(io.Discard, r.Body, max(r.ContentLength/2, 1))
		panic(http.ErrAbortHandler)
	case f.Break:
		g.inner.ServeHTTP(&breakingWriter{w}, r)
	default:
		g.inner.ServeHTTP(w, r)
	}
}

func (g *Gateway) stop() error {
	g.Heal()
	err := g.server.Shutdown(context.Background())
	<-g.served
	return err
}

// breakingWriter ends the connection after half of the first piece of a body.
type breakingWriter struct{ http.ResponseWriter }

func (w *breakingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *breakingWriter) Write(b []byte) (int, error) {
	_, _ = w.ResponseWriter.Write(b[:len(b)/2])
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}
