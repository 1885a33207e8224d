package remote

import (
	"context"
	"net/http"
	"sync"
	"time"
)

const (
	// sameTime is up to which difference two clocks count as one: the Date of an
	// answer is in whole seconds, and took a while to come.
	sameTime = 5 * time.Second
	// maxAhead is from which difference on a Date is nonsense.
	maxAhead = 24 * time.Hour
	// clockMemory is how long a server's clock is taken to stay as it was.
	clockMemory = 10 * time.Minute
	// clockPause is the time between two questions for a server's clock, each of which
	// takes up to clockWait.
	clockPause, clockWait = 5 * time.Second, 5 * time.Second
	// maxAnswers is how many calls a question may take.
	maxAnswers = 3
)

// Clock is a server's, as the Date of its answers tells (RFC 9110, section 6.6.1).
// Signed URLs end by that clock, not by ours. The zero value goes like ours.
type Clock struct {
	mu     sync.Mutex
	ahead  time.Duration
	seen   time.Time      // when an answer agreed with ahead
	other  *time.Duration // what the last answer said if it did not
	asked  time.Time
	asking chan struct{} // closed when the question under way is answered; nil if none is
}

// See reads an answer, if it is the store's own and not that of a proxy before it. A
// step of the clock is believed when two answers in a row agree on it.
func (c *Clock) See(r *http.Response) {
	own := r.StatusCode < 300 || r.Header.Get("X-Amz-Request-Id") != "" || r.Header.Get("X-Trans-Id") != ""
	date, err := http.ParseTime(r.Header.Get("Date"))
	if err != nil || !own {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	ahead := date.Sub(now).Round(time.Second)
	if ahead.Abs() <= sameTime {
		ahead = 0
	}
	near := func(t time.Duration) bool { return (ahead - t).Abs() <= sameTime }
	switch {
	case ahead.Abs() > maxAhead:
	case near(c.ahead) || c.other != nil && near(*c.other):
		c.ahead, c.seen, c.other = ahead, now, nil
	default:
		c.other = &ahead
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

// Learn has calls made of which See learns, unless the clock is known. Callers at the
// same time wait for the same calls. Should they fail, the clock goes as before.
func (c *Clock) Learn(ctx context.Context, call func(context.Context)) {
	for ctx.Err() == nil {
		answered, ask := c.question()
		if ask {
			c.ask(ctx, call)
			return
		}
		if answered == nil {
			return
		}
		select {
		case <-answered:
		case <-ctx.Done():
		}
	}
}

// question tells whether to ask, or on whose answer to wait; neither if the clock is
// known, or was asked for in vain a moment ago.
func (c *Clock) question() (answered <-chan struct{}, ask bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.known():
	case c.asking != nil:
		return c.asking, false
	case time.Since(c.asked) >= clockPause:
		c.asking = make(chan struct{})
		return nil, true
	}
	return nil, false
}

func (c *Clock) known() bool { return time.Since(c.seen) < clockMemory }

func (c *Clock) ask(ctx context.Context, call func(context.Context)) {
	asking, cancel := context.WithTimeout(ctx, clockWait)
	defer cancel()
	for range maxAnswers {
		call(asking)
		c.mu.Lock()
		again := !c.known() && c.other != nil
		c.mu.Unlock()
		if !again || asking.Err() != nil {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() == nil {
		c.asked = time.Now() // else the next one asks, at once
	}
	close(c.asking)
	c.asking = nil
}
