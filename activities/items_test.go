package activities

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
	"github.com/baas-batch/baas/tasklet/tree"
)

// itemWorld lists items from a store of its own.
type itemWorld struct {
	*testing.T
	store storage.Store
}

func newItemWorld(t *testing.T) itemWorld {
	t.Helper()
	store, err := file.Open(t.TempDir(), file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return itemWorld{t, store}
}

func (w itemWorld) put(key, content string) *tasklet.FileRef {
	w.Helper()
	if _, err := storage.PutBytes(w.Context(), w.store, key, []byte(content)); err != nil {
		w.Fatal(err)
	}
	sum := sha256.Sum256([]byte(content))
	ref := tasklet.NewFileRef(key, int64(len(content)), hex.EncodeToString(sum[:]), filepath.Base(key))
	return &ref
}

// list gives the items as JSON, read back from the store.
func (w itemWorld) list(in api.ListItemsInput) ([]string, tasklet.LinesRef, error) {
	w.Helper()
	in.App, in.Owner, in.Run, in.Step = "app", "team", "app-1", "each"
	if in.Max == 0 {
		in.Max = 1000
	}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	p := &Preparer{Store: w.store}
	env.RegisterActivityWithOptions(p.ListItems, activity.RegisterOptions{Name: api.ActivityListItems})
	value, err := env.ExecuteActivity(api.ActivityListItems, in)
	if err != nil {
		return nil, tasklet.LinesRef{}, err
	}
	var result api.ListItemsResult
	if err := value.Get(&result); err != nil {
		w.Fatal(err)
	}
	return w.read(result.Items), result.Items, nil
}

func (w itemWorld) read(ref tasklet.LinesRef) (items []string) {
	w.Helper()
	r, err := lines.Open(w.Context(), storage.Section(w.store, ref.Key), ref.Size)
	if err != nil {
		w.Fatal(err)
	}
	for raw, err := range r.Values(w.Context(), 0, r.Len()) {
		if err != nil {
			w.Fatal(err)
		}
		items = append(items, string(raw))
	}
	if len(items) != ref.N {
		w.Errorf("%d items, the reference says %d", len(items), ref.N)
	}
	return items
}

func (w itemWorld) expect(in api.ListItemsInput, want ...string) tasklet.LinesRef {
	w.Helper()
	items, ref, err := w.list(in)
	if err != nil {
		w.Fatal(err)
	}
	if !reflect.DeepEqual(items, want) {
		w.Errorf("items are %s, want %s", items, want)
	}
	return ref
}

// refused wants a failure for good that says these words.
func (w itemWorld) refused(in api.ListItemsInput, words ...string) {
	w.Helper()
	key := api.ItemsKey(api.StepPrefix("app", "app-1", "each"), 1)
	if err := w.store.Delete(w.Context(), key); err != nil { // of the last list
		w.Fatal(err)
	}
	_, _, err := w.list(in)
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() != api.ErrorInvalidItems || !app.NonRetryable() {
		w.Fatalf("error %v", err)
	}
	for _, word := range words {
		if !strings.Contains(app.Message(), word) {
			w.Errorf("%q does not say %q", app.Message(), word)
		}
	}
	if _, err := w.store.Stat(w.Context(), key); !errors.Is(err, storage.ErrNotExist) {
		w.Errorf("the items are in storage all the same: %v", err)
	}
}

func TestItemsOfLines(t *testing.T) {
	w := newItemWorld(t)
	text := w.put("files/text", "one\ntwo\r\n\nfour \"4\"\nlast")
	w.expect(api.ListItemsInput{Lines: text}, `"one"`, `"two"`, `""`, `"four \"4\""`, `"last"`)
	part := *text
	part.Offset, part.Size = 4, 3
	part.SHA256 = w.put("files/x", "two").SHA256
	w.expect(api.ListItemsInput{Lines: &part}, `"two"`)
	w.expect(api.ListItemsInput{Lines: w.put("files/empty", "")})
	w.refused(api.ListItemsInput{Lines: w.put("files/bad.txt", "good\n\xff\xfe\n")}, "line 2 of bad.txt", "UTF-8")
	w.refused(api.ListItemsInput{Lines: w.put("files/long.txt", "x\n"+strings.Repeat("y", maxItem+1))}, "long.txt", "line of over")
	w.refused(api.ListItemsInput{Lines: text, Max: 4}, "more than 4 items")
	w.refused(api.ListItemsInput{Lines: w.put("runs/other/r/s/outputs/x", "foreign\n")}, "does not belong to the app")
	w.refused(api.ListItemsInput{Lines: w.put("data/rivals/x", "foreign\n")}, "does not belong to the app")
	w.refused(api.ListItemsInput{}, "names no items")
}

func TestItemsOfAChangedFile(t *testing.T) {
	w := newItemWorld(t)
	ref := w.put("files/x", "one\ntwo\n")
	w.put("files/x", "ONE\ntwo\n")
	_, _, err := w.list(api.ListItemsInput{Lines: ref})
	if err == nil || !strings.Contains(err.Error(), storage.ErrCorrupt.Error()) {
		t.Errorf("error %v", err)
	}
}

// A source that is gone or damaged is looked for some times, and then given up in words.
func TestItemsOfALostSource(t *testing.T) {
	w := newItemWorld(t)
	gone := w.put("files/accounts.txt", "one\n")
	changed := w.put("files/changed.txt", "one\n")
	w.put("files/changed.txt", "ONE\n")
	var packed bytes.Buffer
	if err := tree.Compress(&packed, strings.NewReader("1\n")); err != nil {
		t.Fatal(err)
	}
	object := w.put("files/packed", packed.String())
	compressed := *w.put("files/plain", "1\n")
	compressed.Key, compressed.Packed = object.Key, tasklet.Packed{Encoding: tasklet.EncodingZstd, Size: object.Size, SHA256: object.SHA256}
	spoilt := *w.put("files/spoilt", "no zstd")
	spoilt.Packed = tasklet.Packed{Encoding: tasklet.EncodingZstd, Size: spoilt.Size, SHA256: spoilt.SHA256}
	archive := *w.put("files/archive", packed.String())
	archive.Form = tasklet.FormArchive
	manifest := w.manifest(0, did(nil))
	for _, key := range []string{gone.Key, object.Key, archive.Key, manifest.Key} {
		if err := w.store.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		in   api.ListItemsInput
		want string
	}{
		{api.ListItemsInput{Lines: gone}, "for_each: accounts.txt is not in storage any more"},
		{api.ListItemsInput{Lines: changed}, "for_each: changed.txt is damaged"},
		{api.ListItemsInput{Values: &compressed}, "for_each: plain is not in storage any more"},
		{api.ListItemsInput{Values: &spoilt}, "for_each: spoilt is damaged"},
		{api.ListItemsInput{Files: &archive}, "for_each: archive is not in storage any more"},
		{api.ListItemsInput{Outputs: &flow.Many{Output: "sum", Manifests: []tasklet.LinesRef{manifest}}},
			"for_each: a manifest of the output sum is not in storage any more"},
	} {
		tc.in.App, tc.in.Owner, tc.in.Run, tc.in.Step, tc.in.Max = "app", "team", "app-1", "each", 10
		for attempt := 1; attempt <= readAttempts; attempt++ {
			l := &lister{store: w.store, in: tc.in, attempt: attempt}
			_, err := l.run(t.Context())
			var app *temporal.ApplicationError
			final := errors.As(err, &app) && app.NonRetryable() && app.Type() == api.ErrorInvalidItems
			if err == nil || final != (attempt == readAttempts) || final && !strings.HasPrefix(app.Message(), tc.want) {
				t.Errorf("attempt %d: error %v, want %q in the last one", attempt, err, tc.want)
			}
		}
	}
}

func TestItemsOfValues(t *testing.T) {
	w := newItemWorld(t)
	w.expect(api.ListItemsInput{Values: w.put("files/v", `{"id": 1, "big": 9007199254740993}`+"\n\n [1, 2] \nnull\n\"x\"")},
		`{"id":1,"big":9007199254740993}`, `[1,2]`, `null`, `"x"`)
	w.refused(api.ListItemsInput{Values: w.put("files/v.jsonl", "1\n{bad}\n")}, "line 2 of v.jsonl", "JSON")

	var packed bytes.Buffer
	if err := tree.Compress(&packed, strings.NewReader("1\n2\n")); err != nil {
		t.Fatal(err)
	}
	object := w.put("files/packed", packed.String())
	ref := *w.put("files/plain", "1\n2\n")
	ref.Key, ref.Packed = object.Key, tasklet.Packed{Encoding: tasklet.EncodingZstd, Size: object.Size, SHA256: object.SHA256}
	w.expect(api.ListItemsInput{Values: &ref}, "1", "2")
}

func TestItemsOfObjects(t *testing.T) {
	w := newItemWorld(t)
	for _, key := range []string{"data/team/in/b.csv", "data/team/in/a.csv", "data/team/in/sub/c.csv", "data/team/inner", "data/teams/in/x"} {
		w.put(key, key)
	}
	file := func(key string) string {
		ref, _ := json.Marshal(tasklet.NewFileRef(key, int64(len(key)), "", filepath.Base(key)))
		return string(ref)
	}
	w.expect(api.ListItemsInput{Objects: "in/"}, file("data/team/in/a.csv"), file("data/team/in/b.csv"), file("data/team/in/sub/c.csv"))
	w.expect(api.ListItemsInput{Objects: "nothing/"})
	w.refused(api.ListItemsInput{Objects: "../rivals/"}, "../rivals/")
}

func TestItemsOfFiles(t *testing.T) {
	w := newItemWorld(t)
	const content = "alphabeta"
	entries := []tree.Entry{
		{Path: "a.txt", Kind: tree.File, Mode: 0o644, Size: 5, SHA256: sha256.Sum256([]byte("alpha"))},
		{Path: "sub", Kind: tree.Dir, Mode: 0o755},
		{Path: "sub/b.txt", Kind: tree.File, Mode: 0o644, Offset: 5, Size: 4, SHA256: sha256.Sum256([]byte("beta"))},
	}
	var manifest bytes.Buffer
	if err := tree.WriteManifest(&manifest, entries); err != nil {
		t.Fatal(err)
	}
	object := w.put("files/tree", content+manifest.String())
	dir := *w.put("files/manifest", manifest.String())
	dir.Key, dir.Offset, dir.Form, dir.Bytes = object.Key, int64(len(content)), tasklet.FormTree, int64(len(content))
	items, _, err := w.list(api.ListItemsInput{Files: &dir})
	if err != nil {
		t.Fatal(err)
	}
	w.contents(items, "a.txt=alpha", "b.txt=beta")

	root := t.TempDir()
	for name, text := range map[string]string{"a.txt": "alpha", "sub/b.txt": "beta", "sub/empty": ""} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	opened, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	var archive bytes.Buffer
	open := func(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
		f, err := root.Open(name)
		if err != nil {
			return nil, nil, err
		}
		info, err := f.Stat()
		return f, info, err
	}
	if err := tree.Pack(&archive, tree.Packing{Root: opened, Sub: ".", Open: open, Bounds: itemBounds}); err != nil {
		t.Fatal(err)
	}
	dir = *w.put("files/archive", archive.String())
	dir.Form, dir.Bytes = tasklet.FormArchive, 9
	if items, _, err = w.list(api.ListItemsInput{Files: &dir}); err != nil {
		t.Fatal(err)
	}
	w.contents(items, "a.txt=alpha", "b.txt=beta", "empty=")

	broken := *w.put("files/broken", archive.String()[:archive.Len()/2])
	broken.Form = tasklet.FormArchive
	w.refused(api.ListItemsInput{Files: &broken}, "broken")
	w.refused(api.ListItemsInput{Files: w.put("files/plain", "x")}, "plain is not a directory")
}

// contents reads the files that the items refer to.
func (w itemWorld) contents(items []string, want ...string) {
	w.Helper()
	var have []string
	for _, item := range items {
		var ref tasklet.FileRef
		if err := json.Unmarshal([]byte(item), &ref); err != nil {
			w.Fatal(err)
		}
		var content bytes.Buffer
		if err := storage.CopyVerified(w.Context(), &content, w.store, storage.Content{
			Key: ref.Key, Offset: ref.Offset, Size: ref.Size, SHA256: ref.SHA256,
		}); err != nil {
			w.Fatal(err)
		}
		have = append(have, ref.Name+"="+content.String())
	}
	if !reflect.DeepEqual(have, want) {
		w.Errorf("files are %q, want %q", have, want)
	}
}

func TestItemsOfOutputs(t *testing.T) {
	w := newItemWorld(t)
	many := flow.Many{Tag: flow.ManyTag, Output: "sum"}
	for m, sums := range [][]string{{"10", "11"}, {""}, {"13"}} {
		var out bytes.Buffer
		l := lines.NewWriter(&out, 0)
		for _, sum := range sums {
			r := tasklet.Result{Outcome: tasklet.Failed}
			if sum != "" {
				r = tasklet.Result{Outcome: tasklet.Succeeded, Outputs: map[string]json.RawMessage{"sum": json.RawMessage(sum)}}
			}
			if err := l.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		size, err := l.Close()
		if err != nil {
			t.Fatal(err)
		}
		key := api.ManifestKey(api.StepPrefix("app", "app-1", "before"), fmt.Sprint("before-", m), m, 1)
		w.put(key, out.String())
		many.Manifests = append(many.Manifests, tasklet.LinesRef{Key: key, Size: size, N: len(sums)})
	}
	w.expect(api.ListItemsInput{Outputs: &many}, "10", "11", "13")
	many.Manifests[1].Key = "runs/other/r/s/manifests/x"
	w.refused(api.ListItemsInput{Outputs: &many}, "does not belong to the app")
}

// A hundred thousand items are one stream.
func TestManyItems(t *testing.T) {
	w := newItemWorld(t)
	var text strings.Builder
	const n = 100_000
	for i := range n {
		fmt.Fprintf(&text, "account-%06d\n", i)
	}
	items, ref, err := w.list(api.ListItemsInput{Lines: w.put("files/accounts", text.String()), Max: n})
	if err != nil || len(items) != n || items[n-1] != `"account-099999"` {
		t.Fatalf("%v, %d items", err, len(items))
	}
	if ref.Size > int64(text.Len())/2 {
		t.Errorf("%d bytes of items for %d of text", ref.Size, text.Len())
	}
}

func TestHostileArchive(t *testing.T) {
	w := newItemWorld(t)
	var plain, packed bytes.Buffer
	archive := tar.NewWriter(&plain)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeReg, Name: "../../etc/passwd", Size: 1, Mode: 0o600},
		{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "/etc/passwd"},
	} {
		if err := archive.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			_, _ = archive.Write([]byte("x"))
		}
	}
	if err := errors.Join(archive.Close(), tree.Compress(&packed, &plain)); err != nil {
		t.Fatal(err)
	}
	dir := *w.put("files/hostile", packed.String())
	dir.Form = tasklet.FormArchive
	items, _, err := w.list(api.ListItemsInput{Files: &dir})
	if err != nil {
		t.Fatal(err)
	}
	w.contents(items, "passwd=x") // a base name, of bytes in the store
}

func TestItemsEndWithTheContext(t *testing.T) {
	w := newItemWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ref := w.put("files/x", strings.Repeat("line\n", 1_000_000))
	l := &lister{store: w.store, attempt: 1, in: api.ListItemsInput{App: "app", Run: "app-1", Step: "each", Lines: ref, Max: 1 << 30}}
	n := 0
	for _, err := range l.items(ctx) {
		if n++; n == 10 {
			cancel()
		}
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			return
		}
	}
	t.Error("it went on to its end")
}
