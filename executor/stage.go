package executor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

// parallelInputs bounds the inputs that one partition fetches at once.
const parallelInputs = 4

// staging brings the inputs of one partition into its input directory.
type staging struct {
	store   *store
	taskID  string
	part    tasklet.Partition
	dir     string
	spool   string
	user    user
	traffic *traffic
}

// run fetches all files and directories.
func (s *staging) run(ctx context.Context) error {
	if len(s.part.Inputs) == 0 {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelInputs)
	for _, name := range slices.Sorted(maps.Keys(s.part.Inputs)) {
		in := s.part.Inputs[name]
		target := filepath.Join(s.dir, name)
		names := []string{""}
		if in.List {
			if err := errors.Join(os.Mkdir(target, 0o700), s.user.give(target)); err != nil {
				return &localError{err}
			}
			names = stageNames(in.Files)
		}
		for i, src := range in.Files {
			group.Go(func() error {
				err := s.fetch(ctx, download{
					taskID: s.taskID, source: src, path: filepath.Join(target, names[i]), user: s.user, spool: s.spool, traffic: s.traffic,
					request: tasklet.Request{Partition: s.part.Index, Role: tasklet.RoleInput, Name: name, File: i},
				})
				if err != nil {
					return fmt.Errorf("input %s: %w", name, err)
				}
				return nil
			})
		}
	}
	return group.Wait()
}

func (s *staging) fetch(ctx context.Context, d download) error {
	if d.source.IsDirectory() {
		return s.directory(ctx, d)
	}
	return s.store.download(ctx, d)
}

// stageNames gives the files of a list their position as a prefix, so that a
// command that lists the directory has them in order: 00000-a.csv, 00001-b.csv.
func stageNames(files []tasklet.Source) []string {
	names := make([]string, len(files))
	for i, f := range files {
		name := f.Name
		if name == "" {
			name = path.Base(f.Key)
		}
		if !safeName(name) || len(name) > 200 {
			name = "file"
		}
		names[i] = fmt.Sprintf("%05d-%s", i, name)
	}
	return names
}

// restore fetches and unpacks the last checkpoint.
func (c *checkpoint) restore(ctx context.Context, src tasklet.Source) error {
	archive, err := os.MkdirTemp(c.spool, "restore-")
	if err != nil {
		return &localError{err}
	}
	defer os.RemoveAll(archive)
	file := filepath.Join(archive, "archive")
	err = c.store.download(ctx, download{
		taskID: c.taskID, source: src, path: file,
		request: tasklet.Request{Partition: c.partition, Role: tasklet.RoleRestore},
	})
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	f, err := os.Open(file)
	if err != nil {
		return &localError{err}
	}
	defer f.Close()
	err = tree.Unpack(f, tree.Unpacking{Dir: c.dir, Times: true, Owner: c.user.owner(), Bounds: c.store.tune.archive()})
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	c.saved, _ = c.committed()
	return nil
}
