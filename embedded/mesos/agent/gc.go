package agent

import (
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// collectGarbage removes the sandboxes of executors that ended longer ago than
// the delay, also those of earlier agents in the same directory.
func (a *Agent) collectGarbage() {
	ticker := time.NewTicker(min(max(a.cfg.GCDelay/10, 10*time.Millisecond), 10*time.Minute))
	defer ticker.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-ticker.C:
			a.collect(time.Now().Add(-a.cfg.GCDelay))
		}
	}
}

func (a *Agent) collect(before time.Time) {
	live := map[string]bool{}
	if !a.box.call(func() {
		for _, f := range a.frameworks {
			for _, e := range f.executors {
				live[e.directory] = true
			}
		}
	}) {
		return
	}
	runs, err := fs.Glob(os.DirFS(a.cfg.WorkDir), "slaves/*/frameworks/*/executors/*/runs/*")
	if err != nil {
		return // only for a malformed pattern
	}
	for _, name := range runs {
		run := filepath.Join(a.cfg.WorkDir, name)
		info, err := os.Lstat(run)
		if err != nil || !info.IsDir() || live[run] || info.ModTime().After(before) {
			continue
		}
		a.log.Debug("removing a sandbox", "path", run)
		if err := os.RemoveAll(run); err != nil {
			a.log.Warn("sandbox is not removed", "path", run, "error", err)
			continue
		}
		a.box.post(func() { a.prune(filepath.Dir(run)) })
	}
}

// prune removes directories that have become empty. It runs in the mailbox, so
// that none goes while a new sandbox is being made in it.
func (a *Agent) prune(runs string) {
	latest := filepath.Join(runs, "latest")
	if _, err := os.Stat(latest); os.IsNotExist(err) {
		_ = os.Remove(latest)
	}
	for dir := runs; dir != filepath.Join(a.cfg.WorkDir, "slaves"); dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil {
			return
		}
	}
}
