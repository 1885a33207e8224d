package starter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

func makeDirectory(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "sub", "empty"), 0o755),
		os.WriteFile(filepath.Join(dir, "sub", "tool"), []byte("run"), 0o755),
		os.WriteFile(filepath.Join(dir, "zero"), nil, 0o600),
		os.Symlink("sub/tool", filepath.Join(dir, "link")),
		os.Chmod(filepath.Join(dir, "sub"), 0o555),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "sub"), 0o755) })
	return dir
}

func TestDirectoryParameter(t *testing.T) {
	store, err := file.Open(t.TempDir(), file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	dir := makeDirectory(t)
	ref, err := hashDirectory(t.Context(), dir)
	if err != nil || ref.Form != tasklet.FormTree || ref.Name != "data" || ref.Bytes != 3 {
		t.Fatalf("%+v, %v", ref, err)
	}
	if err := storeFiles(t.Context(), store, map[string]tasklet.FileRef{dir: ref}); err != nil {
		t.Fatal(err)
	}
	if info, err := store.Stat(t.Context(), ref.Key); err != nil || info.Size != ref.Stored() {
		t.Errorf("%+v, %v", info, err)
	}
	value, err := json.Marshal(ref)
	if err != nil {
		t.Fatal(err)
	}
	output := Output{Step: "s", Name: "o", Value: value, Files: references(value)}
	c, to := New(Config{Store: store}), t.TempDir()
	for range 2 { // the second replaces the first
		if _, err := c.Download(t.Context(), output, to); err != nil {
			t.Fatal(err)
		}
	}
	copied := filepath.Join(to, "s", "o", "data")
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(copied, "sub"), 0o755) })
	if again, err := hashDirectory(t.Context(), copied); err != nil || again != ref {
		t.Errorf("%+v, %v, not %+v", again, err, ref)
	}
	output.Files[0].SHA256 = strings.Repeat("0", 64)
	if _, err := c.Download(t.Context(), output, t.TempDir()); !errors.Is(err, storage.ErrCorrupt) {
		t.Error(err)
	}

	if err := os.WriteFile(filepath.Join(dir, "zero"), []byte("more"), 0o600); err != nil {
		t.Fatal(err)
	}
	// What is there already is neither sent again nor read.
	if err := storeFiles(t.Context(), store, map[string]tasklet.FileRef{dir: ref}); err != nil {
		t.Error(err)
	}
	if err := store.Delete(t.Context(), ref.Key); err != nil {
		t.Fatal(err)
	}
	if err := storeFiles(t.Context(), store, map[string]tasklet.FileRef{dir: ref}); err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
		t.Error(err)
	}
	for info, err := range storage.All(t.Context(), store, storage.ListOptions{}) {
		t.Errorf("%+v, %v", info, err)
	}
}

// All files of a tree come in few requests, and each is checked.
func TestTreeDownload(t *testing.T) {
	files, err := file.Open(t.TempDir(), file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	store := &countedGets{Store: files}
	dir := makeDirectory(t)
	for i := range 100 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), bytes.Repeat([]byte{byte(i)}, i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ref, err := hashDirectory(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := storeDirectory(t.Context(), store, dir, ref); err != nil {
		t.Fatal(err)
	}
	c, o := New(Config{Store: store}), Output{Step: "s", Name: "o", Files: []tasklet.FileRef{ref}}
	written, err := c.Download(t.Context(), o, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(written[0], "sub"), 0o755) })
	if again, err := hashDirectory(t.Context(), written[0]); err != nil || again != ref {
		t.Errorf("%+v, %v, not %+v", again, err, ref)
	}
	if n := store.gets.Load(); n == 0 || n > 10 {
		t.Errorf("%d requests", n)
	}

	object, _, err := storage.GetBytes(t.Context(), store, ref.Key, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	object[ref.Bytes/2] ^= 1
	if _, err := storage.PutBytes(t.Context(), store, ref.Key, object); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Download(t.Context(), o, t.TempDir()); !errors.Is(err, storage.ErrCorrupt) {
		t.Error(err)
	}
	o.Files[0].Bytes++
	if _, err := c.Download(t.Context(), o, t.TempDir()); err == nil {
		t.Error("a tree of another size was taken")
	}
}

type countedGets struct {
	storage.Store
	gets atomic.Int32
}

func (c *countedGets) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	c.gets.Add(1)
	return c.Store.Get(ctx, key, offset, length)
}

// A store that fails early is not waited for, nor is the one who still writes to it.
func TestDirectoryAndStoreThatFails(t *testing.T) {
	store, err := file.Open(t.TempDir(), file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	dir := makeDirectory(t)
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	ref, err := hashDirectory(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	err = storeDirectory(t.Context(), fullStore{store}, dir, ref)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	if err := storeDirectory(t.Context(), store, dir, ref); err != nil {
		t.Error(err)
	}
	if info, err := store.Stat(t.Context(), ref.Key); err != nil || info.Size != ref.Stored() {
		t.Errorf("%+v, %v", info, err)
	}
}

// fullStore takes the first bytes of an object.
type fullStore struct{ storage.Store }

func (fullStore) Put(_ context.Context, _ string, r io.Reader, _ storage.PutOptions) (storage.Info, error) {
	_, err := io.CopyN(io.Discard, r, 100)
	return storage.Info{}, errors.Join(err, syscall.ENOSPC)
}

// A file that was stored compressed is downloaded as it was.
func TestCompressedDownload(t *testing.T) {
	store, err := file.Open(t.TempDir(), file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	plain := strings.Repeat("a line of text\n", 10_000)
	var packed bytes.Buffer
	if err := tree.Compress(&packed, strings.NewReader(plain)); err != nil {
		t.Fatal(err)
	}
	content, err := storage.PutContent(t.Context(), store, "files", &packed)
	if err != nil {
		t.Fatal(err)
	}
	digest := storage.NewDigest()
	_, _ = digest.Write([]byte(plain))
	ref := tasklet.NewFileRef(content.Key, digest.Size(), digest.SHA256(), "text")
	ref.Packed = tasklet.Packed{Encoding: tasklet.EncodingZstd, Size: content.Size, SHA256: content.SHA256}
	c, dir := New(Config{Store: store}), t.TempDir()
	written, err := c.Download(t.Context(), Output{Step: "s", Name: "o", Files: []tasklet.FileRef{ref}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(written[0]); err != nil || string(text) != plain {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	ref.SHA256 = strings.Repeat("0", 64)
	if _, err := c.Download(t.Context(), Output{Step: "s", Name: "o", Files: []tasklet.FileRef{ref}}, t.TempDir()); !errors.Is(err, storage.ErrCorrupt) {
		t.Error(err)
	}
}

func TestDirectoryThatCannotBeGiven(t *testing.T) {
	dir := makeDirectory(t)
	if err := os.Symlink("/etc", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	parsed, err := flow.Parse("flow.yaml", []byte("name: a\nparams: {d: directory}\nsteps: {a: {run: x}}\n"), flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for path, reason := range map[string]string{
		dir:                        `parameter "d": out links to "/etc", outside of the directory`,
		filepath.Join(dir, "zero"): "not a directory",
		filepath.Join(dir, "none"): "does not exist",
	} {
		_, problems, err := bind(t.Context(), &App{Flow: parsed}, map[string]string{"d": path}, nil)
		if err != nil || len(problems) != 1 || !strings.Contains(problems[0], reason) {
			t.Errorf("%s: %v, %v", path, problems, err)
		}
	}
}
