package executor

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
)

// archiveError says what is wrong with an archive that somebody made.
type archiveError struct{ reason string }

func (e *archiveError) Error() string { return e.reason }

func badArchive(format string, args ...any) error {
	return &archiveError{fmt.Sprintf(format, args...)}
}

// unpacking is where and how an archive is unpacked.
type unpacking struct {
	dir        string // exists and is empty
	readOnly   bool
	user       user
	maxBytes   int64
	maxEntries int // directories that no entry names are counted too
}

// Bounds of one entry, in bytes.
const (
	maxEntryName = 2048    // of its path, so that it can be reached below any directory
	maxOverhead  = 8 << 10 // of its headers and padding, on average
)

// unpack reads a tar archive, plain or compressed with gzip or zstd. Nothing is
// written outside of the directory, and no link leads out of it. The error is an
// *archiveError when the archive is to blame.
func unpack(r io.Reader, u unpacking) error {
	plain, closer, err := decompress(r)
	if err != nil {
		return err
	}
	defer closer()
	root, err := os.OpenRoot(u.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	x := &extraction{unpacking: u, root: root, made: map[string]bool{}, dirs: map[string]fs.FileMode{}}
	all := &io.LimitedReader{R: plain, N: u.maxBytes + int64(u.maxEntries)*maxOverhead}
	archive := tar.NewReader(all)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil && all.N <= 0 {
			return badArchive("archive has more than %s", megabytes(u.maxBytes))
		}
		if err != nil {
			return badArchive("archive cannot be read: %v", err)
		}
		if err := x.entry(h, archive); err != nil {
			return err
		}
	}
	return x.finish()
}

// decompress tells the format by its magic number.
func decompress(r io.Reader) (io.Reader, func(), error) {
	b := bufio.NewReader(r)
	magic, _ := b.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, nil, badArchive("archive cannot be read: %v", err)
		}
		return z, func() { _ = z.Close() }, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(32<<20))
		if err != nil {
			return nil, nil, badArchive("archive cannot be read: %v", err)
		}
		return z, z.Close, nil
	}
	return b, func() {}, nil
}

type extraction struct {
	unpacking
	root    *os.Root
	bytes   int64
	entries int
	links   []string
	made    map[string]bool        // directories
	dirs    map[string]fs.FileMode // modes are set last: a directory may be read-only
}

func (x *extraction) entry(h *tar.Header, content io.Reader) error {
	if err := x.count(); err != nil || h.Typeflag == tar.TypeXGlobalHeader {
		return err
	}
	if err := checkEntryName(h.Name); err != nil {
		return err
	}
	name := path.Clean(h.Name)
	if name == "." && h.Typeflag == tar.TypeDir {
		return nil
	}
	if !filepath.IsLocal(name) || slices.Contains(strings.Split(h.Name, "/"), "..") {
		return badArchive("archive entry %q leads out of the archive", h.Name)
	}
	if err := x.parents(h, path.Dir(name)); err != nil {
		return err
	}
	mode := h.FileInfo().Mode().Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		x.dirs[name], x.made[name] = mode, true
		if err := x.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return x.blame(h, err)
		}
		return nil
	case tar.TypeReg:
		return x.file(h, name, mode, content)
	case tar.TypeSymlink:
		if leadsOut(name, h.Linkname) {
			return badArchive("archive entry %q links to %q, outside of the archive", h.Name, h.Linkname)
		}
		x.links, x.made[name] = append(x.links, name), true // it may stand for a directory
		_ = x.root.Remove(name)
		if err := x.root.Symlink(h.Linkname, name); err != nil {
			return x.blame(h, err)
		}
		return nil
	case tar.TypeLink:
		target := path.Clean(h.Linkname)
		if info, err := x.root.Lstat(target); err == nil && info.IsDir() {
			return badArchive("archive entry %q is a hard link to a directory", h.Name)
		}
		if err := x.root.Link(target, name); err != nil {
			return x.blame(h, err)
		}
		x.links = append(x.links, name) // it may be a second name of a symbolic link
		return nil
	}
	return badArchive("archive entry %q is neither file, directory nor link", h.Name)
}

func (x *extraction) count() error {
	if x.entries++; x.entries > x.maxEntries {
		return badArchive("archive has more than %d entries", x.maxEntries)
	}
	return nil
}

// parents makes the directories that an entry lies in.
func (x *extraction) parents(h *tar.Header, dir string) error {
	for d := dir; d != "." && !x.made[d]; d = path.Dir(d) {
		if err := x.count(); err != nil {
			return err
		}
		x.made[d] = true
	}
	if err := x.root.MkdirAll(dir, 0o700); err != nil {
		return x.blame(h, err)
	}
	return nil
}

