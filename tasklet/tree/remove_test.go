package tree

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A tree that is deeper than the process may open files is removed, and what its
// links lead to stays as it is. Not parallel: the limit is the process's.
func TestRemove(t *testing.T) {
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	top := filepath.Join(base, "top")
	for _, dir := range []string{outside, top} {
		if err := os.Mkdir(dir, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "file"), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	dir, err := os.OpenRoot(top)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		next := step(t, dir)
		dir.Close()
		dir = next
	}
	if err := dir.Symlink(outside, "link"); err != nil {
		t.Fatal(err)
	}
	dir.Close()
	closed := filepath.Join(top, "closed")
	if err := os.MkdirAll(filepath.Join(closed, "below"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(top, "link")); err != nil {
		t.Fatal(err)
	}

	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	few := was
	few.Cur = min(was.Cur, 100)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	err = Remove(top)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(top); err == nil {
		t.Error("the tree is still there")
	}
	for name, mode := range map[string]fs.FileMode{"": 0o750, "file": 0o640} {
		if info, err := os.Stat(filepath.Join(outside, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("what the links led to: %v, %v", info, err)
		}
	}
	if err := Remove(top); err != nil {
		t.Errorf("of what is not there: %v", err)
	}
	link := filepath.Join(base, "link")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	if err := Remove(link); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(outside, "file")); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
}

func step(t *testing.T, dir *os.Root) *os.Root {
	t.Helper()
	if err := dir.Mkdir("d", 0o750); err != nil {
		t.Fatal(err)
	}
	next, err := dir.OpenRoot("d")
	if err != nil {
		t.Fatal(err)
	}
	return next
}
