// Package master is the master of the embedded Mesos: it owns the v1 scheduler
// and operator APIs over HTTP, the offers, and the table of frameworks, agents
// and tasks. It behaves as Apache Mesos 1.12 does and talks to its agents only
// through package link.
//
// All state belongs to one goroutine that takes its work from a mailbox; HTTP
// handlers and agents post to that mailbox and never touch the state
// themselves. As in Mesos, only the lists of admitted, unreachable and gone
// agents outlive a restart; tasks and frameworks are learnt again from the
// agents that re-register.
package master
