package executor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dirs are the directories of one partition. The base belongs to the executor,
// so that a task cannot put something else in place of one of them.
type dirs struct {
	app                                                 string
	base, work, inputs, outputs, checkpoint, tmp, state string

	fresh  dirState // what each was like when it was made
	links  links
	linked dirState // work with its links
}

// all are those that belong to the partition's user.
func (d *dirs) all() []string {
	return []string{d.work, d.inputs, d.outputs, d.checkpoint, d.tmp, d.state}
}

// partition makes the directories of a partition of an app. They are the executor's
// until all that the partition needs is in them; see give.
func (s *sandbox) partition(app string) (d dirs, err error) {
	base, err := os.MkdirTemp(s.parts, "p-")
	if err != nil {
		return d, err
	}
	below := func(name string) string { return filepath.Join(base, name) }
	d = dirs{
		app: app, base: base, work: below("work"), inputs: below("inputs"), outputs: below("outputs"),
		checkpoint: below("checkpoint"), tmp: below("tmp"), state: below("state"),
	}
	if err := os.Chmod(base, 0o711); err != nil {
		return d, err
	}
	for _, path := range d.all() {
		if err := os.Mkdir(path, 0o700); err != nil {
			return d, err
		}
	}
	err = inDir(d.work, func(dir int) (err error) {
		d.fresh, err = readDirState(dir)
		return err
	})
	return d, err
}

// give makes the directories another user's. From then on that user may put something
// else in place of each name below them: nothing is written there by name any more.
func (d *dirs) give(u user) error {
	for _, path := range d.all() {
		if err := u.give(path); err != nil {
			return err
		}
	}
	return nil
}

// maxLeft is how many files are removed from a directory so that it can be used
// again; where there are more, or directories, it is cheaper to make a new one.
const maxLeft = 16

var errNotFresh = errors.New("directory is not as it was made")

// clear makes the directories of a user as they were, but for the links, once all
// processes of the partition are gone. On some file systems making and removing them
// takes longer than the command. When it fails, they must not be used again.
func (d *dirs) clear(u user) error {
	// Nobody else's process of that user, which may have a name, writes into them now.
	own := user{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), switched: u.switched}
	if err := d.give(own); err != nil {
		return err
	}
	if err := inDir(d.work, d.clearWork); err != nil {
		return err
	}
	for _, path := range d.all()[1:] {
		if err := inDir(path, d.clearOther); err != nil {
			return err
		}
	}
	return nil
}

func (d *dirs) clearWork(dir int) error {
	if d.links.bundle == "" {
		return d.clearOther(dir)
	}
	err := clearOne(dir, d.links, d.linked)
	if errors.Is(err, errNotFresh) { // a link, perhaps
		d.links = links{}
		err = d.clearOther(dir)
	}
	return err
}

func (d *dirs) clearOther(dir int) error { return clearOne(dir, links{}, d.fresh) }

// clearOne removes all from a directory but the links. These must all be there, and
// the directory be as it was.
func clearOne(dir int, keep links, was dirState) error {
	for range 2 { // the second look is to find nothing to remove
		names, err := entries(dir, maxLeft+len(keep.made)+1)
		if err != nil {
			return err
		}
		found := len(names)
		names = slices.DeleteFunc(names, func(name string) bool { return keep.intact(dir, name) })
		if len(names) == 0 && found == len(keep.made) {
			now, err := readDirState(dir)
			if err == nil && now != was {
				err = errNotFresh
			}
			return err
		}
		if len(names) > maxLeft {
			return errNotFresh
		}
		for _, name := range names {
			if err := unix.Unlinkat(dir, name, 0); err != nil {
				return err
			}
		}
	}
	return errNotFresh
}

// entries reads a directory to its end, or until there are as many as most. The kernel
// may give fewer at a time than there are.
func entries(dir, most int) (names []string, err error) {
	if _, err := unix.Seek(dir, 0, unix.SEEK_SET); err != nil {
		return nil, err
	}
	var buf [4 << 10]byte
	for len(names) < most {
		n, err := unix.ReadDirent(dir, buf[:])
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], most-len(names), names)
	}
	return names, nil
}

func inDir(path string, f func(dir int) error) error {
	dir, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(dir)
	return f(dir)
}

// dirState is all that the owner of an empty directory may change about it, so that
// nothing of one partition is left for the next: access lists are attributes too.
type dirState struct {
	mode       uint32
	size       int64
	blocks     int64
	attributes string // names of extended attributes
	flags      inodeFlags
	more       uint64 // flags that are not among these
}

// Of linux/fs.h: FS_IOC_FSGETXATTR, whose struct fsxattr is inodeFlags, and
// FS_IOC_GETFLAGS. Each knows flags that the other does not.
const (
	getInodeFlags = 0x801c581f
	getMoreFlags  = 0x80086601
)

type inodeFlags struct {
	flags, extent, _, project, copyExtent uint32
	_                                     [8]byte
}

func readDirState(dir int) (dirState, error) {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return dirState{}, err
	}
	s := dirState{mode: st.Mode, size: st.Size, blocks: st.Blocks}
	var names [1 << 10]byte
	n, err := unix.Flistxattr(dir, names[:])
	if err != nil && err != unix.ENOTSUP {
		return s, err
	}
	s.attributes = string(names[:max(n, 0)])
	// Not all file systems have these.
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(dir), getInodeFlags, uintptr(unsafe.Pointer(&s.flags))); errno != 0 {
		s.flags = inodeFlags{}
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(dir), getMoreFlags, uintptr(unsafe.Pointer(&s.more))); errno != 0 {
		s.more = 0
	}
	return s, nil
}
