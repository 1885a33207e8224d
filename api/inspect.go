package api

import (
	"encoding/json"
	"time"
)

// What InspectInput can ask for.
const (
	InspectAgents = "agents"
	InspectOffers = "offers"
	InspectTasks  = "tasks"
	InspectRoles  = "roles"
)

// InspectInput is the argument of InspectMesos and InspectFramework.
type InspectInput struct {
	Framework string `json:"framework"`
	What      string `json:"what"`            // one of the Inspect constants
	Limit     int    `json:"limit,omitempty"` // rows; MaxInspectRows if 0 or more
}

// MaxInspectRows bounds the rows of an Inspection, which must stay well below what
// Temporal takes in one payload.
const MaxInspectRows = 1000

// Inspection is what the leader of a framework holds, from one look.
type Inspection struct {
	Leader string    `json:"leader"` // the worker that leads
	At     time.Time `json:"at"`
	// View is a mesos.View.
	View json.RawMessage `json:"view"`
}
