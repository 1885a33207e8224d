package harness

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Proc names one process of the machine for good: an ID may be given again.
type Proc struct {
	PID   int
	Start string // in clock ticks since the machine's start
	State string // as ps shows it, at the time of the look
}

// LookUp finds a live process; false when it is gone or only waits to be reaped.
func LookUp(pid int) (Proc, bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Proc{}, false
	}
	end := bytes.LastIndexByte(stat, ')') // the name before may hold anything
	words := strings.Fields(string(stat[end+1:]))
	if len(words) < 20 || words[0] == "Z" || words[0] == "X" {
		return Proc{}, false
	}
	return Proc{PID: pid, Start: words[19], State: words[0]}, true
}

// Alive tells whether this very process lives.
func (p Proc) Alive() bool {
	now, ok := LookUp(p.PID)
	return ok && now.Start == p.Start
}

// Kill ends this very process as kill -9 does; false when it is gone already.
func (p Proc) Kill() bool {
	return p.Alive() && syscall.Kill(p.PID, syscall.SIGKILL) == nil
}

// Name is what the process is called: the first 15 bytes of its program's name.
func (p Proc) Name() string {
	name, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/comm")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(name))
}

// EachProc visits the live processes with the environment that they were started
// with. Those that this process may not look into are passed over.
func EachProc(visit func(p Proc, getenv func(name string) string)) {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is well formed
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil || len(raw) == 0 {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		p, ok := LookUp(pid)
		if !ok {
			continue
		}
		visit(p, func(name string) string {
			for entry := range bytes.SplitSeq(raw, []byte{0}) {
				if value, ok := bytes.CutPrefix(entry, []byte(name+"=")); ok {
					return string(value)
				}
			}
			return ""
		})
	}
}
