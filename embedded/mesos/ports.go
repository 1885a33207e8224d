package mesos

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// ErrInUse tells that another cluster uses the data directory.
var ErrInUse = errors.New("the data directory is used by another cluster")

const host = "127.0.0.1"

// ports are the ports that a cluster had when it last ran: executors know their
// agent's, and frameworks the master's.
type ports struct {
	Master   int   `json:"master"`
	Standbys []int `json:"standbys,omitempty"`
	Agents   []int `json:"agents"`
}

func portsFile(dir string) string { return filepath.Join(dir, "ports.json") }

func loadPorts(dir string) (p ports, err error) {
	data, err := os.ReadFile(portsFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("%s: %w", portsFile(dir), err)
	}
	return p, nil
}

func (p ports) save(dir string) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	tmp := portsFile(dir) + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, portsFile(dir))
}

func (p ports) agent(i int) int {
	if i < len(p.Agents) {
		return p.Agents[i]
	}
	return 0
}

// listen opens the first of the wanted ports that is free, or any.
func listen(wanted ...int) (net.Listener, error) {
	for _, port := range wanted {
		if port == 0 {
			continue
		}
		if l, err := net.Listen("tcp", address(port)); err == nil {
			return l, nil
		}
	}
	return net.Listen("tcp", address(0))
}

// freeAddress is for a part that opens its listener itself: port 0 leaves the
// choice to it.
func freeAddress(wanted ...int) string {
	for _, port := range wanted {
		if port == 0 {
			continue
		}
		if l, err := net.Listen("tcp", address(port)); err == nil {
			l.Close()
			return address(port)
		}
	}
	return address(0)
}

func address(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

func portOf(addr string) int {
	_, p, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(p)
	return n
}

// unlockDir gives the data directory back, also from a copy of the lock that a
// child holds which has not yet executed its program.
func unlockDir(lock *os.File) {
	_ = syscall.Flock(int(lock.Fd()), syscall.LOCK_UN)
	lock.Close()
}

// lockDir takes the data directory for this process; the lock ends with it.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { // executors of other users pass through it
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", dir, ErrInUse)
		}
		return nil, err
	}
	return f, nil
}
