package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	"github.com/baas-batch/baas/cmd/baas/internal/cli"
	"github.com/baas-batch/baas/cmd/baas/internal/local"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
	_ "github.com/baas-batch/baas/storage/s3"
	_ "github.com/baas-batch/baas/storage/swift"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/worker"
)

// parts are the real ones behind the command line.
type parts struct {
	catalog flow.Catalog
}

func (p parts) all() cli.Parts {
	return cli.Parts{Connect: p.connect, Embed: p.embed, OpenStore: openStore, Worker: p.work, Doctor: p.doctor}
}

// connect opens storage and, unless offline, Temporal.
func (p parts) connect(ctx context.Context, t cli.Target) (*cli.Platform, error) {
	config := starter.Config{
		Namespace: t.Temporal.Namespace, Address: t.Temporal.HostPort,
		Catalog: p.catalog, ReadLive: t.ReadLive(),
	}
	if t.Storage != "" {
		store, err := openStore(ctx, t.Storage)
		if err != nil {
			return nil, err
		}
		config.Store = store
	}
	if t.Temporal.HostPort != "" {
		temporal, err := dial(ctx, t)
		if err != nil {
			return nil, err
		}
		config.Temporal = temporal
	}
	return &cli.Platform{
		Target: t,
		Runs:   starter.New(config),
		Close: func(context.Context, bool) error {
			if config.Temporal != nil {
				config.Temporal.Close()
			}
			if config.Store != nil {
				return config.Store.Close()
			}
			return nil
		},
	}, nil
}

func openStore(ctx context.Context, rawURL string) (storage.Store, error) {
	store, err := storage.Open(ctx, rawURL)
	if err != nil {
		return nil, &starter.UnreachableError{What: "storage", Address: redact(rawURL), Err: err}
	}
	return store, nil
}

// redact leaves out the query, which may hold secrets.
func redact(rawURL string) string {
	plain, _, _ := strings.Cut(rawURL, "?")
	return plain
}

func dial(ctx context.Context, t cli.Target) (client.Client, error) {
	options := t.Temporal
	options.Logger = sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))
	return starter.Dial(ctx, options)
}

// embed starts a platform in this process.
func (p parts) embed(ctx context.Context, o cli.EmbedOptions) (*cli.Platform, error) {
	platform, err := local.Start(ctx, local.Config{
		DataDir: o.DataDir, Ephemeral: !o.Persistent, Storage: o.Storage, Executor: o.Executor,
		Version: o.Version, Catalog: p.catalog, Secrets: o.Secrets, Users: o.Users, Retention: o.Retention, Logger: o.Logger,
		Port: o.Port, UIPort: o.UIPort, Agents: o.Agents, CPUs: o.CPUs, MemMB: o.MemMB,
	})
	if err != nil {
		return nil, err
	}
	s := platform.State
	return &cli.Platform{
		Target: cli.Target{
			Temporal: client.Options{HostPort: s.Temporal, Namespace: s.Namespace},
			Storage:  s.Storage, UI: s.UI, Mesos: s.Mesos, Framework: s.Framework, Found: "this process",
		},
		Runs:     platform.Client(),
		Embedded: true,
		Close: func(ctx context.Context, keepTasks bool) error {
			ctx, cancel := context.WithTimeout(ctx, closeTimeout)
			defer cancel()
			return platform.Stop(ctx, keepTasks)
		},
	}, nil
}

const closeTimeout = time.Minute

// work runs a worker until ctx ends.
func (p parts) work(ctx context.Context, o cli.WorkerOptions) error {
	store, err := openStore(ctx, o.Storage)
	if err != nil {
		return err
	}
	defer store.Close()
	temporal, err := dial(ctx, o.Target)
	if err != nil {
		return err
	}
	defer temporal.Close()
	gateway, err := startGateway(store, o)
	if err != nil {
		return err
	}
	if gateway != nil {
		defer stopGateway(gateway)
	}
	executor, sha256, err := executorFor(o, gateway)
	if err != nil {
		return err
	}
	config := worker.Config{
		Client: temporal, Namespace: o.Temporal.Namespace, Store: store, Catalog: p.catalog,
		Secrets: o.Secrets, Users: o.Users, Volumes: o.Volumes, Retention: o.Retention,
		Framework: o.Framework, LeaseTimeout: o.LeaseTimeout, Logger: o.Logger,
		Mesos: mesos.Config{
			Masters: o.Masters, User: o.User, Role: o.Role, Access: o.MesosAccess.Open, WebUI: o.UI,
			RemoteRegions: o.RemoteRegions, ExecutorURI: executor, ExecutorSHA256: sha256, ExecutorEnv: executorEnv(o),
		},
	}
	if o.Images != nil {
		config.Images = o.Images
	}
	w, err := worker.Start(ctx, config)
	if err != nil {
		return err
	}
	defer w.Stop()
	if o.Metrics != "" {
		stop, err := serveMetrics(o.Metrics, w.Collector())
		if err != nil {
			return err
		}
		defer stop()
	}
	o.Started()
	<-ctx.Done()
	return nil
}

// startGateway serves a file store's signed URLs; other stores need no gateway.
func startGateway(store storage.Store, o cli.WorkerOptions) (*file.Gateway, error) {
	files, ok := store.(*file.Store)
	if !ok {
		return nil, nil
	}
	gateway, err := file.NewGateway(files, file.GatewayOptions{Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	if err := gateway.Start(o.Gateway); err != nil {
		return nil, err
	}
	// A gateway named in the storage URL may be reached where this one is not.
	if !strings.Contains(o.Storage, "gateway=") {
		err = files.UseGateway(gateway.URL())
	}
	return gateway, err
}

func stopGateway(gateway *file.Gateway) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = gateway.Stop(ctx) // what was cut is sent again through another gateway
}

func executorEnv(o cli.WorkerOptions) map[string]string {
	if o.CacheSize == "" {
		return nil
	}
	return map[string]string{tasklet.EnvCacheSize: o.CacheSize}
}

// executorFor gives the URI of the executor and, where it is known, its hash.
func executorFor(o cli.WorkerOptions, gateway *file.Gateway) (uri, sha256 string, err error) {
	if strings.Contains(o.Executor, "://") {
		return o.Executor, "", nil
	}
	name, err := local.FindExecutor(o.Executor)
	if err != nil {
		return "", "", err
	}
	if sha256, err = local.HashExecutor(name); err != nil || !o.Serve {
		return name, sha256, err
	}
	if gateway == nil {
		return "", "", fmt.Errorf("--serve-executor needs a file store: give --executor a URI that agents can fetch")
	}
	path := "/executor/" + sha256 + "/" + local.ExecutorName
	content, err := os.ReadFile(name)
	if err != nil {
		return "", "", err
	}
	gateway.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, local.ExecutorName, time.Time{}, strings.NewReader(string(content)))
	}))
	return gateway.URL() + path, sha256, nil
}
