package mesos

import "time"

// watchdog calls bite once if it is started and not stopped in time.
type watchdog struct{ timer *time.Timer }

func newWatchdog(d time.Duration, bite func()) *watchdog {
	return &watchdog{time.AfterFunc(d, bite)}
}

func (w *watchdog) start(d time.Duration) { w.timer.Reset(d) }
func (w *watchdog) stop()                 { w.timer.Stop() }
