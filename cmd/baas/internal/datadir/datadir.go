// Package datadir owns the data directory of a platform on one machine: what lies
// where, who holds it, and how other processes find the platform that does.
package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// Names in a data directory; package platform owns the rest of it.
const (
	Store = "store"

	stateFile = "up.json"
	lockFile  = "up.lock"
)

// ErrLocked tells that another platform uses the data directory.
var ErrLocked = errors.New("the data directory is in use")

// Default is where a platform of this user keeps its data: the user's data
// folder as the XDG base directory specification or the system has it.
func Default(getenv func(string) string) (string, error) {
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "baas"), nil
	}
	home := getenv("HOME")
	if home == "" {
		return "", errors.New("no data directory: HOME is not set; name one with --data or BAAS_DATA")
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support", "baas"), nil
	}
	return filepath.Join(home, ".local", "share", "baas"), nil
}

// State tells others where a platform's parts are.
type State struct {
	PID       int       `json:"pid"`
	Version   string    `json:"version"`
	Started   time.Time `json:"started"`
	Temporal  string    `json:"temporal"` // host:port
	Namespace string    `json:"namespace"`
	UI        string    `json:"ui"`      // URL
	Mesos     string    `json:"mesos"`   // URL of the master
	Storage   string    `json:"storage"` // URL, with the gateway
	Gateway   string    `json:"gateway"` // URL; "" where the store is no directory
	Framework string    `json:"framework"`
}

// Up gives the platform that is up on a data directory: fs.ErrNotExist
// when none is.
func Up(dataDir string) (State, error) {
	if up, err := isLocked(dataDir); err != nil || !up {
		return State{}, errors.Join(err, fs.ErrNotExist)
	}
	return Last(dataDir)
}

// Last gives the state of the last platform, up or not.
func Last(dataDir string) (s State, err error) {
	data, err := os.ReadFile(filepath.Join(dataDir, stateFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("%s: %w", filepath.Join(dataDir, stateFile), err)
	}
	return s, nil
}

// Write tells others where the platform is: all or nothing.
func (s State) Write(dataDir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dataDir, stateFile+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(data, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dataDir, stateFile))
}

// Lock takes the data directory for this process until the file is closed. The
// kernel lets it go when the process ends, however it ends.
func Lock(dataDir string) (*os.File, error) {
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dataDir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, syscall.LOCK_EX); err != nil {
		f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", dataDir, err)
		}
		if s, err := Last(dataDir); err == nil {
			return nil, fmt.Errorf("%s: %w by process %d, up since %s", dataDir, ErrLocked, s.PID, s.Started.Local().Format(time.RFC3339))
		}
		return nil, fmt.Errorf("%s: %w by another process, which is starting", dataDir, ErrLocked)
	}
	return f, nil
}

func isLocked(dataDir string) (bool, error) {
	f, err := os.Open(filepath.Join(dataDir, lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = flock(f, syscall.LOCK_SH)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
