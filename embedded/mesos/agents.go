package mesos

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/master"
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
	n.connect(c.leading())
	return nil
}

// leading is the leading master; nil if there is none.
func (c *Cluster) leading() *master.Master {
	if c.leader == none {
		return nil
	}
	return c.masters[c.leader].master
}

// agentExited has the master see an agent's connection break, unless the agent
// is lost. A master that comes to lead later never had one.
func (c *Cluster) agentExited(n *node, id api.AgentID) {
	if m := c.leading(); m != nil && !n.lost {
		m.AgentExited(id)
	}
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
	c.agentExited(n, id)
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
		c.agentExited(n, id)
	}
	if err := n.startAgain(); err != nil {
		return fmt.Errorf("mesos: %w", err)
	}
	n.connect(c.leading())
	return nil
}

// startAgain starts a node on its port, which for a moment may be that of a
// connection: executors that look for their agent can even connect to themselves.
func (n *node) startAgain() error {
	for deadline := time.Now().Add(portPatience); ; time.Sleep(portPause) {
		err := n.start(n.address)
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return err
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