func (x *extraction) file(h *tar.Header, name string, mode fs.FileMode, content io.Reader) error {
	if x.bytes += h.Size; h.Size < 0 || x.bytes > x.maxBytes {
		return badArchive("archive has more than %s", megabytes(x.maxBytes))
	}
	_ = x.root.Remove(name)
	f, err := x.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return x.blame(h, err)
	}
	w := &writeFailure{w: f}
	_, err = io.Copy(w, content)
	if x.readOnly {
		mode &^= 0o222
		mode |= 0o444 | mode&0o100>>3 | mode&0o100>>6
	}
	// Owner first: a change of owner may clear bits of the mode.
	own := x.own(func() error { return f.Chown(int(x.user.uid), int(x.user.gid)) })
	closed := errors.Join(own, f.Chmod(mode), f.Close())
	switch {
	case w.err != nil:
		return w.err
	case err != nil:
		return badArchive("archive cannot be read: %v", err)
	case closed != nil:
		return closed
	}
	return x.root.Chtimes(name, h.ModTime, h.ModTime)
}

func (x *extraction) own(chown func() error) error {
	if !x.user.switched {
		return nil
	}
	return chown()
}

// finish checks links where they lead now that everything is there (a link to a
// link may lead elsewhere than its text), and sets owners and modes.
func (x *extraction) finish() error {
	for _, name := range x.links {
		if !stays(x.root, name) {
			return badArchive("archive entry %q links out of the archive", name)
		}
	}
	var names []string
	err := fs.WalkDir(x.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if err := x.own(func() error { return x.root.Lchown(name, int(x.user.uid), int(x.user.gid)) }); err != nil {
			return err
		}
		if d.IsDir() {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Reverse(names) // children before parents
	for _, name := range names {
		mode, listed := x.dirs[name]
		switch {
		case x.readOnly:
			mode = 0o555
		case !listed:
			mode = 0o755
		}
		if err := x.root.Chmod(name, mode); err != nil {
			return err
		}
	}
	return nil
}

// blame tells an entry that the archive got wrong from a disk that is full.
func (x *extraction) blame(h *tar.Header, err error) error {
	if diskFull(err) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	return badArchive("archive entry %q cannot be unpacked: %v", h.Name, err)
}

// pack writes the tree of one subdirectory, and then some small files beside it,
// as a tar archive compressed with zstd. What is neither file, directory nor
// symbolic link is left out, and so is a link that leads out of root; what else
// unpack would refuse is an *archiveError.
func pack(w io.Writer, root *os.Root, sub string, files map[string][]byte, maxBytes int64, maxEntries int) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<20))
	if err != nil {
		return err
	}
	archive := tar.NewWriter(z)
	total, entries := int64(0), len(files)
	err = fs.WalkDir(root.FS(), sub, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		size, err := packEntry(archive, root, name, d)
		total, entries = total+size, entries+1
		if err == nil && (total > maxBytes || entries > maxEntries) {
			err = badArchive("more than %d files or %s", maxEntries, megabytes(maxBytes))
		}
		return err
	})
	if err != nil {
		return err
	}
	for name, content := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(content))}
		if err := archive.WriteHeader(h); err != nil {
			return err
		}
		if _, err := archive.Write(content); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), z.Close())
}

// packEntry gives the size of the entry that it has written.
func packEntry(archive *tar.Writer, root *os.Root, name string, d fs.DirEntry) (int64, error) {
	if !d.IsDir() && !d.Type().IsRegular() && d.Type() != fs.ModeSymlink {
		return 0, nil
	}
	if err := checkEntryName(name + "/"); err != nil {
		return 0, err
	}
	info, err := d.Info()
	if err != nil {
		return 0, err
	}
	link := ""
	if d.Type() == fs.ModeSymlink {
		if link, err = root.Readlink(name); err != nil {
			return 0, err
		}
		if leadsOut(name, link) || !stays(root, name) {
			return 0, nil
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return 0, err
	}
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = name, 0, 0, "", ""
	if d.IsDir() {
		h.Name += "/"
	}
	if !d.Type().IsRegular() {
		return 0, archive.WriteHeader(h)
	}
	f, opened, err := openRegular(root, name, user{})
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h.Size = opened.Size()
	if err := archive.WriteHeader(h); err != nil {
		return 0, err
	}
	return io.CopyN(archive, f, h.Size)
}

// checkEntryName refuses what io/fs cannot walk, and what is too long to reach.
func checkEntryName(name string) error {
	switch {
	case len(name) > maxEntryName:
		return badArchive("archive entry has a name of %d bytes", len(name))
	case !utf8.ValidString(name):
		return badArchive("archive entry %q has a name that is not UTF-8", name)
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
