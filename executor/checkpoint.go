package executor

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

// checkpoint saves what a command commits: the subdirectory that the file
// "commit" names, at each change of that file. One save is under way at a time;
// a save that fails is tried on until it succeeds or a later commit replaces it.
type checkpoint struct {
	store     *store
	log       *slog.Logger
	taskID    string
	partition int
	target    tasklet.Target
	dir       string
	spool     string
	user      user

	saved commit // the last one that is in storage
	bad   commit // the last one that could not be archived, said once
}

// commit is one state of the commit file. The time and the inode tell a commit
// of the same name from the one before it.
type commit struct {
	name  string
	inode uint64
	time  int64
}

// committed reads the commit file; false when there is none that makes sense.
func (c *checkpoint) committed() (commit, bool) {
	if _, err := os.Lstat(filepath.Join(c.dir, tasklet.CommitFile)); err != nil {
		return commit{}, false
	}
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return commit{}, false
	}
	defer root.Close()
	f, info, err := openRegular(root, tasklet.CommitFile, c.user)
	if err != nil {
		return commit{}, false
	}
	defer f.Close()
	buf := make([]byte, 512)
	n, _ := f.Read(buf)
	name := strings.TrimSuffix(strings.TrimSpace(string(buf[:n])), "/")
	if !safeName(name) || name == tasklet.CommitFile {
		return commit{}, false
	}
	st, _ := info.Sys().(*syscall.Stat_t)
	return commit{name, st.Ino, info.ModTime().UnixNano()}, true
}

// follow saves each commit until stop is closed.
func (c *checkpoint) follow(ctx context.Context, stop <-chan struct{}) {
	for {
		_ = c.save(ctx)
		if !pauseUntil(stop, c.store.tune.CheckpointEvery) {
			return
		}
	}
}

// save brings the latest commit to storage, if it is not there yet. It returns
// when that is done, or with the error that ended it.
func (c *checkpoint) save(ctx context.Context) error {
	for {
		now, ok := c.committed()
		if !ok || now == c.saved || now == c.bad {
			return nil
		}
		err := c.saveCommit(ctx, now)
		if err == nil {
			c.saved = now
			return nil
		}
		if !errors.Is(err, errSuperseded) {
			if ctx.Err() == nil {
				c.log.Warn("checkpoint not saved", "task", c.taskID, "partition", c.partition, "error", err)
			}
			return err
		}
	}
}

func (c *checkpoint) saveCommit(ctx context.Context, now commit) error {
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := os.CreateTemp(c.spool, "checkpoint-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	info, err := root.Lstat(now.name)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "checkpoint", Path: now.name, Err: syscall.ENOTDIR}
	}
	if err == nil {
		err = tree.Pack(f, tree.Packing{
			Root: root, Sub: now.name, Files: map[string][]byte{tasklet.CommitFile: []byte(now.name + "\n")},
			Open: opener(c.user), Times: true, Bounds: c.store.tune.archive(),
		})
	}
	if err != nil {
		if later, ok := c.committed(); ok && later != now {
			return errSuperseded // it was removed for the next one
		}
		c.bad = now
		return err
	}
	size, err := f.Seek(0, 1)
	if err != nil {
		return err
	}
	if c.target.URL == "" {
		if c.target, err = c.store.target(ctx, c.taskID, tasklet.Request{Partition: c.partition, Role: tasklet.RoleCheckpoint}); err != nil {
			return err
		}
	}
	return c.store.upload(ctx, upload{
		taskID: c.taskID, target: c.target, body: f, size: size,
		request: tasklet.Request{Partition: c.partition, Role: tasklet.RoleCheckpoint},
		giveUp: func() bool {
			later, ok := c.committed()
			return ok && later != now
		},
	})
}
