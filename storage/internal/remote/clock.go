package remote

import (
	"net/http"
	"sync"
	"time"
)

const (
	// sameTime is up to which difference two clocks count as one: the Date of an
	// answer is in whole seconds, and took a while to come.
	sameTime = 5 * time.Second
	// clockMemory is how long a server's clock is taken to stay as it was.
	clockMemory = 10 * time.Minute
	// clockPause is the time between two questions for a server's clock.
	clockPause = time.Minute
)

// Clock is a server's, as the Date of its answers tells (RFC 9110, section 6.6.1).
// Signed URLs end by that clock, not by ours. The zero value goes like ours.
type Clock struct {
	mu    sync.Mutex
	ahead time.Duration
	seen  time.Time
	asked time.Time
}

// See reads an answer.
func (c *Clock) See(h http.Header) {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = time.Now()
	if c.ahead = date.Sub(c.seen).Round(time.Second); c.ahead.Abs() <= sameTime {
		c.ahead = 0
	}
}

// Ahead is how far the server's clock is before ours; negative if it is behind.
func (c *Clock) Ahead() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead
}

// Now is the server's time.
func (c *Clock) Now() time.Time { return time.Now().Add(c.Ahead()) }

// Ask tells whether it is time to make a call of which See learns, once a minute at
// most.
func (c *Clock) Ask() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.seen) < clockMemory || now.Sub(c.asked) < clockPause {
		return false
	}
	c.asked = now
	return true
}
