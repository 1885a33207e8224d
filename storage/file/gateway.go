package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// DefaultIdleTimeout is how long a transfer may stand still. Transfers that
// move may take any time.
const DefaultIdleTimeout = 2 * time.Minute

// GatewayOptions are the options of NewGateway. The zero value is ready for use.
type GatewayOptions struct {
	// MaxSize bounds one PUT, in bytes; 0: unbounded.
	MaxSize int64
	// IdleTimeout replaces DefaultIdleTimeout.
	IdleTimeout time.Duration
	// AdvertiseHost is the host in URL when the gateway listens on all
	// interfaces; by default this machine's name.
	AdvertiseHost string
	// Logger hears of failures and, at debug level, of requests; nil means none.
	Logger *slog.Logger
}

// Gateway serves the signed URLs of a Store over HTTP, and nothing that is not
// signed but what Handle was given. It has one life: Start, then Stop.
type Gateway struct {
	store  *Store
	secret []byte
	opts   GatewayOptions
	log    *slog.Logger
	now    func() time.Time

	mu      sync.Mutex
	public  map[string]http.Handler
	server  *http.Server
	url     string
	served  chan struct{} // closed when the server's loop has ended
	stopped bool
}

// NewGateway makes a gateway; it is an http.Handler from here on. The first
// gateway of a directory writes the secret that all share.
func NewGateway(store *Store, opts GatewayOptions) (*Gateway, error) {
	secret, err := store.secret()
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	opts.IdleTimeout = cmp.Or(opts.IdleTimeout, DefaultIdleTimeout)
	return &Gateway{
		store:  store,
		secret: secret,
		opts:   opts,
		log:    cmp.Or(opts.Logger, slog.New(slog.DiscardHandler)),
		now:    time.Now,
		public: map[string]http.Handler{},
	}, nil
}

// Handle serves exactly path by h, to everybody, without a signature: for what is
// no secret, such as the executor's binary under its digest. It panics on a path
// that is not absolute or belongs to the objects.
func (g *Gateway) Handle(path string, h http.Handler) {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, objectsPath) {
		panic(fmt.Sprintf("gateway: cannot publish at %q", path))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.public[path] = h
}

// Start listens on address (host:port; "" is 127.0.0.1 on any port) and serves
// in the background. When the port is taken it takes another: ask URL.
func (g *Gateway) Start(address string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.server != nil || g.stopped {
		return errors.New("gateway: it was started before")
	}
	listener, err := listen(cmp.Or(address, "127.0.0.1:0"))
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	g.url = "http://" + g.advertised(listener.Addr().(*net.TCPAddr))
	g.server = &http.Server{
		Handler:           g,
		ReadHeaderTimeout: min(20*time.Second, g.opts.IdleTimeout),
		IdleTimeout:       g.opts.IdleTimeout,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
	g.served = make(chan struct{})
	go func(server *http.Server, served chan struct{}) {
		defer close(served)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			g.log.Error("the gateway has ended", "error", err)
		}
	}(g.server, g.served)
	g.log.Info("the gateway serves signed URLs", "url", g.url, "asked", address)
	return nil
}

func listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		host, _, splitErr := net.SplitHostPort(address)
		if splitErr != nil {
			return nil, err
		}
		return net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	return listener, err
}

func (g *Gateway) advertised(addr *net.TCPAddr) string {
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = g.opts.AdvertiseHost
		if host == "" {
			if name, err := os.Hostname(); err == nil {
				host = name
			} else {
				host = "127.0.0.1"
			}
		}
	}
	return net.JoinHostPort(host, fmt.Sprint(addr.Port))
}

// URL is the base URL, for UseGateway, with the port that Start got; "" before.
func (g *Gateway) URL() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.url
}

// Stop waits for the transfers that are under way, until ctx ends; then it cuts
// them. It may be called again.
func (g *Gateway) Stop(ctx context.Context) error {
	g.mu.Lock()
	server, served := g.server, g.served
	g.stopped = true
	g.mu.Unlock()
	if server == nil {
		return nil
	}
	err := server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("gateway: transfers were cut: %w", err), server.Close())
	}
	<-served
	return err
}
