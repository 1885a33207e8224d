package executor

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

// partition is one partition on its way through the executor.
type partition struct {
	task *task
	spec tasklet.Partition
	log  *logFile

	// ctx ends when the partition, or the task, is killed.
	ctx    context.Context
	cancel context.CancelCauseFunc

	dirs    dirs
	user    user
	leave   func()   // gives the user back; nil when there is none
	release []func() // in reverse order, when its processes are gone
	ckpt    *checkpoint
	result  tasklet.Result
	traffic traffic

	secrets  *secrets  // nil when there are none
	redactor *redactor // nil when there is nothing to redact

	mu        sync.Mutex
	execution *execution     // while its command runs
	grace     *time.Duration // of the last kill; nil: the task's
}

// withCommonInputs gives a partition the inputs that all have.
func withCommonInputs(l *tasklet.Launch, spec tasklet.Partition) tasklet.Partition {
	if len(l.Inputs) > 0 {
		own := spec.Inputs
		spec.Inputs = maps.Clone(l.Inputs)
		maps.Copy(spec.Inputs, own)
	}
	return spec
}

func newPartition(t *task, spec tasklet.Partition) *partition {
	p := &partition{task: t, spec: withCommonInputs(t.launch, spec)}
	p.ctx, p.cancel = context.WithCancelCause(t.ctx)
	return p
}

// kill ends the partition wherever it stands.
func (p *partition) kill(cause error, grace time.Duration) {
	p.mu.Lock()
	p.grace = &grace
	e := p.execution
	p.mu.Unlock()
	p.cancel(cause) // ends a command that is about to start
	if e != nil {
		e.end(tasklet.Killed, cause.Error(), grace)
	}
}

func (p *partition) killGrace() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.grace != nil {
		return *p.grace
	}
	return p.task.killGrace()
}

// run takes the partition from its inputs to its stored outputs.
func (p *partition) run() tasklet.Result {
	p.result = tasklet.Result{Partition: p.spec.Index, ExitCode: -1, Agent: p.task.x.hostname()}
	defer func() {
		for i := len(p.release) - 1; i >= 0; i-- {
			p.release[i]()
		}
	}()
	err := context.Cause(p.ctx)
	if err == nil {
		err = p.stage()
	}
	if err == nil {
		err = p.execute()
	}
	p.wipeSecrets() // uploads may take hours
	p.conclude(err)
	p.storeLog()
	if p.saves() {
		p.ckpt.bad = commit{} // what changed under our hands is at rest now
		_ = p.ckpt.save(p.task.uploads)
	}
	if p.result.Outcome == tasklet.Succeeded {
		p.collect()
	}
	return p.result
}

// saves tells whether there is a place for checkpoints.
func (p *partition) saves() bool {
	return p.ckpt != nil && (p.ckpt.target.URL != "" || p.task.segments != nil)
}

// stage makes everything ready for the command.
func (p *partition) stage() (err error) {
	t := p.task
	x, l := t.x, t.launch
	u, release, err := x.box.users.take(l.User)
	if err != nil {
		return &invalidError{err.Error()}
	}
	p.user, p.leave = u, release
	if l.Fetched && u.switched && !passable(x.cfg.Sandbox) {
		return invalid("what the step has fetched cannot be reached: a directory above the executor's sandbox is closed to tasks")
	}
	if err := p.makeFiles(); err != nil {
		return &localError{err}
	}
	if err := p.takeSecrets(); err != nil {
		return err
	}
	if l.Bundle != nil {
		dir, release, err := x.bundle.use(p.ctx, l.TaskID, p.spec.Index, *l.Bundle)
		if err != nil {
			return err
		}
		p.release = append(p.release, release)
		if err := p.dirs.link(dir); err != nil {
			return &localError{err}
		}
	}
	inputs := staging{
		store: x.store, taskID: l.TaskID, part: p.spec, dir: p.dirs.inputs, spool: x.box.spool, user: u, traffic: &p.traffic,
	}
	if err := inputs.run(p.ctx); err != nil {
		return err
	}
	p.ckpt = &checkpoint{
		store: x.store, log: x.log, taskID: l.TaskID, partition: p.spec.Index,
		target: p.spec.Checkpoint, dir: p.dirs.checkpoint, spool: x.box.spool, user: u,
	}
	if p.spec.Restore != nil {
		if err := p.ckpt.restore(p.ctx, *p.spec.Restore); err != nil {
			return err
		}
		p.result.Resumed = true
	}
	if err := p.dirs.give(u); err != nil {
		return &localError{err}
	}
	return nil
}

// makeFiles makes the directories and the log, of what the partition before has
// left where that is clean.
func (p *partition) makeFiles() (err error) {
	t := p.task
	if d := t.takeSpare(); d != nil {
		p.dirs = *d
	} else {
		p.dirs, err = t.x.box.partition(t.launch.App)
	}
	if err != nil {
		return err
	}
	limit := t.launch.Limits.Log
	if limit <= 0 {
		limit = t.x.cfg.Tuning.DefaultLog
	}
	p.log = newLog(filepath.Join(t.logs, strconv.Itoa(p.spec.Index)+".log"), limit, t.spare.log)
	t.spare.log = nil
	return nil
}

