// Package tasklet is the contract between the platform and a tasklet: the
// launch data that the leader hands to an executor, the result that comes back,
// the messages between the two, and the environment that a tasklet sees.
//
// It imports nothing of BAAS, so that the executor stays small.
package tasklet
