package file

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"github.com/baas-batch/baas/storage"
)

// A multipart upload is the directory uploadsDir/<ID>: the file "meta" and, for
// each part, parts/<number>/<ETag>. Whoever changes it holds its lock.

// uploadMeta is the file "meta".
type uploadMeta struct {
	Key     string        `json:"key"`
	Created time.Time     `json:"created"`
	Done    *storage.Info `json:"done,omitempty"` // after CompleteUpload; the parts are gone then
}

func uploadPath(id string) string { return uploadsDir + "/" + id }
func metaPath(id string) string   { return uploadPath(id) + "/meta" }
func partsPath(id string) string  { return uploadPath(id) + "/parts" }
func partPath(id string, part int) string {
	return partsPath(id) + "/" + strconv.Itoa(part)
}

// CreateUpload implements storage.Store.
func (s *Store) CreateUpload(ctx context.Context, key string) (string, error) {
	if err := precheck(ctx, key); err != nil {
		return "", fmt.Errorf("create upload: %w", err)
	}
	id := randomName()
	if err := s.createUpload(id, uploadMeta{Key: key, Created: time.Now().UTC()}); err != nil {
		return "", fmt.Errorf("create upload of %q: %w", key, err)
	}
	return id, nil
}

func (s *Store) createUpload(id string, meta uploadMeta) error {
	b, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	building := tempDir + "/" + id
	if err := s.root.MkdirAll(building+"/parts", dirMode); err != nil {
		return err
	}
	err = s.writeFile(context.Background(), building+"/meta", b, false)
	if err == nil {
		err = s.root.Rename(building, uploadPath(id))
	}
	if err != nil {
		return errors.Join(err, s.root.RemoveAll(building))
	}
	return s.syncDir(uploadsDir)
}

// upload is an upload of which the caller holds the lock.
type upload struct {
	id   string
	meta uploadMeta
	lock *os.File
}

func (u *upload) unlock() { u.lock.Close() }

// lockUpload gives the upload of key with that ID; ErrNotExist.
func (s *Store) lockUpload(ctx context.Context, key, id string) (*upload, error) {
	if id == "" || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		return nil, fmt.Errorf("%w: upload %q", storage.ErrNotExist, id)
	}
	dir, err := s.root.Open(uploadPath(id))
	if isAbsent(err) {
		return nil, fmt.Errorf("%w: upload %q", storage.ErrNotExist, id)
	} else if err != nil {
		return nil, err
	}
	meta, err := s.lockedMeta(ctx, dir, id)
	if err == nil && meta.Key != key {
		err = fmt.Errorf("%w: upload %q is of another key", storage.ErrNotExist, id)
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &upload{id, meta, dir}, nil
}

func (s *Store) lockedMeta(ctx context.Context, dir *os.File, id string) (uploadMeta, error) {
	if err := lock(ctx, dir); err != nil {
		return uploadMeta{}, err
	}
	// Not before: it may be aborted while we wait.
	return s.readMeta(id)
}

func (s *Store) readMeta(id string) (meta uploadMeta, err error) {
	b, err := s.root.ReadFile(metaPath(id))
	if isAbsent(err) {
		return meta, fmt.Errorf("%w: upload %q", storage.ErrNotExist, id)
	} else if err != nil {
		return meta, err
	}
	if err := json.Unmarshal(b, &meta); err != nil {
		return meta, fmt.Errorf("upload %q: %w", id, err)
	}
	return meta, nil
}

