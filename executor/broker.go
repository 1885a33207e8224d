package executor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/baas-batch/baas/tasklet"
)

// broker asks the leader for signed URLs. A request is repeated, under one ID,
// until its grant comes: messages may be lost without a word, and the leader may
// be away for minutes.
type broker struct {
	send   func(context.Context, tasklet.Report)
	prefix string
	serial atomic.Int64

	mu   sync.Mutex
	open map[string]chan tasklet.Grant
}

// deniedError is the leader's final word: what was asked for cannot be had.
type deniedError struct{ reason string }

func (e *deniedError) Error() string { return "the leader refused: " + e.reason }

func newBroker(send func(context.Context, tasklet.Report)) *broker {
	p := make([]byte, 6)
	_, _ = rand.Read(p)
	return &broker{send: send, prefix: hex.EncodeToString(p), open: map[string]chan tasklet.Grant{}}
}

// question is a request that waits for its grant.
type question struct {
	broker *broker
	report tasklet.Report
	answer chan tasklet.Grant
}

func (b *broker) question(taskID string, r tasklet.Request) *question {
	r.ID = b.prefix + "-" + strconv.FormatInt(b.serial.Add(1), 10)
	q := &question{b, tasklet.Report{TaskID: taskID, Request: &r}, make(chan tasklet.Grant, 1)}
	b.mu.Lock()
	b.open[r.ID] = q.answer
	b.mu.Unlock()
	return q
}

// ask sends the request once and waits for the grant for at most d.
func (q *question) ask(ctx context.Context, d time.Duration) (g tasklet.Grant, answered bool, err error) {
	q.broker.send(ctx, q.report)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case g = <-q.answer:
		if g.Error != "" {
			return g, true, &deniedError{g.Error}
		}
		return g, true, nil
	case <-timer.C:
		return g, false, nil
	case <-ctx.Done():
		return g, false, context.Cause(ctx)
	}
}

func (q *question) close() {
	q.broker.mu.Lock()
	defer q.broker.mu.Unlock()
	delete(q.broker.open, q.report.Request.ID)
}

// ask repeats a request until it is answered or ctx ends.
func (b *broker) ask(ctx context.Context, t Tuning, taskID string, r tasklet.Request) (tasklet.Grant, error) {
	q := b.question(taskID, r)
	defer q.close()
	wait := backoff{first: t.AskEvery, max: t.BackoffMax}
	for {
		g, answered, err := q.ask(ctx, wait.next())
		if err != nil {
			return g, fmt.Errorf("%s of partition %d: %w", r.Role, r.Partition, err)
		}
		if answered {
			return g, nil
		}
	}
}

func (b *broker) grant(g tasklet.Grant) {
	b.mu.Lock()
	answer := b.open[g.ID]
	b.mu.Unlock()
	if answer == nil {
		return
	}
	select {
	case answer <- g:
	default: // answered twice
	}
}
