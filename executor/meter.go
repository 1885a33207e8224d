package executor

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/baas-batch/baas/tasklet"
)

// firstSample is how soon after its start a command is metered for the first time.
const firstSample = 25 * time.Millisecond

// meterLoop samples memory and CPU time of all executions while there are
// processes, ends those over their memory limit, and kills strays.
func (t *table) meterLoop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var last, next time.Time
	for {
		select {
		case <-t.closed:
			return
		case <-t.metered:
			// Where commands start all the time, each must not put off the sample.
			soon := time.Now().Add(firstSample)
			if earliest := last.Add(t.tune.MeterFast); earliest.After(soon) {
				soon = earliest
			}
			if next.IsZero() || soon.Before(next) {
				next = soon
				timer.Reset(time.Until(next))
			}
			continue
		case <-timer.C:
		}
		last, next = time.Now(), time.Time{}
		if haveChildren() {
			wait := t.meter()
			next = time.Now().Add(wait)
			timer.Reset(wait)
		}
	}
}

// meter takes one sample and gives the time until the next.
func (t *table) meter() time.Duration {
	next := t.tune.MeterSlow
	groups, _ := t.look(1)
	for e, procs := range groups {
		if e == nil {
			continue
		}
		var sum int64
		for _, p := range procs {
			sum += p.rss
		}
		if e.limit > 0 && sum > e.limit {
			// RSS counts shared pages once for each sharer: ask again, precisely.
			sum = 0
			for _, p := range procs {
				sum += p.proportional()
			}
			if sum > e.limit {
				e.end(tasklet.OutOfMemory, fmt.Sprintf("used %s of %s", megabytes(sum), megabytes(e.limit)), 0)
			}
		}
		if e.limit > 0 && sum > e.limit/2 {
			next = t.tune.MeterFast
		}
		t.mu.Lock()
		e.peak = max(e.peak, sum)
		t.mu.Unlock()
	}
	for _, p := range t.strays(groups[nil]) {
		t.log.Warn("killing a process that no task owns", "pid", p.pid)
		send(p, unix.SIGKILL)
	}
	return next
}

// send signals exactly this process: its ID may have been given to another one
// since it was seen.
func send(p proc, signal syscall.Signal) {
	fd, err := unix.PidfdOpen(p.pid, 0)
	switch err {
	case nil:
		defer unix.Close(fd)
		if now, ok := readProc(p.pid); ok && now.start == p.start {
			_ = unix.PidfdSendSignal(fd, signal, nil, 0)
		}
	case unix.ENOSYS, unix.EMFILE, unix.ENFILE, unix.EPERM:
		_ = unix.Kill(p.pid, signal)
	}
}

// ownPeak is the most memory that this process ever used, in bytes.
func ownPeak() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Maxrss << 10
}

// megabytes formats bytes as flow files count them: 1 MB is 10^6 bytes.
func megabytes(n int64) string {
	const mb = 1e6
	if n < 10*mb {
		return fmt.Sprintf("%.1f MB", float64(n)/mb)
	}
	return fmt.Sprintf("%.0f MB", float64(n)/mb)
}
