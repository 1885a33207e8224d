// Package footprint keeps a process small that needs little of what the program can.
package footprint

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// gcPercent trades some CPU time for memory; transfers make little garbage.
const gcPercent = 20

// Shrink is for processes that move data and do nothing else. It collects garbage
// early, and unmaps the program's code, much of which the start of its packages has
// touched: what is used again comes back from the page cache.
func Shrink() error {
	debug.SetGCPercent(gcPercent)
	program, err := os.Executable()
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/maps") // see proc_pid_maps(5)
	if err != nil {
		return err
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to uintptr
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil {
			return fmt.Errorf("%s: %w", maps.Name(), err)
		}
		// Other pages may hold more than the file does, also those that cannot be
		// written to any more: relocations.
		if !strings.HasSuffix(lines.Text(), " "+program) || mode != "r-xp" {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("madvise: %w", errno)
		}
	}
	return lines.Err()
}
