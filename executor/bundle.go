package executor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

// bundles keeps unpacked bundles, one directory per digest, shared by all tasks
// that need it at the same time; some unused ones stay for tasks to come.
type bundles struct {
	dir   string
	tune  Tuning
	store *store
	log   *slog.Logger

	mu      sync.Mutex
	entries map[string]*bundle
	idle    []string // digests, the longest unused first
}

type bundle struct {
	dir   string
	ready chan struct{} // closed when the fetch has ended
	err   error
	users int
}

func newBundles(dir string, tune Tuning, s *store, log *slog.Logger) *bundles {
	return &bundles{dir: dir, tune: tune, store: s, log: log, entries: map[string]*bundle{}}
}

// use gives the directory of an unpacked bundle and a function to give it back.
// Should it need a new URL, it asks for it in the name of that partition.
// The error is a *tree.Error for a bundle that nobody can use.
func (b *bundles) use(ctx context.Context, taskID string, partition int, src tasklet.Source) (string, func(), error) {
	if len(src.SHA256) != 64 || !safeName(src.SHA256) {
		return "", nil, invalid("the bundle has no digest")
	}
	for {
		entry, fetch := b.join(src.SHA256)
		if fetch {
			entry.err = b.fetch(ctx, taskID, partition, src, entry.dir)
			close(entry.ready)
		}
		select {
		case <-entry.ready:
		case <-ctx.Done():
			b.leave(src.SHA256, entry)
			return "", nil, context.Cause(ctx)
		}
		if entry.err == nil {
			return entry.dir, sync.OnceFunc(func() { b.leave(src.SHA256, entry) }), nil
		}
		b.leave(src.SHA256, entry)
		if fetch || ctx.Err() != nil {
			return "", nil, entry.err
		}
		// Somebody else's fetch failed, perhaps because it was killed.
	}
}

// path is where a bundle is unpacked.
func (b *bundles) path(digest string) string { return filepath.Join(b.dir, digest) }

func (b *bundles) join(digest string) (entry *bundle, fetch bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	entry = b.entries[digest]
	if entry == nil {
		entry = &bundle{dir: b.path(digest), ready: make(chan struct{})}
		b.entries[digest] = entry
		fetch = true
	}
	if entry.users == 0 {
		b.idle = without(b.idle, digest)
	}
	entry.users++
	return entry, fetch
}

func (b *bundles) leave(digest string, entry *bundle) {
	b.mu.Lock()
	defer b.mu.Unlock()
	entry.users--
	select {
	case <-entry.ready:
	default:
		return // its fetcher is still there
	}
	if entry.err != nil {
		if b.entries[digest] == entry {
			delete(b.entries, digest)
		}
		return
	}
	if entry.users > 0 {
		return
	}
	b.idle = append(b.idle, digest)
	for len(b.idle) > b.tune.IdleBundles {
		oldest := b.idle[0]
		b.idle = b.idle[1:]
		if err := tree.Remove(b.entries[oldest].dir); err != nil {
			b.log.Warn("unused bundle not removed", "error", err)
		}
		delete(b.entries, oldest)
	}
}

// fetch downloads and unpacks beside the final place, and moves the whole there.
func (b *bundles) fetch(ctx context.Context, taskID string, partition int, src tasklet.Source, dir string) (err error) {
	temp, err := os.MkdirTemp(b.dir, "fetch-")
	if err != nil {
		return &localError{err}
	}
	defer func() { _ = tree.Remove(temp) }()
	archive := filepath.Join(temp, "archive")
	err = b.store.download(ctx, download{
		taskID: taskID, source: src, path: archive,
		request: tasklet.Request{Partition: partition, Role: tasklet.RoleBundle},
	})
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	f, err := os.Open(archive)
	if err != nil {
		return &localError{err}
	}
	defer f.Close()
	unpacked := filepath.Join(temp, "tree")
	if err := os.Mkdir(unpacked, 0o755); err != nil {
		return &localError{err}
	}
	err = tree.Unpack(f, tree.Unpacking{Dir: unpacked, ReadOnly: true, Times: true, Bounds: b.tune.archive()})
	if err == nil {
		err = errors.Join(os.Rename(unpacked, dir), os.Chmod(dir, 0o555))
	}
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	return nil
}

func without[T comparable](list []T, s T) []T {
	kept := list[:0]
	for _, v := range list {
		if v != s {
			kept = append(kept, v)
		}
	}
	return kept
}
