// Package tree carries directories as bytes: as one compressed archive, or as a
// manifest that says where in an object each file lies. It writes nothing outside
// of the directory that it is given, and no link that leads out of it.
package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"unicode/utf8"
)

// Error says what is wrong with an archive, a manifest or a directory that
// somebody made.
type Error struct{ reason string }

func (e *Error) Error() string { return e.reason }

func bad(format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...)}
}

// What a tree may hold at most, whoever writes or reads it.
const (
	MaxEntries = 100_000
	MaxBytes   = 5 << 40 // the most that S3 takes as one object
)

// Bounds of a tree: the bytes of its files, and its entries of all kinds.
type Bounds struct {
	Bytes   int64
	Entries int
}

func (b Bounds) check(bytes int64, entries int) error {
	if entries > b.Entries || bytes > b.Bytes {
		return bad("more than %d files or %s", b.Entries, megabytes(b.Bytes))
	}
	return nil
}

// megabytes formats bytes as flow files count them: 1 MB is 10^6 bytes.
func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// Open opens a regular file that somebody else may still change, and gives what
// it is now.
type Open func(root *os.Root, name string) (*os.File, fs.FileInfo, error)

// Owner is who files and directories are given to; nil leaves them as they are.
type Owner struct{ UID, GID int }

func (o *Owner) give(chown func(uid, gid int) error) error {
	if o == nil {
		return nil
	}
	return chown(o.UID, o.GID)
}

func (o *Owner) lgive(root *os.Root, name string) error {
	return o.give(func(uid, gid int) error { return root.Lchown(name, uid, gid) })
}

// maxName of an entry's path, in bytes, so that it can be reached below any directory.
const maxName = 2048

// checkName refuses what io/fs cannot walk, and what is too long to reach.
func checkName(name string) error {
	switch {
	case len(name) > maxName:
		return bad("archive entry has a name of %d bytes", len(name))
	case !utf8.ValidString(name):
		return bad("archive entry %q has a name that is not UTF-8", name)
	}
	return nil
}

// leadsOut tells whether a symbolic link's text leads out of the tree.
func leadsOut(name, target string) bool {
	return path.IsAbs(target) || !filepath.IsLocal(path.Join(path.Dir(name), target))
}

// stays tells whether a link leads to something in the tree, or to nothing.
func stays(root *os.Root, name string) bool {
	_, err := root.Stat(name)
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

// Sink remembers that it could not write, which io.Copy does not tell from a
// failure to read.
type Sink struct {
	W   io.Writer
	Err error
}

func (s *Sink) Write(p []byte) (n int, err error) {
	n, s.Err = s.W.Write(p)
	return n, s.Err
}

// DiskFull tells whether the file system, and not what is written to it, is the
// trouble.
func DiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EROFS)
}
