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
	files []string // paths to store
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
			values[name] = local.replace(ctx, name, "", value)
		}
	}
	for name, file := range app.Flow.DefaultFiles(values) {
		values[name] = local.replace(ctx, name, app.Dir, file)
	}
	if len(local.problems)+len(problems) > 0 {
		return a, append(problems, local.problems...), ctx.Err()
	}
	a.files = slices.Sorted(maps.Keys(local.refs))
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
func (l *localFiles) replace(ctx context.Context, param, dir string, value any) any {
	switch v := value.(type) {
	case string:
		name := v
		if dir != "" {
			name = filepath.Join(dir, filepath.FromSlash(v))
		}
		return l.reference(ctx, param, name)
	case []string:
		list := make([]any, len(v))
		for i := range v {
			list[i] = l.replace(ctx, param, dir, v[i])
		}
		return list
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = l.replace(ctx, param, dir, v[i])
		}
		return list
	}
	return value
}

func (l *localFiles) reference(ctx context.Context, param, name string) any {
	if ref, ok := l.refs[name]; ok {
		return ref
	}
	ref, err := hashFile(ctx, name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("file %s does not exist", name)
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

// storeFiles stores files under their hash.
func storeFiles(ctx context.Context, store storage.Store, names []string) error {
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		_, err = storage.PutContent(ctx, store, filePrefix, f)
		f.Close()
		if err != nil {
			return fmt.Errorf("store %s: %w", name, err)
		}
	}
	return nil
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