// execute runs the command to its end, and to the end of all that it started.
func (p *partition) execute() error {
	t := p.task
	env, err := environment(t.x.cfg, t.launch, p.spec, p.dirs)
	if err != nil {
		return err
	}
	env = p.secrets.environment(env)
	path, args, err := commandLine(t.launch, p.dirs.work, env)
	if err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	defer write.Close()
	if p.user.switched {
		// A command may open /dev/stdout anew, which asks who owns the pipe.
		if err := write.Chown(int(p.user.uid), int(p.user.gid)); err != nil {
			return err
		}
	}
	e, err := t.x.procs.start(command{
		path: path, args: args, env: env, dir: p.dirs.work, home: p.dirs.base,
		user: p.user, out: write, limit: t.launch.Limits.Memory, noCore: p.secrets != nil,
	})
	if err != nil {
		return startError(t.launch, path, err)
	}
	_ = write.Close()
	t.processStarted()
	p.supervise(e, read)
	p.conclusion(e)
	return nil
}

// conclusion reads from the end of the command what became of it.
func (p *partition) conclusion(e *execution) {
	r := &p.result
	r.Started, r.Ended, r.Usage = e.began, e.ended, e.usage()
	r.Usage.Fetched, r.Usage.Cached = p.traffic.fetched.Load(), p.traffic.cached.Load()
	switch {
	case e.status.Exited():
		r.ExitCode = e.status.ExitStatus()
	case e.status.Signaled():
		r.Signal = unix.SignalName(e.status.Signal())
	}
	if text, err := readSmall(p.dirs.state, exitStatusFile, p.user, 4<<10); err == nil {
		r.ExitStatus = printable(p.redactor.text(string(text)), 256)
	}
	outcome, reason := e.ending()
	switch {
	case outcome != "":
		r.Outcome, r.Reason = outcome, reason
	case r.ExitCode == 0:
		r.Outcome = tasklet.Succeeded
	case r.Signal != "":
		r.Outcome, r.Reason = tasklet.Failed, "ended by "+r.Signal
		if e.status.Signal() == syscall.SIGKILL {
			r.Reason += ", perhaps by the kernel for lack of memory"
		}
	default:
		r.Outcome, r.Reason = tasklet.Failed, "exit code "+strconv.Itoa(r.ExitCode)
	}
}

// conclude turns an error on the way to the command into an outcome.
func (p *partition) conclude(err error) {
	if err == nil {
		return
	}
	r := &p.result
	r.Started = time.Now()
	r.Ended = r.Started
	r.Outcome, r.Reason = p.classify(err), printable(p.redactor.text(err.Error()), 500)
}

func (p *partition) classify(err error) tasklet.Outcome {
	var (
		bad     *invalidError
		archive *tree.Error
		output  *outputError
	)
	switch {
	case errors.Is(err, errKilled), errors.Is(err, errShutdown):
		return tasklet.Killed
	case errors.As(err, &bad), errors.As(err, &archive):
		return tasklet.Invalid
	case errors.As(err, &output):
		return tasklet.Failed
	}
	return tasklet.Platform
}

// collect stores the outputs of a command that succeeded.
func (p *partition) collect() {
	t := p.task
	ctx, cancel := context.WithCancelCause(p.ctx)
	defer cancel(nil)
	stop := context.AfterFunc(t.uploads, func() { cancel(context.Cause(t.uploads)) })
	defer stop()
	values, err := outputs{
		task: t, part: p.spec,
		declared: t.launch.Outputs, dir: p.dirs.outputs, spool: t.x.box.spool, user: p.user, redactor: p.redactor,
	}.collect(ctx)
	if err != nil {
		r := &p.result
		r.Outcome, r.Reason = p.classify(err), printable(p.redactor.text(err.Error()), 500)
		return
	}
	if len(values) > 0 {
		p.result.Outputs = values
	}
}

// storeLog stores the log, if there is one and a place for it.
func (p *partition) storeLog() {
	if p.log == nil {
		return
	}
	t := p.task
	size, err := p.log.finish()
	if err != nil {
		t.x.log.Warn("log is not complete", "task", t.launch.TaskID, "error", err)
	}
	if p.spec.Log.URL == "" && t.segments == nil {
		_ = p.log.close()
		return
	}
	err = nil
	if size > 0 { // nobody misses the object of a command that said nothing
		err = p.placeLog(size)
	}
	if err != nil {
		t.x.log.Warn("log not stored", "task", t.launch.TaskID, "error", err)
	}
	if err == nil && t.segments != nil {
		t.spare.log = p.log.left() // nobody needs it any more
	} else {
		_ = p.log.close()
	}
}

func (p *partition) placeLog(size int64) error {
	t, content := p.task, p.log.file
	sum, err := hashReader(t.uploads, content, size)
	if err != nil {
		return err
	}
	key, offset, err := t.place(t.uploads, upload{
		taskID: t.launch.TaskID, target: p.spec.Log, body: content, size: size,
		request: tasklet.Request{Partition: p.spec.Index, Role: tasklet.RoleLog},
	})
	if err != nil {
		return err
	}
	ref := tasklet.NewFileRef(key, size, sum, strconv.Itoa(p.spec.Index)+".log")
	ref.Offset = offset
	p.result.Log = &ref
	return nil
}

// remove removes the partition's directories, or keeps them for the next one; its user
// has them no longer then. Its processes must be gone.
func (p *partition) remove() {
	defer p.free()
	d := p.dirs
	switch {
	case d.base == "":
	case d.clear(p.user) == nil:
		p.task.spare.dirs = &d
	default:
		p.task.x.box.remove(d.base)
	}
}

// free lets others have the partition's user.
func (p *partition) free() {
	if p.leave != nil {
		p.leave()
	}
}
