package starter

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
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
	if err := storeFiles(t.Context(), store, map[string]tasklet.FileRef{dir: ref}); err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
		t.Error(err)
	}
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
