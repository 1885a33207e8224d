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
)

// outputs stores what one partition has left in its output directory.
type outputs struct {
	store    *store
	taskID   string
	part     tasklet.Partition
	declared []tasklet.Output
	dir      string
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
	root, err := os.OpenRoot(o.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	found := make(map[string][]outputFile, len(o.declared))
	for _, d := range o.declared {
		if !d.Type.IsFile() {
			continue
		}
		files, err := o.find(root, d)
		if err != nil {
			return nil, err
		}
		if files != nil {
			found[d.Name] = files
		}
	}
	for _, d := range o.declared {
		files, ok := found[d.Name]
		if !ok {
			continue
		}
		refs, err := o.save(ctx, root, d, files)
		if err != nil {
			return nil, fmt.Errorf("output %s: %w", d.Name, err)
		}
		var v any = refs
		if d.Type == tasklet.TypeFile {
			v = refs[0]
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

// find lists the files of one declared output; nil when an optional one is missing.
func (o outputs) find(root *os.Root, d tasklet.Output) ([]outputFile, error) {
	info, err := root.Lstat(d.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && d.Optional:
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, badOutput("output %q is missing: the command has not written $%s/%s", d.Name, tasklet.EnvOutputs, d.Name)
	case err != nil:
		return nil, badOutput("output %q: %v", d.Name, err)
	case o.part.Outputs[d.Name].Key == "":
		return nil, &invalidError{fmt.Sprintf("output %q has no place in storage", d.Name)}
	}
	if d.Type == tasklet.TypeFile {
		f, err := o.check(root, d, d.Name)
		return []outputFile{f}, err
	}
	if !info.IsDir() {
		return nil, badOutput("output %q is to be a directory of files", d.Name)
	}
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
	target := o.part.Outputs[d.Name]
	refs := make([]tasklet.FileRef, len(files))
	if len(files) == 0 {
		return refs, nil
	}
	sizes := make([]int64, len(files))
	var total int64
	for i, f := range files {
		sizes[i] = f.size
		refs[i] = tasklet.NewFileRef(target.Key, f.size, "", path.Base(f.path))
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
			var err error
			if refs[i].SHA256, err = hashFile(gctx, root, f, o.user); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		return o.store.upload(gctx, upload{
			taskID: o.taskID, target: target, body: body, size: total,
			request: tasklet.Request{Partition: o.part.Index, Role: tasklet.RoleOutput, Name: d.Name},
		})
	})
	return slices.Clip(refs), group.Wait()
}

func hashFile(ctx context.Context, root *os.Root, file outputFile, u user) (string, error) {
	f, _, err := openRegular(root, file.path, u)
	if err != nil {
		return "", &localError{err}
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, &cancelReader{ctx, io.LimitReader(f, file.size)}); err != nil {
		return "", &localError{err}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// cancelReader stops reading when its context ends.
type cancelReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

func hashReader(r io.ReaderAt, size int64) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(r, 0, size)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
