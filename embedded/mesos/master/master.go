package master

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/link"
)

// errStopped is the answer to calls that reach a master which has been stopped.
var errStopped = errors.New("master: stopped")

// Master is one master process. It implements link.Master for its agents.
type Master struct {
	cfg      Config
	log      *slog.Logger
	info     mesos.MasterInfo
	registry *registry
	server   *http.Server
	listener net.Listener
	box      *mailbox
	started  time.Time

	leadership leadership
	ready      chan struct{} // closed when the registry is recovered
	stop       chan struct{} // closed when Stop begins
	stopOnce   sync.Once
	running    sync.WaitGroup
	requests   requestGate

	state // owned by the goroutine of loop
}

// state is all that the master knows; only functions run from the mailbox use it.
type state struct {
	frameworks map[string]*framework
	completed  *bounded[*framework] // removed frameworks

	agents           map[string]*agent // registered ones
	recoveredAgents  map[string]mesos.AgentInfo
	unreachable      map[string]mesos.TimeInfo
	gone             map[string]mesos.TimeInfo
	unreachableTasks map[string][]link.TaskRef // by agent

	offers map[string]*offer
	total  bag // of all active agents
	// dirty is set by whatever may make new offers possible.
	dirty bool

	quotas  map[string]quotaOf // by role
	weights map[string]float64 // by role; 1 where there is none

	inverse map[string]*inverseOffer
	answers map[[2]string]inverseAnswer // by framework and agent

	nextFramework, nextOffer, nextAgent int
}

var _ link.Master = (*Master)(nil)

// New opens the listener of a master and starts it: it first answers 503 and,
// once the registry is read, takes calls; a standby awaits its election first.
// Stop must be called in the end.
func New(cfg Config) (*Master, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	listener := cfg.Listener
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", cfg.Address); err != nil {
			return nil, fmt.Errorf("master: %w", err)
		}
	}
	if cfg.TLS != nil {
		listener = tls.NewListener(listener, cfg.TLS)
	}
	m := &Master{
		cfg:        cfg,
		log:        cfg.Logger,
		listener:   listener,
		box:        newMailbox(),
		started:    time.Now(),
		ready:      make(chan struct{}),
		stop:       make(chan struct{}),
		registry:   &registry{shared: cfg.Registry},
		leadership: leadership{elected: make(chan struct{})},
		state: state{
			frameworks:       map[string]*framework{},
			completed:        newBounded[*framework](cfg.MaxCompletedFrameworks),
			agents:           map[string]*agent{},
			unreachableTasks: map[string][]link.TaskRef{},
			offers:           map[string]*offer{},
			inverse:          map[string]*inverseOffer{},
			answers:          map[[2]string]inverseAnswer{},
			total:            newBag(),
		},
	}
	m.info = masterInfo(listener.Addr())
	m.registry.demoted = m.demoted
	if !cfg.Standby {
		m.Elect()
	}
	m.server = &http.Server{
		Handler:           m.handler(),
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	m.running.Add(2)
	go func() {
		defer m.running.Done()
		if err := m.server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			m.log.Error("master: serve", "error", err)
		}
	}()
	go func() {
		defer m.running.Done()
		m.loop()
	}()
	return m, nil
}

func masterInfo(addr net.Addr) mesos.MasterInfo {
	host, port, _ := net.SplitHostPort(addr.String())
	n, _ := strconv.Atoi(port)
	info := mesos.MasterInfo{
		ID:       uuid.NewString(),
		Port:     ptr(uint32(n)),
		PID:      ptr("master@" + addr.String()),
		Hostname: ptr(host),
		Version:  ptr(Version),
		Address:  &mesos.Address{Hostname: ptr(host), IP: ptr(host), Port: int32(n)},
		Capabilities: []mesos.MasterInfo_Capability{
			{Type: mesos.MasterInfo_Capability_AGENT_UPDATE},
			{Type: mesos.MasterInfo_Capability_AGENT_DRAINING},
		},
	}
	if ip := net.ParseIP(host).To4(); ip != nil {
		info.IP = binary.LittleEndian.Uint32(ip) // network order, as a little-endian machine packs it
	}
	return info
}

// URL is the base URL of the HTTP API.
func (m *Master) URL() string { return m.scheme() + "://" + m.listener.Addr().String() }

func (m *Master) scheme() string {
	if m.cfg.TLS != nil {
		return "https"
	}
	return "http"
}

// Ready is closed once the registry is read and the master takes calls. It never
// is if the registry cannot be read.
func (m *Master) Ready() <-chan struct{} { return m.ready }

// ID is the master's ID, a new one for every start.
func (m *Master) ID() string { return m.info.ID }

// Stop ends the master as abruptly as kill -9 does: connections are cut, nothing
// is said to agents or frameworks. It returns when all goroutines have ended and
// may be called again.
func (m *Master) Stop() {
	m.stopOnce.Do(func() {
		close(m.stop)
		m.box.close()
		_ = m.server.Close()
	})
	m.requests.closeAndWait()
	m.running.Wait()
}

// demoted ends a master that finds another one elected, as in Mesos.
func (m *Master) demoted() {
	m.log.Error("master: another master leads; ending", "id", m.info.ID)
	go m.Stop() // which waits for the goroutine that has found it
}

// loop awaits the election, recovers the registry and then runs the mailbox
// until Stop.
func (m *Master) loop() {
	select {
	case <-m.leadership.elected:
	case <-m.stop:
		return
	}
	if err := m.recover(); err != nil {
		// As Mesos without its registry: it must not lead with a wrong view of the agents.
		m.log.Error("master: cannot recover the registry; staying unavailable", "error", err)
		<-m.stop
		return
	}
	ticker := time.NewTicker(m.cfg.AllocationInterval)
	defer ticker.Stop()
	defer m.stopTimers()
	for {
		select {
		case <-m.stop:
			return
		case <-m.box.wake:
			for _, fn := range m.box.take() {
				fn()
			}
		case <-ticker.C:
			m.allocate()
			m.inviteToLeave()
		}
	}
}

func (m *Master) recover() error {
	reg, err := m.registry.recover(m.info)
	if err != nil {
		return err
	}
	m.recoveredAgents = reg.agents()
	m.unreachable = timesOf(reg.Unreachable)
	m.gone = timesOf(reg.Gone)
	m.takeQuotas()
	if len(m.recoveredAgents) > 0 {
		m.after(m.cfg.AgentReregisterTimeout, m.recoveredAgentsTimeout)
	}
	close(m.ready)
	m.log.Info("master: recovered", "url", m.URL(), "id", m.info.ID, "agents", len(m.recoveredAgents))
	return nil
}

// call runs fn in the goroutine that owns the state and waits for it.
func (m *Master) call(ctx context.Context, fn func()) error {
	done := make(chan struct{})
	if !m.box.post(func() { fn(); close(done) }) {
		return errStopped
	}
	select {
	case <-done:
		return nil
	case <-m.stop:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// after runs fn in the owning goroutine once d has passed.
func (m *Master) after(d time.Duration, fn func()) *time.Timer {
	return time.AfterFunc(d, func() { m.box.post(fn) })
}

func (m *Master) stopTimers() {
	for _, a := range m.agents {
		a.stopTimers()
	}
	for _, f := range m.frameworks {
		f.stopTimer()
	}
	for _, o := range m.offers {
		o.stopTimer()
	}
}

func now() mesos.TimeInfo { return timeInfo(time.Now()) }

func timeInfo(t time.Time) mesos.TimeInfo { return mesos.TimeInfo{Nanoseconds: t.UnixNano()} }

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
