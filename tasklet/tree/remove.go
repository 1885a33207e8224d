package tree

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

const (
	// removeDepth bounds the directories that are open at a time: somebody may have
	// made thousands, each in the one before.
	removeDepth = 32
	// removeLooks bounds how often one directory is read again, as long as somebody
	// puts new things into it.
	removeLooks = 100
)

// Remove removes a tree, also one with directories that were made read-only. Others
// may still change it meanwhile: nothing outside of it is touched. What stands above
// path must be the caller's.
func Remove(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return os.Remove(path)
	}
	parent, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer parent.Close()
	r := remover{}
	name := filepath.Base(path)
	if r.top, err = enter(parent, name); err != nil {
		return err
	}
	defer r.top.Close()
	if err := r.clear(r.top, ".", 0); err != nil {
		return err
	}
	return parent.Remove(name)
}

type remover struct{ top *os.Root }

// enter opens a directory that may have been made unreadable. Root's rights need no
// change of the mode.
func enter(parent *os.Root, name string) (*os.Root, error) {
	if os.Geteuid() != 0 {
		if err := parent.Chmod(name, 0o700); err != nil {
			return nil, err
		}
	}
	return parent.OpenRoot(name)
}

// clear removes all that is in a directory, which has a place below the top.
func (r *remover) clear(dir *os.Root, place string, depth int) error {
	for range removeLooks {
		names, err := list(dir)
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := r.remove(dir, path.Join(place, name), name, depth); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return fmt.Errorf("%s: there is always something new in it", place)
}

func list(dir *os.Root) ([]string, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

func (r *remover) remove(dir *os.Root, place, name string, depth int) error {
	err := dir.Remove(name)
	if err == nil {
		return nil
	}
	if info, e := dir.Lstat(name); e != nil || !info.IsDir() {
		return errors.Join(err, e)
	}
	if depth == removeDepth { // its turn comes when all above it is done
		return r.top.Rename(place, ".deep-"+rand.Text())
	}
	below, err := enter(dir, name)
	if err != nil {
		return err
	}
	defer below.Close()
	if err := r.clear(below, place, depth+1); err != nil {
		return err
	}
	return dir.Remove(name)
}
