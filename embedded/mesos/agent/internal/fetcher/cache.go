package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// cache keeps downloads by user and URI. Who comes second waits for the first.
type cache struct {
	dir   string
	limit int64

	mu      sync.Mutex
	size    int64
	next    int
	entries map[string]*entry
	order   []string // keys, least recently used first
}

type entry struct {
	cache *cache
	path  string
	ready chan struct{} // closed when err and size are set
	err   error
	size  int64
	users int
}

var errTooLarge = errors.New("larger than the cache")

func newCache(dir string, limit int64) (*cache, error) {
	// What an earlier agent left is of unknown worth.
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &cache{dir: dir, limit: limit, entries: map[string]*entry{}}, nil
}

// get gives the entry of a key, filled if it is new. It stays until released.
func (c *cache) get(ctx context.Context, key string, fill func(io.Writer) error) (*entry, error) {
	c.mu.Lock()
	e, known := c.entries[key]
	if !known {
		c.next++
		e = &entry{cache: c, path: filepath.Join(c.dir, fmt.Sprintf("c%08d", c.next)), ready: make(chan struct{})}
		c.entries[key] = e
	}
	e.users++
	c.touch(key)
	c.mu.Unlock()

	if !known {
		c.fill(key, e, fill)
	}
	select {
	case <-e.ready:
	case <-ctx.Done():
		e.release()
		return nil, ctx.Err()
	}
	if e.err != nil {
		e.release()
		return nil, e.err
	}
	return e, nil
}

func (c *cache) fill(key string, e *entry, fill func(io.Writer) error) {
	size, err := c.store(e.path, fill)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		err = c.makeRoom(size)
	}
	if err != nil {
		_ = os.Remove(e.path)
		delete(c.entries, key)
		c.forget(key)
	} else {
		c.size += size
	}
	e.size, e.err = size, err
	close(e.ready)
}

func (c *cache) store(path string, fill func(io.Writer) error) (int64, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	limited := &limitWriter{w: file, left: c.limit}
	err = errors.Join(fill(limited), file.Close())
	return c.limit - limited.left, err
}

// makeRoom evicts what was not used for longest and is not in use now.
func (c *cache) makeRoom(size int64) error {
	for i := 0; c.size+size > c.limit && i < len(c.order); {
		key := c.order[i]
		e := c.entries[key]
		if e.users > 0 {
			i++
			continue
		}
		if err := os.Remove(e.path); err != nil {
			return err
		}
		c.size -= e.size
		delete(c.entries, key)
		c.forget(key)
	}
	if c.size+size > c.limit {
		return errors.New("all of the cache is in use")
	}
	return nil
}

func (c *cache) touch(key string) {
	c.forget(key)
	c.order = append(c.order, key)
}

func (c *cache) forget(key string) {
	for i, k := range c.order {
		if k == key {
			c.order = append(c.order[:i], c.order[i+1:]...)
			return
		}
	}
}

func (e *entry) release() {
	e.cache.mu.Lock()
	defer e.cache.mu.Unlock()
	e.users--
}

type limitWriter struct {
	w    io.Writer
	left int64
}

func (l *limitWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		return 0, errTooLarge
	}
	n, err := l.w.Write(p)
	l.left -= int64(n)
	return n, err
}
