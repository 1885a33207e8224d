package activities

import (
	"context"
	"time"
)

// Every calls f every so often until ctx ends or stop is called, which waits for the
// end of the last call. An activity heartbeats by it: what it does may stand still for
// long, in a store or on a large file.
func Every(ctx context.Context, pause time.Duration, f func()) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				f()
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}