// lock waits for the flock on dir, which also other processes heed. Closing dir
// releases it. It is held for moments, but while an upload is completed.
func lock(ctx context.Context, dir *os.File) error {
	const firstWait, longestWait = time.Millisecond, 50 * time.Millisecond
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// putPart stores one part and answers its ETag. ErrNotExist for an upload that
// is aborted or completed.
func (s *Store) putPart(ctx context.Context, key, id string, part int, r io.Reader) (string, error) {
	if err := storage.CheckPartNumber(part, s.Capabilities()); err != nil {
		return "", err
	}
	s.maybeSweep()
	t, err := s.newTemp()
	if err != nil {
		return "", err
	}
	defer t.discard()
	// Not SHA-256: this tells one sending of a part from another, no more.
	sum := xxhash.New()
	if err := copyTo(ctx, t.File, io.TeeReader(r, sum)); err != nil {
		return "", err
	}
	fi, err := t.finish()
	if err != nil {
		return "", err
	}
	etag := fmt.Sprintf("%016x-%x", sum.Sum64(), fi.Size())

	u, err := s.lockUpload(ctx, key, id)
	if err != nil {
		return "", err
	}
	defer u.unlock()
	if u.meta.Done != nil {
		return "", fmt.Errorf("%w: upload %q is completed", storage.ErrNotExist, id)
	}
	return etag, s.replacePart(partPath(id, part), etag, t.path())
}

// replacePart makes the file at from the only version in the part's directory.
func (s *Store) replacePart(dir, etag, from string) error {
	if err := s.mkdirs(dir); err != nil {
		return err
	}
	if err := s.root.Rename(from, dir+"/"+etag); err != nil {
		return err
	}
	versions, err := readDir(s.root, dir)
	for _, version := range versions {
		if version.Name() != etag {
			err = errors.Join(err, s.root.Remove(dir+"/"+version.Name()))
		}
	}
	return errors.Join(err, s.syncDir(dir))
}

// CompleteUpload implements storage.Store. One part becomes the object as it
// is; several are copied, by the kernel, into one file.
func (s *Store) CompleteUpload(ctx context.Context, key, uploadID string, parts []storage.UploadPart) (storage.Info, error) {
	if err := precheck(ctx, key); err != nil {
		return storage.Info{}, fmt.Errorf("complete upload: %w", err)
	}
	info, err := s.completeUpload(ctx, key, uploadID, parts)
	if err != nil {
		return storage.Info{}, fmt.Errorf("complete upload of %q: %w", key, err)
	}
	return info, nil
}

func (s *Store) completeUpload(ctx context.Context, key, id string, parts []storage.UploadPart) (storage.Info, error) {
	u, err := s.lockUpload(ctx, key, id)
	if err != nil {
		return storage.Info{}, err
	}
	defer u.unlock()
	if u.meta.Done != nil {
		return *u.meta.Done, nil
	}
	if err := storage.CheckParts(parts, s.Capabilities()); err != nil {
		return storage.Info{}, err
	}
	paths, err := s.partFiles(id, parts)
	if err != nil {
		return storage.Info{}, err
	}
	done, err := s.join(ctx, paths, key)
	if err != nil {
		return storage.Info{}, err
	}
	// Dying before this is written only means that the same parts are joined again.
	u.meta.Done = &done
	if err := s.writeMeta(ctx, u); err != nil {
		return storage.Info{}, err
	}
	if err := s.root.RemoveAll(partsPath(id)); err != nil {
		s.log.Warn("removing the parts of a completed upload", "key", key, "error", err)
	}
	return done, nil
}

// partFiles checks every part before the first byte is copied.
func (s *Store) partFiles(id string, parts []storage.UploadPart) ([]string, error) {
	paths := make([]string, len(parts))
	for i, part := range parts {
		etag := storage.TrimETag(part.ETag)
		if strings.Contains(etag, "/") {
			return nil, fmt.Errorf("%w %d: no ETag of this store: %q", storage.ErrInvalidPart, part.Number, etag)
		}
		paths[i] = partPath(id, part.Number) + "/" + etag
		fi, err := s.root.Lstat(paths[i])
		switch {
		case isAbsent(err) || err == nil && !fi.Mode().IsRegular():
			return nil, fmt.Errorf("%w %d: not sent, or sent again since, with ETag %q", storage.ErrInvalidPart, part.Number, etag)
		case err != nil:
			return nil, err
		case !strings.HasSuffix(etag, fmt.Sprintf("-%x", fi.Size())):
			return nil, fmt.Errorf("%w %d: it is damaged, %d bytes with ETag %q", storage.ErrInvalidPart, part.Number, fi.Size(), etag)
		}
	}
	return paths, nil
}

func (s *Store) join(ctx context.Context, paths []string, key string) (storage.Info, error) {
	if len(paths) == 1 {
		return s.linkPart(ctx, paths[0], key)
	}
	t, err := s.newTemp()
	if err != nil {
		return storage.Info{}, err
	}
	defer t.discard()
	for _, path := range paths {
		if err := s.appendFile(ctx, t.File, path); err != nil {
			return storage.Info{}, err
		}
	}
	fi, err := t.finish()
	if err != nil {
		return storage.Info{}, err
	}
	return info(key, fi), s.publish(ctx, t.path(), key, false)
}

// linkPart makes a part the object and keeps the part, so that dying half-way
// leaves an upload that can be completed again.
func (s *Store) linkPart(ctx context.Context, part, key string) (storage.Info, error) {
	link := tempDir + "/" + randomName()
	if err := s.root.Link(part, link); err != nil {
		return storage.Info{}, err
	}
	// If key is that part already, rename(2) does nothing and leaves the link.
	defer s.root.Remove(link)
	now := time.Now() // not when the part was sent: Sweep goes by age
	if err := s.root.Chtimes(link, now, now); err != nil {
		return storage.Info{}, err
	}
	fi, err := s.root.Lstat(link)
	if err != nil {
		return storage.Info{}, err
	}
	return info(key, fi), s.publish(ctx, link, key, false)
}

func (s *Store) appendFile(ctx context.Context, dst *os.File, name string) error {
	src, fi, err := openRegular(s.root, name)
	if err != nil {
		return err
	}
	defer src.Close()
	n, err := copyFile(ctx, dst, src, fi.Size())
	if err == nil && n != fi.Size() {
		err = fmt.Errorf("part %s: %w", path.Base(path.Dir(name)), io.ErrUnexpectedEOF)
	}
	return err
}

func (s *Store) writeMeta(ctx context.Context, u *upload) error {
	b, err := json.Marshal(u.meta)
	if err != nil {
		return err
	}
	return s.writeFile(ctx, metaPath(u.id), b, false)
}

// writeFile writes a small file of the store's own as Put writes objects.
func (s *Store) writeFile(ctx context.Context, name string, b []byte, ifAbsent bool) error {
	t, err := s.newTemp()
	if err != nil {
		return err
	}
	defer t.discard()
	if err := copyTo(ctx, t.File, bytes.NewReader(b)); err != nil {
		return err
	}
	if _, err := t.finish(); err != nil {
		return err
	}
	return s.publish(ctx, t.path(), name, ifAbsent)
}

// AbortUpload implements storage.Store. A completed upload stays completed.
func (s *Store) AbortUpload(ctx context.Context, key, uploadID string) error {
	if err := precheck(ctx, key); err != nil {
		return fmt.Errorf("abort upload: %w", err)
	}
	u, err := s.lockUpload(ctx, key, uploadID)
	if errors.Is(err, storage.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("abort upload of %q: %w", key, err)
	}
	defer u.unlock()
	if u.meta.Done != nil {
		return nil
	}
	if err := s.discardUpload(uploadID); err != nil {
		return fmt.Errorf("abort upload of %q: %w", key, err)
	}
	return nil
}

// discardUpload makes the upload disappear at once, then frees its space.
func (s *Store) discardUpload(id string) error {
	grave := tempDir + "/" + randomName()
	if err := s.root.Rename(uploadPath(id), grave); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return s.root.RemoveAll(grave)
}

// ListUploads implements storage.Store; sorted by key, then age.
func (s *Store) ListUploads(ctx context.Context, prefix string) ([]storage.Upload, error) {
	entries, err := readDir(s.root, uploadsDir)
	if err != nil {
		return nil, fmt.Errorf("list uploads: %w", err)
	}
	var uploads []storage.Upload
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("list uploads: %w", err)
		}
		meta, err := s.readMeta(entry.Name())
		if err != nil {
			if !errors.Is(err, storage.ErrNotExist) {
				s.log.Warn("an upload cannot be read", "error", err)
			}
			continue // it must not hide the others
		}
		if meta.Done == nil && strings.HasPrefix(meta.Key, prefix) {
			uploads = append(uploads, storage.Upload{Key: meta.Key, ID: entry.Name(), Created: meta.Created})
		}
	}
	slices.SortFunc(uploads, func(a, b storage.Upload) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), a.Created.Compare(b.Created))
	})
	return uploads, nil
}
