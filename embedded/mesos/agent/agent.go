// Package agent is one embedded Mesos agent: it starts executors as processes of
// their own, serves them the v1 executor API, and passes status updates to a
// master until they are acknowledged. It keeps checkpoints, so that executors
// and updates outlive it as those of a real agent do.
//
// It behaves as a Mesos 1.12 agent with the Mesos containerizer, posix
// isolators and --work_dir on a local disk. Beyond those isolators, a container
// over its memory is destroyed, and one over its disk if so configured. There are
// no images, volumes, networks, nested containers, task groups or command
// executor: what asks for them is refused. Where a Mesos agent ends because it
// cannot write a checkpoint (its disk is full), this one drops the task.
package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/agent/internal/checkpoint"
	"github.com/baas-batch/baas/embedded/mesos/agent/internal/fetcher"
	"github.com/baas-batch/baas/embedded/mesos/link"
)

// state of an agent, as in Mesos.
type state int

const (
	recovering   state = iota
	disconnected       // from the master, or not yet registered
	running
	terminating
)

func (s state) String() string {
	return [...]string{"RECOVERING", "DISCONNECTED", "RUNNING", "TERMINATING"}[s]
}

// Agent is a running agent.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	store   *checkpoint.Store
	fetcher *fetcher.Fetcher
	server  *http.Server
	tokens  tokens
	addr    string
	started time.Time

	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	work   sync.WaitGroup // goroutines that must end before Stop does
	box    *mailbox
	stop   sync.Once
	ready  chan struct{}
	id     atomic.Pointer[mesos.AgentID]

	// What follows belongs to the mailbox.
	state      state
	info       mesos.AgentInfo
	frameworks map[mesos.FrameworkID]*framework
	completed  []*framework
	streams    map[streamKey]*stream
	master     link.Master
	link       *masterLink
	retry      *time.Timer // of the registration
	ping       *time.Timer
	draining   *mesos.DrainConfig // nil while the agent is not drained
	revocable  []mesos.Resource   // to give beyond info.Resources
	onIdle     func()             // while terminating: called when the last framework is gone
}

// New recovers what an earlier agent left in the work directory, and starts to
// serve executors. Detected tells it of a master. Errors: ErrIncompatible,
// ErrLocked, and those of disk and network.
func New(cfg Config) (*Agent, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	a := &Agent{
		cfg: cfg, log: cfg.Logger, started: time.Now(), ready: make(chan struct{}),
		frameworks: map[mesos.FrameworkID]*framework{},
		streams:    map[streamKey]*stream{},
	}
	if err := a.open(); err != nil {
		if a.store != nil {
			err = errors.Join(err, a.store.Close())
		}
		return nil, fmt.Errorf("agent: %w", err)
	}
	return a, nil
}

// ErrLocked tells that another agent uses the work directory.
var ErrLocked = checkpoint.ErrLocked

func (a *Agent) open() (err error) {
	if err := makeSandboxRoot(a.cfg.WorkDir); err != nil {
		return err
	}
	if a.store, err = checkpoint.Open(a.metaDir()); err != nil {
		return err
	}
	if a.fetcher, err = fetcher.New(filepath.Join(a.cfg.WorkDir, "fetch"), a.cfg.FetcherCacheSize); err != nil {
		return err
	}
	if a.cfg.AuthenticateExecutors {
		if a.tokens, err = openTokens(filepath.Join(a.metaDir(), "executor.key")); err != nil {
			return err
		}
	}
	recovered, err := a.readCheckpoints()
	if err != nil {
		return err
	}
	listener, err := a.listen(recovered.agent)
	if err != nil {
		return err
	}
	a.addr = reachable(listener.Addr())
	if err := a.setInfo(recovered); err != nil {
		return errors.Join(err, listener.Close())
	}

	a.revocable = a.cfg.Revocable
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.box = newMailbox()
	a.box.call(func() { a.recover(recovered) })
	a.server = &http.Server{
		Handler:           a.handler(),
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	if a.cfg.TLS != nil {
		listener = tls.NewListener(listener, a.cfg.TLS)
	}
	a.work.Go(func() { _ = a.server.Serve(listener) }) // ends with Close
	a.work.Go(a.watchContainers)
	if a.cfg.EnforceDiskQuota {
		a.work.Go(a.watchDisks)
	}
	a.work.Go(a.collectGarbage)
	return nil
}

// listen takes the port that living executors know, where none is asked for.
func (a *Agent) listen(before *mesos.AgentInfo) (net.Listener, error) {
	host, port, err := net.SplitHostPort(a.cfg.Listen)
	if err != nil {
		return nil, err
	}
	if port == "0" && before != nil && before.Port != nil {
		known := net.JoinHostPort(host, strconv.Itoa(int(before.GetPort())))
		listener, err := net.Listen("tcp", known)
		if err == nil {
			return listener, nil
		}
		a.log.Warn("the port of before is taken: executors that live will not find the agent", "address", known, "error", err)
	}
	return net.Listen("tcp", a.cfg.Listen)
}

// reachable is the address for executors, which are on this machine.
func reachable(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return addr.String()
}

func (a *Agent) metaDir() string { return filepath.Join(a.cfg.WorkDir, "meta") }

// Addr is the host:port that the agent serves.
func (a *Agent) Addr() string { return a.addr }

// ID is the ID that a master has given, empty before.
func (a *Agent) ID() mesos.AgentID {
	if id := a.id.Load(); id != nil {
		return *id
	}
	return mesos.AgentID{}
}

// Ready is closed when recovery has finished; never if Stop came before.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

func (a *Agent) setID(id *mesos.AgentID) {
	a.info.ID = id
	a.id.Store(id)
}

// Stop ends the agent as kill -9 would: nobody is told, executors live on.
func (a *Agent) Stop() {
	a.stop.Do(func() {
		a.cancel()
		a.box.close()
		a.server.Close()
		a.work.Wait()
		for _, f := range a.frameworks {
			for _, e := range f.executors {
				if e.log != nil {
					e.log.Close()
				}
			}
		}
		a.store.Close()
	})
	<-a.box.done
}

// Terminate unregisters, shuts all executors down and stops. When ctx ends
// first, what still lives is killed without more grace, and its error returned.
func (a *Agent) Terminate(ctx context.Context) error {
	idle := make(chan struct{})
	a.box.call(func() {
		if a.state == running {
			a.master.Unregister(*a.info.ID)
		}
		a.shutDown(func() {
			if err := a.store.ForgetAgent(); err != nil {
				a.log.Error("checkpoint is not removed", "error", err)
			}
			close(idle)
		})
	})
	var err error
	select {
	case <-idle:
	case <-a.box.done:
	case <-ctx.Done():
		err = ctx.Err()
		a.box.call(func() {
			for _, f := range a.frameworks {
				for _, e := range f.executors {
					a.destroy(e)
				}
			}
		})
		select {
		case <-idle:
		case <-a.box.done:
		}
	}
	a.Stop()
	return err
}

// shutDown ends all frameworks, then calls then.
func (a *Agent) shutDown(then func()) {
	if a.state == recovering {
		close(a.ready)
	}
	a.state = terminating
	a.stopTimers()
	a.onIdle = then
	for _, f := range a.frameworks {
		a.endFramework(f)
	}
	a.checkIdle()
}

func (a *Agent) checkIdle() {
	if a.state == terminating && len(a.frameworks) == 0 && a.onIdle != nil {
		then := a.onIdle
		a.onIdle = nil
		then()
	}
}
