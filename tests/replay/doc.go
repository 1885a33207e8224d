// Package replay holds histories of real runs and checks that today's workflow
// code still replays them: a change that would break runs in flight fails here.
//
// `go run ./tests/replay/generate` writes the histories anew, after a change that
// is meant to break them.
package replay
