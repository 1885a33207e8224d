package starter

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/baas-batch/baas/flow"
)

// appDir writes files; a name that ends with * is executable.
func appDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		mode := os.FileMode(0o600)
		if plain, ok := strings.CutSuffix(name, "*"); ok {
			name, mode = plain, 0o700
		}
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func appAt(dir string) *App {
	return &App{Flow: &flow.Flow{Name: "a"}, Dir: dir, Path: "flow.yaml"}
}

func pack(t *testing.T, dir string) []byte {
	t.Helper()
	entries, problems, err := listBundle(appAt(dir))
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	var b bytes.Buffer
	if err := writeBundle(&b, dir, entries); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// contents lists an archive as name, mode and content.
func contents(t *testing.T, packed []byte) []string {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for archive := tar.NewReader(zipped); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() > 0 || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s: time %v, owner %d %q", h.Name, h.ModTime, h.Uid, h.Uname)
		}
		list = append(list, fmt.Sprintf("%s %o %s", h.Name, h.Mode, content))
	}
}

func TestBundleHoldsFilesInOrder(t *testing.T) {
	dir := appDir(t, map[string]string{
		"flow.yaml": "f", "run.sh*": "x", "lib/b.awk": "b", "lib/a.awk": "a", "lib.txt": "t", ".env": "e",
		".git/config": "g", "lib/.cache/x": "c",
		IgnoreFile: "# comment\n\n*.tmp\nout/\n/lib/skip.awk\n", "a.tmp": "", "lib/c.tmp": "", "out/big": "", "lib/skip.awk": "", "lib/out": "a file",
	})
	got := contents(t, pack(t, dir))
	want := []string{
		".env 644 e", "flow.yaml 644 f", "lib/ 755 ", "lib/a.awk 644 a", "lib/b.awk 644 b", "lib/out 644 a file",
		"lib.txt 644 t", "run.sh 755 x",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestBundleIsReproducible(t *testing.T) {
	files := map[string]string{"flow.yaml": "f", "run.sh*": "x", "lib/a": "a"}
	one, two := appDir(t, files), appDir(t, files)
	old := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	if err := os.Chtimes(filepath.Join(two, "run.sh"), old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(two, "lib/a"), 0o640); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pack(t, one), pack(t, two)) {
		t.Error("two directories of equal content give different bundles")
	}
	if err := os.Chmod(filepath.Join(two, "lib/a"), 0o740); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(pack(t, one), pack(t, two)) {
		t.Error("a file that became executable does not change the bundle")
	}
}

func TestBundleRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(dir string) error
		want   string
	}{
		"symbolic link": {
			func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "link")) },
			"link is a symbolic link",
		},
		"link to a directory": {
			func(dir string) error { return os.Symlink("..", filepath.Join(dir, "up")) },
			"up is a symbolic link",
		},
		"pipe": {
			func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600) },
			"pipe is a named pipe",
		},
		"large file": {
			func(dir string) error {
				file := filepath.Join(dir, "large")
				return errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, MaxBundleBytes+1))
			},
			"256 MB",
		},
		"many files": {
			func(dir string) error {
				var errs []error
				for i := range MaxBundleFiles {
					errs = append(errs, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600))
				}
				return errors.Join(errs...)
			},
			"2000 files",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := appDir(t, map[string]string{"flow.yaml": "f"})
			if err := test.change(dir); err != nil {
				t.Fatal(err)
			}
			_, problems, err := listBundle(appAt(dir))
			if err != nil || len(problems) != 1 || !strings.Contains(problems[0], test.want) {
				t.Errorf("got %q, %v; want one problem with %q", problems, err, test.want)
			}
		})
	}
}

func TestIgnoredLinkIsNoProblem(t *testing.T) {
	dir := appDir(t, map[string]string{"flow.yaml": "f", IgnoreFile: "link\n"})
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, pack(t, dir)); !slices.Equal(got, []string{"flow.yaml 644 f"}) {
		t.Errorf("got %q", got)
	}
}

func TestBadIgnoreFile(t *testing.T) {
	dir := appDir(t, map[string]string{"flow.yaml": "f", IgnoreFile: "ok\n[\n"})
	_, _, err := listBundle(appAt(dir))
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), IgnoreFile+":2") {
		t.Errorf("got %v", err)
	}
}
