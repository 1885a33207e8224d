package executor

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// clockTick is the unit of CPU time in /proc: USER_HZ, 100 on every Linux.
const clockTick = 100

// procKey names a process for good: process IDs come again, with another start.
type procKey struct {
	pid   int
	start uint64 // clock ticks since boot
}

// proc is one line of /proc/<pid>/stat.
type proc struct {
	procKey
	ppid    int
	session int
	zombie  bool
	ticks   uint64 // own CPU time, user and system
	rss     int64  // bytes
}

// readProc gives false for a process that is gone.
func readProc(pid int) (proc, bool) {
	var buf [1 << 10]byte // a line has less than half of that
	data, err := readKernelFile("/proc/"+strconv.Itoa(pid)+"/stat", buf[:])
	if err != nil {
		return proc{}, false
	}
	return parseStat(pid, data)
}

// readKernelFile reads a small file of procfs whole, without what os does for files
// that may block. It fails when the buffer is too small.
func readKernelFile(path string, buf []byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for have := 0; have < len(buf); {
		n, err := unix.Read(fd, buf[have:])
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return buf[:have], nil
		}
		have += n
	}
	return nil, unix.ENOBUFS
}

// lives tells whether a process has not ended since it was read.
func (p proc) lives() bool {
	now, ok := readProc(p.pid)
	return ok && now.start == p.start && !now.zombie
}

var pageSize = int64(os.Getpagesize())

func parseStat(pid int, data []byte) (proc, bool) {
	// The command name is in parentheses and may hold anything, ")" too.
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return proc{}, false
	}
	var num [25]int64 // by the numbers of proc(5)
	var state string
	field := 2
	for f := range bytes.FieldsSeq(data[end+1:]) {
		if field++; field == len(num) {
			break
		}
		if field == 3 {
			state = string(f)
		} else {
			num[field], _ = strconv.ParseInt(string(f), 10, 64)
		}
	}
	if field < len(num)-1 {
		return proc{}, false
	}
	return proc{
		procKey: procKey{pid, uint64(num[22])},
		ppid:    int(num[4]),
		session: int(num[6]),
		zombie:  state == "Z" || state == "X",
		ticks:   uint64(num[14] + num[15]),
		rss:     num[24] * pageSize,
	}, true
}

// maxPasses is how often descendants goes on while processes end under its eyes.
const maxPasses = 4

// descendants lists all descendants of a process, each after its parent. A process
// that has ended meanwhile may have left a child that was missed: further passes look
// only at what is new, so others' processes that come and go cost little. Unless
// whole, they have not sufficed.
func descendants(root, passes int) (found []proc, whole bool) {
	all := map[int]proc{}
	for range passes {
		if whole = survey(all, root); whole {
			break
		}
	}
	children := make(map[int][]proc, len(all))
	for _, p := range all {
		children[p.ppid] = append(children[p.ppid], p)
	}
	found = children[root]
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i].pid]...)
	}
	return found, whole
}

// survey adds the processes that are not in all yet, and leaves out those whose
// parent has ended: they have another one. It tells whether there were none that
// ended.
func survey(all map[int]proc, root int) (whole bool) {
	dir, err := os.Open("/proc")
	if err != nil {
		return true
	}
	names, _ := dir.Readdirnames(-1) // ascending, as process IDs are given
	_ = dir.Close()
	whole = true
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if _, known := all[pid]; known {
			continue
		}
		p, ok := readProc(pid)
		if !ok {
			whole = false
			continue
		}
		all[pid] = p
	}
	for pid, p := range all {
		if _, known := all[p.ppid]; !known && p.ppid != 0 && p.ppid != root && pid != root {
			delete(all, pid)
			whole = false
		}
	}
	return whole
}

// proportional gives the memory of a process as it is now, with shared pages split
// among those who share them, or its RSS where the kernel does not tell; 0 once it is
// gone. What was seen before may be that of the process which has just forked it.
func (p proc) proportional() int64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/smaps_rollup")
	now, ok := readProc(p.pid)
	if !ok || now.start != p.start {
		return 0
	}
	p.rss = now.rss
	if err != nil {
		return p.rss
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return p.rss
			}
			return kb << 10
		}
	}
	return p.rss
}

// uid gives the real user ID of a process.
func (p proc) uid() (uint32, bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/status")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				n, err := strconv.ParseUint(f[0], 10, 32)
				return uint32(n), err == nil
			}
		}
	}
	return 0, false
}

// cwd gives the working directory of a process, or "".
func (p proc) cwd() string {
	dir, _ := os.Readlink("/proc/" + strconv.Itoa(p.pid) + "/cwd")
	return dir
}

// marker gives the value of a variable in the environment that a process was
// started with.
func (p proc) marker(name string) string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/environ")
	if err != nil {
		return ""
	}
	for v := range bytes.SplitSeq(data, []byte{0}) {
		if rest, ok := bytes.CutPrefix(v, []byte(name+"=")); ok {
			return string(rest)
		}
	}
	return ""
}
