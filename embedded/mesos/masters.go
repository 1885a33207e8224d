package mesos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/baas-batch/baas/embedded/mesos/master"
)

var (
	// ErrNoStandby tells that no other master can take over.
	ErrNoStandby = errors.New("no standby master")
	// ErrUnknownMaster tells that the cluster has no master of that index, or none
	// in the state that the call needs.
	ErrUnknownMaster = errors.New("no such master")
)

// none is the index of the leading master when there is none.
const none = -1

// seat is one master of the cluster, whether it runs or not.
type seat struct {
	address string
	scheme  string
	master  *master.Master // nil after KillMaster
}

func (s *seat) url() string { return s.scheme + "://" + s.address }

// startMaster starts a master as a standby. c.mu is held, or nobody else knows c.
func (c *Cluster) startMaster(i int, listener net.Listener) error {
	cfg := c.cfg.Master
	cfg.Listener, cfg.Registry, cfg.Standby = listener, c.registry, true
	cfg.OnEvent, cfg.OnCall = c.cfg.Faults.Event, c.cfg.Faults.Call
	cfg.Logger = c.log.With("part", "master", "index", i)
	m, err := master.New(cfg)
	if err != nil {
		listener.Close()
		return err
	}
	c.masters[i].master = m
	if c.leader != none {
		m.Follow(c.masters[c.leader].url())
	}
	return nil
}

// elect makes a master that runs the leading one; everybody learns of it.
func (c *Cluster) elect(i int) {
	c.leader, c.lastLeader = i, i
	c.masters[i].master.Elect()
	c.announce()
}

// announce tells masters and agents who leads, as ZooKeeper does.
func (c *Cluster) announce() {
	var leader *master.Master
	url := ""
	if c.leader != none {
		leader, url = c.masters[c.leader].master, c.masters[c.leader].url()
	}
	for _, s := range c.masters {
		if s.master != nil {
			s.master.Follow(url)
		}
	}
	for _, n := range c.nodes {
		n.connect(leader)
	}
}

// MasterURL is the base URL of the leading master's API, or of the one that led
// last.
func (c *Cluster) MasterURL() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.masters[c.lastLeader].url()
}

// MasterURLs are the base URLs of all masters, in an order that does not change.
func (c *Cluster) MasterURLs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var urls []string
	for _, s := range c.masters {
		urls = append(urls, s.url())
	}
	return urls
}

// Leader is the index of the leading master in MasterURLs, -1 if there is none.
func (c *Cluster) Leader() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leader
}

// KillMaster ends a master as kill -9 would: all connections are cut and all that
// it had in memory is gone. If it led, there is no leader until ElectMaster.
func (c *Cluster) KillMaster(index int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.running(index); err != nil {
		return err
	}
	c.killMaster(index)
	return nil
}

func (c *Cluster) killMaster(index int) {
	c.masters[index].master.Stop()
	c.masters[index].master = nil
	if c.leader == index {
		c.leader = none
		c.announce()
	}
}

// ReviveMaster starts a master that was killed, on the same port: it is a standby.
func (c *Cluster) ReviveMaster(ctx context.Context, index int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped || index < 0 || index >= len(c.masters) || c.masters[index].master != nil {
		return fmt.Errorf("mesos: revive master %d: %w", index, ErrUnknownMaster)
	}
	return c.reviveMaster(ctx, index)
}

func (c *Cluster) reviveMaster(ctx context.Context, index int) error {
	listener, err := relisten(ctx, c.masters[index].address)
	if err == nil {
		err = c.startMaster(index, listener)
	}
	if err != nil {
		return fmt.Errorf("mesos: start master %d: %w", index, err)
	}
	return nil
}

// ElectMaster makes a standby lead where no master does, and returns when it
// takes calls. Agents that are not lost re-register by themselves (AwaitAgents).
func (c *Cluster) ElectMaster(ctx context.Context, index int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.running(index); err != nil {
		return err
	}
	if c.leader != none {
		return fmt.Errorf("mesos: elect master %d: master %d leads: %w", index, c.leader, ErrUnknownMaster)
	}
	c.elect(index)
	return c.awaitMaster(ctx)
}

