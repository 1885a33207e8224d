package executor

// maxPool bounds the directories that are kept for tasks to come.
const maxPool = 32

// takeSpare gives clean directories, of the partition before or of another task; nil
// when there are none.
func (t *task) takeSpare() *dirs {
	d := t.spare.dirs
	t.spare.dirs = nil
	if d != nil {
		return d
	}
	bundle := ""
	if b := t.launch.Bundle; b != nil {
		bundle = t.x.bundle.path(b.SHA256)
	}
	return t.x.box.takeDirs(t.launch.App, bundle)
}

// keepSpare lets other tasks of the app have the directories that the last partition
// has left clean.
func (t *task) keepSpare() {
	t.spare.log.discard()
	if d := t.spare.dirs; d != nil && !t.x.box.keepDirs(d) {
		t.x.box.remove(d.base)
	}
	t.spare = spare{}
}

func (s *sandbox) keepDirs(d *dirs) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pool) >= maxPool {
		return false
	}
	s.pool = append(s.pool, d)
	return true
}

// takeDirs gives directories that were kept of an app, with links to no other bundle;
// nil when there are none.
func (s *sandbox) takeDirs(app, bundle string) *dirs {
	s.mu.Lock()
	var d *dirs
	for i := len(s.pool) - 1; i >= 0 && (d == nil || d.links.bundle != bundle); i-- {
		if s.pool[i].app == app {
			d = s.pool[i]
		}
	}
	s.pool = without(s.pool, d)
	s.mu.Unlock()
	if d == nil || d.links.bundle == "" || d.links.bundle == bundle {
		return d
	}
	if err := d.unlink(); err != nil {
		s.remove(d.base)
		return nil
	}
	return d
}
