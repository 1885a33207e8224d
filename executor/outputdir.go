package executor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

// maxArchiveEntries of a directory that is stored as one archive.
const maxArchiveEntries = 4096

// findDirectory checks a declared directory, and gives the function that stores it.
func (o outputs) findDirectory(ctx context.Context, root *os.Root, d tasklet.Output) (func() (any, error), error) {
	dir, err := root.OpenRoot(d.Name)
	if err != nil {
		return nil, badOutput("output %q: %v", d.Name, err)
	}
	defer dir.Close()
	entries, err := tree.List(dir, opener(o.user), o.task.x.store.tune.tree())
	if err != nil {
		return nil, badOutput("output %q: %v", d.Name, err)
	}
	return func() (any, error) {
		dir, err := root.OpenRoot(d.Name)
		if err != nil {
			return nil, &localError{err}
		}
		defer dir.Close()
		if tree.Size(entries) <= o.task.x.store.tune.SinglePut && len(entries) <= maxArchiveEntries {
			return o.saveArchive(ctx, dir, d, tree.Size(entries))
		}
		return o.saveTree(ctx, dir, d, entries)
	}, nil
}

func (o outputs) upload(d tasklet.Output, body io.ReaderAt, size int64) upload {
	return upload{
		taskID: o.task.launch.TaskID, target: o.part.Outputs[d.Name], body: body, size: size,
		request: tasklet.Request{Partition: o.part.Index, Role: tasklet.RoleOutput, Name: d.Name},
	}
}

// saveArchive stores a small directory as one archive.
func (o outputs) saveArchive(ctx context.Context, dir *os.Root, d tasklet.Output, content int64) (any, error) {
	f, err := os.CreateTemp(o.spool, "directory-")
	if err != nil {
		return nil, &localError{err}
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := tree.Pack(f, tree.Packing{Root: dir, Sub: ".", Open: opener(o.user), Bounds: o.task.x.store.tune.archive()}); err != nil {
		return nil, &localError{err}
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, &localError{err}
	}
	sum, err := hashReader(ctx, f, size)
	if err != nil {
		return nil, &localError{err}
	}
	key, offset, err := o.task.place(ctx, o.upload(d, f, size))
	if err != nil {
		return nil, err
	}
	o.task.x.store.cache.keepFile(ctx, sum, size, f)
	ref := tasklet.NewFileRef(key, size, sum, d.Name)
	ref.Form, ref.Bytes, ref.Offset = tasklet.FormArchive, content, offset
	return ref, nil
}

// saveTree stores the files of a directory one behind the other, and then the
// manifest with their hashes, as one object.
func (o outputs) saveTree(ctx context.Context, dir *os.Root, d tasklet.Output, entries []tree.Entry) (any, error) {
	var files []*tree.Entry
	var sizes []int64
	for i := range entries {
		if e := &entries[i]; e.Kind == tree.File {
			files, sizes = append(files, e), append(sizes, e.Size)
			e.SHA256 = tree.Hash{1} // as long as any
		}
	}
	var length counter
	if err := tree.WriteManifest(&length, entries); err != nil {
		return nil, &localError{err}
	}
	content := newJoined(sizes, func(i int) (io.ReaderAt, io.Closer, error) {
		f, _, err := openRegular(dir, files[i].Path, o.user)
		return f, f, err
	})
	defer content.close()
	ref := tasklet.NewFileRef("", int64(length), "", d.Name)
	ref.Form, ref.Bytes, ref.Offset = tasklet.FormTree, tree.Size(entries), tree.Size(entries)

	group, gctx := errgroup.WithContext(ctx)
	hashed, manifest := make(chan struct{}), new(bytes.Buffer)
	group.Go(func() (err error) {
		for _, e := range files {
			if e.SHA256, err = hashFile(gctx, dir, outputFile{e.Path, e.Size}, o.user); err != nil {
				return err
			}
		}
		if err := tree.WriteManifest(manifest, entries); err != nil {
			return &localError{err}
		}
		ref.SHA256, err = hashReader(gctx, bytes.NewReader(manifest.Bytes()), int64(manifest.Len()))
		close(hashed)
		return err
	})
	group.Go(func() (err error) {
		body := &withManifest{content, ref.Bytes, manifest, hashed, gctx}
		ref.Key, err = o.task.x.store.uploadAnywhere(gctx, o.upload(d, body, ref.Bytes+ref.Size))
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, e := range files {
		o.keep(ctx, dir, e.Path, e.SHA256.String(), e.Size)
	}
	return ref, nil
}

// counter counts bytes.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// withManifest reads files and the manifest behind them, which is there once all
// hashes are.
type withManifest struct {
	files    io.ReaderAt
	size     int64 // of files
	manifest *bytes.Buffer
	ready    <-chan struct{}
	ctx      context.Context
}

// ReadAt implements io.ReaderAt.
func (w *withManifest) ReadAt(p []byte, offset int64) (n int, err error) {
	if left := w.size - offset; left > 0 {
		n, err = w.files.ReadAt(p[:min(int64(len(p)), left)], offset)
		if n == len(p) || err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
	}
	select {
	case <-w.ready:
	case <-w.ctx.Done():
		return n, context.Cause(w.ctx)
	}
	m, err := bytes.NewReader(w.manifest.Bytes()).ReadAt(p[n:], offset+int64(n)-w.size)
	return n + m, err
}
