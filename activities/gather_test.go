package activities

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
	"github.com/baas-batch/baas/tasklet/tree"
)

var gatherOutputs = []tasklet.Output{
	{Name: "sum", Type: tasklet.TypeInt},
	{Name: "statement", Type: tasklet.TypeFile},
	{Name: "packed", Type: tasklet.TypeFile, Compress: tasklet.EncodingZstd, Optional: true},
	{Name: "pages", Type: tasklet.TypeFiles, Optional: true},
	{Name: "tree", Type: tasklet.TypeDirectory, Optional: true},
}

// segmentOf stores contents in one object, with other bytes between them, and refers to them.
func (w itemWorld) segmentOf(number int, contents ...string) (refs []tasklet.FileRef) {
	w.Helper()
	key := api.SegmentKey(renderPrefix, "render-1", 0, 1, number)
	var object bytes.Buffer
	for i, content := range contents {
		object.WriteString(strings.Repeat("log ", i))
		sum := sha256.Sum256([]byte(content))
		ref := tasklet.NewFileRef(key, int64(len(content)), hex.EncodeToString(sum[:]), "statement.csv")
		ref.Offset = int64(object.Len())
		object.WriteString(content)
		refs = append(refs, ref)
	}
	object.WriteString("and what follows")
	w.put(key, object.String())
	return refs
}

var renderPrefix = api.StepPrefix("app", "app-1", "render")

// manifest stores results, whose numbers begin with first.
func (w itemWorld) manifest(first int, results ...tasklet.Result) tasklet.LinesRef {
	w.Helper()
	var out bytes.Buffer
	l := lines.NewWriter(&out, 0)
	for i, r := range results {
		r.Partition = first + i
		if err := l.Add(r); err != nil {
			w.Fatal(err)
		}
	}
	size, err := l.Close()
	if err != nil {
		w.Fatal(err)
	}
	sum := sha256.Sum256(out.Bytes()) // one key for each content
	key := api.ManifestKey(renderPrefix, "render-1", first, int64(binary.BigEndian.Uint32(sum[:])))
	w.put(key, out.String())
	return tasklet.LinesRef{Key: key, Size: size, N: len(results)}
}

func did(outputs map[string]any) tasklet.Result {
	r := tasklet.Result{Outcome: tasklet.Succeeded, Outputs: map[string]json.RawMessage{}}
	for name, v := range outputs {
		r.Outputs[name], _ = json.Marshal(v)
	}
	return r
}

func (w itemWorld) gather(in api.GatherInput) ([]tasklet.FileRef, error) {
	w.Helper()
	in.App, in.Owner, in.Run, in.Step = "app", "team", "app-1", "total"
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	p := &Preparer{Store: w.store}
	env.RegisterActivityWithOptions(p.Gather, activity.RegisterOptions{Name: api.ActivityGather})
	value, err := env.ExecuteActivity(api.ActivityGather, in)
	if err != nil {
		return nil, err
	}
	var result api.GatherResult
	if err := value.Get(&result); err != nil {
		w.Fatal(err)
	}
	return result.Files, nil
}

// content reads a gathered file, checked against its reference.
func (w itemWorld) content(ref tasklet.FileRef) string {
	w.Helper()
	var content bytes.Buffer
	if err := storage.CopyVerified(w.Context(), &content, w.store, storage.Content{Key: ref.Key, Size: ref.Size, SHA256: ref.SHA256}); err != nil {
		w.Fatal(err)
	}
	return content.String()
}

func (w itemWorld) compressed(key, content string) tasklet.FileRef {
	w.Helper()
	var packed bytes.Buffer
	if err := tree.Compress(&packed, strings.NewReader(content)); err != nil {
		w.Fatal(err)
	}
	object, ref := w.put(key, packed.String()), *w.put(key+".plain", content)
	ref.Key, ref.Packed = key, tasklet.Packed{Encoding: tasklet.EncodingZstd, Size: object.Size, SHA256: object.SHA256}
	return ref
}

