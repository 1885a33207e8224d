package mesos

import (
	"math/rand/v2"
	"time"
)

// backoff gives the wait before attempt n (from 0): least doubled n times, at most
// most, the upper half of it random so that many do not come at once.
func backoff(n int, least, most time.Duration) time.Duration {
	d := least
	for ; n > 0 && d < most; n-- {
		d *= 2
	}
	return jitter(min(d, most))
}

// jitter gives something between half of d and d.
func jitter(d time.Duration) time.Duration {
	if d < 2 {
		return d
	}
	return d/2 + rand.N(d/2)
}
