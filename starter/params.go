package starter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// filePrefix is where api.FileKey puts files.
const filePrefix = "files"

// arguments are the checked parameters of a run and the local files among them.
type arguments struct {
	bound map[string]any
	files map[string]tasklet.FileRef // to store, by path
}

// bind reads, checks and completes the parameters. Files are hashed, not yet
// stored, so that nothing is stored for a run that cannot start.
func bind(ctx context.Context, app *App, words map[string]string, typed map[string]any) (arguments, []string, error) {
	var a arguments
	var problems []string
	values, err := app.Flow.ParseParams(words)
	if err != nil {
		problems, err = paramProblems(err)
		if err != nil {
			return a, nil, err
		}
		values = map[string]any{}
	}
	maps.Copy(values, typed)

	local := &localFiles{refs: map[string]tasklet.FileRef{}}
	for _, name := range app.Flow.FileParams() {
		if value, ok := values[name]; ok {
			param, _ := app.Flow.Param(name)
			values[name] = local.replace(ctx, param.Type, name, "", value)
		}
	}
	for name, file := range app.Flow.DefaultFiles(values) {
		values[name] = local.replace(ctx, flow.File, name, app.Dir, file)
	}
	if len(local.problems)+len(problems) > 0 {
		return a, append(problems, local.problems...), ctx.Err()
	}
	a.files = local.refs
	if a.bound, err = app.Flow.Bind(values); err != nil {
		problems, err = paramProblems(err)
		return a, problems, err
	}
	return a, nil, nil
}

func paramProblems(err error) ([]string, error) {
	if wrong, ok := errors.AsType[*flow.ParamError](err); ok {
		return wrong.Messages, nil
	}
	return nil, err
}

// localFiles turns paths into references.
type localFiles struct {
	refs     map[string]tasklet.FileRef // by path
	problems []string
}

// replace turns a path, or a list of them, into references. What is a reference
// already stays.
func (l *localFiles) replace(ctx context.Context, t flow.Type, param, dir string, value any) any {
	switch v := value.(type) {
	case string:
		name := v
		if dir != "" {
			name = filepath.Join(dir, filepath.FromSlash(v))
		}
		return l.reference(ctx, t, param, name)
	case []string:
		list := make([]any, len(v))
		for i := range v {
			list[i] = l.replace(ctx, t, param, dir, v[i])
		}
		return list
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = l.replace(ctx, t, param, dir, v[i])
		}
		return list
	}
	return value
}

func (l *localFiles) reference(ctx context.Context, t flow.Type, param, name string) any {
	if ref, ok := l.refs[name]; ok {
		return ref
	}
	hash, what := hashFile, "file"
	if t == flow.Directory {
		hash, what = hashDirectory, "directory"
	}
	ref, err := hash(ctx, name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s %s does not exist", what, name)
		}
		l.problems = append(l.problems, fmt.Sprintf("parameter %q: %v", param, err))
		return ref
	}
	l.refs[name] = ref
	return ref
}

func hashFile(ctx context.Context, name string) (tasklet.FileRef, error) {
	f, err := os.Open(name)
	if err != nil {
		return tasklet.FileRef{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return tasklet.FileRef{}, err
	}
	if !info.Mode().IsRegular() {
		return tasklet.FileRef{}, fmt.Errorf("%s is not a regular file", name)
	}
	digest := storage.NewDigest()
	if _, err := f.WriteTo(contextWriter{ctx, digest}); err != nil {
		return tasklet.FileRef{}, err
	}
	sum := digest.SHA256()
	return tasklet.NewFileRef(api.FileKey(sum), digest.Size(), sum, filepath.Base(name)), nil
}

type contextWriter struct {
	ctx context.Context
	*storage.Digest
}

func (w contextWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.Digest.Write(p)
}

// storeFiles stores files and directories under their hash.
func storeFiles(ctx context.Context, store storage.Store, refs map[string]tasklet.FileRef) error {
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		put := storeFile
		if refs[name].IsDirectory() {
			put = storeDirectory
		}
		if err := put(ctx, store, name, refs[name]); err != nil {
			return fmt.Errorf("store %s: %w", name, err)
		}
	}
	return nil
}

func storeFile(ctx context.Context, store storage.Store, name string, _ tasklet.FileRef) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = storage.PutContent(ctx, store, filePrefix, f)
	return err
}

func encodeParams(bound map[string]any) (map[string]json.RawMessage, error) {
	out := make(map[string]json.RawMessage, len(bound))
	for name, value := range bound {
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("parameter %q: %w", name, err)
		}
		out[name] = raw
	}
	return out, nil
}
