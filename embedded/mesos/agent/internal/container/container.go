// Package container starts executors as processes of their own and finds, meters
// and kills everything that they have started. A container outlives the agent
// that made it: it is found again by its record.
//
// A process belongs to a container by its cgroup where a version 2 hierarchy can
// be written (the kernel then keeps the membership, whatever the process does).
// Elsewhere it belongs by descent from the executor, by the executor's session,
// by having been seen as a member before, or by [Marker] in its environment.
// What escapes the second rule: a process that called setsid, lost its parent
// and dropped its environment between two looks (see [Container.Usage]).
package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Marker is the variable that every process of a container has from its start.
const Marker = "BAAS_CONTAINER_ID"

// UnknownStatus stands for the wait status of an executor that was not this
// process's child.
const UnknownStatus = -1

const (
	pollInterval = 50 * time.Millisecond
	killTimeout  = 30 * time.Second
)

// Record is what must be kept to find a container again.
type Record struct {
	ID     string `json:"id"`
	Boot   string `json:"boot"`
	Cgroup string `json:"cgroup,omitempty"`
	PID    int    `json:"pid,omitempty"` // zero before the start
	Start  uint64 `json:"start,omitempty"`
	// Seen are the members that were met last, where there is no cgroup.
	Seen []Process `json:"seen,omitempty"`
	// What follows is the agent's.
	Memory int64 `json:"memory,omitempty"` // bytes that it may use
	Sent   bool  `json:"sent,omitempty"`   // a task was sent to the executor
}

// Credential is the user that a container runs as.
type Credential struct {
	UID, GID uint32
	Groups   []uint32
}

// Spec says what to run.
type Spec struct {
	Dir        string // working directory; takes the files stdout and stderr
	Path       string // absolute, or relative to Dir
	Args       []string
	Env        []string
	Credential *Credential // nil: as the agent
}

// ExecError tells that the command could not be executed.
type ExecError struct {
	Path string
	Err  error
}

func (e *ExecError) Error() string { return fmt.Sprintf("failed to execute '%s': %v", e.Path, e.Err) }

// Unwrap gives the cause.
func (e *ExecError) Unwrap() error { return e.Err }

// Container is one executor with all that it has started.
type Container struct {
	record Record
	done   chan struct{}
	status int32 // valid when done is closed

	mu      sync.Mutex
	seen    map[Process]bool // members met last; unused with a cgroup
	changed bool             // since Changed was asked
}

// Prepare makes a record, and a cgroup if that can be had. The record must be
// saved before Start, so that a crash between the two leaves nothing behind.
func Prepare(id string, useCgroup bool) Record {
	record := Record{ID: id, Boot: BootID()}
	if root := cgroupRoot(); useCgroup && root != "" {
		dir := filepath.Join(root, "baas-"+id)
		if err := os.Mkdir(dir, 0o755); err == nil {
			record.Cgroup = dir
		}
	}
	return record
}

// Start runs the executor in a session of its own. A command that cannot be
// executed gives an *ExecError.
func Start(record Record, spec Spec) (*Container, error) {
	stdout, err := openLog(spec.Dir, "stdout")
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	stderr, err := openLog(spec.Dir, "stderr")
	if err != nil {
		return nil, err
	}
	defer stderr.Close()

	cmd, err := startGrouped(record, spec, stdout, stderr)
	if err != nil {
		// The kernel may refuse the group: before 5.7, or where the hierarchy is
		// not delegated. Then the rules without it apply.
		if record.Cgroup != "" {
			_ = os.Remove(record.Cgroup)
			record.Cgroup = ""
		}
		cmd = command(record, spec, stdout, stderr)
		if err := cmd.Start(); err != nil {
			var path *os.PathError
			if errors.As(err, &path) {
				err = path.Err
			}
			return nil, &ExecError{Path: spec.Path, Err: err}
		}
	}
	record.PID = cmd.Process.Pid
	p, err := readProcess(record.PID)
	if err != nil { // impossible before Wait: a zombie has a stat too
		return nil, fmt.Errorf("container %s: %w", record.ID, err)
	}
	record.Start = p.start
	c := newContainer(record)
	go func() {
		_ = cmd.Wait() // the state tells all
		c.status = int32(cmd.ProcessState.Sys().(syscall.WaitStatus))
		close(c.done)
	}()
	return c, nil
}

func newContainer(record Record) *Container {
	c := &Container{record: record, done: make(chan struct{}), status: UnknownStatus, seen: map[Process]bool{}}
	for _, p := range record.Seen {
		c.seen[p] = true
	}
	return c
}

func openLog(dir, name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0o644)
}

func command(record Record, spec Spec, stdout, stderr *os.File) *exec.Cmd {
	attr := &syscall.SysProcAttr{Setsid: true}
	if c := spec.Credential; c != nil {
		attr.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups}
	}
	return &exec.Cmd{
		Path:        spec.Path,
		Args:        spec.Args,
		Dir:         spec.Dir,
		Env:         append(slices.Clone(spec.Env), Marker+"="+record.ID), // the last of a name counts
		Stdout:      stdout,
		Stderr:      stderr,
		SysProcAttr: attr,
	}
}

func startGrouped(record Record, spec Spec, stdout, stderr *os.File) (*exec.Cmd, error) {
	if record.Cgroup == "" {
		return nil, errors.ErrUnsupported
	}
	dir, err := os.Open(record.Cgroup)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	cmd := command(record, spec, stdout, stderr)
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	return cmd, cmd.Start()
}

