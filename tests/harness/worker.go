package harness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	"github.com/baas-batch/baas/catalog"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
	"github.com/baas-batch/baas/worker"
)

// WorkerConfig is what a worker in a process of its own is told.
type WorkerConfig struct {
	// Role is the role that it plays, "worker" if empty; see WorkerRole.
	Role string
	Name string

	Temporal, Namespace string // address and namespace
	Storage             string // directory of the file store
	// Gateway is the URL of a gateway to share; empty: it has one of its own,
	// which dies with it.
	Gateway                  string
	Masters                  []string
	Executor, ExecutorSHA256 string
	Lease, Heartbeat         time.Duration
	Timings                  mesos.Timings

	// Options are for the hooks of Role.
	Options map[string]string
}

// Hooks change a worker in its process before it starts; each may be nil.
type Hooks struct {
	Client func(*client.Options)             // its connection to Temporal
	Store  func(storage.Store) storage.Store // its store
	Worker func(*worker.Config)              // all else; Mesos.Transport is the way to Mesos
}

// WorkerRole is the role of a worker with hooks, which may be nil. They are asked
// for once, in the worker's process. Register the role under a name with Main, and
// name it in WorkerConfig.
func WorkerRole(hooks func(WorkerConfig) (Hooks, error)) Role {
	return func(ctx context.Context, raw json.RawMessage, ready func(any)) error {
		var cfg WorkerConfig
		if err := json.Unmarshal(raw, &cfg); err != nil {
			return err
		}
		var h Hooks
		if hooks != nil {
			var err error
			if h, err = hooks(cfg); err != nil {
				return err
			}
		}
		return serveWorker(ctx, cfg, h, ready)
	}
}

func serveWorker(ctx context.Context, cfg WorkerConfig, hooks Hooks, ready func(any)) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	files, err := file.Open(cfg.Storage, file.Options{Logger: log})
	if err != nil {
		return err
	}
	defer files.Close()
	if cfg.Gateway == "" {
		gateway, err := file.NewGateway(files, file.GatewayOptions{Logger: log})
		if err != nil {
			return err
		}
		if err := gateway.Start("127.0.0.1:0"); err != nil {
			return err
		}
		defer gateway.Stop(context.Background())
		cfg.Gateway = gateway.URL()
	}
	if err := files.UseGateway(cfg.Gateway); err != nil {
		return err
	}
	var store storage.Store = files
	if hooks.Store != nil {
		store = hooks.Store(store)
	}
	options := client.Options{HostPort: cfg.Temporal, Namespace: cfg.Namespace, Logger: sdklog.NewStructuredLogger(log)}
	if hooks.Client != nil {
		hooks.Client(&options)
	}
	temporal, err := dial(ctx, options, log)
	if err != nil {
		return err
	}
	defer temporal.Close()
	wc := worker.Config{
		Client: temporal, Namespace: cfg.Namespace, Store: store, Catalog: catalog.Catalog{},
		Mesos: mesos.Config{
			Masters: cfg.Masters, ExecutorURI: cfg.Executor, ExecutorSHA256: cfg.ExecutorSHA256,
			Logger: log, Timings: cfg.Timings,
		},
		Identity: cfg.Name, Logger: log,
		LeaseTimeout: cfg.Lease, HeartbeatTimeout: cfg.Heartbeat,
	}
	if hooks.Worker != nil {
		hooks.Worker(&wc)
	}
	w, err := worker.Start(ctx, wc)
	if err != nil {
		return err
	}
	ready(cfg.Name)
	<-ctx.Done()
	w.Stop()
	return nil
}

// dial waits for Temporal, as a supervisor that starts a worker again and again
// would.
func dial(ctx context.Context, options client.Options, log *slog.Logger) (client.Client, error) {
	for {
		c, err := client.DialContext(ctx, options)
		if err == nil || ctx.Err() != nil {
			return c, err
		}
		log.Warn("Temporal does not answer", "error", err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Worker is a worker in a process of its own.
type Worker struct {
	*Process
	Config WorkerConfig
}

// NewWorker makes a worker without starting it.
func NewWorker(t testing.TB, cfg WorkerConfig) *Worker {
	t.Helper()
	role := cfg.Role
	if role == "" {
		role = "worker"
	}
	return &Worker{NewProcess(t, role, cfg.Name, cfg), cfg}
}

// Change changes the configuration from the next life on.
func (w *Worker) Change(f func(*WorkerConfig)) error {
	f(&w.Config)
	return w.Configure(w.Config)
}

// LikePlatform is the configuration of a worker of a platform that has none
// itself; see platform.Config.NoWorker.
func LikePlatform(p *platform.Platform, name string) WorkerConfig {
	like := p.WorkerConfig()
	return WorkerConfig{
		Name: name, Temporal: p.Temporal.Address(), Namespace: like.Namespace, Storage: p.StoreDir(),
		Masters: like.Mesos.Masters, Executor: like.Mesos.ExecutorURI, ExecutorSHA256: like.Mesos.ExecutorSHA256,
		Lease: like.LeaseTimeout, Heartbeat: like.HeartbeatTimeout,
	}
}

// Digest is the SHA-256 of a file, in hex.
func Digest(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}
