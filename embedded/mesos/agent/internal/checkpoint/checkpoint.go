// Package checkpoint keeps on disk what an agent must know after it was killed:
// its own identity, frameworks, executors, their containers, and per executor a
// log of tasks, status updates and acknowledgements.
//
// Files are replaced by rename and logs are appended to, without fsync: like
// Mesos, it guards against the death of the agent, not of the machine, which no
// executor would survive either. Damaged files are skipped when read.
package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/agent/internal/container"
)

// ErrLocked tells that another agent uses the directory.
var ErrLocked = errors.New("work directory is in use by another agent")

// MaxName is the length in bytes of the longest ID that can be a file's name.
const MaxName = 255

// ValidName tells whether an ID can be part of a path (Mesos,
// src/common/validation.cpp: validateID).
func ValidName(id string) error {
	switch {
	case id == "":
		return errors.New("ID must not be empty")
	case len(id) > MaxName:
		return fmt.Errorf("ID must not be longer than %d characters", MaxName)
	case id == "." || id == "..":
		return fmt.Errorf("ID %q is disallowed", id)
	case strings.ContainsFunc(id, func(r rune) bool { return r == '/' || r == '\\' || r < ' ' || r == 0x7f }):
		return fmt.Errorf("ID %q contains disallowed characters", id)
	}
	return nil
}

// Store is the meta directory of one agent's work directory.
type Store struct {
	dir  string
	lock *os.File
}

// Open makes the directory and locks it until Close.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", dir, ErrLocked)
		}
		return nil, fmt.Errorf("%s: lock: %w", dir, err)
	}
	return &Store{dir: dir, lock: lock}, nil
}

// Close releases the lock, also from a copy that a child holds which this process
// has forked and that has not yet executed its program.
func (s *Store) Close() error {
	return errors.Join(unix.Flock(int(s.lock.Fd()), unix.LOCK_UN), s.lock.Close())
}

type message interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("checkpoint %s: %w", path, err)
	}
	return nil
}

func writeMessage(path string, m message) error {
	data, err := m.Marshal()
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w", path, err)
	}
	return writeFile(path, data)
}

func readMessage(path string, m message) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := m.Unmarshal(data); err != nil {
		return fmt.Errorf("checkpoint %s: %w", path, err)
	}
	return nil
}

func (s *Store) agents() string             { return filepath.Join(s.dir, "slaves") }
func (s *Store) latest() string             { return filepath.Join(s.agents(), "latest") }
func (s *Store) containers() string         { return filepath.Join(s.dir, "containers") }
func (s *Store) framework(fw string) string { return filepath.Join(s.latest(), "frameworks", fw) }
func (s *Store) executor(fw, ex string) string {
	return filepath.Join(s.framework(fw), "executors", ex)
}

// SaveAgent keeps the agent's information, which has its ID, and makes it the
// one that all the rest belongs to.
func (s *Store) SaveAgent(info mesos.AgentInfo) error {
	id := info.GetID().GetValue()
	if err := ValidName(id); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if err := writeMessage(filepath.Join(s.agents(), id, "slave.info"), &info); err != nil {
		return err
	}
	link := s.latest() + ".new"
	_ = os.Remove(link)
	if err := os.Symlink(id, link); err != nil {
		return err
	}
	return os.Rename(link, s.latest())
}

// Agent gives what SaveAgent kept, nil if there is nothing.
func (s *Store) Agent() (*mesos.AgentInfo, error) {
	var info mesos.AgentInfo
	err := readMessage(filepath.Join(s.latest(), "slave.info"), &info)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return &info, err
}

// ForgetAgent drops the agent's ID and all that belonged to it but containers.
func (s *Store) ForgetAgent() error { return os.RemoveAll(s.agents()) }

// SaveFramework keeps a framework's information.
func (s *Store) SaveFramework(info mesos.FrameworkInfo) error {
	return writeMessage(filepath.Join(s.framework(info.GetID().GetValue()), "framework.info"), &info)
}

// RemoveFramework drops a framework and its executors.
func (s *Store) RemoveFramework(id mesos.FrameworkID) error {
	return os.RemoveAll(s.framework(id.Value))
}

// SaveExecutor keeps the information of a new run of an executor and opens its log.
func (s *Store) SaveExecutor(framework mesos.FrameworkID, info mesos.ExecutorInfo, containerID string) (*Log, error) {
	dir := s.executor(framework.Value, info.ExecutorID.Value)
	if err := writeMessage(filepath.Join(dir, "executor.info"), &info); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(dir, "run"), []byte(containerID)); err != nil {
		return nil, err
	}
	return openLog(filepath.Join(dir, "tasks.log"))
}

// RemoveExecutor drops an executor's run.
func (s *Store) RemoveExecutor(framework mesos.FrameworkID, executor mesos.ExecutorID) error {
	return os.RemoveAll(s.executor(framework.Value, executor.Value))
}

// SaveContainer keeps how to find a container again.
func (s *Store) SaveContainer(record container.Record) error {
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(s.containers(), record.ID+".json"), data)
}

// RemoveContainer drops a container's record.
func (s *Store) RemoveContainer(id string) error {
	err := os.Remove(filepath.Join(s.containers(), id+".json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Containers gives all records by container ID.
func (s *Store) Containers() (map[string]container.Record, error) {
	records := map[string]container.Record{}
	paths, err := filepath.Glob(filepath.Join(s.containers(), "*.json"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var record container.Record
		if err := json.Unmarshal(data, &record); err != nil || record.ID == "" {
			continue
		}
		records[record.ID] = record
	}
	return records, nil
}