// Recover finds a container again. Whether its executor still lives shows at
// once on Done. Otherwise the executor is watched until ctx ends.
func Recover(ctx context.Context, record Record) *Container {
	c := newContainer(record)
	if !c.alive() {
		close(c.done)
		return c
	}
	go func() {
		ticker := time.NewTicker(pollInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if !c.alive() {
					close(c.done)
					return
				}
			}
		}
	}()
	return c
}

func (c *Container) alive() bool {
	if c.record.PID == 0 || c.record.Boot != BootID() {
		return false
	}
	p, err := readProcess(c.record.PID)
	return err == nil && p.start == c.record.Start && !p.dead()
}

// Record gives what finds the container again.
func (c *Container) Record() Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	record := c.record
	record.Seen = slices.Collect(maps.Keys(c.seen))
	return record
}

// Changed tells, once, that the record is not what it was, because Usage has met
// other members.
func (c *Container) Changed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := c.changed
	c.changed = false
	return changed
}

// Done is closed when the executor itself has ended; its children may live on.
func (c *Container) Done() <-chan struct{} { return c.done }

// Status is the executor's wait status, once Done is closed.
func (c *Container) Status() int32 { return c.status }

// Kill ends everything in the container and returns when nothing of it lives.
func (c *Container) Kill() error {
	if c.record.Boot != BootID() {
		return nil
	}
	deadline := time.Now().Add(killTimeout)
	for pause := time.Millisecond; ; pause = min(2*pause, pollInterval) {
		members := c.members(true)
		if len(members) == 0 && c.removeCgroup() {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("container %s: %d processes outlive SIGKILL", c.record.ID, len(members))
		}
		c.killOnce(members)
		time.Sleep(pause)
	}
}

// removeCgroup fails for as long as the kernel still counts a process in it.
func (c *Container) removeCgroup() bool {
	if c.record.Cgroup == "" {
		return true
	}
	var dirs []string
	_ = filepath.WalkDir(c.record.Cgroup, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return false
		}
	}
	return true
}

func (c *Container) killOnce(members []process) {
	if c.record.Cgroup != "" {
		// cgroup.kill (Linux 5.14) takes all at once, forks in flight too.
		if os.WriteFile(filepath.Join(c.record.Cgroup, "cgroup.kill"), []byte("1"), 0) == nil {
			return
		}
	}
	// Stopped first, nobody forks while the others are being killed.
	for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGKILL} {
		for _, p := range members {
			_ = signal(p, sig) // gone is as good
		}
	}
}

// members lists the living processes of the container. A thorough look reads the
// environment of every process.
func (c *Container) members(thorough bool) []process {
	if c.record.Cgroup != "" {
		return c.grouped()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	all := processes()
	byPID := make(map[int]process, len(all))
	for _, p := range all {
		byPID[p.pid] = p
	}
	leader, led := byPID[c.record.PID]
	ours := led && leader.start == c.record.Start
	member := map[int]bool{}
	for _, p := range all {
		switch {
		case c.seen[p.identity()],
			c.record.PID != 0 && p.pid == c.record.PID && ours,
			c.record.PID != 0 && p.session == c.record.PID && (ours || !led),
			thorough && marked(p.pid, Marker+"="+c.record.ID):
			member[p.pid] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if !member[p.pid] && member[p.parent] {
				member[p.pid], grown = true, true
			}
		}
	}
	seen := map[Process]bool{}
	var living []process
	for pid := range member {
		if p := byPID[pid]; !p.dead() {
			living = append(living, p)
			seen[p.identity()] = true
		}
	}
	c.changed = c.changed || !maps.Equal(seen, c.seen)
	c.seen = seen
	return living
}

func (c *Container) grouped() []process {
	var members []process
	// Nested groups are possible where a task may write the hierarchy.
	_ = filepath.WalkDir(c.record.Cgroup, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Name() != "cgroup.procs" {
			return nil
		}
		data, _ := os.ReadFile(path)
		for _, field := range strings.Fields(string(data)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				continue
			}
			if p, err := readProcess(pid); err == nil && !p.dead() {
				members = append(members, p)
			}
		}
		return nil
	})
	return members
}

// Usage is what a container uses at one moment.
type Usage struct {
	Processes, Threads int
	Memory             int64         // bytes resident, pages that processes share counted once for each
	User, System       time.Duration // CPU time of living processes and of those they waited for
}

// Usage meters the container.
func (c *Container) Usage() Usage {
	var u Usage
	for _, p := range c.members(false) {
		u.Processes++
		u.Threads += p.threads
		u.Memory += p.rss
		u.User += time.Duration(p.user) * time.Second / clockTick
		u.System += time.Duration(p.system) * time.Second / clockTick
	}
	return u
}

// Proportional is the container's memory in bytes with shared pages counted
// once. It walks page tables, so it is asked for only when Usage looks too high.
func (c *Container) Proportional() int64 {
	var sum int64
	for _, p := range c.members(false) {
		pss, err := proportional(p.pid)
		if err != nil {
			if now, gone := readProcess(p.pid); gone != nil || now.start != p.start {
				continue
			}
			pss = p.rss
		}
		sum += pss
	}
	return sum
}
