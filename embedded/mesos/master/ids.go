package master

import (
	"fmt"
)

// IDs begin with the master's, which is new for every start: none is ever used twice.

func (m *Master) newFrameworkID() string {
	m.nextFramework++
	return fmt.Sprintf("%s-%04d", m.info.ID, m.nextFramework-1)
}

func (m *Master) newOfferID() string {
	m.nextOffer++
	return fmt.Sprintf("%s-O%d", m.info.ID, m.nextOffer-1)
}

func (m *Master) newAgentID() string {
	m.nextAgent++
	return fmt.Sprintf("%s-S%d", m.info.ID, m.nextAgent-1)
}

// unionKeys lists the frameworks that have tasks or executors on an agent.
func unionKeys(tasks map[string]map[string]*task, executors map[string]map[string]*executor) []string {
	seen := map[string]bool{}
	for k := range tasks {
		seen[k] = true
	}
	for k := range executors {
		seen[k] = true
	}
	return keys(seen)
}
