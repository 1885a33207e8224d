package mesos

import (
	"sync/atomic"
	"time"
)

// Metrics are the framework's counters since it was made. They may be read at any
// time.
type Metrics struct {
	Subscriptions atomic.Int64
	Offers        atomic.Int64
	Rescinds      atomic.Int64
	Accepts       atomic.Int64
	Declines      atomic.Int64 // offers, not calls
	Revives       atomic.Int64
	Suppresses    atomic.Int64
	Launches      atomic.Int64
	Near          atomic.Int64 // of these, where inputs of theirs were
	Dropped       atomic.Int64 // written ahead, but not launched
	Updates       atomic.Int64
	Acknowledged  atomic.Int64
	Kills         atomic.Int64
	Reconciled    atomic.Int64 // tasks asked for explicitly
	FailedCalls   atomic.Int64
	UnknownEvents atomic.Int64
	Blames        atomic.Int64 // losses that agents were charged with
	Avoided       atomic.Int64 // agents avoided for their losses, now
	// TimeToPlace is from Submit to ACCEPT.
	TimeToPlace Histogram
}

// HistogramBounds are the upper bounds of a Histogram's buckets; the last bucket
// has none.
var HistogramBounds = [...]time.Duration{
	time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond,
	500 * time.Millisecond, 2 * time.Second, 10 * time.Second, time.Minute, 10 * time.Minute, time.Hour,
}

// Histogram counts durations in fixed buckets.
type Histogram struct {
	Buckets [len(HistogramBounds) + 1]atomic.Int64 // not cumulative
	Sum     atomic.Int64                           // nanoseconds
}

func (h *Histogram) observe(d time.Duration) {
	i := 0
	for i < len(HistogramBounds) && d > HistogramBounds[i] {
		i++
	}
	h.Buckets[i].Add(1)
	h.Sum.Add(int64(d))
}
