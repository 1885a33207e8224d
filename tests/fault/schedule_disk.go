package fault

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// diskSize is how much the sandboxes of an agent may take, in bytes: enough for
// all that a World makes before the agent removes it again.
const diskSize = 2 << 30

// disks are the file systems of the agents' sandboxes: in memory, so that they can
// be full without the machine being so. Without the right to mount there are none.
type disks []string

// mountDisks gives each agent of a cluster to be started a disk. It is gone when
// the test ends.
func mountDisks(t testing.TB, dir string, agents int) (all disks) {
	t.Helper()
	for i := range agents {
		path := filepath.Join(dir, "agents", strconv.Itoa(i), "slaves")
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", path, "tmpfs", 0, diskOptions(diskSize)); err != nil {
			t.Logf("no disks that can be full: %v", err)
			return all
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		all = append(all, path)
	}
	return all
}

func diskOptions(size uint64) string { return fmt.Sprintf("mode=0755,size=%d", size) }

// fill makes a disk as large as it is filled, and some bytes more.
func (d disks) fill(i int, more uint64) error {
	for {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(d[i], &fs); err != nil {
			return err
		}
		used := (fs.Blocks - fs.Bfree) * uint64(fs.Bsize)
		err := d.resize(i, max(used+more, uint64(fs.Bsize))) // 0 would be no limit
		if err != syscall.EINVAL {
			return err
		}
		more += 64 << 10 // it has been filled further meanwhile
	}
}

func (d disks) resize(i int, size uint64) error {
	return syscall.Mount("tmpfs", d[i], "tmpfs", syscall.MS_REMOUNT, diskOptions(size))
}

// fillDisk makes the disk of one agent's sandboxes full.
func fillDisk(s *testbed, in *injection) (effect, bool) {
	i, key, ok := s.some(in, "disk", len(s.disks))
	if !ok {
		return effect{}, false
	}
	s.do(s.disks.fill(i, uint64(in.rand.IntN(32)<<10)))
	return effect{keys: key, end: func() { s.do(s.disks.resize(i, diskSize)) }}, true
}
