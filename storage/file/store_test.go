package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
)

func put(t testing.TB, s storage.Store, key, content string) {
	t.Helper()
	if _, err := storage.PutBytes(t.Context(), s, key, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

func wantContent(t testing.TB, s storage.Store, key, want string) {
	t.Helper()
	b, _, err := storage.GetBytes(t.Context(), s, key, 1<<30)
	if err != nil || string(b) != want {
		t.Fatalf("%q holds %.60q, %v; want %.60q", key, b, err, want)
	}
}

// tree gives every path below dir but the store's own.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d.Name() == hiddenDir {
			return fs.SkipDir
		}
		if path != dir {
			paths = append(paths, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func wantNoTemps(t testing.TB, s *Store) {
	t.Helper()
	if entries, err := readDir(s.root, tempDir); err != nil || len(entries) != 0 {
		t.Errorf("temporary files: %v, %v; want none", entries, err)
	}
}

func TestKeysAreFiles(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	put(t, s, "runs/App/Ä %2F+/out.txt", "content")
	b, err := os.ReadFile(filepath.Join(dir, "runs/App/Ä %2F+/out.txt"))
	if err != nil || string(b) != "content" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	for path, want := range map[string]fs.FileMode{"runs/App/Ä %2F+/out.txt": 0o600, "runs": 0o700 | fs.ModeDir, hiddenDir: 0o700 | fs.ModeDir} {
		if fi, err := os.Stat(filepath.Join(dir, path)); err != nil || fi.Mode() != want {
			t.Errorf("mode of %s: %v, %v; want %v", path, fi.Mode(), err, want)
		}
	}
}

func TestNoTemporaryFilesStay(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	put(t, s, "a/b", "1")
	if _, err := s.Put(t.Context(), "a/c", strings.NewReader("2"), storage.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	_, err := s.Put(t.Context(), "a/c", strings.NewReader("3"), storage.PutOptions{IfAbsent: true})
	if !errors.Is(err, storage.ErrExist) {
		t.Errorf("second creation: %v", err)
	}
	if _, err := s.Put(t.Context(), "a", strings.NewReader("4"), storage.PutOptions{}); !errors.Is(err, storage.ErrInvalidKey) {
		t.Errorf("put over a directory: %v", err)
	}
	wantNoTemps(t, s)
}

func TestDeletePrunesDirectories(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	put(t, s, "a/b/c/d", "1")
	put(t, s, "a/x", "2")
	if err := s.Delete(t.Context(), "a/b/c/d"); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, dir); fmt.Sprint(got) != "[a a/x]" {
		t.Errorf("left: %q, want a and a/x", got)
	}
	if err := s.Delete(t.Context(), "a/x"); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, dir); len(got) != 0 {
		t.Errorf("left: %q, want nothing", got)
	}
}

// TestPutDeleteRace: Deletes that prune directories never fail a Put beside them,
// nor take its object away.
func TestPutDeleteRace(t *testing.T) {
	dir := t.TempDir()
	// Two stores, as in two workers.
	stores := []*Store{openStore(t, dir, Options{NoSync: true}), openStore(t, dir, Options{NoSync: true})}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s := stores[i%2]
			key := fmt.Sprintf("deep/er/and/deeper/%d", i)
			if i >= 4 {
				key = fmt.Sprintf("deep/%d", i)
			}
			for n := range 300 {
				content := fmt.Sprint(n)
				if _, err := storage.PutBytes(t.Context(), s, key, []byte(content)); err != nil {
					t.Errorf("put %d of %q: %v", n, key, err)
					return
				}
				b, _, err := storage.GetBytes(t.Context(), s, key, 100)
				if err != nil || string(b) != content {
					t.Errorf("get %d of %q: %q, %v", n, key, b, err)
					return
				}
				if err := s.Delete(t.Context(), key); err != nil {
					t.Errorf("delete %d of %q: %v", n, key, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := tree(t, dir); len(got) != 0 {
		t.Errorf("left: %q, want nothing", got)
	}
}

// TestNestingRace: of "x" and "x/y", put and deleted at once, what a Put said is
// there is there until its Delete.
func TestNestingRace(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{NoSync: true})
	done := make([]int, 2)
	var wg sync.WaitGroup
	for i, key := range []string{"x", "x/y"} {
		wg.Go(func() {
			for range 1000 {
				_, err := storage.PutBytes(t.Context(), s, key, []byte(key))
				if errors.Is(err, storage.ErrInvalidKey) {
					continue // the other was first
				} else if err != nil {
					t.Errorf("put %q: %v", key, err)
					return
				}
				done[i]++
				if b, _, err := storage.GetBytes(t.Context(), s, key, 100); err != nil || string(b) != key {
					t.Errorf("get %q: %q, %v", key, b, err)
				}
				if err := s.Delete(t.Context(), key); err != nil {
					t.Errorf("delete %q: %v", key, err)
				}
			}
		})
	}
	wg.Wait()
	if done[0] == 0 || done[1] == 0 {
		t.Errorf("puts that succeeded: %d and %d, want some of both", done[0], done[1])
	}
}

// TestStaleDirectories: what a writer leaves that dies between mkdir and rename
// does not block the name.
func TestStaleDirectories(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	if err := os.MkdirAll(filepath.Join(dir, "key/of/old"), 0o700); err != nil {
		t.Fatal(err)
	}
	page, err := s.List(t.Context(), storage.ListOptions{})
	if err != nil || len(page.Items) != 0 {
		t.Errorf("empty directories are listed: %+v, %v", page, err)
	}
	for _, opts := range []storage.PutOptions{{}, {IfAbsent: true}} {
		if err := os.MkdirAll(filepath.Join(dir, "key/of/old"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), "key", strings.NewReader("content"), opts); err != nil {
			t.Fatalf("put with %+v: %v", opts, err)
		}
		wantContent(t, s, "key", "content")
		if err := s.Delete(t.Context(), "key"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoEscapeThroughLinks(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, dir, Options{})
	if _, err := s.secret(); err != nil {
		t.Fatal(err)
	}
	put(t, s, "real", "content")
	for link, target := range map[string]string{
		"dir": outside, "file": secret, "up": "..", "inner": hiddenDir + "/gateway.key", "dangling": "nowhere",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"dir/secret", "file", "up/secret", "inner", "dangling", "up/" + filepath.Base(outside) + "/secret"} {
		if _, _, err := s.Get(t.Context(), key, 0, -1); err == nil {
			t.Errorf("get %q succeeded", key)
		}
		if info, err := s.Stat(t.Context(), key); err == nil {
			t.Errorf("stat %q: %+v", key, info)
		}
	}
	for _, key := range []string{"dir/new", "up/new", "dangling/new"} {
		if _, err := storage.PutBytes(t.Context(), s, key, nil); err == nil {
			t.Errorf("put %q succeeded", key)
		}
	}
	if err := s.Delete(t.Context(), "dir/secret"); err == nil {
		t.Error("delete through a link succeeded")
	}
	for _, prefix := range []string{"", "dir/", "up/"} {
		page, err := s.List(t.Context(), storage.ListOptions{Prefix: prefix})
		if err != nil {
			t.Errorf("list %q: %v", prefix, err)
		}
		for _, item := range page.Items {
			if item.Key != "real" {
				t.Errorf("list %q: %+v", prefix, item)
			}
		}
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
		t.Errorf("the file outside holds %q, %v", b, err)
	}
	// A link at a key's own place is replaced, not followed.
	put(t, s, "file", "new")
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
		t.Errorf("the file outside holds %q, %v", b, err)
	}
}

func TestForeignFilesAreNoObjects(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	for _, name := range []string{"new\nline", "bad\xff"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(t, s, "real", "")
	page, err := s.List(t.Context(), storage.ListOptions{})
	if err != nil || len(page.Items) != 1 || page.Items[0].Key != "real" {
		t.Errorf("list: %+v, %v; want the one valid key", page, err)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	id, err := s.CreateUpload(t.Context(), "unfinished")
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * DefaultTempAge)
	for name, modified := range map[string]time.Time{"dead": old, "alive": time.Now()} {
		path := filepath.Join(dir, tempDir, name)
		if err := errors.Join(os.WriteFile(path, []byte("partial"), 0o600), os.Chtimes(path, modified, modified)); err != nil {
			t.Fatal(err)
		}
	}
	again := openStore(t, dir, Options{}) // sweeps
	entries, err := readDir(again.root, tempDir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "alive" {
		t.Errorf("after the sweep: %v, %v; want the living one", entries, err)
	}
	uploads, err := again.ListUploads(t.Context(), "")
	if err != nil || len(uploads) != 1 || uploads[0].ID != id {
		t.Errorf("after the sweep: uploads %+v, %v; want the unfinished one", uploads, err)
	}
}

// TestSweepForgetsCompletedUploads: after the longest time that anyone may ask.
func TestSweepForgetsCompletedUploads(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	var ids []string
	for _, age := range []time.Duration{doneAge - time.Hour, doneAge + time.Hour} {
		id, err := s.CreateUpload(t.Context(), "key")
		if err != nil {
			t.Fatal(err)
		}
		u, err := s.lockUpload(t.Context(), "key", id)
		if err != nil {
			t.Fatal(err)
		}
		u.meta.Done = &storage.Info{Key: "key", Modified: time.Now().Add(-age)}
		err = s.writeMeta(t.Context(), u)
		u.unlock()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CompleteUpload(t.Context(), "key", ids[0], nil); err != nil {
		t.Errorf("the younger one is forgotten: %v", err)
	}
	if _, err := s.CompleteUpload(t.Context(), "key", ids[1], nil); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("the older one is remembered: %v", err)
	}
}

func TestPutFromFile(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	f, err := os.Create(filepath.Join(t.TempDir(), "source"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content := strings.Repeat("0123456789abcdef", (2*copyChunk+100)/16)
	if _, err := io.WriteString(f, content); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(5, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "key", f, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "key", content[5:])
}

func TestOpenURL(t *testing.T) {
	dir := t.TempDir()
	s, err := storage.Open(t.Context(), "file://"+dir+"/with%20space?gateway=http://127.0.0.1:1&sync=off")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.(*Store); got.Dir() != dir+"/with space" || !got.noSync {
		t.Errorf("opened %q, noSync %v", got.Dir(), got.noSync)
	}
	if u, err := s.SignURL(t.Context(), "k", storage.SignOptions{Method: "GET", Expires: time.Minute}); err != nil || !strings.HasPrefix(u.URL, "http://127.0.0.1:1/o/k?") {
		t.Errorf("SignURL: %q, %v", u, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for rawURL, want := range map[string]string{
		"file://data/store":                             "three slashes",
		"file:data/store":                               "absolute path",
		"file:///":                                      "/ cannot be a store",
		"file:///data#1":                                "%23",
		"file:///data?gatway=x":                         "known are gateway=",
		"file:///data?gateway=localhost:80":             "want http://host:port",
		"file:///data?sync=maybe":                       "sync=on|off",
		"file:///data?sync=on&sync=off":                 "given 2 times",
		(&url.URL{Scheme: "file", Path: file}).String(): "not a directory",
	} {
		_, err := storage.Open(t.Context(), rawURL)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open %q: %v; want it to say %q", rawURL, err, want)
		}
	}
}
