package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"

	"github.com/baas-batch/baas/storage/internal/stream"
)

// ErrCorrupt is returned by CopyVerified when the bytes are not those expected.
var ErrCorrupt = errors.New("content differs from its hash")

// Digest counts and hashes bytes that pass by.
type Digest struct {
	hash hash.Hash
	size int64
}

// NewDigest is ready for use.
func NewDigest() *Digest { return &Digest{hash: sha256.New()} }

// Write never fails.
func (d *Digest) Write(p []byte) (int, error) {
	d.size += int64(len(p))
	return d.hash.Write(p)
}

// Size is the number of bytes so far.
func (d *Digest) Size() int64 { return d.size }

// SHA256 is the hash of the bytes so far, in lower-case hex.
func (d *Digest) SHA256() string { return hex.EncodeToString(d.hash.Sum(nil)) }

// HashReader hashes what is read through the reader that it returns.
func HashReader(r io.Reader) (io.Reader, *Digest) {
	d := NewDigest()
	return io.TeeReader(r, d), d
}

// HashWriter hashes what is written through the writer that it returns.
func HashWriter(w io.Writer) (io.Writer, *Digest) {
	d := NewDigest()
	return io.MultiWriter(w, d), d
}

// Content names bytes in a store together with their hash.
type Content struct {
	Key    string
	Offset int64
	Size   int64  // bytes
	SHA256 string // of exactly these bytes, hex
}

// CopyVerified copies the bytes of c to w and checks them against their size
// and hash. On ErrCorrupt w has been written to; the caller throws that away.
func CopyVerified(ctx context.Context, w io.Writer, s Store, c Content) (err error) {
	r, _, err := GetParallel(ctx, s, c.Key, c.Offset, c.Size, Parallel{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	hashed, digest := HashWriter(w)
	if _, err := io.CopyBuffer(hashed, struct{ io.Reader }{r}, make([]byte, 256<<10)); err != nil {
		return fmt.Errorf("copy %q: %w", c.Key, err)
	}
	if digest.Size() != c.Size {
		return fmt.Errorf("copy %q: %w: %d bytes from offset %d, want %d", c.Key, ErrCorrupt, digest.Size(), c.Offset, c.Size)
	}
	if got := digest.SHA256(); !strings.EqualFold(got, c.SHA256) {
		return fmt.Errorf("copy %q: %w: SHA-256 is %s, want %s", c.Key, ErrCorrupt, got, c.SHA256)
	}
	return nil
}

// PutContent stores r under prefix/<SHA-256 in hex> and gives that as Content.
// What is there already with the same size is not sent again. A reader that
// cannot seek is spooled to a temporary file first, since its hash is its name.
func PutContent(ctx context.Context, s Store, prefix string, r io.Reader) (Content, error) {
	seeker, ok := r.(io.ReadSeeker)
	if ok {
		_, err := seeker.Seek(0, io.SeekCurrent)
		ok = err == nil // a pipe is an *os.File too
	}
	if !ok {
		spool, err := newSpool(ctx, r)
		if err != nil {
			return Content{}, fmt.Errorf("put content under %q: %w", prefix, err)
		}
		defer spool.Close()
		seeker = spool
	}
	c, err := putSeeker(ctx, s, strings.TrimSuffix(prefix, "/"), seeker)
	if err != nil {
		return Content{}, fmt.Errorf("put content under %q: %w", prefix, err)
	}
	return c, nil
}

func putSeeker(ctx context.Context, s Store, prefix string, r io.ReadSeeker) (Content, error) {
	start, err := r.Seek(0, io.SeekCurrent)
	if err != nil {
		return Content{}, err
	}
	digest := NewDigest()
	if _, err := io.Copy(digest, stream.WithContext(ctx, r)); err != nil {
		return Content{}, err
	}
	c := Content{Key: prefix + "/" + digest.SHA256(), Size: digest.Size(), SHA256: digest.SHA256()}
	switch info, err := s.Stat(ctx, c.Key); {
	case err == nil && info.Size == c.Size:
		return c, nil
	case err != nil && !errors.Is(err, ErrNotExist):
		return Content{}, err
	}
	if _, err := r.Seek(start, io.SeekStart); err != nil {
		return Content{}, err
	}
	if _, err := s.Put(ctx, c.Key, &unchanged{r, NewDigest(), c.SHA256}, PutOptions{}); err != nil {
		return Content{}, err
	}
	return c, nil
}

// unchanged fails instead of ending when the bytes are not those that were
// hashed, so that a file which changes meanwhile is never stored under a wrong name.
type unchanged struct {
	r      io.Reader
	digest *Digest
	want   string
}

func (u *unchanged) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	u.digest.Write(p[:n])
	if err == io.EOF && u.digest.SHA256() != u.want {
		return n, fmt.Errorf("%w: it changed while it was read", ErrCorrupt)
	}
	return n, err
}

// spool is a temporary file that is gone when closed.
type spool struct{ *os.File }

func newSpool(ctx context.Context, r io.Reader) (_ *spool, err error) {
	f, err := os.CreateTemp("", "baas-spool-*")
	if err != nil {
		return nil, err
	}
	s := &spool{f}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if _, err := io.Copy(f, stream.WithContext(ctx, r)); err != nil {
		return nil, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return s, err
}

func (s *spool) Close() error {
	return errors.Join(s.File.Close(), os.Remove(s.Name()))
}
