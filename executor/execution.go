package executor

import (
	"crypto/rand"
	"encoding/hex"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/baas-batch/baas/tasklet"
)

// execution is one run of a command with all the processes that it makes.
type execution struct {
	table  *table
	user   user
	marker string
	home   string // the directory of all that is the partition's
	root   proc
	began  time.Time
	limit  int64 // bytes of memory; 0: none

	exited chan struct{} // closed when the command itself was reaped
	pokes  chan struct{} // buffered: something changed

	// Kept by the table, under its lock.
	status    syscall.WaitStatus
	ended     time.Time
	reaped    time.Duration // CPU time of reaped processes and their waited-for children
	seenTicks uint64        // CPU time last seen of processes that are gone
	maxRSS    int64         // bytes, the largest single process
	peak      int64         // bytes, the largest sum over the tree

	mu       sync.Mutex
	outcome  tasklet.Outcome // why it is being ended; "" when it is not
	reason   string
	deadline time.Time // for SIGKILL
	signal   bool      // SIGTERM is to be sent
	over     bool      // the command has ended by itself: nothing counts any more
}

func newExecution(t *table, u user) *execution {
	m := make([]byte, 12)
	_, _ = rand.Read(m)
	return &execution{
		table: t, user: u, marker: hex.EncodeToString(m),
		exited: make(chan struct{}), pokes: make(chan struct{}, 1),
	}
}

func (e *execution) poke() {
	select {
	case e.pokes <- struct{}{}:
	default:
	}
}

// end asks for the end of all processes: SIGTERM, and SIGKILL after grace. The
// first cause counts; a later call may only shorten the time.
func (e *execution) end(outcome tasklet.Outcome, reason string, grace time.Duration) {
	e.mu.Lock()
	if e.over {
		e.mu.Unlock()
		return
	}
	if e.outcome == "" {
		e.outcome, e.reason = outcome, reason
		e.signal = grace > 0
	}
	if deadline := time.Now().Add(grace); e.deadline.IsZero() || deadline.Before(e.deadline) {
		e.deadline = deadline
	}
	e.mu.Unlock()
	e.poke()
}

// ending tells why the execution was ended, if it did not end by itself.
func (e *execution) ending() (outcome tasklet.Outcome, reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.outcome, e.reason
}

// standing is where the end has got to. A command that has exited with nobody
// asking it to is over: a time limit that strikes a moment later is too late.
func (e *execution) standing(exited bool) (outcome tasklet.Outcome, deadline time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = e.over || exited && e.outcome == ""
	return e.outcome, e.deadline
}

// wait returns when the command and everything that it left behind is gone. A
// command that ends by itself takes its leftovers with it at once; one that is
// asked to end leaves them what remains of the grace period.
func (e *execution) wait() {
	defer func() {
		<-e.exited
		e.table.finish(e)
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		exited := false
		select {
		case <-e.exited:
			exited = true
		default:
		}
		outcome, deadline := e.standing(exited)
		switch {
		case outcome == "" && exited:
			e.killAll()
			return
		case outcome == "":
			select {
			case <-e.exited:
			case <-e.pokes:
			}
			continue
		case !time.Now().Before(deadline):
			e.killAll()
			return
		}
		e.terminate()
		if exited && len(e.processes()) == 0 {
			return
		}
		timer.Reset(min(time.Until(deadline), 200*time.Millisecond))
		select {
		case <-timer.C:
		case <-e.pokes:
		}
	}
}

// terminate sends SIGTERM to every process, once.
func (e *execution) terminate() {
	e.mu.Lock()
	signal := e.signal
	e.signal = false
	e.mu.Unlock()
	if !signal {
		return
	}
	for _, p := range e.processes() {
		send(p, unix.SIGTERM)
		send(p, unix.SIGCONT) // a stopped process takes no signal
	}
}

// killAll kills until nothing is left.
func (e *execution) killAll() {
	begun := time.Now()
	warned := false
	for {
		scan := time.Now()
		found := e.processes()
		took := time.Since(scan)
		if len(found) == 0 {
			return
		}
		found = e.freeze(found)
		for _, p := range found {
			send(p, unix.SIGKILL)
		}
		if !warned && len(found) > 0 && time.Since(begun) > 10*time.Second {
			warned = true
			e.table.log.Warn("processes do not die", "count", len(found), "first", found[0].pid)
		}
		e.awaitReaping(max(5*time.Millisecond, 4*took))
	}
}

// freezePasses is how often freeze looks before it takes the other way.
const freezePasses = 3

// freeze stops what it is given, and looks again until it finds nothing new: what
// is stopped cannot fork. What forks faster than that is killed by its user, all
// at once, which only the kernel can do.
func (e *execution) freeze(found []proc) []proc {
	frozen := map[procKey]bool{}
	for pass := 0; pass < freezePasses || !e.user.own; pass++ {
		fresh := false
		for _, p := range found {
			if !frozen[p.procKey] {
				frozen[p.procKey], fresh = true, true
				send(p, unix.SIGSTOP)
			}
		}
		if !fresh {
			return found
		}
		found = e.processes()
	}
	e.table.killUser(e.user)
	return found
}

// awaitReaping returns when nothing is left, or after d.
func (e *execution) awaitReaping(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for haveChildren() {
		select {
		case <-e.pokes:
		case <-timer.C:
			return
		}
	}
}

// maxLooks is how often processes looks for what it may have missed.
const maxLooks = 5

// processes lists what is left of the tree, zombies of others included. That nothing
// is left is believed of a look that was whole: on a loaded machine, processes that
// fork and end can slip through another one.
func (e *execution) processes() []proc {
	for range maxLooks {
		// Most often there is nothing to look for.
		if !haveChildren() || !e.table.orphans(e) {
			return nil
		}
		groups, whole := e.table.look(maxPasses)
		if found := groups[e]; len(found) > 0 || whole {
			return found
		}
	}
	return nil
}

// usage gives what the tree used, as far as it was seen.
func (e *execution) usage() tasklet.Usage {
	e.table.mu.Lock()
	defer e.table.mu.Unlock()
	cpu := max(e.reaped, time.Duration(e.seenTicks)*time.Second/clockTick)
	peak := e.peak
	// At exec the kernel carries the parent's peak over into ru_maxrss: only
	// more than our own says anything.
	if e.maxRSS > ownPeak() {
		peak = max(peak, e.maxRSS)
	}
	return tasklet.Usage{
		CPUSeconds: cpu.Seconds(),
		PeakMemory: peak,
		WallTime:   e.ended.Sub(e.began).Seconds(),
	}
}
