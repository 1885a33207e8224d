package executor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
)

var (
	errKilled    = errors.New("killed on request")
	errShutdown  = errors.New("killed: the executor was shut down")
	errAbandoned = errors.New("the executor is ending")
)

// task is one Mesos task: partitions that run one after the other.
type task struct {
	x      *Executor
	launch *tasklet.Launch
	logs   string
	done   chan struct{} // closed when the terminal update is in the outbox

	// ctx ends when the whole task is killed; uploads when nothing more may be
	// stored. Logs, checkpoints and results are stored for killed tasks too.
	ctx       context.Context
	cancel    context.CancelCauseFunc
	uploads   context.Context
	noUploads context.CancelCauseFunc

	mu      sync.Mutex
	killing bool
	patient time.Duration // the grace period of the last kill
	kills   map[int]bool  // partitions to be killed
	current *partition
	started bool // a first process has been started
	running *time.Timer
	ended   bool

	secrets  map[string][]byte // by name, once the leader has answered; run alone touches it
	segments *segments         // nil when all results are stored at the end
	tally    tally             // of results; run alone touches it
	spare    spare             // run alone touches it
}

// spare is what one partition has left clean for the next.
type spare struct {
	dirs *dirs
	log  *logFile
}

func newTask(x *Executor, l *tasklet.Launch) *task {
	name := directoryName(l.TaskID)
	t := &task{
		x: x, launch: l, done: make(chan struct{}), kills: map[int]bool{},
		logs: filepath.Join(x.box.logs, name),
	}
	t.ctx, t.cancel = context.WithCancelCause(context.Background())
	t.uploads, t.noUploads = context.WithCancelCause(context.Background())
	if l.Segments != nil {
		t.segments = newSegments(t)
	}
	return t
}

// directoryName makes a file name of a task ID, which is at most 255 bytes and
// has no separators; what Mesos allows beyond our own IDs is replaced.
func directoryName(id string) string {
	name := strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r <= ' ' || r == 0x7f || r == '%' || r == utf8.RuneError {
			return '_'
		}
		return r
	}, id)
	if name == "" || name[0] == '.' {
		name = "_" + strings.TrimLeft(name, ".")
	}
	return name
}

func (t *task) grace() time.Duration {
	if t.launch.Limits.Grace > 0 {
		return t.launch.Limits.Grace
	}
	return t.x.cfg.Tuning.DefaultGrace
}

// run runs the partitions, stores what they leave and sends the terminal update.
func (t *task) run() {
	defer close(t.done)
	if t.launch.Limits.Disk > 0 {
		t.x.store.cache.limited()
	}
	if t.segments != nil {
		t.runInSegments()
		return
	}
	results := make([]tasklet.Result, 0, len(t.launch.Partitions))
	var last *partition
	for _, spec := range t.launch.Partitions {
		if t.ctx.Err() != nil {
			break
		}
		if last != nil {
			last.remove()
		}
		last = newPartition(t, spec)
		results = append(results, t.runOne(last))
	}
	t.enter(nil)
	t.forgetSecrets()
	t.finish(results)
	if last != nil { // nobody waits for that
		last.remove()
	}
	t.keepSpare()
}

// runInSegments commits results as they come, and leaves no files of a partition
// when its result is on its way.
func (t *task) runInSegments() {
	for i, spec := range t.launch.Partitions {
		if t.segments.room(t.ctx) != nil || t.ctx.Err() != nil {
			break
		}
		began := time.Now()
		p := newPartition(t, spec)
		result := t.runOne(p)
		result.Attempt = t.launch.Attempt
		p.remove()
		t.segments.add(i, began, result, i == len(t.launch.Partitions)-1)
	}
	t.enter(nil)
	t.forgetSecrets()
	t.keepSpare()
	segment, err := t.segments.finish()
	t.end(tasklet.StatusData{Segment: segment}, err)
}

func (t *task) runOne(p *partition) tasklet.Result {
	t.enter(p)
	result := p.run()
	p.cancel(nil)
	t.tally.add(&result)
	return result
}

// enter makes p the one that runs; a kill for it may have come already.
func (t *task) enter(p *partition) {
	t.mu.Lock()
	t.current = p
	killed := p != nil && t.kills[p.spec.Index]
	t.mu.Unlock()
	if killed {
		p.kill(errKilled, 0)
	}
}

// kill ends the whole task. It may be repeated, to shorten the grace period.
func (t *task) kill(grace time.Duration, shutdown bool) {
	cause := errKilled
	if shutdown {
		cause = errShutdown
	}
	t.mu.Lock()
	t.killing, t.patient = true, grace
	p := t.current
	t.mu.Unlock()
	if p != nil {
		p.kill(cause, grace)
	}
	t.cancel(cause) // also ends a partition that was entered meanwhile
}

func (t *task) killGrace() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.patient
}

