package executor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

// fetchPacked fills an empty file with the content of a compressed one.
func (s *store) fetchPacked(ctx context.Context, d download, f *os.File) error {
	temp, err := os.MkdirTemp(d.spool, "packed-")
	if err != nil {
		return &localError{err}
	}
	defer os.RemoveAll(temp)
	want := d.source
	d.source.Size, d.source.SHA256, d.source.Packed = want.Packed.Size, want.Packed.SHA256, tasklet.Packed{}
	d.path, d.user, d.traffic = filepath.Join(temp, "object"), user{}, nil
	if err := s.download(ctx, d); err != nil {
		return err
	}
	packed, err := os.Open(d.path)
	if err != nil {
		return &localError{err}
	}
	defer packed.Close()
	h := sha256.New()
	err = tree.Decompress(io.MultiWriter(f, h), &cancelReader{ctx, packed}, want.Size)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	if have := hex.EncodeToString(h.Sum(nil)); have != want.SHA256 {
		return &unavailableError{&mismatchError{have, want.SHA256}}
	}
	return nil
}

// saveCompressed stores a file compressed.
func (o outputs) saveCompressed(ctx context.Context, root *os.Root, d tasklet.Output, file outputFile) (any, error) {
	f, _, err := openRegular(root, file.path, o.user)
	if err != nil {
		return nil, &localError{err}
	}
	defer f.Close()
	packed, err := os.CreateTemp(o.spool, "packed-")
	if err != nil {
		return nil, &localError{err}
	}
	defer os.Remove(packed.Name())
	defer packed.Close()
	content, object := sha256.New(), sha256.New()
	plain := io.TeeReader(&cancelReader{ctx, io.LimitReader(f, file.size)}, content)
	if err := tree.Compress(io.MultiWriter(packed, object), plain); err != nil {
		return nil, &localError{err}
	}
	size, err := packed.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, &localError{err}
	}
	key, err := o.task.x.store.uploadAnywhere(ctx, o.upload(d, packed, size))
	if err != nil {
		return nil, err
	}
	ref := tasklet.NewFileRef(key, file.size, hex.EncodeToString(content.Sum(nil)), d.Name)
	ref.Packed = tasklet.Packed{Encoding: tasklet.EncodingZstd, Size: size, SHA256: hex.EncodeToString(object.Sum(nil))}
	o.keep(ctx, root, file.path, ref.SHA256, file.size)
	return ref, nil
}
