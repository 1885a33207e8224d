// Package mesos is a Mesos cluster on one machine and in one process: masters
// and agents with the real v1 HTTP APIs on real ports. Executors are processes
// of their own and outlive the cluster's process, as those of Mesos outlive
// their agent; a cluster started again on the same directory takes them up.
package mesos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	api "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/agent"
	"github.com/baas-batch/baas/embedded/mesos/master"
)

// ErrUnknownAgent tells that no agent of the cluster has the given ID.
var ErrUnknownAgent = errors.New("no such agent in the cluster")

// Cluster is a running cluster. Its methods may be called from any goroutine.
type Cluster struct {
	cfg  Config
	log  *slog.Logger
	lock *os.File

	registry *master.Registry // shared by the masters

	mu         sync.Mutex
	masters    []*seat
	leader     int // index of the leading master; none if there is none
	lastLeader int
	nodes      []*node
	stopped    bool
}

// AgentStatus describes an agent of the cluster.
type AgentStatus struct {
	ID      api.AgentID // as it was last known; empty before the first registration
	Address string      // host:port of its HTTP API
	Dir     string      // its work directory, with the sandboxes
	Alive   bool        // not stopped by KillAgent
}

// Start starts a cluster and waits until all its agents have registered, for as
// long as ctx lasts. Errors: ErrInUse, and those of the disk and the network.
func Start(ctx context.Context, cfg Config) (_ *Cluster, err error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("mesos: %w", err)
	}
	c := &Cluster{
		cfg: cfg, log: cfg.Logger, lock: lock, leader: none,
		registry: master.OpenRegistry(filepath.Join(cfg.Dir, "master", "registry.json")),
	}
	defer func() {
		if err != nil {
			c.Stop()
		}
	}()
	if err := c.start(); err != nil {
		return nil, fmt.Errorf("mesos: %w", err)
	}
	for i, n := range c.nodes {
		if err := n.wait(ctx); err != nil {
			return nil, fmt.Errorf("mesos: agent %d has not registered: %w", i, err)
		}
	}
	return c, nil
}

func (c *Cluster) start() error {
	known, err := loadPorts(c.cfg.Dir)
	if err != nil {
		return err
	}
	if err := c.openMasters(known); err != nil {
		return err
	}
	now := ports{Master: portOf(c.masters[0].address)}
	for _, s := range c.masters[1:] {
		now.Standbys = append(now.Standbys, portOf(s.address))
	}
	for i, spec := range c.cfg.Agents {
		n := &node{cluster: c, dir: filepath.Join(c.cfg.Dir, "agents", strconv.Itoa(i)), spec: spec}
		if err := n.start(freeAddress(known.agent(i), spec.Port)); err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
		now.Agents = append(now.Agents, portOf(n.agent.Addr()))
	}
	if err := now.save(c.cfg.Dir); err != nil {
		return err
	}
	c.elect(0)
	return nil
}

// Agents lists the agents in the order of Config.Agents.
func (c *Cluster) Agents() []AgentStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]AgentStatus, len(c.nodes))
	for i, n := range c.nodes {
		out[i] = AgentStatus{ID: n.id(), Address: n.address, Dir: n.dir, Alive: n.agent != nil}
	}
	return out
}

// Stop ends the cluster as the end of its process would: executors live on and
// nobody is told. It may be called again.
func (c *Cluster) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	c.stopped = true
	for _, n := range c.nodes {
		n.kill()
	}
	c.shut()
}

// Terminate shuts all executors down, with their grace period, and stops the
// cluster. When ctx ends first, what is left is killed.
func (c *Cluster) Terminate(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil
	}
	c.stopped = true
	errs := make([]error, len(c.nodes))
	var all sync.WaitGroup
	for i, n := range c.nodes {
		if n.agent != nil {
			all.Go(func() { errs[i] = n.agent.Terminate(ctx) })
		}
	}
	all.Wait()
	for _, n := range c.nodes {
		n.kill()
	}
	c.shut()
	return errors.Join(errs...)
}

func (c *Cluster) shut() {
	for _, s := range c.masters {
		if s.master != nil {
			s.master.Stop()
		}
	}
	unlockDir(c.lock)
}

// node is one agent of the cluster, whether it runs or not.
type node struct {
	cluster *Cluster
	spec    AgentConfig
	dir     string
	address string

	agent *agent.Agent // nil after KillAgent
	wire  *wire        // nil before the first connection
	lost  bool         // by LoseAgent
	last  atomic.Pointer[api.AgentID]
	ready chan struct{} // closed once the agent is registered over wire
}

func (n *node) start(address string) error {
	cfg := n.cluster.cfg.Agent
	if n.spec.Host != "" {
		address = net.JoinHostPort(n.spec.Host, strconv.Itoa(portOf(address)))
	}
	cfg.WorkDir, cfg.Listen, cfg.Hostname = n.dir, address, cmp.Or(n.spec.Host, host)
	cfg.Resources, cfg.Attributes, cfg.Revocable = n.spec.Resources, n.spec.Attributes, n.spec.Revocable
	cfg.Domain = n.spec.Domain
	cfg.Logger = n.cluster.log.With("part", "agent", "dir", filepath.Base(n.dir))
	a, err := agent.New(cfg)
	if err != nil {
		return err
	}
	n.agent, n.address = a, a.Addr()
	return nil
}

// connect gives the agent a new connection to a master; nil: there is none.
func (n *node) connect(m *master.Master) {
	if n.agent == nil || n.lost {
		return
	}
	if n.wire != nil {
		n.wire.cut()
	}
	var once sync.Once
	ready := make(chan struct{})
	n.ready = ready
	if m == nil {
		n.agent.Detected(nil)
		return
	}
	n.wire = &wire{
		Master: m,
		faults: n.cluster.cfg.Faults,
		onReady: func(id api.AgentID) {
			n.last.Store(&id) // the agent itself learns of it a moment later
			once.Do(func() { close(ready) })
		},
	}
	n.agent.Detected(n.wire)
}

func (n *node) wait(ctx context.Context) error {
	select {
	case <-n.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill stops the agent's process part.
func (n *node) kill() {
	if n.agent == nil {
		return
	}
	id := n.id()
	n.last.Store(&id)
	if n.wire != nil {
		n.wire.cut()
	}
	n.agent.Stop()
	n.agent = nil
}

func (n *node) id() api.AgentID {
	if n.agent != nil {
		if id := n.agent.ID(); id.Value != "" {
			return id
		}
	}
	if last := n.last.Load(); last != nil {
		return *last
	}
	return api.AgentID{}
}
