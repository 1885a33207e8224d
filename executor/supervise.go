package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/baas-batch/baas/tasklet"
)

// supervise returns when all processes are gone and all they wrote is read.
func (p *partition) supervise(e *execution, output *os.File) {
	p.mu.Lock()
	p.execution = e
	p.mu.Unlock()
	unhook := context.AfterFunc(p.ctx, func() {
		e.end(tasklet.Killed, context.Cause(p.ctx).Error(), p.killGrace())
	})
	defer unhook()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		p.copyLog(output)
	}()
	unwatch := p.watch(e)
	e.wait()
	unwatch()
	p.mu.Lock()
	p.execution = nil
	p.mu.Unlock()
	// Whoever could still hold the pipe is beyond our reach.
	_ = output.SetReadDeadline(time.Now().Add(time.Second))
	<-copied
}

// watch starts what accompanies a command until it is gone: its time limit and, if
// it lasts a moment, what looks at its files. The function that it returns ends that.
func (p *partition) watch(e *execution) (end func()) {
	t := p.task
	limits, tune := t.launch.Limits, t.x.cfg.Tuning
	var limit *time.Timer
	if limits.Timeout > 0 {
		limit = time.AfterFunc(limits.Timeout, func() {
			e.end(tasklet.TimedOut, fmt.Sprintf("over its time limit of %s", limits.Timeout), t.grace())
		})
	}
	var work sync.WaitGroup
	stop, started := make(chan struct{}), make(chan struct{})
	silence := func() {}
	moment := time.AfterFunc(min(tune.CheckpointEvery, tune.ProgressEvery, tune.DiskEvery), func() {
		defer close(started)
		silence = p.follow(e, stop, &work)
	})
	return func() {
		if limit != nil {
			limit.Stop()
		}
		if !moment.Stop() {
			<-started
		}
		close(stop)
		silence()
		work.Wait()
	}
}

// follow looks after the files of a command until stop is closed. The function that
// it returns ends a report that is being sent.
func (p *partition) follow(e *execution, stop chan struct{}, work *sync.WaitGroup) (silence func()) {
	t := p.task
	limits, tune := t.launch.Limits, t.x.cfg.Tuning
	p.log.show()
	if limits.Disk > 0 {
		work.Go(func() {
			paths := []string{p.dirs.work, p.dirs.outputs, p.dirs.tmp}
			watchDisk(stop, tune.DiskEvery, limits.Disk, paths, func(used int64) {
				e.end(tasklet.DiskFull, fmt.Sprintf("used %s of %s", megabytes(used), megabytes(limits.Disk)), 0)
			})
		})
	}
	if p.saves() {
		work.Go(func() { p.ckpt.follow(t.uploads, stop) })
	}
	telling, silence := context.WithCancel(t.uploads)
	work.Go(func() {
		followProgress(stop, tune.ProgressEvery, p.dirs.state, p.user, p.redactor, func(pr tasklet.Progress) {
			pr.Partition = p.spec.Index
			t.x.report(telling, tasklet.Report{TaskID: t.launch.TaskID, Progress: []tasklet.Progress{pr}})
		})
	})
	return silence
}

// copyLog takes what the command writes to its log, without its secrets.
func (p *partition) copyLog(r *os.File) {
	var log io.Writer = p.log
	if p.redactor != nil {
		redacting := &redactingWriter{r: p.redactor, w: p.log}
		defer redacting.flush()
		log = redacting
	}
	pipe, err := r.SyscallConn()
	if err != nil {
		return // closed
	}
	for more := true; more && err == nil; {
		err = pipe.Read(func(fd uintptr) (done bool) {
			more, done = copySome(log, int(fd))
			return done
		})
	}
}

// copySome copies what is there to be read. done is false where nothing is yet: a
// command that is silent for hours must not hold a buffer. more is false at the end.
func copySome(w io.Writer, fd int) (more, done bool) {
	buffer := buffers.Get().(*copyBuffer)
	defer buffers.Put(buffer)
	n, err := unix.Read(fd, buffer[:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return true, false
	case errors.Is(err, unix.EINTR):
		return true, true
	case n <= 0:
		return false, true
	}
	_, _ = w.Write(buffer[:n])
	return true, true
}
