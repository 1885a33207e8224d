package executor

import (
	"sync"
	"time"
)

// watchdog ends a stream on which the agent has fallen silent. Agents do not
// announce their heartbeat interval to executors, and some send none: it is
// learnt from the first two heartbeats, and without two there is no watching.
type watchdog struct {
	floor  time.Duration // never bark sooner
	onDead func()

	mu    sync.Mutex
	last  time.Time // of the last heartbeat
	limit time.Duration
	timer *time.Timer
}

// missedHeartbeats is how many intervals of silence mean a dead stream.
const missedHeartbeats = 5

// event notes any sign of life; heartbeat says that it was a HEARTBEAT.
func (w *watchdog) event(heartbeat bool, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if heartbeat {
		if !w.last.IsZero() {
			w.limit = max(w.floor, missedHeartbeats*now.Sub(w.last))
		}
		w.last = now
	}
	if w.limit == 0 {
		return
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(w.limit, w.onDead)
	} else {
		w.timer.Reset(w.limit)
	}
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}
