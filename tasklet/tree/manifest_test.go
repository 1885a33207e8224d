package tree

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	testBytes   = 1000
	testEntries = 12
)

var testBounds = Bounds{Bytes: testBytes, Entries: testEntries}

const oneHash = `"sha256":"0100000000000000000000000000000000000000000000000000000000000000"`

var good = strings.Join([]string{
	`{"path":"a","kind":"dir","mode":448}`,
	`{"path":"a/x","kind":"file","mode":420,"size":3,` + oneHash + `}`,
	`{"path":"a/l","kind":"link","link":"../y"}`,
	`{"path":"y","kind":"file","mode":493,"offset":3,"size":4,` + oneHash + `}`,
}, "\n") + "\n"

func TestReadManifest(t *testing.T) {
	file := func(path string) string {
		return `{"path":"` + path + `","kind":"file","size":7,` + oneHash + `}`
	}
	link := func(path, to string) string {
		return `{"path":"` + path + `","kind":"link","link":"` + to + `"}` + "\n" + file("f")
	}
	for name, c := range map[string]struct {
		manifest string
		size     int64
		reason   string // "": it is all right
	}{
		"good":             {good, 7, ""},
		"empty":            {"", 0, ""},
		"other size":       {good, 8, "files of 7 bytes, expected 8"},
		"no JSON":          {"x\n", 0, "cannot be read"},
		"two in a line":    {`{"path":"a","kind":"dir"} {}`, 0, "more than one value"},
		"unknown field":    {`{"path":"a","kind":"dir","owner":1}`, 0, "unknown field"},
		"unknown kind":     {`{"path":"a","kind":"device"}`, 0, "neither file"},
		"no kind":          {`{"path":"a"}`, 0, "neither file"},
		"no hash":          {`{"path":"a","kind":"file","sha256":"00"}`, 0, "cannot be read"},
		"absolute":         {file("/a"), 7, "no allowed path"},
		"parent":           {file("../a"), 7, "no allowed path"},
		"not clean":        {file("a//b"), 7, "no allowed path"},
		"itself":           {file("."), 7, "no allowed path"},
		"nothing":          {file(""), 7, "no allowed path"},
		"NUL":              {file(`a\u0000b`), 7, "no allowed path"},
		"long":             {file(strings.Repeat("n", 3000)), 7, "a name of 3000 bytes"},
		"no parent":        {file("a/b"), 7, "in no directory"},
		"through a file":   {strings.Replace(good, `"y","kind"`, `"a/x/y","kind"`, 1), 7, "in no directory"},
		"through a link":   {strings.Replace(good, `"y","kind"`, `"a/l/y","kind"`, 1), 7, "in no directory"},
		"twice":            {good + `{"path":"y","kind":"dir"}`, 7, "occurs twice"},
		"setuid":           {`{"path":"a","kind":"file","mode":2541}`, 0, "has the mode"},
		"other offset":     {`{"path":"a","kind":"file","offset":1,"size":6}`, 7, "at offset 1"},
		"negative":         {`{"path":"a","kind":"file","size":-7}`, -7, "has -7 bytes"},
		"overflow":         {`{"path":"a","kind":"file","size":9223372036854775807}` + "\n" + `{"path":"b","kind":"file","offset":9223372036854775807,"size":2}`, 1, "more than"},
		"too many bytes":   {`{"path":"a","kind":"file","size":1001}`, 1001, "more than 12 files or 0.0 MB"},
		"too many entries": {manyDirs(testEntries + 1), 0, "more than 12 files"},
		"link out":         {link("l", "../f"), 7, "outside"},
		"link to root":     {link("l", "/etc/passwd"), 7, "outside"},
		"empty link":       {link("l", ""), 7, "outside"},
		"long line":        {`{"path":"` + strings.Repeat(" ", maxLine) + `"}`, 0, "a line over"},
	} {
		t.Run(name, func(t *testing.T) {
			entries, err := ReadManifest(strings.NewReader(c.manifest), c.size, testBounds)
			if c.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				var again bytes.Buffer
				if err := WriteManifest(&again, entries); err != nil || again.String() != c.manifest {
					t.Errorf("written again: %v\n%s", err, &again)
				}
				return
			}
			var bad *Error
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("%v, want %q", err, c.reason)
			}
		})
	}
}

func manyDirs(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"path":"%d","kind":"dir"}`+"\n", i)
	}
	return b.String()
}

// The executor reserves room for the manifest before it knows the hashes.
func TestLengthOfManifest(t *testing.T) {
	entries := []Entry{{Path: "ü<>&", Kind: File, Size: 1}, {Path: "d", Kind: Dir, Mode: 0o755}}
	var before, after bytes.Buffer
	entries[0].SHA256 = Hash{1}
	if err := WriteManifest(&before, entries); err != nil {
		t.Fatal(err)
	}
	entries[0].SHA256 = sha256.Sum256([]byte("x"))
	if err := WriteManifest(&after, entries); err != nil || before.Len() != after.Len() {
		t.Errorf("%d and %d bytes, %v", before.Len(), after.Len(), err)
	}
}

// FuzzManifest: whatever the bytes are, what is made of them stays in its directory
// and within its bounds, no link leads out of it, and if it fails, the manifest is
// to blame and not the platform.
func FuzzManifest(f *testing.F) {
	f.Add(good, int64(7))
	f.Add(`{"path":"l","kind":"link","link":"a/.."}`+"\n"+`{"path":"a","kind":"link","link":"."}`, int64(0))
	f.Add(`{"path":"a","kind":"dir"}`+"\n"+`{"path":"a/up","kind":"link","link":".."}`+"\n"+`{"path":"out","kind":"link","link":"a/up/../x"}`, int64(0))
	f.Add(`{"path":"a","kind":"link","link":"b"}`+"\n"+`{"path":"b","kind":"link","link":"a"}`, int64(0))
	f.Fuzz(func(t *testing.T, manifest string, size int64) {
		base := t.TempDir()
		dir, canary := filepath.Join(base, "in"), filepath.Join(base, "canary")
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(canary, []byte("alive"), 0o600)); err != nil {
			t.Fatal(err)
		}
		err := build(dir, manifest, size)
		var bad *Error
		if err != nil && !errors.As(err, &bad) {
			t.Errorf("the platform is blamed: %v", err)
		}
		if beside, err := os.ReadDir(base); err != nil || len(beside) != 2 {
			t.Errorf("outside: %v, %v", beside, err)
		}
		if text, err := os.ReadFile(canary); err != nil || string(text) != "alive" {
			t.Errorf("the file outside holds %q, %v", text, err)
		}
		checkTree(t, dir, err == nil)
	})
}

func build(dir, manifest string, size int64) error {
	entries, err := ReadManifest(strings.NewReader(manifest), size, testBounds)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := Make(root, entries); err != nil {
		return err
	}
	return Finish(root, entries, nil)
}

func checkTree(t *testing.T, dir string, whole bool) {
	t.Helper()
	count := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		if path == dir {
			return err
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		count++
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.Type() == fs.ModeSymlink {
			if to, err := filepath.EvalSymlinks(path); whole && err == nil && to != dir && !strings.HasPrefix(to, dir+"/") {
				t.Errorf("%s leads to %s", path, to)
			}
			return nil
		}
		if info.Mode()&^(fs.ModePerm|fs.ModeDir) != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return nil
	})
	if err != nil || count > testEntries {
		t.Errorf("%d entries, %v", count, err)
	}
}
