package mesos

import (
	"context"
	"fmt"
	"net"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"
)

// node finds an agent by its ID. c.mu is held.
func (c *Cluster) node(id api.AgentID) (*node, error) {
	for _, n := range c.nodes {
		if !c.stopped && n.id() == id {
			return n, nil
		}
	}
	return nil, fmt.Errorf("mesos: agent %s: %w", id.Value, ErrUnknownAgent)
}

// LoseAgent partitions an agent from the master: nothing passes between them,
// and after some unanswered pings the agent is unreachable.
func (c *Cluster) LoseAgent(id api.AgentID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.node(id)
	if err != nil {
		return err
	}
	n.lost = true
	if n.wire != nil {
		n.wire.cut()
	}
	return nil
}

// ReturnAgent ends the partition, and the agent re-registers.
func (c *Cluster) ReturnAgent(id api.AgentID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.node(id)
	if err != nil {
		return err
	}
	n.lost = false
	n.connect(c.master)
	return nil
}

// KillAgent stops an agent as kill -9 would; its executors live on. The master
// sees the connection break, unless the agent is lost.
func (c *Cluster) KillAgent(id api.AgentID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.node(id)
	if err != nil {
		return err
	}
	n.kill()
	if !n.lost {
		c.master.AgentExited(id)
	}
	return nil
}

// RestartAgent starts an agent that was killed, on the same directory and port:
// it recovers its executors from its checkpoints and re-registers. One that
// still runs is killed first.
func (c *Cluster) RestartAgent(id api.AgentID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.node(id)
	if err != nil {
		return err
	}
	if n.agent != nil {
		n.kill()
		c.master.AgentExited(id)
	}
	if err := n.start(n.address); err != nil {
		return fmt.Errorf("mesos: %w", err)
	}
	n.connect(c.master)
	return nil
}

// RestartMaster ends the master as kill -9 would and starts another one on the
// same port and registry: all connections are cut and all that it had in memory
// is gone. It returns when the new one takes calls; agents that are not lost
// re-register by themselves (AwaitAgents).
func (c *Cluster) RestartMaster(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return fmt.Errorf("mesos: %w", context.Canceled)
	}
	c.master.Stop()
	listener, err := relisten(ctx, c.address)
	if err != nil {
		return fmt.Errorf("mesos: restart the master: %w", err)
	}
	if err := c.startMaster(listener); err != nil {
		return fmt.Errorf("mesos: restart the master: %w", err)
	}
	for _, n := range c.nodes {
		n.connect(c.master)
	}
	return c.awaitMaster(ctx)
}

// awaitMaster waits until the master has read its registry. c.mu is held.
func (c *Cluster) awaitMaster(ctx context.Context) error {
	select {
	case <-c.master.Ready():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("mesos: the master has not recovered: %w", ctx.Err())
	}
}

// relistenPatience is how long RestartMaster tries to have its port again.
const relistenPatience = 10 * time.Second

// relisten takes an address again that may still be closing.
func relisten(ctx context.Context, address string) (net.Listener, error) {
	ctx, cancel := context.WithTimeout(ctx, relistenPatience)
	defer cancel()
	for {
		listener, err := net.Listen("tcp", address)
		if err == nil {
			return listener, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// AwaitAgents waits until all agents that run and are not lost are registered
// with the present master.
func (c *Cluster) AwaitAgents(ctx context.Context) error {
	for _, ready := range c.readiness() {
		select {
		case <-ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (c *Cluster) readiness() []chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []chan struct{}
	for _, n := range c.nodes {
		if n.agent != nil && !n.lost {
			out = append(out, n.ready)
		}
	}
	return out
}
