package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/baas-batch/baas/tasklet/tree"
)

// privateDir is a directory of this executor's outside of its sandbox. It is locked
// while the executor lives, so that the next one can tell what a dead one has left,
// also from within another PID namespace.
type privateDir struct {
	path string
	lock *os.File
}

const privatePrefix = "baas-work-"

// makePrivateDir makes one below base, and removes those of the dead.
func makePrivateDir(base string, mode fs.FileMode) (*privateDir, error) {
	removeAbandoned(base)
	for range 10 {
		path, err := os.MkdirTemp(base, privatePrefix)
		if err != nil {
			return nil, err
		}
		// Another executor may have taken it for abandoned before it was locked.
		if lock, err := lockDir(path); err == nil {
			return &privateDir{path, lock}, os.Chmod(path, mode)
		}
	}
	return nil, fmt.Errorf("%s: no directory below it can be locked", base)
}

// lockDir locks a directory of this user's that is not locked.
func lockDir(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = stillThere(f, path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// stillThere fails when a directory was removed after it was opened.
func stillThere(f *os.File, path string) error {
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Lstat(path)
	if err != nil {
		return err
	}
	st, ok := now.Sys().(*syscall.Stat_t)
	if !ok || !os.SameFile(opened, now) || st.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%s is another directory now, or somebody else's", path)
	}
	return nil
}

// removeAbandoned removes directories of executors that were killed.
func removeAbandoned(base string) {
	found, _ := filepath.Glob(filepath.Join(base, privatePrefix+"*"))
	for _, path := range found {
		if lock, err := lockDir(path); err == nil {
			_ = tree.Remove(path)
			_ = lock.Close()
		}
	}
}

func (p *privateDir) remove() error { return errors.Join(tree.Remove(p.path), p.lock.Close()) }

// memoryDir is where files are kept in memory.
const memoryDir = "/dev/shm"

// secretsDir makes a directory for the secrets of one partition. It is not in the
// sandbox, all of which agents serve over HTTP, and in memory where that is to be had.
func (s *sandbox) secretsDir() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mode := fs.FileMode(0o700)
	if s.users.able {
		mode = 0o711
	}
	if s.secrets == nil {
		for _, base := range secretBases(s.root) {
			var err error
			if s.secrets, err = makePrivateDir(base, mode); err == nil {
				break
			}
			s.log.Warn("no directory for secrets here", "dir", base, "error", err)
			s.secrets = nil
		}
	}
	if s.secrets == nil {
		return "", errors.New("there is no directory for secrets outside of the sandbox")
	}
	dir, err := os.MkdirTemp(s.secrets.path, "p-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, mode)
}

// secretBases lists where secrets may be kept, the best first.
func secretBases(sandbox string) (bases []string) {
	var in unix.Statfs_t
	candidates := temporaryDirs()
	if unix.Statfs(memoryDir, &in) == nil && in.Type == unix.TMPFS_MAGIC {
		candidates = append([]string{memoryDir}, candidates...)
	}
	for _, base := range candidates {
		if passable(base) && !strings.HasPrefix(base+"/", sandbox+"/") {
			bases = append(bases, base)
		}
	}
	return bases
}

func temporaryDirs() []string { return []string{os.TempDir(), "/var/tmp", "/tmp"} }
