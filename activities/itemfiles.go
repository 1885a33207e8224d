package activities

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"iter"
	"path"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

// itemBounds bound a directory that is gone over.
var itemBounds = tree.Bounds{Bytes: 1 << 50, Entries: 2_000_000}

// maxItemArchive bounds what an archive may unpack to, in bytes.
const maxItemArchive = 1 << 30

// files goes over the regular files of a directory.
func (l *lister) files(ctx context.Context, ref tasklet.FileRef) iter.Seq2[any, error] {
	if ref.Form == tasklet.FormArchive {
		return l.archived(ctx, ref)
	}
	return func(yield func(any, error) bool) {
		if ref.Form != tasklet.FormTree {
			yield(nil, badItems("for_each: %s is not a directory", ref.Name))
			return
		}
		manifest, err := l.open(ctx, ref)
		if err != nil {
			yield(nil, err)
			return
		}
		defer manifest.Close()
		base, size := ref.Content()
		entries, err := tree.ReadManifest(manifest, size, itemBounds)
		if err != nil {
			yield(nil, treeFault(ref, err))
			return
		}
		for _, e := range entries {
			if e.Kind != tree.File {
				continue
			}
			one := tasklet.NewFileRef(ref.Key, e.Size, e.SHA256.String(), path.Base(e.Path))
			one.Offset = base + e.Offset
			if !yield(one, nil) {
				return
			}
		}
	}
}

// archived goes over the files of an archive, which first become parts of one
// object: what is inside an archive cannot be referred to.
func (l *lister) archived(ctx context.Context, ref tasklet.FileRef) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		refs, err := l.unfold(ctx, ref)
		if err != nil {
			yield(nil, treeFault(ref, err))
			return
		}
		for _, one := range refs {
			if !yield(one, nil) {
				return
			}
		}
	}
}

// unfold copies the files of an archive into one object.
func (l *lister) unfold(ctx context.Context, ref tasklet.FileRef) ([]tasklet.FileRef, error) {
	packed, err := l.open(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer packed.Close()
	plain := piped(func(w io.Writer) error { return decompress(w, packed, ref.Key, maxItemArchive) })
	key := api.ItemsKey(l.prefix(), l.attempt) + ".files"
	r, w := io.Pipe()
	copied := make(chan []tasklet.FileRef, 1)
	go func() {
		refs, err := copyFiles(w, tar.NewReader(plain), key)
		_ = w.CloseWithError(err)
		copied <- refs
	}()
	_, err = l.store.Put(ctx, key, r, storage.PutOptions{})
	_, _ = r.Close(), plain.Close()
	return <-copied, err
}

// copyFiles writes the regular files of an archive one behind the other.
func copyFiles(w io.Writer, archive *tar.Reader, key string) (refs []tasklet.FileRef, err error) {
	offset := int64(0)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return refs, nil
		}
		if err != nil {
			return nil, err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		hashed, digest := storage.HashWriter(w)
		if _, err := io.Copy(hashed, archive); err != nil {
			return nil, err
		}
		one := tasklet.NewFileRef(key, digest.Size(), digest.SHA256(), path.Base(header.Name))
		one.Offset = offset
		offset += digest.Size()
		refs = append(refs, one)
	}
}

// treeFault tells a directory that is to blame from storage that fails.
func treeFault(ref tasklet.FileRef, err error) error {
	var bad *tree.Error
	if errors.As(err, &bad) {
		return badItems("for_each: %s: %v", ref.Name, bad)
	}
	return err
}
