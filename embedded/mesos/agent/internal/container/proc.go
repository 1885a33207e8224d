package container

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// clockTick is USER_HZ, in which /proc counts CPU and start times. It is 100 on
// every architecture that Linux offers to user space.
const clockTick = 100

// process is what /proc/<pid>/stat tells.
type process struct {
	pid, parent, session int
	state                byte
	start                uint64 // ticks since boot; with the PID it names a process for good
	user, system         uint64 // ticks, with those of children that were waited for
	threads              int
	rss                  int64 // bytes
}

// Process names a process across the reuse of its PID.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // ticks since boot
}

func (p process) identity() Process { return Process{p.pid, p.start} }

// dead tells whether the process has ended and only waits for its parent.
func (p process) dead() bool { return p.state == 'Z' || p.state == 'X' }

func readProcess(pid int) (process, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	return parseStat(pid, data)
}

// parseStat reads the line that proc(5) describes. The name may hold anything,
// blanks and parentheses too, so fields are counted from the last ')'.
func parseStat(pid int, data []byte) (process, error) {
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return process{}, fmt.Errorf("process %d: malformed stat", pid)
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 22 {
		return process{}, fmt.Errorf("process %d: stat has %d fields", pid, len(fields))
	}
	number := func(field int) uint64 { // numbered as in proc(5); state is 3
		n, _ := strconv.ParseUint(fields[field-3], 10, 64)
		return n
	}
	return process{
		pid:     pid,
		state:   fields[0][0],
		parent:  int(number(4)),
		session: int(number(6)),
		user:    number(14) + number(16),
		system:  number(15) + number(17),
		threads: int(number(20)),
		start:   number(22),
		rss:     int64(number(24)) * int64(os.Getpagesize()),
	}, nil
}

// processes lists all processes that can be read.
func processes() []process {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	all := make([]process, 0, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, err := readProcess(pid); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// marked tells whether the process was started with the variable in its environment.
func marked(pid int, variable string) bool {
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false
	}
	for _, entry := range bytes.Split(environ, []byte{0}) {
		if string(entry) == variable {
			return true
		}
	}
	return false
}

// proportional is the proportional set size in bytes: shared pages are divided
// by the number of processes that share them.
func proportional(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("smaps_rollup has no Pss")
}

// signal reaches exactly the process that was seen, never one that has its PID
// by now.
func signal(p process, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err == nil {
		defer unix.Close(fd)
	}
	now, gone := readProcess(p.pid)
	if gone != nil || now.start != p.start {
		return unix.ESRCH
	}
	if err != nil { // before Linux 5.3, or forbidden: a race remains
		return unix.Kill(p.pid, sig)
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// BootID changes with every boot of the machine.
func BootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// cgroupRoot finds the directory of this process's own group in the version 2
// hierarchy, pure or beside version 1; "" when there is none.
func cgroupRoot() string {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(own)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for mount := range strings.Lines(string(mounts)) {
			fields := strings.Fields(mount)
			for i, field := range fields {
				if field == "-" && i+1 < len(fields) && fields[i+1] == "cgroup2" {
					return filepath.Join(fields[4], path)
				}
			}
		}
	}
	return ""
}
