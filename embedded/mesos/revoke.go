package mesos

import (
	"fmt"

	api "github.com/mesos/mesos-go/api/v1/lib"
)

// Revoke takes an agent's revocable resources back but for those left, and ends the
// executors that use any; see agent.Revoke.
func (c *Cluster) Revoke(id api.AgentID, left []api.Resource, gently bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.node(id)
	if err != nil {
		return err
	}
	if n.agent == nil {
		return fmt.Errorf("mesos: agent %s: not running", id.Value)
	}
	n.agent.Revoke(left, gently)
	return nil
}
