package executor

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// command is a process to start.
type command struct {
	path string
	args []string
	env  []string
	dir  string // the working directory
	home string // the directory of all that is the partition's
	user user
	out  *os.File // takes stdout and stderr
	// limit is the memory that the process tree may use, in bytes; 0: any.
	limit int64
	// noCore keeps it from leaving core dumps.
	noCore bool
}

type spawnRequest struct {
	command command
	reply   chan spawnReply
}

type spawnReply struct {
	execution *execution
	err       error
}

// start starts a command in a session of its own, as its user, without any way
// to gain privileges, and to be killed should this process die.
func (t *table) start(c command) (*execution, error) {
	r := spawnRequest{c, make(chan spawnReply, 1)}
	select {
	case t.spawn <- r:
		reply := <-r.reply
		return reply.execution, reply.err
	case <-t.closed:
		return nil, errors.New("the executor is shutting down")
	}
}

// spawnLoop forks from one thread that lives as long as the executor: no_new_privs
// belongs to a thread, and the kernel sends a parent-death signal when the thread
// that forked ends.
func (t *table) spawnLoop() {
	runtime.LockOSThread()
	t.mu.Lock()
	t.spawner = unix.Gettid()
	t.mu.Unlock()
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err != nil {
		err = fmt.Errorf("no_new_privs: %w", err)
	}
	for {
		select {
		case r := <-t.spawn:
			if err != nil {
				r.reply <- spawnReply{err: err}
				continue
			}
			e, err := t.fork(r.command)
			r.reply <- spawnReply{e, err}
		case <-t.closed:
			return
		}
	}
}

func (t *table) fork(c command) (*execution, error) {
	e := newExecution(t, c.user)
	e.limit, e.home = c.limit, c.home
	out := c.out.Fd()
	attr := &syscall.ProcAttr{
		Dir:   c.dir,
		Env:   append(c.env[:len(c.env):len(c.env)], markerVariable+"="+e.marker),
		Files: []uintptr{t.null.Fd(), out, out},
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, Credential: c.user.credential()},
	}
	t.birth.Lock()
	defer t.birth.Unlock()
	e.began = time.Now()
	pid, err := forkBounded(c, attr)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.root, _ = readProc(pid)
	e.root.pid = pid
	t.roots[pid] = e
	t.running[e] = struct{}{}
	t.note(e.root, e)
	for _, wake := range []chan struct{}{t.started, t.metered} {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	// When the container is out of memory, a task is to go, not its executor.
	if fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
		_, _ = unix.Write(fd, []byte("500"))
		_ = unix.Close(fd)
	}
	return e, nil
}

// maxTaskProcesses bounds processes and threads of one partition, where each has
// a user of its own: a fork bomb must not take the agent's process table.
const maxTaskProcesses = 4096

// forkBounded forks under limits. That of processes is kept per user: it makes sense
// only for a user that nobody else is. Root itself is not bound by it.
func forkBounded(c command, attr *syscall.ProcAttr) (int, error) {
	if c.user.own {
		defer limit(unix.RLIMIT_NPROC, func(was unix.Rlimit) unix.Rlimit {
			return unix.Rlimit{Cur: min(was.Cur, maxTaskProcesses), Max: min(was.Max, maxTaskProcesses)}
		})()
	}
	if c.noCore {
		// With 0, the kernel would still pipe a dump to a program (core(5)); with 1 it does not.
		defer limit(unix.RLIMIT_CORE, func(was unix.Rlimit) unix.Rlimit {
			return unix.Rlimit{Cur: min(was.Max, 1), Max: was.Max}
		})()
	}
	return syscall.ForkExec(c.path, c.args, attr)
}

// limit sets a limit of this process, which its children keep, until the function
// that it returns is called.
func limit(resource int, change func(was unix.Rlimit) unix.Rlimit) (restore func()) {
	var was unix.Rlimit
	if unix.Getrlimit(resource, &was) != nil {
		return func() {}
	}
	now := change(was)
	if unix.Setrlimit(resource, &now) != nil {
		return func() {}
	}
	return func() { _ = unix.Setrlimit(resource, &was) }
}

// killUser kills all processes of a user that nobody else is. The signal to -1
// spares the one who sends it, which ends by itself.
func (t *table) killUser(u user) {
	attr := &syscall.ProcAttr{Dir: "/", Sys: &syscall.SysProcAttr{Setsid: true, Credential: u.credential()}}
	if _, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "kill -KILL -1"}, attr); err != nil {
		t.log.Debug("kill by user", "error", err)
		return
	}
	select {
	case t.started <- struct{}{}:
	default:
	}
}
