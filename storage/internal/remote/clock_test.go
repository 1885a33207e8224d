package remote

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func answer(ahead time.Duration, status int, header ...string) *http.Response {
	h := http.Header{"Date": {time.Now().Add(ahead).UTC().Format(http.TimeFormat)}}
	for _, name := range header {
		h.Set(name, "tx1")
	}
	return &http.Response{StatusCode: status, Header: h}
}

func TestClock(t *testing.T) {
	var c Clock
	want := func(what string, ahead time.Duration) {
		t.Helper()
		if (c.Ahead()-ahead).Abs() > 2*time.Second || (time.Until(c.Now())-ahead).Abs() > 3*time.Second {
			t.Errorf("%s: %s ahead, want %s", what, c.Ahead(), ahead)
		}
	}
	want("a clock that is not known", 0)
	const skew = 20 * time.Minute
	for _, ahead := range []time.Duration{skew, -skew} {
		before := c.Ahead()
		c.See(answer(ahead, 200))
		want("one answer", before)
		c.See(answer(ahead, 403, "X-Amz-Request-Id"))
		want("two that agree", ahead)
	}
	for range 3 {
		c.See(&http.Response{StatusCode: 200, Header: http.Header{"Date": {"yesterday"}}})
		c.See(&http.Response{StatusCode: 200, Header: http.Header{}})
		c.See(answer(0, 502))
		c.See(answer(48*time.Hour, 200))
	}
	want("answers without a date, of a proxy, and of another day", -skew)
	for _, ahead := range []time.Duration{time.Minute, 2 * time.Minute, time.Minute} {
		c.See(answer(ahead, 200))
	}
	want("answers that do not agree", -skew)
	for range 2 {
		c.See(answer(2*time.Second, 404, "X-Trans-Id")) // whole seconds, and the time that the answer took
	}
	if c.Ahead() != 0 {
		t.Errorf("2 s count as %s", c.Ahead())
	}
}

// Whoever signs first asks, and the others wait for the answer.
func TestClockLearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Clock
		calls := 0
		ask := func(call func(context.Context)) {
			t.Helper()
			var signers sync.WaitGroup
			for range 10 {
				signers.Go(func() { c.Learn(t.Context(), call) })
			}
			signers.Wait()
		}
		slow := func(what func()) func(context.Context) {
			return func(context.Context) {
				calls++
				time.Sleep(time.Second) // of the bubble
				what()
			}
		}
		ask(slow(func() {}))
		ask(slow(func() {}))
		if calls != 1 {
			t.Errorf("%d calls that fail, want 1 before the pause", calls)
		}
		time.Sleep(clockPause)
		var signers sync.WaitGroup
		for range 10 {
			signers.Go(func() {
				c.Learn(t.Context(), slow(func() { c.See(answer(time.Hour, 200)) }))
				if c.Ahead() < 50*time.Minute {
					t.Error("one has signed before the answer came")
				}
			})
		}
		signers.Wait()
		if calls != 3 {
			t.Errorf("%d calls, want two that agree", calls-1)
		}
		ask(slow(func() {}))
		if calls != 3 {
			t.Error("a clock that is known was asked for")
		}
		time.Sleep(clockMemory)
		ctx, cancel := context.WithCancel(t.Context())
		c.Learn(ctx, func(context.Context) { cancel() })
		if ask(slow(func() { c.See(answer(time.Hour, 200)) })); calls != 4 {
			t.Error("a question that was cancelled counts")
		}
	})
}
