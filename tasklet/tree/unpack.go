package tree

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Unpacking is where and how an archive is unpacked.
type Unpacking struct {
	Dir      string // exists and is empty
	ReadOnly bool
	Times    bool // files get the times that the archive has for them
	Owner    *Owner
	Bounds   Bounds // directories that no entry names are counted too
}

// maxOverhead of an entry's headers and padding, in bytes, on average.
const maxOverhead = 8 << 10

// Unpack reads a tar archive, plain or compressed with gzip or zstd. Nothing is
// written outside of the directory, and no link leads out of it. The error is an
// *Error when the archive is to blame.
func Unpack(r io.Reader, u Unpacking) error {
	plain, closer, err := decompress(r)
	if err != nil {
		return err
	}
	defer closer()
	root, err := os.OpenRoot(u.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	x := &extraction{Unpacking: u, root: root, made: map[string]bool{}, dirs: map[string]fs.FileMode{}}
	all := &io.LimitedReader{R: plain, N: u.Bounds.Bytes + int64(u.Bounds.Entries)*maxOverhead}
	archive := tar.NewReader(all)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil && all.N <= 0 {
			return bad("archive has more than %s", megabytes(u.Bounds.Bytes))
		}
		if err != nil {
			return bad("archive cannot be read: %v", err)
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
			return nil, nil, bad("archive cannot be read: %v", err)
		}
		return z, func() { _ = z.Close() }, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := decompressor(b)
		if err != nil {
			return nil, nil, bad("archive cannot be read: %v", err)
		}
		return z, z.Close, nil
	}
	return b, func() {}, nil
}

type extraction struct {
	Unpacking
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
	if err := checkName(h.Name); err != nil {
		return err
	}
	name := path.Clean(h.Name)
	if name == "." && h.Typeflag == tar.TypeDir {
		return nil
	}
	if !filepath.IsLocal(name) || slices.Contains(strings.Split(h.Name, "/"), "..") {
		return bad("archive entry %q leads out of the archive", h.Name)
	}
	if err := x.parents(h, path.Dir(name)); err != nil {
		return err
	}
	mode := h.FileInfo().Mode().Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		x.dirs[name], x.made[name] = mode, true
		if err := x.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return blame(h.Name, err)
		}
		return nil
	case tar.TypeReg:
		return x.file(h, name, mode, content)
	case tar.TypeSymlink:
		if leadsOut(name, h.Linkname) {
			return bad("archive entry %q links to %q, outside of the archive", h.Name, h.Linkname)
		}
		x.links, x.made[name] = append(x.links, name), true // it may stand for a directory
		_ = x.root.Remove(name)
		if err := x.root.Symlink(h.Linkname, name); err != nil {
			return blame(h.Name, err)
		}
		return nil
	case tar.TypeLink:
		target := path.Clean(h.Linkname)
		if info, err := x.root.Lstat(target); err == nil && info.IsDir() {
			return bad("archive entry %q is a hard link to a directory", h.Name)
		}
		if err := x.root.Link(target, name); err != nil {
			return blame(h.Name, err)
		}
		x.links = append(x.links, name) // it may be a second name of a symbolic link
		return nil
	}
	return bad("archive entry %q is neither file, directory nor link", h.Name)
}

func (x *extraction) count() error {
	if x.entries++; x.entries > x.Bounds.Entries {
		return bad("archive has more than %d entries", x.Bounds.Entries)
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
		return blame(h.Name, err)
	}
	return nil
}

func (x *extraction) file(h *tar.Header, name string, mode fs.FileMode, content io.Reader) error {
	if x.bytes += h.Size; h.Size < 0 || x.bytes > x.Bounds.Bytes {
		return bad("archive has more than %s", megabytes(x.Bounds.Bytes))
	}
	_ = x.root.Remove(name)
	f, err := x.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return blame(h.Name, err)
	}
	w := &Sink{W: f}
	_, err = io.Copy(w, content)
	if x.ReadOnly {
		mode &^= 0o222
		mode |= 0o444 | mode&0o100>>3 | mode&0o100>>6
	}
	// Owner first: a change of owner may clear bits of the mode.
	own := x.Owner.give(f.Chown)
	closed := errors.Join(own, f.Chmod(mode), f.Close())
	switch {
	case w.Err != nil:
		return w.Err
	case err != nil:
		return bad("archive cannot be read: %v", err)
	case closed != nil:
		return closed
	}
	if !x.Times {
		return nil
	}
	return x.root.Chtimes(name, h.ModTime, h.ModTime)
}

// finish checks links where they lead now that everything is there (a link to a
// link may lead elsewhere than its text), and sets owners and modes.
func (x *extraction) finish() error {
	for _, name := range x.links {
		if !stays(x.root, name) {
			return bad("archive entry %q links out of the archive", name)
		}
	}
	var names []string
	err := fs.WalkDir(x.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if err := x.Owner.lgive(x.root, name); err != nil {
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
		case x.ReadOnly:
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
