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
	maxEntries int
}

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
	x := &extraction{unpacking: u, root: root, dirs: map[string]fs.FileMode{}}
	archive := tar.NewReader(plain)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
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
	dirs    map[string]fs.FileMode // modes are set last: a directory may be read-only
}

func (x *extraction) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if x.entries++; x.entries > x.maxEntries {
		return badArchive("archive has more than %d entries", x.maxEntries)
	}
	name := path.Clean(h.Name)
	if name == "." && h.Typeflag == tar.TypeDir {
		return nil
	}
	if !filepath.IsLocal(name) || slices.Contains(strings.Split(h.Name, "/"), "..") {
		return badArchive("archive entry %q leads out of the archive", h.Name)
	}
	if err := x.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return x.blame(h, err)
	}
	mode := h.FileInfo().Mode().Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		x.dirs[name] = mode
		if err := x.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return x.blame(h, err)
		}
		return nil
	case tar.TypeReg:
		return x.file(h, name, mode, content)
	case tar.TypeSymlink:
		if path.IsAbs(h.Linkname) || !filepath.IsLocal(path.Join(path.Dir(name), h.Linkname)) {
			return badArchive("archive entry %q links to %q, outside of the archive", h.Name, h.Linkname)
		}
		x.links = append(x.links, name)
		_ = x.root.Remove(name)
		if err := x.root.Symlink(h.Linkname, name); err != nil {
			return x.blame(h, err)
		}
		return nil
	case tar.TypeLink:
		if err := x.root.Link(path.Clean(h.Linkname), name); err != nil {
			return x.blame(h, err)
		}
		x.links = append(x.links, name) // it may be a second name of a symbolic link
		return nil
	}
	return badArchive("archive entry %q is neither file, directory nor link", h.Name)
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
		if _, err := x.root.Stat(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
// symbolic link is left out.
func pack(w io.Writer, root *os.Root, sub string, files map[string][]byte) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<20))
	if err != nil {
		return err
	}
	archive := tar.NewWriter(z)
	err = fs.WalkDir(root.FS(), sub, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return packEntry(archive, root, name, d)
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

func packEntry(archive *tar.Writer, root *os.Root, name string, d fs.DirEntry) error {
	if !d.IsDir() && !d.Type().IsRegular() && d.Type() != fs.ModeSymlink {
		return nil
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	link := ""
	if d.Type() == fs.ModeSymlink {
		if link, err = root.Readlink(name); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = name, 0, 0, "", ""
	if d.IsDir() {
		h.Name += "/"
	}
	if !d.Type().IsRegular() {
		return archive.WriteHeader(h)
	}
	f, opened, err := openRegular(root, name, user{})
	if err != nil {
		return err
	}
	defer f.Close()
	h.Size = opened.Size()
	if err := archive.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(archive, f, h.Size)
	return err
}