// killPartitions ends single partitions, also those that have not begun.
func (t *task) killPartitions(indexes []int) {
	wanted := make(map[int]bool, len(indexes))
	for _, i := range indexes {
		wanted[i] = true
	}
	t.mu.Lock()
	var hit *partition
	for _, p := range t.launch.Partitions {
		if wanted[p.Index] {
			t.kills[p.Index] = true
		}
	}
	if t.current != nil && wanted[t.current.spec.Index] {
		hit = t.current
	}
	t.mu.Unlock()
	if hit != nil {
		hit.kill(errKilled, t.grace())
	}
}

// abandonUploads lets the task end without what is not stored yet.
func (t *task) abandonUploads() { t.noUploads(errAbandoned) }

// processStarted has TASK_RUNNING sent if the task is still there a moment later.
func (t *task) processStarted() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.started {
		return
	}
	t.started = true
	t.running = time.AfterFunc(t.x.cfg.Tuning.RunningAfter, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if !t.ended {
			t.update(mesos.TASK_RUNNING, "", tasklet.StatusData{}, nil)
		}
	})
}

// finish stores the result object before it tells of the end: who reads the
// update, or finds the task gone, finds the object.
func (t *task) finish(results []tasklet.Result) {
	object, err := json.Marshal(tasklet.ResultObject{TaskID: t.launch.TaskID, Results: results})
	if err == nil {
		err = t.x.store.upload(t.uploads, upload{
			taskID: t.launch.TaskID, target: t.launch.Result,
			body: bytes.NewReader(object), size: int64(len(object)),
			request: tasklet.Request{Partition: t.launch.Partitions[0].Index, Role: tasklet.RoleResult},
		})
	}
	stored := err == nil
	if !stored {
		t.x.log.Error("result object not stored", "task", t.launch.TaskID, "error", err)
	}
	t.end(tasklet.StatusData{Results: results, Stored: stored}, nil)
}

// end sends the terminal update; lost says that results are not in storage.
func (t *task) end(status tasklet.StatusData, lost error) {
	if err := os.Remove(t.logs); err != nil && !errors.Is(err, fs.ErrNotExist) { // there are some
		t.x.box.keepLogs(t.logs)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	if t.running != nil {
		t.running.Stop()
	}
	state, message := t.verdict()
	if lost != nil {
		message = "results not stored: " + printable(lost.Error(), 500)
		if state == mesos.TASK_FINISHED {
			state = mesos.TASK_FAILED
		}
	}
	t.x.log.Info("ended", "task", t.launch.TaskID, "state", state, "message", message)
	t.update(state, message, status, nil)
}

// committed tells of a stored segment.
func (t *task) committed(g *tasklet.Segment, acknowledged func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running != nil {
		t.running.Stop()
	}
	t.update(mesos.TASK_RUNNING, "", tasklet.StatusData{Segment: g}, acknowledged)
}

// place stores what a partition leaves: small objects in the segment, where the task
// has one, and others by themselves. An object begins at the offset.
func (t *task) place(ctx context.Context, u upload) (key string, offset int64, err error) {
	if t.segments != nil && u.size <= tasklet.MaxInSegment {
		return t.segments.put(u.body, u.size)
	}
	key, err = t.x.store.uploadAnywhere(ctx, u)
	return key, 0, err
}

// tally counts results.
type tally struct {
	succeeded int
	first     *tasklet.Result // the first that did not succeed
}

func (a *tally) add(r *tasklet.Result) {
	if r.Outcome == tasklet.Succeeded {
		a.succeeded++
	} else if a.first == nil {
		a.first = r
	}
}

// verdict sums up the results. With mu held.
func (t *task) verdict() (mesos.TaskState, string) {
	total, succeeded, first := len(t.launch.Partitions), t.tally.succeeded, t.tally.first
	if succeeded == total {
		return mesos.TASK_FINISHED, "succeeded"
	}
	state, why := mesos.TASK_FAILED, "killed before it began"
	if t.killing {
		state = mesos.TASK_KILLED
	}
	if first != nil {
		why = string(first.Outcome)
		if first.Reason != "" && first.Reason != why {
			why += ": " + first.Reason
		}
	}
	if total > 1 {
		if first != nil {
			why = fmt.Sprintf("partition %d %s", first.Partition, why)
		}
		why = fmt.Sprintf("%d of %d partitions succeeded; %s", succeeded, total, why)
	}
	return state, why
}

// update queues a status update. With mu held, so that none follows the terminal one.
func (t *task) update(state mesos.TaskState, message string, status tasklet.StatusData, acknowledged func()) {
	status.Sandbox = t.x.cfg.Directory
	status.Log = "logs/" + filepath.Base(t.logs) + "/%d.log"
	data, err := json.Marshal(status)
	if err != nil || len(data) > tasklet.MaxStatusData {
		status.Results, status.InStorage = nil, status.Stored
		if g := status.Segment; g != nil && len(g.Failed) > 0 {
			g.Failed, g.More = nil, true
		}
		data, _ = json.Marshal(status)
	}
	update := mesos.TaskStatus{
		TaskID: mesos.TaskID{Value: t.launch.TaskID},
		State:  state.Enum(),
		Data:   data,
	}
	if message != "" {
		update.Message = &message
	}
	t.x.outbox.add(update, acknowledged)
}
