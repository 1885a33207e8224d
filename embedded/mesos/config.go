package mesos

import (
	"errors"
	"log/slog"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/agent"
	"github.com/baas-batch/baas/embedded/mesos/master"
)

// Config describes a cluster.
type Config struct {
	// Dir holds the master's registry and, for each agent, its sandboxes and
	// checkpoints. A cluster started again on it takes up where the last one was
	// left. One cluster at a time may use it.
	Dir string
	// Masters is how many masters there are, by default 1: the first one leads, the
	// others are standbys.
	Masters int
	// MasterPort is the port on 127.0.0.1 that the first master should have; if it
	// is taken, or 0, any free one will do. A port once had is preferred from then on.
	MasterPort int
	// Agents are the cluster's agents; none means one with the machine's resources.
	Agents []AgentConfig
	Logger *slog.Logger // default: discards

	// Master and Agent set times and other limits of the parts. What this package
	// sets itself (listeners, directories, loggers, resources, hooks) is ignored there.
	Master master.Config
	Agent  agent.Config

	// Faults, for tests, befall messages on their way.
	Faults Faults
}

// AgentConfig describes one agent.
type AgentConfig struct {
	// Port on 127.0.0.1, as MasterPort.
	Port int
	// Resources, unreserved; nil means those of the machine: its CPUs, most of its
	// memory and disk, no GPUs.
	Resources  []api.Resource
	Attributes []api.Attribute
	// Domain is the agent's region and zone. The master has none of its own, so all
	// agents count as near: frameworks need not be region-aware.
	Domain *api.DomainInfo
	// Revocable scalars are offered beyond Resources; see Cluster.Revoke.
	Revocable []api.Resource
	// Host is a loopback address of the agent's own (127.0.0.2, say), by default
	// 127.0.0.1. Mesos tells machines apart by it: in offers, in maintenance.
	Host string
}

func (c *Config) setDefaults() error {
	if c.Dir == "" {
		return errors.New("mesos: no data directory")
	}
	if c.Masters < 0 {
		return errors.New("mesos: Masters is negative")
	}
	c.Masters = max(c.Masters, 1)
	c.Faults = c.Faults.serialised()
	if len(c.Agents) == 0 {
		c.Agents = []AgentConfig{{}}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	// A real master tells its agents how long it lets pings go unanswered.
	if p, n := c.Master.AgentPingTimeout, c.Master.MaxAgentPingTimeouts; c.Agent.MasterPingTimeout == 0 && p > 0 && n > 0 {
		c.Agent.MasterPingTimeout = p * time.Duration(n)
	}
	return nil
}
