package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/internal/stream"
)

// copyChunk bounds how long a copy between files goes on after a cancel.
const copyChunk = 16 << 20

var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// Put implements storage.Store. ErrInvalidKey also where key is a directory of
// other keys, or has an object on its way.
func (s *Store) Put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Info, error) {
	if err := precheck(ctx, key); err != nil {
		return storage.Info{}, fmt.Errorf("put: %w", err)
	}
	if opts.IfAbsent {
		// Saves the copying; publish decides.
		if _, err := s.Stat(ctx, key); err == nil {
			return storage.Info{}, fmt.Errorf("put %q: %w", key, storage.ErrExist)
		}
	}
	s.maybeSweep()
	info, err := s.put(ctx, key, r, opts.IfAbsent)
	if err != nil {
		return storage.Info{}, fmt.Errorf("put %q: %w", key, err)
	}
	return info, nil
}

func (s *Store) put(ctx context.Context, key string, r io.Reader, ifAbsent bool) (storage.Info, error) {
	t, err := s.newTemp()
	if err != nil {
		return storage.Info{}, err
	}
	defer t.discard()
	if err := copyTo(ctx, t.File, r); err != nil {
		return storage.Info{}, err
	}
	made := make(chan error, 1)
	go func() { made <- s.mkdirs(path.Dir(key)) }() // it syncs as long as finish does
	fi, err := t.finish()
	if err = errors.Join(err, <-made); err != nil {
		return storage.Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return storage.Info{}, err
	}
	if err := s.publish(ctx, t.path(), key, ifAbsent); err != nil {
		return storage.Info{}, err
	}
	return info(key, fi), nil
}

// temp is a file in tempDir that becomes an object by a rename.
type temp struct {
	*os.File
	store *Store
	name  string // in tempDir
}

func (s *Store) newTemp() (*temp, error) {
	name := randomName()
	f, err := s.temp.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, err
	}
	return &temp{f, s, name}, nil
}

func (t *temp) path() string { return tempDir + "/" + t.name }

// finish makes the content durable and closes the file.
func (t *temp) finish() (fs.FileInfo, error) {
	if !t.store.noSync {
		if err := t.Sync(); err != nil {
			return nil, err
		}
	}
	fi, err := t.Stat()
	if err != nil {
		return nil, err
	}
	return fi, t.Close()
}

// discard removes what was not renamed. It may come after finish.
func (t *temp) discard() {
	t.Close()
	t.store.temp.Remove(t.name)
}

// copyTo copies r to f until r ends or ctx does. From a file the kernel copies.
func copyTo(ctx context.Context, f *os.File, r io.Reader) error {
	if src, ok := r.(*os.File); ok {
		if fi, err := src.Stat(); err == nil && fi.Mode().IsRegular() {
			_, err := copyFile(ctx, f, src, math.MaxInt64)
			return err
		}
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	// Hidden behind plain interfaces: ReadFrom and WriteTo would bring smaller buffers.
	_, err := io.CopyBuffer(struct{ io.Writer }{f}, stream.WithContext(ctx, r), *buffer)
	return err
}

// copyFile copies at most n bytes of src to w, in the kernel where w allows.
func copyFile(ctx context.Context, w io.Writer, src *os.File, n int64) (int64, error) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	var written int64
	for written < n {
		if err := ctx.Err(); err != nil {
			return written, err
		}
		chunk := min(copyChunk, n-written)
		copied, err := io.CopyBuffer(w, io.LimitReader(src, chunk), *buffer)
		written += copied
		if err != nil || copied < chunk {
			return written, err
		}
	}
	return written, nil
}

// publishTries bounds the race with Deletes that prune what publish makes.
const publishTries = 1000

