package executor

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/baas-batch/baas/tasklet/tree"
)

// AutoCache keeps the cache within 10 GiB and a tenth of the disk's free space, also
// when that becomes less, and empties it for good once a task with a disk limit comes:
// the agent may then count the cache against that limit (disk/du with
// --enforce_container_disk_quota).
const AutoCache = -1

const (
	autoCacheMost  = 10 << 30
	autoCacheShare = 10 // one part in so many of the free space
)

// cache keeps inputs that were fetched, and outputs that were stored, under their
// SHA-256, for later tasks of this executor. Its directory is closed to tasks.
// What is longest unused goes first. It is a help only: where it fails, files are
// fetched. A nil cache is empty and stays so.
type cache struct {
	dir  string
	size int64        // bytes, or AutoCache
	free func() int64 // bytes of the disk that are left
	min  int64        // bytes of a file that is kept
	log  *slog.Logger

	mu     sync.Mutex
	files  map[string]*cached
	order  *list.List // of *cached, the last used first
	used   int64      // bytes, with those on their way in
	serial int
	off    bool
	turns  map[string]chan struct{} // by digest that is being fetched; closed at its end
}

type cached struct {
	digest string
	size   int64
	users  int
	place  *list.Element
}

// newCache makes an empty cache.
func newCache(dir string, size, smallest int64, log *slog.Logger) (*cache, error) {
	if err := tree.Remove(dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return &cache{
		dir: dir, size: size, min: smallest, log: log, free: func() int64 { return freeSpace(dir) },
		files: map[string]*cached{}, order: list.New(), turns: map[string]chan struct{}{},
	}, nil
}

// limit is how many bytes there may be. With mu held.
func (c *cache) limit() int64 {
	if c.off || c.size != AutoCache {
		return max(c.size, 0)
	}
	return min(autoCacheMost, (c.free()+c.used)/autoCacheShare)
}

// freeSpace of a directory's disk, in bytes; 0 where the kernel does not tell.
func freeSpace(dir string) int64 {
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return 0
	}
	return int64(disk.Bavail) * int64(disk.Bsize)
}

// watch keeps an AutoCache within its share while others fill the disk.
func (c *cache) watch(ctx context.Context, every time.Duration) {
	if c.size != AutoCache {
		return
	}
	for pause(ctx, every) {
		c.shrink()
	}
}

func (c *cache) shrink() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used == 0 {
		return
	}
	victims, _ := c.oldest(c.used - c.limit())
	for _, e := range victims {
		c.remove(e)
	}
	if len(victims) > 0 {
		c.log.Info("cache made smaller: the disk fills up", "files", len(victims), "left", c.used)
	}
}

