// Package files lets people read sandboxes, as the files process of Mesos does
// (src/files/files.cpp). A path is good while it leads, links resolved, to
// something below a root; what is opened cannot be swapped for something
// outside in between.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// The errors of this package wrap one of these.
var (
	ErrNotFound = errors.New("not found")
	ErrInvalid  = errors.New("invalid")
)

// MaxRead is the most bytes that one read gives: 16 pages.
var MaxRead = int64(os.Getpagesize()) * 16

// Root is a directory or file that people may read.
type Root struct {
	Real string // where it is
	Rest string // what the request asks for below it; "" is the root itself
}

// Resolve finds the root that a request's path belongs to; false when there is
// none.
type Resolve func(path string) (Root, bool)

// Read gives the size of a file and at most length bytes from offset. A negative
// length asks for all that one read may give.
func Read(resolve Resolve, name string, offset, length int64) (size int64, data []byte, err error) {
	file, info, err := Open(resolve, name)
	if err != nil {
		return 0, nil, err
	}
	defer file.Close()
	size = info.Size()
	if offset >= size || length == 0 {
		return size, nil, nil
	}
	if length < 0 || length > MaxRead {
		length = MaxRead
	}
	data = make([]byte, min(length, size-offset))
	n, err := file.ReadAt(data, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, nil, err
	}
	return size, data[:n], nil
}

// Open opens a regular file.
func Open(resolve Resolve, name string) (*os.File, fs.FileInfo, error) {
	file, info, err := open(resolve, name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		file.Close()
		if info.IsDir() {
			return nil, nil, fmt.Errorf("%w: cannot read a directory", ErrInvalid)
		}
		return nil, nil, fmt.Errorf("%w: not a regular file", ErrInvalid)
	}
	return file, info, nil
}

func open(resolve Resolve, name string) (*os.File, fs.FileInfo, error) {
	root, ok := resolve(name)
	if !ok {
		return nil, nil, ErrNotFound
	}
	real, err := filepath.EvalSymlinks(root.Real)
	if err != nil {
		return nil, nil, ErrNotFound
	}
	if root.Rest == "" {
		return inspect(os.OpenFile(real, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0))
	}
	if !filepath.IsLocal(root.Rest) { // whatever lies there must not show in the answer
		return nil, nil, fmt.Errorf("%w: '%s' is inaccessible", ErrInvalid, name)
	}
	full, err := filepath.EvalSymlinks(filepath.Join(real, root.Rest))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, ErrNotFound
		}
		return nil, nil, fmt.Errorf("%w: '%s' cannot be resolved", ErrInvalid, name)
	}
	rest, err := filepath.Rel(real, full)
	if err != nil || !filepath.IsLocal(rest) {
		return nil, nil, fmt.Errorf("%w: '%s' is inaccessible", ErrInvalid, name)
	}
	below, err := os.OpenRoot(real)
	if err != nil {
		return nil, nil, ErrNotFound // the root is a file, or gone
	}
	defer below.Close()
	return inspect(below.OpenFile(rest, os.O_RDONLY|syscall.O_NONBLOCK, 0)) // a FIFO must not block
}

func inspect(file *os.File, err error) (*os.File, fs.FileInfo, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, ErrNotFound
	}
	if errors.Is(err, syscall.ENXIO) || errors.Is(err, syscall.ELOOP) {
		return nil, nil, fmt.Errorf("%w: not a regular file", ErrInvalid)
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// Browse lists a directory by name. Of a path that is no directory the list is
// empty.
func Browse(resolve Resolve, name string) ([]mesos.FileInfo, error) {
	dir, info, err := open(resolve, name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	list := []mesos.FileInfo{}
	if !info.IsDir() {
		return list, nil
	}
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	names := owners{}
	for _, entry := range entries {
		// A link is listed as itself: what it leads to may lie outside.
		if info, err := entry.Info(); err == nil {
			list = append(list, describe(path.Join(name, entry.Name()), info, names))
		}
	}
	sortByPath(list)
	return list, nil
}

func describe(name string, info fs.FileInfo, names owners) mesos.FileInfo {
	size, nlink, mode := uint64(info.Size()), int32(1), uint32(0)
	described := mesos.FileInfo{
		Path: name, Size_: &size, Nlink: &nlink, Mode: &mode,
		Mtime: &mesos.TimeInfo{Nanoseconds: info.ModTime().Unix() * 1e9},
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		nlink, mode = int32(stat.Nlink), stat.Mode
		uid, gid := names.user(stat.Uid), names.group(stat.Gid)
		described.UID, described.GID = &uid, &gid
	}
	return described
}

// Mode gives a mode as ls does.
func Mode(mode uint32) string {
	kind := byte('-')
	switch mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		kind = 'd'
	case syscall.S_IFCHR:
		kind = 'c'
	case syscall.S_IFBLK:
		kind = 'b'
	case syscall.S_IFIFO:
		kind = 'p'
	case syscall.S_IFLNK:
		kind = 'l'
	case syscall.S_IFSOCK:
		kind = 's'
	}
	return string(kind) + fs.FileMode(mode & 0o777).Perm().String()[1:]
}

// owners remembers names, which are costly to look up.
type owners map[string]string

func (o owners) user(id uint32) string {
	return o.name("u", id, func(s string) (string, error) {
		u, err := user.LookupId(s)
		if err != nil {
			return "", err
		}
		return u.Username, nil
	})
}

func (o owners) group(id uint32) string {
	return o.name("g", id, func(s string) (string, error) {
		g, err := user.LookupGroupId(s)
		if err != nil {
			return "", err
		}
		return g.Name, nil
	})
}

func (o owners) name(kind string, id uint32, lookup func(string) (string, error)) string {
	number := strconv.FormatUint(uint64(id), 10)
	if known, ok := o[kind+number]; ok {
		return known
	}
	name, err := lookup(number)
	if err != nil {
		name = number
	}
	o[kind+number] = name
	return name
}

// Below gives the part of name below root, in whole path elements.
func Below(root, name string) (rest string, ok bool) {
	root, name = strings.TrimRight(root, "/"), strings.TrimRight(name, "/")
	if name == root {
		return "", true
	}
	return strings.CutPrefix(name, root+"/")
}

func sortByPath(list []mesos.FileInfo) {
	slices.SortFunc(list, func(a, b mesos.FileInfo) int { return strings.Compare(a.Path, b.Path) })
}