func TestGather(t *testing.T) {
	w := newItemWorld(t)
	one, two := w.segmentOf(0, "alpha\n", "beta\n", ""), w.segmentOf(1, "gamma\n")
	own := *w.put(api.OutputKey(renderPrefix, 5, 1, 2, "statement"), "of its own\n")
	packed := w.compressed(api.OutputKey(renderPrefix, 0, 1, 1, "packed"), strings.Repeat("packed ", 3))
	folder := tasklet.FileRef{Tag: tasklet.FileRefTag, Key: "x", Name: "tree", Size: 3, Bytes: 70, Form: tasklet.FormArchive}
	in := api.GatherInput{Outputs: gatherOutputs, Manifests: []tasklet.LinesRef{
		w.manifest(0,
			did(map[string]any{"sum": 12, "statement": one[1], "packed": packed, "pages": one[:2], "tree": folder}), // a retry came later
			did(map[string]any{"sum": 13, "statement": one[0], "packed": nil}),
			tasklet.Result{Outcome: tasklet.TimedOut, Outputs: map[string]json.RawMessage{"sum": json.RawMessage("99")}}),
		w.manifest(3),
		w.manifest(3, did(map[string]any{"sum": 14, "statement": two[0]}), did(map[string]any{"sum": 15, "statement": one[2]})),
		w.manifest(5, did(map[string]any{"sum": 16, "statement": own}), tasklet.Result{Outcome: tasklet.Killed}),
	}}
	files, err := w.gather(in)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, file := range files {
		have = append(have, file.Name+" "+file.Key)
	}
	prefix := api.StepPrefix("app", "app-1", "total") + "gather/1/"
	if want := "results " + prefix + "results, statement " + prefix + "statement, packed " + prefix + "packed"; strings.Join(have, ", ") != want {
		t.Fatalf("files %s, want %s", strings.Join(have, ", "), want)
	}
	const want = `{"partition":0,"outcome":"succeeded","outputs":{"packed":{"offset":0,"size":21},"pages":[{"name":"statement.csv","size":6},{"name":"statement.csv","size":5}],"statement":{"offset":0,"size":5},"sum":12,"tree":{"name":"tree","size":70}}}
{"partition":1,"outcome":"succeeded","outputs":{"statement":{"offset":5,"size":6},"sum":13}}
{"partition":2,"outcome":"timed out"}
{"partition":3,"outcome":"succeeded","outputs":{"statement":{"offset":11,"size":6},"sum":14}}
{"partition":4,"outcome":"succeeded","outputs":{"statement":{"offset":17,"size":0},"sum":15}}
{"partition":5,"outcome":"succeeded","outputs":{"statement":{"offset":17,"size":11},"sum":16}}
{"partition":6,"outcome":"killed"}
`
	if got := w.content(files[0]); got != want {
		t.Errorf("results\n%swant\n%s", got, want)
	}
	if got := w.content(files[1]); got != "beta\nalpha\ngamma\nof its own\n" {
		t.Errorf("statements %q", got)
	}
	if got := w.content(files[2]); got != "packed packed packed " {
		t.Errorf("packed %q", got)
	}
}

func TestGatherOfNothing(t *testing.T) {
	w := newItemWorld(t)
	for _, manifests := range [][]tasklet.LinesRef{nil, {w.manifest(0)}} {
		files, err := w.gather(api.GatherInput{Outputs: gatherOutputs[:2], Manifests: manifests})
		if err != nil || len(files) != 2 {
			t.Fatalf("%v, %v", files, err)
		}
		for _, file := range files {
			if w.content(file) != "" || file.Size != 0 {
				t.Errorf("%s is not empty", file.Name)
			}
		}
	}
}

