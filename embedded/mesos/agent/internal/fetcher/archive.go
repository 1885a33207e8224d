package fetcher

import (
	"archive/tar"
	"archive/zip"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// The endings that the Mesos fetcher takes for archives.
var archives = []string{
	".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".zip", ".gz",
}

func isArchive(name string) bool { return kind(name) != "" }

func kind(name string) string {
	for _, suffix := range archives {
		if strings.HasSuffix(name, suffix) {
			return suffix
		}
	}
	return ""
}

// unpack writes the contents of an archive below root. An entry that leads
// outside fails it, as does one that would be written through a link that does.
func unpack(root *os.Root, name string, file *os.File) error {
	var err error
	switch suffix := kind(name); suffix {
	case ".tar":
		err = untar(root, file)
	case ".tgz", ".tar.gz":
		err = gunzip(file, func(r io.Reader) error { return untar(root, r) })
	case ".tbz2", ".tar.bz2":
		err = untar(root, bzip2.NewReader(file))
	case ".zip":
		err = unzip(root, file)
	case ".gz":
		err = gunzip(file, func(r io.Reader) error {
			return create(root, strings.TrimSuffix(path.Base(name), ".gz"), copyFrom(r))
		})
	default:
		err = fmt.Errorf("archives of type %s are not supported", suffix)
	}
	if err != nil {
		return fmt.Errorf("failed to extract archive '%s': %w", name, err)
	}
	return nil
}

func gunzip(file io.Reader, then func(io.Reader) error) error {
	r, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	return errors.Join(then(r), r.Close())
}

func copyFrom(r io.Reader) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	}
}

// local gives the cleaned name of an entry.
func local(name string) (string, error) {
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("entry '%s' leads outside the sandbox", name)
	}
	return path.Clean(name), nil
}

func untar(root *os.Root, r io.Reader) error {
	entries := tar.NewReader(r)
	for {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := local(header.Name)
		if err != nil {
			return err
		}
		switch header.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeReg:
			err = file(root, name, fs.FileMode(header.Mode), entries)
		case tar.TypeSymlink:
			err = link(root, name, func() error { return root.Symlink(header.Linkname, name) })
		case tar.TypeLink:
			var old string
			if old, err = local(header.Linkname); err == nil {
				err = link(root, name, func() error { return root.Link(old, name) })
			}
		case tar.TypeXGlobalHeader:
		default:
			err = fmt.Errorf("entry '%s' is neither file, directory nor link", header.Name)
		}
		if err != nil {
			return err
		}
	}
}

func unzip(root *os.Root, archive *os.File) error {
	info, err := archive.Stat()
	if err != nil {
		return err
	}
	r, err := zip.NewReader(archive, info.Size())
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return err
	}
	for _, entry := range r.File {
		if err := unzipEntry(root, entry); err != nil {
			return err
		}
	}
	return nil
}

func unzipEntry(root *os.Root, entry *zip.File) error {
	name, err := local(entry.Name)
	if err != nil {
		return err
	}
	mode := entry.Mode()
	if mode.IsDir() {
		return root.MkdirAll(name, 0o755)
	}
	r, err := entry.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	switch {
	case mode.IsRegular():
		return file(root, name, mode, r)
	case mode.Type() == fs.ModeSymlink:
		target, err := io.ReadAll(io.LimitReader(r, 4096))
		if err != nil {
			return err
		}
		return link(root, name, func() error { return root.Symlink(string(target), name) })
	}
	return fmt.Errorf("entry '%s' is neither file, directory nor link", entry.Name)
}

func file(root *os.Root, name string, mode fs.FileMode, r io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := create(root, name, copyFrom(r)); err != nil {
		return err
	}
	// Without the set-user-ID bits: the sandbox's owner is not the archive's.
	return root.Chmod(name, mode.Perm()|0o600)
}

func link(root *os.Root, name string, make func() error) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return make()
}
