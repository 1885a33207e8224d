package executor

import (
	"bytes"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// markerVariable marks every process of a partition, for finding those that
// left its tree and its sessions on an agent without users to tell them by.
const markerVariable = "BAAS_PROCESS"

// table knows all processes below this one, and which execution each belongs to.
//
// This process is a subreaper: whatever double-forks or calls setsid below it
// stays its descendant, and comes back to it as a child when orphaned. So the
// tree below it is complete, and the one question is to whom an orphan belongs.
type table struct {
	tune  Tuning
	log   *slog.Logger
	spawn chan spawnRequest
	null  *os.File // what commands read

	// birth is held from the fork of a command until it is entered. Whoever meets a
	// child that is not, takes it, without mu, before he calls it an orphan.
	birth sync.Mutex

	mu       sync.Mutex
	spawner  int // the thread that forks
	running  map[*execution]struct{}
	roots    map[int]*execution // by process ID, until reaped
	seen     map[procKey]*sighting
	sessions map[int]*sighting
	round    int64         // of looking
	list     [4 << 10]byte // what children reads

	started chan struct{} // buffered: there is a child to wait for
	metered chan struct{} // buffered: there is an execution to meter
	closed  chan struct{}
	done    sync.WaitGroup
}

// sighting is a process, or a session, that was seen to belong to an execution.
type sighting struct {
	owner *execution
	ticks uint64
	round int64
}

// forgetAfter is how many rounds of looking a sighting outlives its process: an
// orphan may be missed once, while it changes its parent.
const forgetAfter = 20

func newTable(tune Tuning, log *slog.Logger) (*table, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	t := &table{
		tune: tune, null: null, log: log, spawn: make(chan spawnRequest),
		running: map[*execution]struct{}{}, roots: map[int]*execution{},
		seen: map[procKey]*sighting{}, sessions: map[int]*sighting{},
		started: make(chan struct{}, 1), metered: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	t.done.Go(t.spawnLoop)
	go t.reapLoop() // ends with the process when children that cannot be killed remain
	t.done.Go(t.meterLoop)
	return t, nil
}

func (t *table) close() {
	close(t.closed)
	t.done.Wait()
	_ = t.null.Close()
}

// siginfo is siginfo_t of a 64-bit Linux, as waitid fills it.
type siginfo struct {
	signo, errno, code, _ int32
	pid                   int32
	uid                   uint32
	status                int32
	_                     [100]byte
}

// reapLoop is the only place where children are waited for. It looks at a child
// before it reaps it: a zombie still has a session and a user.
func (t *table) reapLoop() {
	for {
		var info siginfo
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, unix.P_ALL, 0,
			uintptr(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOWAIT, 0, 0)
		switch errno {
		case 0:
			t.reap(int(info.pid), info.uid)
		case syscall.EINTR:
		default: // ECHILD: no children, so no descendants
			select {
			case <-t.started:
			case <-t.closed:
				return
			}
		}
	}
}

// haveChildren tells whether any process is left below this one.
func haveChildren() bool {
	_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, unix.P_ALL, 0, 0,
		unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, 0, 0)
	return errno != syscall.ECHILD
}

// orphans tells whether a process of an execution may be left, or its command itself.
// The topmost one would be a child of this process: of the thread that forks, or of
// the main thread, which is given orphans. With mu held none is reaped, so the
// kernel's lists only grow. Kernels without these lists do not tell.
func (t *table) orphans(e *execution) bool {
	switch t.children(e) {
	case known:
		return false
	case unknown: // just being forked, perhaps
		t.birth.Lock()
		defer t.birth.Unlock()
		return t.children(e) != known
	}
	return true
}

// What children has found: commands of other executions only; others too; or that
// there may be anything.
const (
	known = iota
	unknown
	anything
)

func (t *table) children(e *execution) (found int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, thread := range []int{unix.Getpid(), t.spawner} {
		data, err := readKernelFile("/proc/self/task/"+strconv.Itoa(thread)+"/children", t.list[:])
		if err != nil {
			return anything
		}
		for child := range bytes.FieldsSeq(data) {
			pid, err := strconv.Atoi(string(child))
			switch owner := t.roots[pid]; {
			case err != nil || owner == e:
				return anything
			case owner == nil:
				found = unknown
			}
		}
	}
	return found
}

func (t *table) reap(pid int, uid uint32) {
	t.mu.Lock()
	owner := t.roots[pid]
	if owner == nil {
		t.mu.Unlock()
		t.birth.Lock()
		defer t.birth.Unlock()
		t.mu.Lock()
		owner = t.roots[pid]
	}
	defer t.mu.Unlock()
	if owner == nil {
		if p, ok := readProc(pid); ok {
			owner = t.orphan(p, &uid)
		}
	}
	var status syscall.WaitStatus
	var usage syscall.Rusage
	if _, err := syscall.Wait4(pid, &status, 0, &usage); err != nil {
		return // a fork whose exec failed, reaped by the one who forked
	}
	if owner == nil {
		return
	}
	owner.reaped += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	owner.maxRSS = max(owner.maxRSS, usage.Maxrss<<10)
	if t.roots[pid] == owner {
		delete(t.roots, pid)
		owner.status = status
		owner.ended = time.Now()
		close(owner.exited)
	}
	owner.poke()
}

// orphan tells whose a direct child is that is no root. With mu held.
func (t *table) orphan(p proc, uid *uint32) *execution {
	if s := t.seen[p.procKey]; s != nil {
		return s.owner
	}
	for e := range t.running {
		if !e.user.own {
			continue
		}
		if uid == nil {
			u, ok := p.uid()
			if !ok {
				break
			}
			uid = &u
		}
		if e.user.uid == *uid {
			return e
		}
	}
	if s := t.sessions[p.session]; s != nil {
		return s.owner
	}
	marker, cwd := p.marker(markerVariable), p.cwd()
	for e := range t.running {
		if marker == e.marker || strings.HasPrefix(cwd, e.home+"/") {
			return e
		}
	}
	return nil
}

// look takes stock of all descendants and groups them by execution. Under nil
// are those that belong to no running execution. Unless whole, some were missed or
// ended before it was clear to whom they belong; see descendants for the passes.
func (t *table) look(passes int) (groups map[*execution][]proc, whole bool) {
	all, whole := descendants(unix.Getpid(), passes)
	t.birth.Lock()
	defer t.birth.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.round++
	groups = make(map[*execution][]proc, len(t.running))
	owners := map[int]*execution{}
	for _, p := range all {
		owner := t.roots[p.pid]
		if owner == nil {
			var known bool
			if owner, known = owners[p.ppid]; !known {
				owner = t.orphan(p, nil)
				whole = whole && (owner != nil || p.lives())
			}
		}
		owners[p.pid] = owner
		if owner != nil {
			t.note(p, owner)
		}
		if _, ok := t.running[owner]; !ok {
			owner = nil
		}
		groups[owner] = append(groups[owner], p)
	}
	t.forget()
	return groups, whole
}

func (t *table) note(p proc, owner *execution) {
	s := t.seen[p.procKey]
	if s == nil {
		s = &sighting{owner: owner}
		t.seen[p.procKey] = s
	}
	s.ticks, s.round = p.ticks, t.round
	session := t.sessions[p.session]
	if session == nil || session.owner != owner {
		session = &sighting{owner: owner}
		t.sessions[p.session] = session
	}
	session.round = t.round
}

func (t *table) forget() {
	for k, s := range t.seen {
		if s.round < t.round-forgetAfter {
			s.owner.seenTicks += s.ticks
			delete(t.seen, k)
		}
	}
	for k, s := range t.sessions {
		if s.round < t.round-forgetAfter {
			delete(t.sessions, k)
		}
	}
}

// finish closes an execution's account. Its processes must be gone.
func (t *table) finish(e *execution) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.running, e)
	for k, s := range t.seen {
		if s.owner == e {
			e.seenTicks += s.ticks
			delete(t.seen, k)
		}
	}
	for k, s := range t.sessions {
		if s.owner == e {
			delete(t.sessions, k)
		}
	}
}

// strays picks what nobody can be charged with: started when no execution ran
// that is still running.
func (t *table) strays(unowned []proc) []proc {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []proc
	for _, p := range unowned {
		suspect := false
		for e := range t.running {
			suspect = suspect || e.root.start <= p.start
		}
		if !suspect {
			found = append(found, p)
		}
	}
	return found
}
