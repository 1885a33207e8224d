package executor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

// outputs stores what one partition has left in its output directory.
type outputs struct {
	task     *task
	part     tasklet.Partition
	declared []tasklet.Output
	dir      string
	spool    string // for archives on their way
	user     user
	redactor *redactor // nil when the partition has no secrets
}

// collect checks and stores all declared outputs. Its error is an *outputError
// when the tasklet is to blame.
func (o outputs) collect(ctx context.Context) (map[string]json.RawMessage, error) {
	if err := o.redactor.secretOutputs(o.declared, o.dir, o.user); err != nil {
		return nil, err
	}
	// All that is cheap to check comes before the first upload.
	values, err := collectValues(o.declared, o.dir, o.user)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(o.declared, func(d tasklet.Output) bool { return d.Type.IsFile() }) {
		return values, nil
	}
	root, err := os.OpenRoot(o.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	found := make(map[string]func() (any, error), len(o.declared))
	for _, d := range o.declared {
		if !d.Type.IsFile() {
			continue
		}
		save, err := o.find(ctx, root, d)
		if err != nil {
			return nil, err
		}
		if save != nil {
			found[d.Name] = save
		}
	}
	for _, d := range o.declared {
		save, ok := found[d.Name]
		if !ok {
			continue
		}
		v, err := save()
		if err != nil {
			return nil, fmt.Errorf("output %s: %w", d.Name, err)
		}
		if values[d.Name], err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// outputFile is one file of an output, with its path below the output directory.
type outputFile struct {
	path string
	size int64
}

// find checks one declared output, and gives the function that stores it; nil when
// an optional one is missing.
func (o outputs) find(ctx context.Context, root *os.Root, d tasklet.Output) (save func() (any, error), err error) {
	info, err := root.Lstat(d.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && d.Optional:
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, badOutput("output %q is missing: the command has not written $%s/%s", d.Name, tasklet.EnvOutputs, d.Name)
	case err != nil:
		return nil, badOutput("output %q: %v", d.Name, err)
	case o.part.Outputs[d.Name].Key == "" && o.task.segments == nil:
		return nil, &invalidError{fmt.Sprintf("output %q has no place in storage", d.Name)}
	}
	switch {
	case d.Type == tasklet.TypeFile:
		f, err := o.check(root, d, d.Name)
		return func() (any, error) {
			if d.Compress != "" && f.size > 0 {
				return o.saveCompressed(ctx, root, d, f)
			}
			refs, err := o.save(ctx, root, d, []outputFile{f})
			return refs[0], err
		}, err
	case d.Type == tasklet.TypeDirectory && info.IsDir():
		return o.findDirectory(ctx, root, d)
	case d.Type == tasklet.TypeDirectory:
		return nil, badOutput("output %q is to be a directory", d.Name)
	case !info.IsDir():
		return nil, badOutput("output %q is to be a directory of files", d.Name)
	}
	files, err := o.findFiles(root, d)
	return func() (any, error) { return o.save(ctx, root, d, files) }, err
}

func (o outputs) findFiles(root *os.Root, d tasklet.Output) ([]outputFile, error) {
	entries, err := fs.ReadDir(root.FS(), d.Name) // sorted by name
	if err != nil {
		return nil, badOutput("output %q: %v", d.Name, err)
	}
	files := []outputFile{}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		f, err := o.check(root, d, path.Join(d.Name, e.Name()))
		if err != nil {
			return nil, err
		}
		if o.redactor.finds([]byte(e.Name())) {
			return nil, errSecretOutput(fmt.Sprintf("the name of a file of output %q", d.Name))
		}
		files = append(files, f)
	}
	return files, nil
}

func (o outputs) check(root *os.Root, d tasklet.Output, name string) (outputFile, error) {
	f, info, err := openRegular(root, name, o.user)
	if err != nil {
		return outputFile{}, badOutput("output %q: %v", d.Name, err)
	}
	defer f.Close()
	return outputFile{name, info.Size()}, nil
}

// save uploads the files of an output as one object, and hashes each meanwhile.
func (o outputs) save(ctx context.Context, root *os.Root, d tasklet.Output, files []outputFile) ([]tasklet.FileRef, error) {
	refs := make([]tasklet.FileRef, len(files))
	if len(files) == 0 {
		return refs, nil
	}
	sizes := make([]int64, len(files))
	var total int64
	for i, f := range files {
		sizes[i] = f.size
		refs[i] = tasklet.NewFileRef("", f.size, "", path.Base(f.path))
		refs[i].Offset = total
		total += f.size
	}
	body := newJoined(sizes, func(i int) (io.ReaderAt, io.Closer, error) {
		f, _, err := openRegular(root, files[i].path, o.user)
		return f, f, err
	})
	defer body.close()
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for i, f := range files {
			sum, err := hashFile(gctx, root, f, o.user)
			if err != nil {
				return err
			}
			refs[i].SHA256 = sum.String()
		}
		return nil
	})
	var key string
	var base int64
	group.Go(func() (err error) {
		key, base, err = o.task.place(gctx, o.upload(d, body, total))
		return err
	})
	if err := group.Wait(); err != nil {
		return refs, err
	}
	for i, f := range files {
		refs[i].Key = key
		refs[i].Offset += base
		o.keep(ctx, root, f.path, refs[i].SHA256, f.size)
	}
	return refs, nil
}

// keep gives a stored file to the cache: its task has ended, and nobody changes it.
func (o outputs) keep(ctx context.Context, root *os.Root, name, sha256 string, size int64) {
	if !o.task.x.store.cache.wants(sha256, size) {
		return
	}
	if f, _, err := openRegular(root, name, o.user); err == nil {
		o.task.x.store.cache.keepFile(ctx, sha256, size, f)
		_ = f.Close()
	}
}

func hashFile(ctx context.Context, root *os.Root, file outputFile, u user) (sum tree.Hash, err error) {
	f, _, err := openRegular(root, file.path, u)
	if err != nil {
		return sum, &localError{err}
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, &cancelReader{ctx, io.LimitReader(f, file.size)}); err != nil {
		return sum, &localError{err}
	}
	return tree.Hash(h.Sum(nil)), nil
}

// cancelReader stops reading when its context ends.
type cancelReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}

func hashReader(ctx context.Context, r io.ReaderAt, size int64) (string, error) {
	h := sha256.New()
	if _, err := copyBytes(h, &cancelReader{ctx, io.NewSectionReader(r, 0, size)}); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
