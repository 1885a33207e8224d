package executor

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/tasklet/tree"
)

// Bounds of the archives in fuzzing: small, so that inputs reach them.
const (
	fuzzBytes   = 64 << 10
	fuzzEntries = 40
)

// FuzzUnpack: whatever the bytes are, what is unpacked stays in its directory and
// within its bounds, no link leads out of it, and if it fails, the archive is to
// blame and not the platform.
func FuzzUnpack(f *testing.F) {
	good := []entry{
		{name: "./", kind: tar.TypeDir}, {name: "d/x", content: "x"}, {name: "l", link: "d/x", kind: tar.TypeSymlink},
		{name: "h", link: "d/x", kind: tar.TypeLink}, {name: "d/ro", kind: tar.TypeDir, mode: 0o500}, {name: "ü", content: "y", mode: 0o4755},
	}
	f.Add(tarOf(good...))
	f.Add(tarOf(entry{name: "../x"}, entry{name: "l", link: "..", kind: tar.TypeSymlink}))
	f.Add(tarOf(entry{name: strings.Repeat("d/", 200) + "x"}))
	f.Add(tarGz(good...))
	f.Add(tarZstd(good...))
	f.Add(tarGz(entry{name: "zeros", content: strings.Repeat("\x00", 3*fuzzBytes)}))
	f.Add([]byte("no archive"))
	f.Add([]byte{0x1f, 0x8b})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		unpackAndCheck(t, data, false)
		unpackAndCheck(t, data, true)
	})
}

