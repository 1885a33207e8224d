package starter

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// Limits of an app's directory.
const (
	MaxBundleFiles = 2000
	MaxBundleBytes = 256 << 20 // of the files together, before compression
)

// IgnoreFile, in an app's directory, lists what stays out of the bundle: one
// pattern per line as path.Match has them, matched against the name, or against
// the whole path when there is a slash inside; a slash at the end means
// directories only; # begins a comment.
const IgnoreFile = ".baasignore"

const bundlePrefix = "bundles"

// entry is one file or directory of a bundle.
type entry struct {
	name string // relative, with slashes
	info fs.FileInfo
}

// storeBundle packs the app's directory and stores it under its hash.
func storeBundle(ctx context.Context, store storage.Store, entries []entry, app *App) (tasklet.FileRef, error) {
	packed, err := os.CreateTemp("", "baas-bundle-*")
	if err != nil {
		return tasklet.FileRef{}, err
	}
	defer os.Remove(packed.Name())
	defer packed.Close()
	buffered := bufio.NewWriter(packed)
	if err := writeBundle(buffered, app.Dir, entries); err != nil {
		return tasklet.FileRef{}, err
	}
	if err := buffered.Flush(); err != nil {
		return tasklet.FileRef{}, err
	}
	if _, err := packed.Seek(0, io.SeekStart); err != nil {
		return tasklet.FileRef{}, err
	}
	content, err := storage.PutContent(ctx, store, bundlePrefix, packed)
	if err != nil {
		return tasklet.FileRef{}, err
	}
	return tasklet.NewFileRef(content.Key, content.Size, content.SHA256, app.Flow.Name+".tar.gz"), nil
}

// writeBundle writes a tar.gz that depends on nothing but names, contents and
// whether a file may be executed.
func writeBundle(w io.Writer, dir string, entries []entry) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	for _, e := range entries {
		if err := writeEntry(archive, root, e); err != nil {
			return fmt.Errorf("bundle: %s: %w", e.name, err)
		}
	}
	return errors.Join(archive.Close(), zipped.Close())
}

func writeEntry(archive *tar.Writer, root *os.Root, e entry) error {
	header := &tar.Header{Name: e.name, Format: tar.FormatPAX}
	if e.info.IsDir() {
		header.Typeflag, header.Name, header.Mode = tar.TypeDir, e.name+"/", 0o755
		return archive.WriteHeader(header)
	}
	file, err := root.Open(filepath.FromSlash(e.name))
	if err != nil {
		return err
	}
	defer file.Close()
	header.Typeflag, header.Mode, header.Size = tar.TypeReg, 0o644, e.info.Size()
	if e.info.Mode()&0o111 != 0 {
		header.Mode = 0o755
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	n, err := io.Copy(archive, file)
	if err == nil && n != header.Size {
		err = errors.New("it became shorter while it was read")
	}
	return err
}

// listBundle walks an app's directory in order. problems names everything that
// cannot go into a bundle.
func listBundle(app *App) (entries []entry, problems []string, err error) {
	ignore, err := readIgnore(app.Dir)
	if err != nil {
		return nil, nil, err
	}
	var files int
	var bytes int64
	err = filepath.WalkDir(app.Dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == app.Dir {
			return err
		}
		relative, err := filepath.Rel(app.Dir, file)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(relative)
		if name != app.Path && (ignore.match(name, d.IsDir()) || d.IsDir() && strings.HasPrefix(d.Name(), ".")) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case !d.IsDir() && !info.Mode().IsRegular():
			problems = append(problems, fmt.Sprintf("%s is %s: only files and directories can be part of an app; "+
				"replace it by what it stands for, or list it in %s", name, kind(info.Mode()), IgnoreFile))
			return nil
		case !d.IsDir():
			files++
			bytes += info.Size()
		}
		entries = append(entries, entry{name, info})
		if files > MaxBundleFiles || bytes > MaxBundleBytes {
			return fs.SkipAll
		}
		return nil
	})
	if files > MaxBundleFiles || bytes > MaxBundleBytes {
		problems = append(problems, fmt.Sprintf("the app %s is too large: all files in the flow file's directory belong to it, "+
			"at most %d files and %d MB; pass data as parameters of type file, and list in %s what does not belong to it",
			app.Dir, MaxBundleFiles, MaxBundleBytes>>20, IgnoreFile))
	}
	return entries, problems, err
}

func kind(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	}
	return "a device"
}

type ignorePattern struct {
	pattern string
	whole   bool // matches the whole path
	dirs    bool
}

type ignorePatterns []ignorePattern

func readIgnore(dir string) (ignorePatterns, error) {
	patterns := ignorePatterns{{pattern: IgnoreFile, whole: true}}
	content, err := os.ReadFile(filepath.Join(dir, IgnoreFile))
	if errors.Is(err, fs.ErrNotExist) {
		return patterns, nil
	}
	if err != nil {
		return nil, err
	}
	for i, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var p ignorePattern
		p.pattern, p.dirs = strings.CutSuffix(line, "/")
		p.whole = strings.Contains(p.pattern, "/")
		p.pattern = strings.TrimPrefix(p.pattern, "/")
		if _, err := path.Match(p.pattern, ""); err != nil {
			return nil, &InvalidError{Others: []string{fmt.Sprintf("%s:%d: %q is not a pattern", IgnoreFile, i+1, line)}}
		}
		patterns = append(patterns, p)
	}
	return patterns, nil
}

func (ps ignorePatterns) match(name string, dir bool) bool {
	for _, p := range ps {
		subject := name
		if !p.whole {
			subject = path.Base(name)
		}
		if ok, _ := path.Match(p.pattern, subject); ok && (dir || !p.dirs) {
			return true
		}
	}
	return false
}