// wants tells whether a file is worth keeping.
func (c *cache) wants(digest string, size int64) bool {
	if c == nil || len(digest) != hex.EncodedLen(sha256.Size) || size < c.min {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return size <= c.limit()
}

// turn waits until nobody else fetches the same content, and gives the function
// that ends this turn. What will not be kept is not worth waiting for.
func (c *cache) turn(ctx context.Context, digest string, kept bool) (end func(), err error) {
	if !kept {
		return func() {}, nil
	}
	for {
		c.mu.Lock()
		other := c.turns[digest]
		if other == nil {
			mine := make(chan struct{})
			c.turns[digest] = mine
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				delete(c.turns, digest)
				close(mine)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// take copies a file into dst, which is empty, and checks its hash. What is not
// as it was put in is thrown away. Where it gives false, dst is empty again.
func (c *cache) take(ctx context.Context, digest string, size int64, dst *os.File) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	e := c.files[digest]
	if e == nil || e.size != size {
		c.mu.Unlock()
		return false
	}
	e.users++
	c.order.MoveToFront(e.place)
	c.mu.Unlock()
	err := c.copyOut(ctx, e, dst)
	c.mu.Lock()
	defer c.mu.Unlock()
	e.users--
	if err == nil {
		return true
	}
	if ctx.Err() == nil {
		c.log.Warn("cached file not used", "sha256", digest, "error", err)
		c.remove(e)
	}
	_, _ = dst.Seek(0, io.SeekStart)
	_ = dst.Truncate(0)
	return false
}

func (c *cache) copyOut(ctx context.Context, e *cached, dst *os.File) error {
	src, err := os.Open(c.path(e.digest))
	if err != nil {
		return err
	}
	defer src.Close()
	if err := clone(ctx, dst, src); err != nil {
		return err
	}
	have, err := hashReader(ctx, dst, e.size+1)
	if err == nil && have != e.digest {
		err = fmt.Errorf("it has SHA-256 %.12s…", have)
	}
	return err
}

// keepCopy keeps a copy of a file with that hash.
func (c *cache) keepCopy(ctx context.Context, digest string, size int64, f *os.File) {
	c.keep(ctx, digest, size, func(path string) error {
		dst, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer dst.Close()
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return clone(ctx, dst, f)
	})
}

// keepFile keeps a file that nobody changes any more, and makes it ours. One that
// has other names stays what it is there, and a copy is kept.
func (c *cache) keepFile(ctx context.Context, digest string, size int64, f *os.File) {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Nlink != 1 {
		c.keepCopy(ctx, digest, size, f)
		return
	}
	c.keep(ctx, digest, size, func(path string) error {
		err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
		if err == nil {
			err = f.Chown(os.Geteuid(), os.Getegid())
		}
		if err == nil {
			err = f.Chmod(0o600)
		}
		return err
	})
}

func (c *cache) keep(ctx context.Context, digest string, size int64, put func(path string) error) {
	if !c.wants(digest, size) || !c.reserve(digest, size) {
		return
	}
	c.mu.Lock()
	c.serial++
	temp := filepath.Join(c.dir, "new-"+strconv.Itoa(c.serial))
	c.mu.Unlock()
	err := put(temp)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && c.files[digest] == nil && !c.off {
		if err = os.Rename(temp, c.path(digest)); err == nil {
			e := &cached{digest: digest, size: size}
			e.place = c.order.PushFront(e)
			c.files[digest] = e
			return
		}
	}
	c.used -= size
	_ = os.Remove(temp)
	if err != nil && ctx.Err() == nil {
		c.log.Warn("file not kept in the cache", "sha256", digest, "error", err)
	}
}

// reserve makes room; false when there is none, or no need of it.
func (c *cache) reserve(digest string, size int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.files[digest]; e != nil {
		c.order.MoveToFront(e.place)
		return false
	}
	over := c.used + size - c.limit()
	victims, sum := c.oldest(over)
	if sum < over {
		return false
	}
	for _, e := range victims {
		c.remove(e)
	}
	c.used += size
	return true
}

// oldest picks what is longest unused, until it has so many bytes, if there are
// so many. With mu held.
func (c *cache) oldest(bytes int64) (found []*cached, sum int64) {
	for place := c.order.Back(); place != nil && sum < bytes; place = place.Prev() {
		if e := place.Value.(*cached); e.users == 0 {
			found = append(found, e)
			sum += e.size
		}
	}
	return found, sum
}

// remove removes a file, once. With mu held.
func (c *cache) remove(e *cached) {
	if c.files[e.digest] != e {
		return
	}
	delete(c.files, e.digest)
	c.order.Remove(e.place)
	c.used -= e.size
	if err := os.Remove(c.path(e.digest)); err != nil {
		c.log.Warn("cached file not removed", "error", err)
	}
}

// limited tells of a task with a disk limit, see AutoCache.
func (c *cache) limited() {
	if c == nil || c.size != AutoCache {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.off {
		c.log.Info("no cache any more: a task has a disk limit")
	}
	c.off = true
	for _, e := range c.files {
		c.remove(e)
	}
}

func (c *cache) path(digest string) string { return filepath.Join(c.dir, digest) }

// cloneStep is how many bytes are copied at a time: a kill waits for one step.
const cloneStep = 8 << 20

// clone copies src from where it stands to an empty file, without moving bytes
// where the file system can share them.
func clone(ctx context.Context, dst, src *os.File) error {
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		return nil
	}
	for ctx.Err() == nil {
		_, err := io.CopyN(dst, src, cloneStep) // copy_file_range, where it can
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}
