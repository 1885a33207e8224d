// Package local runs all of BAAS on one machine in one process: Temporal, Mesos,
// the file store with its gateway, and a worker. It keeps them in a data
// directory, and tells other processes there where they are.
package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	mesosproto "github.com/mesos/mesos-go/api/v1/lib"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/cmd/baas/internal/datadir"
	"github.com/baas-batch/baas/embedded"
	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/agent"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/storage/file"
	"github.com/baas-batch/baas/worker"
)

// Ports that are tried first; any free one will do.
const (
	DefaultMesosPort   = 5050
	DefaultGatewayPort = 8234
)

// Config says what to start.
type Config struct {
	DataDir string
	// Ephemeral keeps Temporal in memory and Mesos in a temporary directory that
	// goes when the platform stops; outputs stay in the data directory. Several may
	// share a data directory, also with one that is up.
	Ephemeral bool
	Executor  string // path of its binary; "" for the one beside this program
	Version   string
	Catalog   flow.Catalog
	Logger    *slog.Logger

	// Port and UIPort are those of Temporal, preferred; 0: those of the last time.
	Port   int
	UIPort int

	Agents int     // 1 if 0
	CPUs   float64 // of each agent; the machine's if 0
	MemMB  int     // of each agent; most of the machine's if 0
}

// Platform is a running platform.
type Platform struct {
	State datadir.State

	config   Config
	lock     *os.File // nil when ephemeral
	scratch  string   // "" when persistent
	temporal *embedded.Temporal
	client   client.Client
	cluster  *embeddedmesos.Cluster
	store    *file.Store
	gateway  *file.Gateway
	worker   *worker.Worker
}

// Start starts all parts and returns when the worker leads the framework: a run
// that is started now begins at once. datadir.ErrLocked when the data directory is in use.
func Start(ctx context.Context, config Config) (_ *Platform, err error) {
	if config.Executor, err = FindExecutor(config.Executor); err != nil {
		return nil, err
	}
	if config.DataDir, err = filepath.Abs(config.DataDir); err != nil {
		return nil, err
	}
	p := &Platform{config: config}
	defer func() {
		if err != nil {
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			err = errors.Join(err, p.Stop(stopping, true))
		}
	}()
	if err := p.openDir(); err != nil {
		return nil, err
	}
	last, err := datadir.Last(config.DataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || config.Ephemeral {
		last = datadir.State{} // only the ports are lost
	}
	for _, start := range []func(context.Context, datadir.State) error{p.startTemporal, p.startStore, p.startMesos, p.startWorker} {
		if err := start(ctx, last); err != nil {
			return nil, err
		}
	}
	p.describe()
	if p.lock != nil {
		return p, p.State.Write(config.DataDir)
	}
	return p, nil
}

// openDir takes the data directory, or makes one for this run.
func (p *Platform) openDir() (err error) {
	if !p.config.Ephemeral {
		p.lock, err = datadir.Lock(p.config.DataDir)
		return err
	}
	if err := os.MkdirAll(p.config.DataDir, 0o700); err != nil {
		return err
	}
	p.scratch, err = os.MkdirTemp("", "baas-run-")
	return err
}

func (p *Platform) startTemporal(ctx context.Context, last datadir.State) (err error) {
	config := embedded.TemporalConfig{
		Port: p.config.Port, UIPort: p.config.UIPort,
		Logger: p.config.Logger,
	}
	if !p.config.Ephemeral {
		config.DataDir = filepath.Join(p.config.DataDir, datadir.Temporal)
		if config.Port == 0 {
			config.Port = portOf(last.Temporal, embedded.DefaultPort)
		}
		if config.UIPort == 0 {
			config.UIPort = portOf(hostOf(last.UI), embedded.DefaultUIPort)
		}
	}
	if p.temporal, err = embedded.StartTemporal(ctx, config); err != nil {
		return err
	}
	options := p.temporal.ClientOptions()
	if !p.config.Logger.Enabled(ctx, slog.LevelInfo) {
		// The SDK calls much an error that is none, such as an orderly stop.
		options.Logger = sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))
	}
	p.client, err = starter.Dial(ctx, options)
	return err
}

func (p *Platform) startStore(_ context.Context, last datadir.State) (err error) {
	p.store, err = file.Open(filepath.Join(p.config.DataDir, datadir.Store), file.Options{Logger: p.config.Logger})
	if err != nil {
		return err
	}
	if p.gateway, err = file.NewGateway(p.store, file.GatewayOptions{Logger: p.config.Logger}); err != nil {
		return err
	}
	port := 0
	if !p.config.Ephemeral {
		port = portOf(hostOf(last.Gateway), DefaultGatewayPort)
	}
	// Tasks that outlived the last platform hold URLs with its port.
	if err := p.gateway.Start(net.JoinHostPort(embedded.DefaultHost, strconv.Itoa(port))); err != nil {
		return err
	}
	return p.store.UseGateway(p.gateway.URL())
}

