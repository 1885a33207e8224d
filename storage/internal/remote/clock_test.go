package remote

import (
	"net/http"
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	var c Clock
	see := func(ahead time.Duration) {
		c.See(http.Header{"Date": {time.Now().Add(ahead).UTC().Format(http.TimeFormat)}})
	}
	if c.Ahead() != 0 || !c.Ask() || c.Ask() {
		t.Error("a clock that is not known goes like ours, and is asked for once a minute")
	}
	for _, ahead := range []time.Duration{20 * time.Minute, -20 * time.Minute} {
		see(ahead)
		if off := (c.Ahead() - ahead).Abs(); off > 2*time.Second {
			t.Errorf("%s ahead reads as %s", ahead, c.Ahead())
		}
		if off := (time.Until(c.Now()) - ahead).Abs(); off > 3*time.Second {
			t.Errorf("Now is off by %s", off)
		}
	}
	c.See(http.Header{"Date": {"yesterday"}})
	c.See(http.Header{})
	if c.Ahead() == 0 {
		t.Error("an answer without a date has changed the clock")
	}
	see(2 * time.Second) // whole seconds, and the time that the answer took
	if c.Ahead() != 0 {
		t.Errorf("2 s count as %s", c.Ahead())
	}
	if c.Ask() {
		t.Error("a clock that has just been seen is asked for")
	}
}
