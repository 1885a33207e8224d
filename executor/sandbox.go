package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/baas-batch/baas/tasklet/tree"
)

// sandbox is where an executor keeps its files: logs in the agent's sandbox,
// where the agent serves them, and everything else below work.
//
// Work is in the sandbox too, unless a directory above it is closed to the users
// that partitions run as; then it is a directory below /tmp.
type sandbox struct {
	root    string
	logs    string
	work    string
	bundles string
	parts   string // of the directories of partitions
	spool   string // for archives on their way; closed to tasks
	users   *users
	log     *slog.Logger
	budget  int64

	trash   chan string
	closing chan struct{}
	emptied chan struct{} // closed when nothing more is removed

	outside *privateDir // work, where it is not in the sandbox

	mu      sync.Mutex
	pool    []*dirs    // clean, and the executor's
	kept    []keptLogs // oldest first
	size    int64
	secrets *privateDir // nil until a task needs it
}

type keptLogs struct {
	dir  string
	size int64
}

func openSandbox(cfg Config, log *slog.Logger) (*sandbox, error) {
	root, err := filepath.Abs(cfg.Sandbox)
	if err != nil {
		return nil, err
	}
	s := &sandbox{
		root: root, users: newUsers(), log: log, budget: cfg.Tuning.LogBudget,
		trash: make(chan string, maxTrash), closing: make(chan struct{}), emptied: make(chan struct{}),
	}
	if err := s.openWork(); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	for _, base := range secretBases(root) { // also where this executor needs none
		removeAbandoned(base)
	}
	s.logs = filepath.Join(root, "logs")
	s.bundles, s.parts, s.spool = filepath.Join(s.work, "bundles"), filepath.Join(s.work, "partitions"), filepath.Join(s.work, "spool")
	for dir, mode := range map[string]fs.FileMode{s.logs: 0o700, s.bundles: 0o711, s.parts: 0o711, s.spool: 0o700} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return nil, fmt.Errorf("sandbox: %w", err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			return nil, fmt.Errorf("sandbox: %w", err)
		}
	}
	if !s.users.able {
		log.Warn("tasks run as the executor's own user: they are not protected from each other", "uid", os.Geteuid())
	}
	go s.empty()
	return s, nil
}

// openWork makes the directory for everything but logs.
func (s *sandbox) openWork() error {
	s.work = filepath.Join(s.root, "work")
	if !s.users.able {
		return os.MkdirAll(s.work, 0o700)
	}
	// Tasks may pass through, and see nothing.
	if err := os.Chmod(s.root, 0o711); err != nil {
		return err
	}
	if passable(s.root) {
		return errors.Join(os.MkdirAll(s.work, 0o711), os.Chmod(s.work, 0o711))
	}
	for _, base := range temporaryDirs() {
		if !passable(base) {
			continue
		}
		if dir, err := makePrivateDir(base, 0o711); err == nil {
			s.outside, s.work = dir, dir.path
			return nil
		}
	}
	return fmt.Errorf("no directory that other users can reach, neither %s nor one for temporary files", s.root)
}

// passable tells whether any user can reach what is below a directory.
func passable(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// maxTrash bounds the directories that wait for their removal.
const maxTrash = 256

// remove removes a directory soon: on a busy disk that takes longer than a small
// task, and nobody needs to wait for it.
func (s *sandbox) remove(dir string) {
	select {
	case s.trash <- dir:
	case <-s.closing: // which removes all
	}
}

func (s *sandbox) empty() {
	defer close(s.emptied)
	for {
		select {
		case dir := <-s.trash:
			if err := tree.Remove(dir); err != nil {
				s.log.Warn("directory not removed", "error", err)
			}
		case <-s.closing:
			return
		}
	}
}

// close removes everything but the logs.
func (s *sandbox) close() error {
	close(s.closing)
	<-s.emptied
	s.mu.Lock()
	defer s.mu.Unlock()
	err := tree.Remove(s.work)
	for _, dir := range []*privateDir{s.outside, s.secrets} {
		if dir != nil {
			err = errors.Join(err, dir.remove())
		}
	}
	return err
}

// keepLogs notes the logs of a task that has ended. The oldest ones go when all
// together take more than the budget.
func (s *sandbox) keepLogs(dir string) {
	size := diskUsage(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, keptLogs{dir, size})
	s.size += size
	for s.size > s.budget && len(s.kept) > 1 {
		oldest := s.kept[0]
		s.kept = s.kept[1:]
		s.size -= oldest.size
		if err := tree.Remove(oldest.dir); err != nil {
			s.log.Warn("old log not removed", "error", err)
		}
	}
}

// diskUsage gives the bytes that files below some directories take on disk. It
// reads what it can: the tree may change while it looks.
func diskUsage(paths ...string) int64 {
	var sum int64
	for _, path := range paths {
		_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			info, err := d.Info()
			if err != nil {
				return nil
			}
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += st.Blocks * 512
			}
			return nil
		})
	}
	return sum
}

// watchDisk calls over once when the files of a partition take more than limit.
// It looks seldom, and more seldom where looking takes long.
func watchDisk(stop <-chan struct{}, every time.Duration, limit int64, paths []string, over func(used int64)) {
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return
		case <-timer.C:
		}
		begun := time.Now()
		if used := diskUsage(paths...); used > limit {
			over(used)
			return
		}
		timer.Reset(max(every, 20*time.Since(begun)))
	}
}
