package starter

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

// directoryBounds are those of the executor.
var directoryBounds = tree.Bounds{Bytes: tree.MaxBytes, Entries: tree.MaxEntries}

// hashDirectory refers to a directory as writeDirectory would store it, so that
// the hash depends on nothing but paths, modes and contents.
func hashDirectory(ctx context.Context, dir string) (tasklet.FileRef, error) {
	digest := storage.NewDigest()
	ref, err := writeDirectory(dir, contextWriter{ctx, digest})
	ref.Key = api.FileKey(digest.SHA256())
	return ref, err
}

// storeDirectory stores a directory under the hash that it had. One that has changed
// since is not stored, and what is there already is not sent again.
func storeDirectory(ctx context.Context, store storage.Store, dir string, want tasklet.FileRef) error {
	switch info, err := store.Stat(ctx, want.Key); {
	case err == nil && info.Size == want.Stored():
		return nil
	case err != nil && !errors.Is(err, storage.ErrNotExist):
		return err
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffered := bufio.NewWriterSize(w, 1<<20)
		hashed, digest := storage.HashWriter(buffered)
		_, err := writeDirectory(dir, hashed)
		if err == nil {
			err = buffered.Flush()
		}
		if err == nil && api.FileKey(digest.SHA256()) != want.Key {
			err = errors.New("it changed meanwhile")
		}
		_ = w.CloseWithError(err)
	}()
	_, err := store.Put(ctx, want.Key, r, storage.PutOptions{})
	_ = r.Close() // ends what still writes
	<-done
	return err
}

// writeDirectory writes files and manifest of a directory as a tree. The key of the
// reference is left open.
func writeDirectory(dir string, w io.Writer) (ref tasklet.FileRef, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return ref, err
	}
	defer root.Close()
	entries, err := tree.List(root, openFile, directoryBounds)
	if err != nil {
		return ref, err
	}
	for i := range entries {
		if entries[i].Kind != tree.File {
			continue
		}
		if err := writeFile(root, &entries[i], w); err != nil {
			return ref, err
		}
	}
	hashed, manifest := storage.HashWriter(w)
	if err := tree.WriteManifest(hashed, entries); err != nil {
		return ref, err
	}
	absolute, err := filepath.Abs(dir)
	ref = tasklet.NewFileRef("", manifest.Size(), manifest.SHA256(), filepath.Base(absolute))
	ref.Form, ref.Bytes, ref.Offset = tasklet.FormTree, tree.Size(entries), tree.Size(entries)
	return ref, err
}

func writeFile(root *os.Root, e *tree.Entry, w io.Writer) error {
	f, err := root.Open(e.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	hashed, digest := storage.HashWriter(w)
	if n, err := io.CopyN(hashed, f, e.Size); err != nil {
		return fmt.Errorf("%s: %d of %d bytes read: %w", e.Path, n, e.Size, err)
	}
	_, err = hex.Decode(e.SHA256[:], []byte(digest.SHA256()))
	return err
}

func openFile(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// fetchDirectory writes a directory beside its place and moves the whole there.
func (c *Client) fetchDirectory(ctx context.Context, root *os.Root, name string, ref tasklet.FileRef) (err error) {
	partial := name + ".partial"
	whole, unfinished := filepath.Join(root.Name(), name), filepath.Join(root.Name(), partial)
	if err := errors.Join(tree.Remove(unfinished), root.Mkdir(partial, 0o755)); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tree.Remove(unfinished))
		}
	}()
	dir, err := root.OpenRoot(partial)
	if err != nil {
		return err
	}
	defer dir.Close()
	object, err := os.CreateTemp("", "baas-directory-*")
	if err != nil {
		return err
	}
	defer os.Remove(object.Name())
	defer object.Close()
	content := storage.Content{Key: ref.Key, Offset: ref.Offset, Size: ref.Size, SHA256: ref.SHA256}
	if err := storage.CopyVerified(ctx, object, c.store, content); err != nil {
		return err
	}
	if _, err := object.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if ref.Form == tasklet.FormArchive {
		err = tree.Unpack(object, tree.Unpacking{Dir: unfinished, Bounds: directoryBounds})
	} else {
		err = c.fetchTree(ctx, dir, object, ref)
	}
	if err != nil {
		return err
	}
	return errors.Join(tree.Remove(whole), root.Rename(partial, name))
}

func (c *Client) fetchTree(ctx context.Context, dir *os.Root, manifest io.Reader, ref tasklet.FileRef) error {
	base, size := ref.Content()
	entries, err := tree.ReadManifest(manifest, size, directoryBounds)
	if err != nil {
		return err
	}
	if err := tree.Make(dir, entries); err != nil {
		return err
	}
	// One stream: there may be many small files.
	content, _, err := storage.GetParallel(ctx, c.store, ref.Key, base, size, storage.Parallel{})
	if err != nil {
		return err
	}
	defer content.Close()
	for _, e := range entries {
		if e.Kind != tree.File {
			continue
		}
		if err := fillFile(dir, e, content); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	return tree.Finish(dir, entries, nil)
}

// fillFile writes a file of a tree from where its content begins, and checks it.
func fillFile(dir *os.Root, e tree.Entry, content io.Reader) error {
	f, err := dir.OpenFile(e.Path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	hashed, digest := storage.HashWriter(f)
	_, err = io.CopyN(hashed, content, e.Size)
	if errors.Is(err, io.EOF) || err == nil && digest.SHA256() != e.SHA256.String() {
		err = storage.ErrCorrupt
	}
	return errors.Join(err, f.Close())
}
