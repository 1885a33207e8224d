package mesos

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestGather: a task that comes alone waits a part of Gather; with others about, or
// after a match, it waits for Gather and no longer.
func TestGather(t *testing.T) {
	const longest = 10 * time.Millisecond
	for name, c := range map[string]struct {
		news    time.Duration // between two things to match; 0: none come
		matched time.Duration // ago; 0: never
		want    time.Duration
	}{
		"alone":               {want: longest / quietGather},
		"others come":         {news: longest / quietGather / 2, want: longest},
		"just matched":        {matched: longest, want: longest},
		"matched a while ago": {matched: 3 * longest, want: longest / quietGather},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &Framework{match: make(chan struct{}, 1)}
				f.cfg.Timings.Gather = longest
				begin := time.Now()
				if c.matched > 0 {
					f.matched = begin.Add(-c.matched)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.news > 0 {
					go func() {
						for sleep(ctx, c.news) {
							notify(f.match)
						}
					}()
				}
				if !f.gather(ctx) || time.Since(begin) != c.want {
					t.Errorf("waits %v, not %v", time.Since(begin), c.want)
				}
				if cancel(); f.gather(ctx) {
					t.Error("goes on after its end")
				}
			})
		})
	}
}
