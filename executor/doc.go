// Package executor runs tasklets on a Mesos agent: it speaks the v1 executor
// API, and for every partition it stages inputs, runs the command in a session
// and, where it can, as a user of its own, meters it, and stores what came of it.
//
// A result is in storage before its terminal status update is sent. The
// executor outlives restarts of its agent and of the scheduler; it ends when it
// is told to (SHUTDOWN), or when its agent stays away beyond the recovery timeout.
package executor
