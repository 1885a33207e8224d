// Package local keeps a platform on this machine: in a data directory where other
// processes find it, or for one run in a temporary one.
package local

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	mesosproto "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/cmd/baas/internal/datadir"
	"github.com/baas-batch/baas/embedded"
	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/agent"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/secrets"
	"github.com/baas-batch/baas/starter"
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
	Storage   string // URL of a store other than the files in the data directory
	Executor  string // path of its binary; "" for the one beside this program
	Version   string
	Catalog   flow.Catalog
	Secrets   *secrets.Keeper // nil for none
	Users     []string        // see worker.Config
	Retention flow.Retention
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

	config  Config
	lock    *os.File // nil when ephemeral
	scratch string   // "" when persistent
	parts   *platform.Platform

	stop    sync.Once
	stopErr error
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
	parts, err := p.partsConfig()
	if err != nil {
		return nil, err
	}
	if p.parts, err = platform.Start(ctx, parts); err != nil {
		return nil, err
	}
	if err := p.parts.AwaitLeader(ctx); err != nil {
		return nil, err
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
	if err != nil {
		return err
	}
	return os.Chmod(p.scratch, 0o711) // tasks run as other users
}

func (p *Platform) partsConfig() (platform.Config, error) {
	config := platform.Config{
		Dir: p.config.DataDir, StoreDir: filepath.Join(p.config.DataDir, datadir.Store), StorageURL: p.config.Storage,
		Executor: p.config.Executor, Logger: p.config.Logger,
		TemporalPort: p.config.Port, UIPort: p.config.UIPort,
		Worker: func(w *worker.Config) {
			w.Secrets, w.Users = p.config.Secrets, p.config.Users
			w.Retention, w.NoSweep = p.config.Retention, p.config.Ephemeral
		},
	}
	for range max(1, p.config.Agents) {
		config.Mesos.Agents = append(config.Mesos.Agents, embeddedmesos.AgentConfig{Resources: p.config.resources()})
	}
	if p.config.Ephemeral {
		config.Dir, config.Memory = p.scratch, true
		return config, nil
	}
	last, err := datadir.Last(p.config.DataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		last = datadir.State{} // only the ports are lost
	}
	if config.TemporalPort == 0 {
		config.TemporalPort = portOf(last.Temporal, embedded.DefaultPort)
	}
	if config.UIPort == 0 {
		config.UIPort = portOf(hostOf(last.UI), embedded.DefaultUIPort)
	}
	config.MasterPort = portOf(hostOf(last.Mesos), DefaultMesosPort)
	config.GatewayPort = DefaultGatewayPort // the platform remembers the one it had
	return config, nil
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

func (p *Platform) describe() {
	p.State = datadir.State{
		PID:       os.Getpid(),
		Version:   p.config.Version,
		Started:   time.Now().UTC(),
		Temporal:  p.parts.Temporal.Address(),
		Namespace: p.parts.Temporal.Namespace(),
		UI:        p.parts.Temporal.UIURL(),
		Mesos:     p.parts.Cluster.MasterURL(),
		Storage:   p.parts.StorageURL(),
		Framework: api.DefaultFramework,
	}
	if p.parts.Gateway != nil {
		p.State.Gateway = p.parts.Gateway.URL()
	}
}

// Client talks to the platform.
func (p *Platform) Client() *starter.Client {
	return starter.New(starter.Config{
		Temporal: p.parts.Client, Namespace: p.parts.Temporal.Namespace(), Address: p.parts.Temporal.Address(),
		Store: p.parts.Store, Catalog: p.config.Catalog, ReadLive: mesos.ReadFile,
	})
}

// stopTimeout is for what must be ended after a start that failed.
const stopTimeout = 30 * time.Second

// Stop ends the platform, in order, and waits for it. Executors are shut down
// with their tasks, until ctx ends at most; with keepTasks they live on, and the
// next platform on the data directory takes them up. Open runs go on there in
// both cases: tasks that were ended are placed again. Stop may be called again.
func (p *Platform) Stop(ctx context.Context, keepTasks bool) error {
	p.stop.Do(func() { p.stopErr = p.end(ctx, keepTasks) })
	return p.stopErr
}

func (p *Platform) end(ctx context.Context, keepTasks bool) error {
	var errs []error
	if p.parts != nil {
		errs = append(errs, p.parts.Stop(ctx, keepTasks && !p.config.Ephemeral))
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
