// Package platform runs a whole BAAS in one process: Temporal and Mesos embedded,
// a file store with its gateway, and a worker. It is what `baas up` and `baas run`
// start on a machine that has no platform, and what the end-to-end tests run.
package platform

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	"github.com/baas-batch/baas/catalog"
	"github.com/baas-batch/baas/embedded"
	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
	"github.com/baas-batch/baas/worker"
)

// Config of a platform. Dir and Executor must be given.
type Config struct {
	// Dir holds everything. One platform at a time may use it; started again on
	// it, a platform goes on where the last one was left. Tasks may run as other
	// users than this process, so they must be able to pass through it.
	Dir string
	// StoreDir holds the objects; "store" below Dir if empty.
	StoreDir string
	// StorageURL names another store than the files in StoreDir. Its backend must be
	// linked in.
	StorageURL string
	// Memory keeps Temporal in memory: runs are forgotten when the platform ends.
	Memory bool
	// Executor is the path of the baas-executor binary.
	Executor string

	// Ports are preferred; a free one is used where one is taken or 0.
	TemporalPort, UIPort, MasterPort, GatewayPort int
	NoUI                                          bool

	// Mesos sets the embedded cluster up; its Dir, MasterPort and Logger are
	// taken from here.
	Mesos embeddedmesos.Config
	// Worker and Scheduler change the worker's and framework's configuration
	// before they start; either may be nil.
	Worker    func(*worker.Config)
	Scheduler func(*mesos.Config)
	// NoWorker leaves the worker out, for those who run workers of their own.
	NoWorker bool

	Logger *slog.Logger
}

// What one machine wants: a restart is noticed within seconds.
const (
	leaseTimeout     = 5 * time.Second
	heartbeatTimeout = 15 * time.Second
	maxWaiting       = 200 // tasks: more than one machine starts in a heartbeat's time
)

// Platform is a running platform.
type Platform struct {
	Temporal *embedded.Temporal
	Cluster  *embeddedmesos.Cluster
	Store    storage.Store
	Gateway  *file.Gateway // nil with a StorageURL
	Client   client.Client
	Worker   *worker.Worker // nil with NoWorker

	cfg      Config
	executor string // the copy that agents fetch
	digest   string

	stop    sync.Once
	stopErr error
}

// Start starts all parts and waits until they answer.
func Start(ctx context.Context, cfg Config) (_ *Platform, err error) {
	if cfg.Dir == "" || cfg.Executor == "" {
		return nil, errors.New("platform: a data directory and the executor's binary must be given")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return nil, err
	}
	if cfg.StoreDir == "" {
		cfg.StoreDir = filepath.Join(cfg.Dir, "store")
	}
	if cfg.StoreDir, err = filepath.Abs(cfg.StoreDir); err != nil {
		return nil, err
	}
	p := &Platform{cfg: cfg}
	defer func() {
		if err != nil {
			_ = p.Stop(context.WithoutCancel(ctx), true)
		}
	}()
	for _, part := range []struct {
		name  string
		start func(context.Context) error
	}{
		{"executor", p.installExecutor},
		{"storage", p.startStorage},
		{"Temporal", p.startTemporal},
		{"Mesos", p.startMesos},
		{"worker", p.startWorker},
	} {
		// In a profile, each part's goroutines are known by its name.
		pprof.Do(ctx, pprof.Labels("part", part.name), func(ctx context.Context) { err = part.start(ctx) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return p, nil
}

// StorageURL is the URL under which other processes of this machine find the store.
func (p *Platform) StorageURL() string {
	if p.cfg.StorageURL != "" {
		return p.cfg.StorageURL
	}
	u := url.URL{Scheme: "file", Path: p.cfg.StoreDir, RawQuery: url.Values{"gateway": {p.Gateway.URL()}}.Encode()}
	return u.String()
}

// StoreDir holds the objects, unless they are elsewhere by Config.StorageURL.
func (p *Platform) StoreDir() string { return p.cfg.StoreDir }

// Stop stops all parts. With keepTasks, executors and their tasks live on, as
// they would on agents of their own; a platform started later on the same
// directory finds them again. Without, they are shut down first.
func (p *Platform) Stop(ctx context.Context, keepTasks bool) error {
	p.stop.Do(func() { p.stopErr = p.halt(ctx, keepTasks) })
	return p.stopErr
}

func (p *Platform) halt(ctx context.Context, keepTasks bool) error {
	var errs []error
	if p.Worker != nil {
		p.Worker.Stop()
	}
	if p.Cluster != nil && !keepTasks {
		errs = append(errs, p.Cluster.Terminate(ctx))
	}
	if p.Cluster != nil {
		p.Cluster.Stop()
	}
	if p.Gateway != nil {
		errs = append(errs, p.Gateway.Stop(ctx))
	}
	if p.Client != nil {
		p.Client.Close()
	}
	if p.Temporal != nil {
		errs = append(errs, p.Temporal.Stop())
	}
	if p.Store != nil {
		errs = append(errs, p.Store.Close())
	}
	return errors.Join(errs...)
}

// installExecutor keeps a copy under the binary's digest: what executors were
// started from must not change under them.
func (p *Platform) installExecutor(context.Context) error {
	source, err := os.Open(p.cfg.Executor)
	if err != nil {
		return err
	}
	defer source.Close()
	digest := sha256.New()
	if _, err := io.Copy(digest, source); err != nil {
		return err
	}
	p.digest = hex.EncodeToString(digest.Sum(nil))
	dir := filepath.Join(p.cfg.Dir, "executor", p.digest)
	p.executor = filepath.Join(dir, "baas-executor")
	if _, err := os.Stat(p.executor); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if _, err := source.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return writeFile(p.executor, source, 0o755)
}

// writeFile makes the file appear whole or not at all.
func writeFile(path string, r io.Reader, mode os.FileMode) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(temp.Name())
		}
	}()
	_, err = io.Copy(temp, r)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

func (p *Platform) startStorage(ctx context.Context) (err error) {
	if p.cfg.StorageURL == "" {
		return p.startFiles()
	}
	p.Store, err = storage.Open(ctx, p.cfg.StorageURL)
	return err
}

func (p *Platform) startFiles() error {
	store, err := file.Open(p.cfg.StoreDir, file.Options{Logger: p.cfg.Logger})
	if err != nil {
		return err
	}
	p.Store = store
	p.Gateway, err = file.NewGateway(store, file.GatewayOptions{Logger: p.cfg.Logger})
	if err != nil {
		return err
	}
	// Running tasks hold URLs of the port that the last gateway had.
	port := p.cfg.GatewayPort
	remembered := filepath.Join(p.cfg.Dir, "gateway.json")
	var last struct{ Port int }
	if data, err := os.ReadFile(remembered); err == nil && json.Unmarshal(data, &last) == nil && last.Port != 0 {
		port = last.Port
	}
	if err := p.Gateway.Start("127.0.0.1:" + strconv.Itoa(port)); err != nil {
		return err
	}
	if err := store.UseGateway(p.Gateway.URL()); err != nil {
		return err
	}
	return rememberPort(remembered, p.Gateway.URL())
}

func (p *Platform) startTemporal(ctx context.Context) (err error) {
	dir := filepath.Join(p.cfg.Dir, "temporal")
	if p.cfg.Memory {
		dir = ""
	}
	p.Temporal, err = embedded.StartTemporal(ctx, embedded.TemporalConfig{
		DataDir: dir, Port: p.cfg.TemporalPort, UIPort: p.cfg.UIPort, NoUI: p.cfg.NoUI, Logger: p.cfg.Logger,
	})
	if err != nil {
		return err
	}
	options := p.Temporal.ClientOptions()
	if !p.cfg.Logger.Enabled(ctx, slog.LevelInfo) {
		// The SDK calls much an error that is none.
		options.Logger = sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))
	}
	p.Client, err = client.DialContext(ctx, options)
	return err
}