// publish gives the file at from its final name. Directories on the way are
// made; one that a Delete prunes meanwhile is made again.
func (s *Store) publish(ctx context.Context, from, key string, ifAbsent bool) error {
	move := s.root.Rename
	if ifAbsent {
		move = s.root.Link // fails if there is one, unlike a rename
	}
	var err error
	for range publishTries {
		err = move(from, key)
		switch {
		case err == nil:
			return s.syncDir(path.Dir(key))
		case errors.Is(err, syscall.ENOTDIR):
			return fmt.Errorf("%w: an object stands where it needs a directory: no key may be a directory of another", storage.ErrInvalidKey)
		case errors.Is(err, fs.ErrNotExist):
			if _, gone := s.root.Lstat(from); gone != nil {
				return fmt.Errorf("its temporary file is gone, swept after %v without a write: %w", s.tempAge, gone)
			}
			err = s.mkdirs(path.Dir(key))
		case isOccupied(err):
			err = s.vacate(key, ifAbsent)
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return fmt.Errorf("cannot be published after %d tries: its directories are removed again and again, or one is a broken link", publishTries)
}

// mkdirs makes dir and the directories above it, and makes each durable in its parent:
// side by side, since a file system with a journal writes that once for all of them.
// That somebody else has made one does not say that it is durable.
func (s *Store) mkdirs(dir string) error {
	err := s.mkdirAll(dir)
	if s.noSync {
		return err
	}
	var fresh []string
	for ; dir != "."; dir = path.Dir(dir) {
		if !s.durable.has(dir) {
			fresh = append(fresh, dir)
		}
	}
	errs := make([]error, len(fresh))
	var syncing sync.WaitGroup
	for i, one := range fresh {
		syncing.Go(func() {
			if errs[i] = s.syncDir(path.Dir(one)); errs[i] == nil {
				s.durable.add(one)
			}
		})
	}
	syncing.Wait()
	return errors.Join(err, errors.Join(errs...))
}

// mkdirAll does without the syncs.
func (s *Store) mkdirAll(dir string) error {
	if dir == "." {
		return nil
	}
	err := s.root.Mkdir(dir, dirMode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.mkdirAll(path.Dir(dir)); err != nil {
			return err
		}
		err = s.root.Mkdir(dir, dirMode)
	}
	switch {
	case err == nil:
		s.durable.remove(dir) // it was there once, perhaps
		return nil
	case errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return nil // publish finds out what is there now
	}
	return err
}

// pathSet is a set of so many paths at most. The zero value is empty.
type pathSet struct {
	mu    sync.Mutex
	paths map[string]struct{}
}

const maxPathSet = 10_000

func (s *pathSet) has(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.paths[path]
	return ok
}

// add forgets all others when there are too many.
func (s *pathSet) add(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paths == nil || len(s.paths) >= maxPathSet {
		s.paths = make(map[string]struct{})
	}
	s.paths[path] = struct{}{}
}

func (s *pathSet) remove(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.paths, path)
}

// vacate removes what stands at key if that is a directory without objects, such
// as a writer leaves that dies between mkdir and rename.
func (s *Store) vacate(key string, ifAbsent bool) error {
	fi, err := s.root.Lstat(key)
	switch {
	case isAbsent(err):
		return nil
	case err != nil:
		return err
	case fi.IsDir():
		return s.removeEmpty(key)
	case ifAbsent:
		return storage.ErrExist
	}
	return nil
}

func (s *Store) removeEmpty(dir string) error {
	entries, err := readDir(s.root, dir)
	if isAbsent(err) { // reading a directory that is removed meanwhile says so too
		return nil
	} else if err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			return fmt.Errorf("%w: it is a directory of other keys, such as %q", storage.ErrInvalidKey, dir+"/"+entry.Name())
		}
		if err := s.removeEmpty(dir + "/" + entry.Name()); err != nil {
			return err
		}
	}
	if err := s.rmdir(dir); err != nil && !isAbsent(err) && !isOccupied(err) {
		return err
	}
	return nil
}

// rmdir removes an empty directory and nothing else. Root.Remove would also
// unlink an object that a Put has just placed there.
func (s *Store) rmdir(dir string) error {
	parent, err := s.root.Open(path.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	return unix.Unlinkat(int(parent.Fd()), path.Base(dir), unix.AT_REMOVEDIR)
}

// pruneParents removes the directories above key that are empty. A Put that has
// just made one of them makes it again.
func (s *Store) pruneParents(key string) {
	for dir := path.Dir(key); dir != "."; dir = path.Dir(dir) {
		if s.rmdir(dir) != nil {
			return
		}
	}
}

func (s *Store) syncDir(dir string) error {
	if s.noSync {
		return nil
	}
	d, err := s.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // pruned: the object in it was deleted already
	} else if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
