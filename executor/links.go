package executor

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// links make a bundle's files reachable by relative paths from a work directory: one
// for each entry at its top. They are the executor's: a task can remove them, or put
// others in their place, but not change them.
type links struct {
	bundle string // its directory; "" when there are none
	made   map[string]linkState
}

// linkState tells a link from each other, of the same name or target too.
type linkState struct {
	inode   uint64
	owner   uint32
	changed unix.Timespec
}

// link makes the links to a bundle, unless they are there.
func (d *dirs) link(bundle string) error {
	if d.links.bundle == bundle {
		return nil
	}
	entries, err := os.ReadDir(bundle)
	if err != nil {
		return err
	}
	return inDir(d.work, func(dir int) (err error) {
		made := make(map[string]linkState, len(entries))
		for _, e := range entries {
			if err := unix.Symlinkat(filepath.Join(bundle, e.Name()), dir, e.Name()); err != nil {
				return &os.LinkError{Op: "symlink", Old: bundle, New: e.Name(), Err: err}
			}
			if made[e.Name()], err = readLinkState(dir, e.Name()); err != nil {
				return err
			}
		}
		if d.linked, err = readDirState(dir); err != nil {
			return err
		}
		d.links = links{bundle, made}
		return nil
	})
}

// unlink removes the links from a directory where there is nothing else.
func (d *dirs) unlink() error {
	return inDir(d.work, func(dir int) error {
		for name := range d.links.made {
			if err := unix.Unlinkat(dir, name, 0); err != nil {
				return err
			}
		}
		d.links = links{}
		return d.clearOther(dir)
	})
}

func readLinkState(dir int, name string) (linkState, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return linkState{st.Ino, st.Uid, st.Ctim}, err
}

// intact tells whether an entry of a directory is one of the links, as it was made.
func (l links) intact(dir int, name string) bool {
	was, ok := l.made[name]
	if !ok || was.owner != uint32(os.Geteuid()) {
		return false
	}
	now, err := readLinkState(dir, name)
	if err != nil || now != was {
		return false
	}
	// Of another link only the target may differ, where tasks run as the executor's own
	// user and times are coarse.
	want := filepath.Join(l.bundle, name)
	target := make([]byte, len(want)+1)
	n, err := unix.Readlinkat(dir, name, target)
	return err == nil && string(target[:n]) == want
}
