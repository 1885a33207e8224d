package secrets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"github.com/baas-batch/baas/tasklet"
)

// dir takes secrets from files: DIR/<path>, or with a field DIR/<path>/<field>.
type dir struct{ path string }

func newDir(u *url.URL) (Provider, error) {
	if u.Host != "" || !filepath.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != "" || !noControl(u.Path) {
		return nil, errors.New("secrets: write file:///dir with the absolute path of a directory")
	}
	info, err := os.Stat(u.Path)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", u.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	return &dir{filepath.Clean(u.Path)}, nil
}

// Get reads a file that its owner alone can read and that belongs to this process's
// user or root. One newline at the end is not part of the value, as editors write it.
func (d *dir) Get(_ context.Context, ref tasklet.SecretRef) ([]byte, error) {
	root, err := os.OpenRoot(d.path) // which no link leads out of
	if err != nil {
		return nil, err
	}
	defer root.Close()
	name := filepath.Join(filepath.FromSlash(ref.Path), ref.Field)
	// O_NONBLOCK: a pipe must not hold the leader.
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return nil, fmt.Errorf("%w: no file %s", ErrNotFound, filepath.Join(d.path, name))
	case err != nil:
		return nil, err
	}
	defer f.Close()
	if err := private(f, filepath.Join(d.path, name)); err != nil {
		return nil, err
	}
	value, err := io.ReadAll(io.LimitReader(f, MaxValue+2))
	return bytes.TrimSuffix(value, []byte("\n")), err
}

// private refuses what others could read or have put there.
func private(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%w: %s is a directory: name a field in it, as path#field", ErrNotFound, path)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a file", ErrNotFound, path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s can be read or written by others: chmod 600 it", path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to neither this user nor root", path)
	}
	return nil
}
