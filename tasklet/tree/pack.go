package tree

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// Packing is what goes into an archive.
type Packing struct {
	Root   *os.Root
	Sub    string            // the subdirectory of Root that is packed; "." for all of it
	Files  map[string][]byte // small files beside it
	Open   Open
	Times  bool // the archive keeps the times of files
	Bounds Bounds
}

// Pack writes the tree of one subdirectory, and then some small files beside it,
// as a tar archive compressed with zstd. What is neither file, directory nor
// symbolic link is left out, and so is a link that leads out of the root; what
// else Unpack would refuse is an *Error.
func Pack(w io.Writer, p Packing) error {
	z, err := compressor(w)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(z)
	total, entries := int64(0), len(p.Files)
	err = fs.WalkDir(p.Root.FS(), p.Sub, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		size, err := p.entry(archive, name, d)
		total, entries = total+size, entries+1
		if err != nil {
			return err
		}
		return p.Bounds.check(total, entries)
	})
	if err != nil {
		return err
	}
	for name, content := range p.Files {
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

// entry gives the size of the entry that it has written.
func (p Packing) entry(archive *tar.Writer, name string, d fs.DirEntry) (int64, error) {
	if !d.IsDir() && !d.Type().IsRegular() && d.Type() != fs.ModeSymlink {
		return 0, nil
	}
	if err := checkName(name + "/"); err != nil {
		return 0, err
	}
	info, err := d.Info()
	if err != nil {
		return 0, err
	}
	link := ""
	if d.Type() == fs.ModeSymlink {
		if link, err = p.Root.Readlink(name); err != nil {
			return 0, err
		}
		if leadsOut(name, link) || !stays(p.Root, name) {
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
	if !p.Times {
		h.ModTime = time.Time{}
	}
	if !d.Type().IsRegular() {
		return 0, archive.WriteHeader(h)
	}
	f, opened, err := p.Open(p.Root, name)
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
