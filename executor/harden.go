package executor

import (
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// Harden closes this process to the tasks that it will run: they inherit no open
// file of the agent's, and cannot read its memory, environment or open files in
// /proc even as the same user. To be called once, before New.
func Harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("close memory to others: %w", err)
	}
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		closeOnExec()
	}
	unix.Umask(0o022)
	return nil
}

// closeOnExec is for kernels without close_range (before 5.11).
func closeOnExec() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}