func (p *Platform) startMesos(ctx context.Context, last datadir.State) (err error) {
	config := embeddedmesos.Config{Dir: filepath.Join(p.config.DataDir, datadir.Mesos), Logger: p.config.Logger}
	if p.config.Ephemeral {
		config.Dir = filepath.Join(p.scratch, datadir.Mesos)
	} else {
		config.MasterPort = portOf(hostOf(last.Mesos), DefaultMesosPort)
	}
	for range max(1, p.config.Agents) {
		config.Agents = append(config.Agents, embeddedmesos.AgentConfig{Resources: p.config.resources()})
	}
	p.cluster, err = embeddedmesos.Start(ctx, config)
	return err
}

// resources of an agent where they are not the machine's.
func (c Config) resources() []mesosproto.Resource {
	if c.CPUs == 0 && c.MemMB == 0 {
		return nil
	}
	cpus, mem := c.CPUs, float64(c.MemMB)
	if cpus == 0 {
		cpus = machineCPUs()
	}
	if mem == 0 {
		mem = machineMemMB()
	}
	const disk = 1 << 20 // MB
	return []mesosproto.Resource{agent.Scalar("cpus", cpus), agent.Scalar("mem", mem), agent.Scalar("disk", disk)}
}

func (p *Platform) startWorker(ctx context.Context, _ datadir.State) error {
	dir := p.config.DataDir
	if p.config.Ephemeral {
		dir = p.scratch
	}
	executor, sha256, err := keepExecutor(dir, p.config.Executor)
	if err != nil {
		return err
	}
	p.worker, err = worker.Start(ctx, worker.Config{
		Client:    p.client,
		Namespace: p.temporal.Namespace(),
		Store:     p.store,
		Catalog:   p.config.Catalog,
		Mesos: mesos.Config{
			Masters:        []string{p.cluster.MasterURL()},
			ExecutorURI:    executor,
			ExecutorSHA256: sha256,
			WebUI:          p.temporal.UIURL(),
		},
		Logger: p.config.Logger,
	})
	if err != nil {
		return err
	}
	return awaitLeader(ctx, p.worker)
}

// leadTimeout bounds the wait for the leadership. A leader that was killed holds
// it until its lease is over.
const leadTimeout = 3*api.DefaultLeaseTimeout + 30*time.Second

func awaitLeader(ctx context.Context, w *worker.Worker) error {
	ctx, cancel := context.WithTimeout(ctx, leadTimeout)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !w.Leading() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the worker does not lead the framework: %w", ctx.Err())
		case <-ticker.C:
		}
	}
	return nil
}

func (p *Platform) describe() {
	storage := url.URL{Scheme: "file", Path: p.store.Dir(), RawQuery: url.Values{"gateway": {p.gateway.URL()}}.Encode()}
	p.State = datadir.State{
		PID:       os.Getpid(),
		Version:   p.config.Version,
		Started:   time.Now().UTC(),
		Temporal:  p.temporal.Address(),
		Namespace: p.temporal.Namespace(),
		UI:        p.temporal.UIURL(),
		Mesos:     p.cluster.MasterURL(),
		Storage:   storage.String(),
		Gateway:   p.gateway.URL(),
		Framework: api.DefaultFramework,
	}
}

// Client talks to the platform.
func (p *Platform) Client() *starter.Client {
	return starter.New(starter.Config{
		Temporal: p.client, Namespace: p.temporal.Namespace(), Address: p.temporal.Address(),
		Store: p.store, Catalog: p.config.Catalog, ReadLive: mesos.ReadFile,
	})
}

// stopTimeout is for what must be ended after a start that failed.
const stopTimeout = 30 * time.Second

// Stop ends the platform, in order, and waits for it. Executors are shut down
// with their tasks, until ctx ends at most; with keepTasks they live on, and the
// next platform on the data directory takes them up. Open runs go on there in
// both cases: tasks that were ended are placed again.
func (p *Platform) Stop(ctx context.Context, keepTasks bool) error {
	var errs []error
	if p.worker != nil {
		p.worker.Stop()
	}
	if p.cluster != nil {
		if keepTasks && !p.config.Ephemeral {
			p.cluster.Stop()
		} else {
			errs = append(errs, p.cluster.Terminate(ctx))
		}
	}
	if p.gateway != nil {
		errs = append(errs, p.gateway.Stop(ctx))
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	if p.client != nil {
		p.client.Close()
	}
	if p.temporal != nil {
		errs = append(errs, p.temporal.Stop())
	}
	if p.scratch != "" {
		errs = append(errs, os.RemoveAll(p.scratch))
	}
	if p.lock != nil {
		errs = append(errs, p.lock.Close())
	}
	return errors.Join(errs...)
}

func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return u.Host
}

// portOf reads the port of host:port, or gives the default.
func portOf(address string, otherwise int) int {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return otherwise
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return otherwise
	}
	return n
}