func TestGatherThatIsRefused(t *testing.T) {
	w := newItemWorld(t)
	good := w.segmentOf(0, "alpha")[0]
	foreign := *w.put("runs/other/r/s/segments/x", "alpha")
	changed := good
	changed.Size = -1
	endless := good
	endless.Size = math.MaxInt64
	endless.Offset = 1
	folder := good
	folder.Form = tasklet.FormArchive
	statement := func(v any) []tasklet.LinesRef {
		return []tasklet.LinesRef{w.manifest(0, did(map[string]any{"statement": v}))}
	}
	short := w.manifest(0, did(nil))
	short.N = 2
	long := w.manifest(2, did(nil), did(nil))
	long.N = 1
	for name, tc := range map[string]struct {
		manifests []tasklet.LinesRef
		word      string
	}{
		"a foreign file":     {statement(foreign), "does not belong to the app"},
		"a foreign manifest": {[]tasklet.LinesRef{{Key: "runs/other/r/s/manifests/x", Size: 1, N: 1}}, "does not belong to the app"},
		"a way out":          {statement(tasklet.NewFileRef("files/../x", 1, "ab", "x")), "key"},
		"no reference":       {statement("text"), "partition 0: output statement"},
		"a directory":        {statement(folder), "no reference to a file"},
		"a negative size":    {statement(changed), "no reference to a file"},
		"too large a size":   {statement(endless), "no reference to a file"},
		"a gap":              {[]tasklet.LinesRef{w.manifest(1, did(nil))}, "partition 1 is where 0 should be"},
		"too few":            {[]tasklet.LinesRef{short}, "ends before partition 1"},
		"too many":           {[]tasklet.LinesRef{w.manifest(0, did(nil), did(nil)), long}, "more than 1 partitions"},
	} {
		_, err := w.gather(api.GatherInput{Outputs: gatherOutputs[:2], Manifests: tc.manifests})
		var app *temporal.ApplicationError
		if !errors.As(err, &app) || app.Type() != api.ErrorInvalidResults || !app.NonRetryable() || !strings.Contains(app.Message(), tc.word) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.store.Stat(t.Context(), api.GatherKey(api.StepPrefix("app", "app-1", "total"), 1, "statement")); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("a half-written file is in storage: %v", err)
	}
}

// What is not there, or is not what it was, is tried again some times, and then lost.
func TestGatherOfWhatIsLost(t *testing.T) {
	w := newItemWorld(t)
	of := func(ref tasklet.FileRef) []tasklet.LinesRef {
		return []tasklet.LinesRef{w.manifest(0, did(map[string]any{"packed": ref, "statement": ref}))}
	}
	gone := w.segmentOf(0, "alpha")[0]
	gone.Key = api.SegmentKey(renderPrefix, "render-1", 0, 1, 99)
	changed := w.segmentOf(1, "alpha")[0]
	w.segmentOf(1, "ALPHA")
	short := w.segmentOf(2, "alpha")[0]
	w.put(short.Key, "al")
	packed := w.compressed(api.OutputKey(renderPrefix, 0, 1, 1, "packed"), "content")
	inside := packed // its object is whole, and has another content
	inside.SHA256 = gone.SHA256
	noZstd := *w.put("files/plain", "no zstd at all")
	noZstd.Packed = tasklet.Packed{Encoding: tasklet.EncodingZstd, Size: noZstd.Size, SHA256: noZstd.SHA256}
	object := packed
	object.Packed.SHA256 = gone.SHA256
	damaged := w.manifest(0, did(nil))
	w.put(damaged.Key, strings.Repeat("x", int(damaged.Size)))
	for name, tc := range map[string]struct {
		manifests []tasklet.LinesRef
		want      error
	}{
		"a segment that is gone":  {of(gone), storage.ErrNotExist},
		"other bytes":             {of(changed), storage.ErrCorrupt},
		"fewer bytes":             {of(short), storage.ErrCorrupt},
		"another packed content":  {of(inside), storage.ErrCorrupt},
		"another packed object":   {of(object), storage.ErrCorrupt},
		"a packed one that is no": {of(noZstd), storage.ErrCorrupt},
		"a manifest that is gone": {[]tasklet.LinesRef{{Key: renderPrefix + "manifests/none", Size: 100, N: 1}}, storage.ErrNotExist},
		"a damaged manifest":      {[]tasklet.LinesRef{damaged}, lines.ErrFormat},
	} {
		in := api.GatherInput{App: "app", Owner: "team", Run: "app-1", Step: "total", Outputs: gatherOutputs[1:3], Manifests: tc.manifests}
		_, err := newGatherer(w.store, in, readAttempts-1).run(t.Context())
		var app *temporal.ApplicationError
		if !errors.Is(err, tc.want) || errors.As(err, &app) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		_, err = newGatherer(w.store, in, readAttempts).run(t.Context())
		if !errors.As(err, &app) || app.Type() != api.ErrorInvalidResults || !app.NonRetryable() {
			t.Errorf("%s, at the last attempt: %v", name, err)
		}
	}
}