func (p *Platform) startMesos(ctx context.Context) (err error) {
	cfg := p.cfg.Mesos
	cfg.Dir = filepath.Join(p.cfg.Dir, "mesos")
	cfg.MasterPort = p.cfg.MasterPort
	cfg.Logger = p.cfg.Logger
	// Without it, a task could subscribe as an executor, and be sent what is for that one.
	cfg.Agent.AuthenticateExecutors = true
	if cfg.Master.AllocationInterval == 0 {
		// One machine and one framework: an allocation is cheap, and each step of a
		// chain waits for one.
		cfg.Master.AllocationInterval = 10 * time.Millisecond
	}
	p.Cluster, err = embeddedmesos.Start(ctx, cfg)
	return err
}

// WorkerConfig is the configuration of a worker of this platform.
func (p *Platform) WorkerConfig() worker.Config {
	cfg := worker.Config{
		Client: p.Client, Namespace: p.Temporal.Namespace(), Store: p.Store,
		Catalog: catalog.Catalog{},
		Mesos: mesos.Config{
			Masters:     []string{p.Cluster.MasterURL()},
			ExecutorURI: p.executor, ExecutorSHA256: p.digest,
			WebUI: p.Temporal.UIURL(), Logger: p.cfg.Logger,
		},
		Logger:           p.cfg.Logger,
		LeaseTimeout:     leaseTimeout,
		HeartbeatTimeout: heartbeatTimeout,
		MaxWaiting:       maxWaiting,
	}
	if p.cfg.Worker != nil {
		p.cfg.Worker(&cfg)
	}
	if p.cfg.Scheduler != nil {
		p.cfg.Scheduler(&cfg.Mesos)
	}
	return cfg
}

func (p *Platform) startWorker(ctx context.Context) (err error) {
	if p.cfg.NoWorker {
		return nil
	}
	p.Worker, err = worker.Start(ctx, p.WorkerConfig())
	return err
}

// leadTimeout bounds AwaitLeader: a leader that was killed holds the leadership
// until its lease is over.
const leadTimeout = 30*time.Second + 3*leaseTimeout

// AwaitLeader waits until the platform's worker leads the framework: a run that
// is started then begins at once.
func (p *Platform) AwaitLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leadTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !p.Worker.Leading() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the worker does not lead the framework: %w", ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}
