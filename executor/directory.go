package executor

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

// directory stages a directory at a path that does not exist yet.
func (s *staging) directory(ctx context.Context, d download) error {
	target := d.path
	if err := os.Mkdir(target, 0o700); err != nil {
		return &localError{err}
	}
	temp, err := os.MkdirTemp(s.spool, "directory-")
	if err != nil {
		return &localError{err}
	}
	defer os.RemoveAll(temp)
	d.path, d.user, d.ours = filepath.Join(temp, "object"), user{}, true
	if err := s.store.download(ctx, d); err != nil {
		return err
	}
	f, err := os.Open(d.path)
	if err != nil {
		return &localError{err}
	}
	defer f.Close()
	if d.source.Form == tasklet.FormArchive {
		err = tree.Unpack(f, tree.Unpacking{Dir: target, Owner: s.user.owner(), Bounds: s.store.tune.archive()})
	} else {
		err = s.tree(ctx, d, f, target)
	}
	return errors.Join(err, s.user.give(target))
}

// tree fetches the files that a manifest lists, from the same object.
func (s *staging) tree(ctx context.Context, d download, manifest *os.File, target string) error {
	base, size := d.source.Content()
	entries, err := tree.ReadManifest(bufio.NewReader(manifest), size, s.store.tune.tree())
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(target)
	if err != nil {
		return &localError{err}
	}
	defer root.Close()
	if err := tree.Make(root, entries); err != nil {
		return err
	}
	// One fetches what several tasks want, and will find in the cache.
	end, err := s.store.cache.turn(ctx, d.source.SHA256, slices.ContainsFunc(entries, s.cacheable))
	if err != nil {
		return err
	}
	defer end()
	l := &treeLanding{root: root}
	var spans []span
	for _, e := range entries {
		if e.Kind != tree.File || s.fromCache(ctx, root, e) {
			continue
		}
		l.files = append(l.files, e)
		if last := len(spans) - 1; last >= 0 && spans[last].offset+spans[last].size == e.Offset {
			spans[last].size += e.Size // cut into pieces below
		} else if e.Size > 0 {
			spans = append(spans, span{e.Offset, e.Size})
		}
	}
	var pieces []span
	for _, one := range spans {
		pieces = cut(pieces, one.offset, one.size, s.store.tune.DownloadPart)
	}
	if err := s.store.fetchSpans(ctx, d, base, pieces, l); err != nil {
		return err
	}
	s.traffic.fetched.Add(tree.Size(l.files))
	for _, e := range l.files {
		s.toCache(ctx, root, e)
	}
	return tree.Finish(root, entries, s.user.owner())
}

func (s *staging) cacheable(e tree.Entry) bool {
	return e.Kind == tree.File && s.store.cache.wants(e.SHA256.String(), e.Size)
}

func (s *staging) fromCache(ctx context.Context, root *os.Root, e tree.Entry) bool {
	if e.Size < s.store.tune.MinCached {
		return false
	}
	f, err := root.OpenFile(e.Path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if !s.store.cache.take(ctx, e.SHA256.String(), e.Size, f) {
		return false
	}
	s.traffic.cached.Add(e.Size)
	return true
}

func (s *staging) toCache(ctx context.Context, root *os.Root, e tree.Entry) {
	if e.Size < s.store.tune.MinCached {
		return
	}
	if f, err := root.Open(e.Path); err == nil {
		s.store.cache.keepCopy(ctx, e.SHA256.String(), e.Size, f)
		_ = f.Close()
	}
}