// FuzzArchive makes archives of lines "kind name link size": entries that agree
// with their headers get further than bytes that chance has changed.
func FuzzArchive(f *testing.F) {
	for _, lines := range []string{
		"5 d\n0 d/x  5\n2 l d/x\n1 h d/x\n",
		"2 a/b/up ../..\n2 a/b/out up/../x\n0 a/b/out  1\n0 a/b/out/y  1\n",
		"2 l nowhere/..\n0 l/../x  1\n", "1 h ../../etc/passwd\n", "2 a/b/c/l ../../x\n1 h a/b/c/l\n0 h  3\n",
		"3 dev\n6 fifo\n", "0 big  65537\n", "0 x  1\n5 x\n0 x/y\n2 x y\n", "0 .  1\n2 . x\n1 . x\n", "0 d/./x/\n0 //x\n0 d/\n", "g\n0 x\n",
		"2 a b\n2 b a\n0 a/x  1\n", "2 e d\n5 d\n0 e/y  1\n1 f e\n0 f/z  1\n", strings.Repeat("0 "+strings.Repeat("d/", 30)+"x\n", 2),
		"0 t  1 9223372036854775807\n0 t  1 -9223372036854775808\n", "0 " + strings.Repeat("n", 300) + "  1\n",
	} {
		f.Add(lines)
	}
	f.Fuzz(func(t *testing.T, lines string) {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		for line := range strings.Lines(lines) {
			if err := writeLine(w, strings.TrimSuffix(line, "\n")); err != nil {
				return // tar has no such entry
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		unpackAndCheck(t, archive.Bytes(), false)
	})
}

func writeLine(w *tar.Writer, line string) error {
	word := append(strings.Split(line, " "), "", "", "", "")
	h := &tar.Header{Name: word[1], Linkname: word[2], Mode: 0o644, Format: tar.FormatPAX}
	if word[0] != "" {
		h.Typeflag = word[0][0]
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		h = &tar.Header{Typeflag: h.Typeflag, PAXRecords: map[string]string{"k": word[1]}, Format: tar.FormatPAX}
	}
	var seconds int64
	_, _ = fmt.Sscan(word[4], &seconds)
	if seconds != 0 {
		h.ModTime = time.Unix(seconds, 0)
	}
	if h.Typeflag == tar.TypeReg {
		_, _ = fmt.Sscan(word[3], &h.Size)
		h.Size = max(0, min(h.Size, 2*fuzzBytes))
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(make([]byte, h.Size))
	return err
}

func unpackAndCheck(t *testing.T, data []byte, readOnly bool) {
	t.Helper()
	base, err := os.MkdirTemp("", "unpack")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tree.Remove(base); err != nil {
			t.Errorf("cannot be removed: %v", err)
		}
	}()
	dir, canary := filepath.Join(base, "in"), filepath.Join(base, "canary")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(canary, []byte("alive"), 0o644)); err != nil {
		t.Fatal(err)
	}
	err = tree.Unpack(bytes.NewReader(data), tree.Unpacking{Dir: dir, ReadOnly: readOnly, Times: true, Bounds: tree.Bounds{Bytes: fuzzBytes, Entries: fuzzEntries}})
	var bad *tree.Error
	if err != nil && !errors.As(err, &bad) {
		t.Errorf("the platform is blamed: %v", err)
	}
	if beside, err := os.ReadDir(base); err != nil || len(beside) != 2 {
		t.Errorf("outside: %v, %v", beside, err)
	}
	if text, err := os.ReadFile(canary); err != nil || string(text) != "alive" {
		t.Errorf("the file outside holds %q, %v", text, err)
	}
	checkUnpacked(t, dir, readOnly, err == nil)
}

func checkUnpacked(t *testing.T, dir string, readOnly, whole bool) {
	t.Helper()
	var count int
	var size int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		count++
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch mode := info.Mode(); {
		case mode.IsRegular():
			size += info.Size()
		case mode.IsDir():
		case mode.Type() == fs.ModeSymlink:
			// Where it cannot be followed, it leads nowhere.
			if target, err := filepath.EvalSymlinks(path); whole && err == nil && target != dir && !strings.HasPrefix(target, dir+"/") {
				t.Errorf("%s leads to %s", path, target)
			}
			return nil
		default:
			t.Errorf("%s is a %s", path, mode)
		}
		if bits := info.Mode() & (fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky); bits != 0 || whole && readOnly && info.Mode()&0o222 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if count > fuzzEntries || size > fuzzBytes {
		t.Errorf("%d entries, %d bytes", count, size)
	}
}

// A checkpoint that is saved can be restored: what unpack refuses, pack refuses.
func TestPackRefusesWhatUnpackWould(t *testing.T) {
	link := func(target string) func(string) error {
		return func(dir string) error { return os.Symlink(target, filepath.Join(dir, "l")) }
	}
	write := func(names ...string) func(string) error {
		return func(dir string) error {
			for _, name := range names {
				path := filepath.Join(dir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("1234567890"), 0o600)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		make   func(dir string) error
		reason string // "": it is all right
	}{
		"files":         {write("a", "b/c"), ""},
		"link inside":   {link("../sub/x"), ""},
		"link to other": {link("../beside"), ""},
		"absolute link": {link("/etc/passwd"), ""},
		"link out":      {link("../../x"), ""},
		"link by links": {func(dir string) error {
			return errors.Join(os.MkdirAll(filepath.Join(dir, "a/b"), 0o755), os.Symlink("../../..", filepath.Join(dir, "a/b/up")), os.Symlink("a/b/up/../../../x", filepath.Join(dir, "l")))
		}, ""},
		"many files":  {write("1", "2", "3", "4", "5", "6", "7", "8"), "more than 8 files"},
		"large files": {write("1", "2", "3", "4", "5", "6"), "more than"},
		"not UTF-8":   {write("a\xff/b"), "not UTF-8"},
		"long name":   {write(strings.Repeat(strings.Repeat("n", 250)+"/", 8) + strings.Repeat("n", 200)), "a name of"},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := t.TempDir(), t.TempDir()
			if err := errors.Join(os.Mkdir(filepath.Join(from, "sub"), 0o755), c.make(filepath.Join(from, "sub"))); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(from)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			maxBytes, maxEntries := int64(50), 8
			if name == "long name" {
				maxEntries = 100
			}
			var b bytes.Buffer
			bounds := tree.Bounds{Bytes: maxBytes, Entries: maxEntries}
			err = tree.Pack(&b, tree.Packing{Root: root, Sub: "sub", Open: opener(user{}), Bounds: bounds})
			if c.reason == "" {
				if err == nil {
					err = tree.Unpack(&b, tree.Unpacking{Dir: to, Bounds: bounds})
				}
				if err != nil {
					t.Error(err)
				}
				return
			}
			var bad *tree.Error
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("%v, want %q", err, c.reason)
			}
		})
	}
}