// FailoverMaster kills the leading master, as KillMaster does, and has the next
// standby elected. It returns when that one takes calls. Errors: ErrNoStandby.
func (c *Cluster) FailoverMaster(ctx context.Context) error {
	return c.failover(ctx, false)
}

// DeposeMaster has the next standby elected while the leading master does not
// know, as when that has lost ZooKeeper: for a moment both take calls, but the old
// one has no agents and cannot write the registry any more. Once the new one has
// recovered the old one learns of it and ends. Errors: ErrNoStandby.
func (c *Cluster) DeposeMaster(ctx context.Context) error {
	return c.failover(ctx, true)
}

func (c *Cluster) failover(ctx context.Context, overlap bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.leader
	next := c.standby()
	if c.stopped || old == none || next == none {
		return fmt.Errorf("mesos: failover: %w", ErrNoStandby)
	}
	if !overlap {
		c.killMaster(old)
	}
	c.elect(next)
	err := c.awaitMaster(ctx)
	if overlap {
		c.killMaster(old)
	}
	return err
}

// standby is the next master after the leading one that runs, in a circle.
func (c *Cluster) standby() int {
	for i := range c.masters {
		if i = (c.lastLeader + 1 + i) % len(c.masters); i != c.leader && c.masters[i].master != nil {
			return i
		}
	}
	return none
}

// RestartMaster ends the leading master as kill -9 would and starts another one
// on the same port and registry, which leads. It returns when the new one takes
// calls; agents that are not lost re-register by themselves (AwaitAgents).
func (c *Cluster) RestartMaster(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	index := c.leader
	if _, err := c.running(index); err != nil {
		return err
	}
	c.killMaster(index)
	if err := c.reviveMaster(ctx, index); err != nil {
		return err
	}
	c.elect(index)
	return c.awaitMaster(ctx)
}

// running finds a master that runs. c.mu is held.
func (c *Cluster) running(index int) (*seat, error) {
	if c.stopped || index < 0 || index >= len(c.masters) || c.masters[index].master == nil {
		return nil, fmt.Errorf("mesos: master %d: %w", index, ErrUnknownMaster)
	}
	return c.masters[index], nil
}

// awaitMaster waits until the leading master has read its registry. c.mu is held.
func (c *Cluster) awaitMaster(ctx context.Context) error {
	select {
	case <-c.masters[c.leader].master.Ready():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("mesos: the master has not recovered: %w", ctx.Err())
	}
}

// What is started again tries to have its port for portPatience.
const (
	portPatience = 10 * time.Second
	portPause    = 20 * time.Millisecond
)

// relisten takes an address again that may still be closing.
func relisten(ctx context.Context, address string) (net.Listener, error) {
	ctx, cancel := context.WithTimeout(ctx, portPatience)
	defer cancel()
	for {
		listener, err := net.Listen("tcp", address)
		if err == nil {
			return listener, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(portPause):
		}
	}
}

// openMasters gives every master its port, the one that it had before if that is
// free.
func (c *Cluster) openMasters(known ports) error {
	before := slices.Concat([]int{known.Master}, known.Standbys)
	scheme := "http"
	if c.cfg.Master.TLS != nil {
		scheme = "https"
	}
	for i := range c.cfg.Masters {
		var wanted []int
		if i < len(before) {
			wanted = append(wanted, before[i])
		}
		if i == 0 {
			wanted = append(wanted, c.cfg.MasterPort)
		}
		listener, err := listen(wanted...)
		if err != nil {
			return err
		}
		c.masters = append(c.masters, &seat{address: listener.Addr().String(), scheme: scheme})
		if err := c.startMaster(i, listener); err != nil {
			return err
		}
	}
	return nil
}
