package executor

import (
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"sync"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mesosexec "github.com/mesos/mesos-go/api/v1/lib/executor"
)

// outbox holds every status update from its making until the agent acknowledges
// it, and every task until one of its updates is acknowledged. Updates leave in
// the order in which they were made; a new subscription carries all of them again.
type outbox struct {
	log *slog.Logger

	mu        sync.Mutex
	updates   []*pending
	tasks     []mesos.TaskInfo
	connected bool
	wake      chan struct{} // buffered: something to send, or connected
	changed   chan struct{} // closed and replaced at each acknowledgement
}

type pending struct {
	status       mesos.TaskStatus
	sent         bool
	acknowledged func() // nil, or called then; must not block
}

func newOutbox(log *slog.Logger) *outbox {
	return &outbox{log: log, wake: make(chan struct{}, 1), changed: make(chan struct{})}
}

// launched keeps a task for subscriptions to come.
func (o *outbox) launched(task mesos.TaskInfo) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tasks = append(o.tasks, task)
}

// add queues an update under a UUID of its own. The function may be nil; it is
// called when the update is acknowledged, and must not block.
func (o *outbox) add(status mesos.TaskStatus, acknowledged func()) {
	status.UUID = newUUID()
	now := float64(time.Now().UnixMicro()) / 1e6
	status.Timestamp = &now
	status.Source = mesos.SOURCE_EXECUTOR.Enum()
	o.mu.Lock()
	o.updates = append(o.updates, &pending{status: status, acknowledged: acknowledged})
	o.mu.Unlock()
	o.poke()
}

// acknowledge drops an update. It returns the state that the update told of,
// and false for an update that is not known (an acknowledgement that came twice).
func (o *outbox) acknowledge(task string, uuid []byte) (mesos.TaskState, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tasks = slices.DeleteFunc(o.tasks, func(t mesos.TaskInfo) bool { return t.TaskID.Value == task })
	i := slices.IndexFunc(o.updates, func(p *pending) bool {
		return p.status.TaskID.Value == task && string(p.status.UUID) == string(uuid)
	})
	if i < 0 {
		return 0, false
	}
	state := o.updates[i].status.GetState()
	if told := o.updates[i].acknowledged; told != nil {
		defer told()
	}
	o.updates = slices.Delete(o.updates, i, i+1)
	close(o.changed)
	o.changed = make(chan struct{})
	return state, true
}

// unacknowledged is what a SUBSCRIBE has to carry.
func (o *outbox) unacknowledged() ([]mesos.TaskInfo, []mesosexec.Call_Update, []*pending) {
	o.mu.Lock()
	defer o.mu.Unlock()
	carried := slices.Clone(o.updates)
	updates := make([]mesosexec.Call_Update, len(carried))
	for i, p := range carried {
		updates[i].Status = p.status
	}
	return slices.Clone(o.tasks), updates, carried
}

// subscribed lets updates go out again; the carried ones have arrived.
func (o *outbox) subscribed(carried []*pending) {
	o.mu.Lock()
	for _, p := range carried {
		p.sent = true
	}
	o.connected = true
	o.mu.Unlock()
	o.poke()
}

func (o *outbox) disconnected() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.connected = false
}

// run sends updates one after the other until ctx ends. What could not be sent
// is tried again, or goes along with the next subscription.
func (o *outbox) run(ctx context.Context, send func(context.Context, mesos.TaskStatus) error) {
	for {
		p := o.next()
		if p == nil {
			select {
			case <-ctx.Done():
				return
			case <-o.wake:
			}
			continue
		}
		if err := send(ctx, p.status); err != nil {
			if ctx.Err() != nil {
				return
			}
			o.log.Warn("status update not sent, will be repeated", "task", p.status.TaskID.Value, "error", err)
			if !pause(ctx, 250*time.Millisecond) {
				return
			}
			continue
		}
		o.mu.Lock()
		p.sent = true
		o.mu.Unlock()
	}
}

func (o *outbox) next() *pending {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.connected {
		return nil
	}
	for _, p := range o.updates {
		if !p.sent {
			return p
		}
	}
	return nil
}

// drain waits until every update is acknowledged or ctx ends.
func (o *outbox) drain(ctx context.Context) {
	for {
		o.mu.Lock()
		left, changed := len(o.updates), o.changed
		o.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (o *outbox) poke() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// newUUID gives a random (version 4) UUID, as Mesos wants it: 16 raw bytes.
func newUUID() []byte {
	u := make([]byte, 16)
	_, _ = rand.Read(u)
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

// pause waits for d, or returns false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
