package executor

import (
	"math/rand/v2"
	"time"
)

// backoff doubles from first to max, each time less a random part of up to half.
type backoff struct{ first, max, last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(b.first, 2*b.last), b.max)
	return b.last - rand.N(b.last/2+1)
}

func (b *backoff) reset() { b.last = 0 }
