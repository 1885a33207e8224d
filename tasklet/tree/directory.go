package tree

import (
	"errors"
	"io/fs"
	"os"
	"slices"
)

// List gives the entries of a directory, in the order that a manifest has them
// and without hashes. What a tree cannot hold, such as a pipe or a link that leads
// out, is an *Error.
func List(root *os.Root, open Open, bounds Bounds) ([]Entry, error) {
	c := check{bounds: bounds, kinds: map[string]Kind{".": Dir}}
	var entries []Entry
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		e, err := listEntry(root, open, name, d)
		if err != nil {
			return err
		}
		e.Offset = 0
		if e.Kind == File {
			e.Offset = c.end
		}
		if err := c.entry(e); err != nil {
			return err
		}
		entries = append(entries, e)
		return nil
	})
	return entries, err
}

func listEntry(root *os.Root, open Open, name string, d fs.DirEntry) (Entry, error) {
	e := Entry{Path: name}
	switch {
	case d.IsDir():
		info, err := d.Info()
		if err != nil {
			return e, err
		}
		e.Kind, e.Mode = Dir, info.Mode().Perm()
	case d.Type() == fs.ModeSymlink:
		link, err := root.Readlink(name)
		if err != nil {
			return e, err
		}
		if leadsOut(name, link) || !stays(root, name) {
			return e, bad("%s links to %q, outside of the directory", name, link)
		}
		e.Kind, e.Link = Symlink, link
	case d.Type().IsRegular():
		f, info, err := open(root, name)
		if err != nil {
			return e, err
		}
		e.Kind, e.Mode, e.Size = File, info.Mode().Perm(), info.Size()
		return e, f.Close()
	default:
		return e, bad("%s is neither file, directory nor link", name)
	}
	return e, nil
}

// Size is the sum of the files' bytes.
func Size(entries []Entry) (sum int64) {
	for i := range entries {
		sum += entries[i].Size
	}
	return sum
}

// Make makes the directories and links of a checked manifest, and empty files, in
// an empty directory.
func Make(root *os.Root, entries []Entry) error {
	for _, e := range entries {
		var err error
		switch e.Kind {
		case Dir:
			err = root.Mkdir(e.Path, 0o700)
		case Symlink:
			err = root.Symlink(e.Link, e.Path)
		default:
			var f *os.File
			if f, err = root.OpenFile(e.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil {
				err = f.Close()
			}
		}
		if err != nil {
			return blame(e.Path, err)
		}
	}
	return nil
}

// Finish gives a tree that is filled its owner and modes, and checks where its
// links lead.
func Finish(root *os.Root, entries []Entry, owner *Owner) error {
	for _, e := range entries {
		if e.Kind == Symlink && !stays(root, e.Path) {
			return bad("entry %q links out of the directory", e.Path)
		}
	}
	for _, e := range slices.Backward(entries) { // children before parents
		err := owner.lgive(root, e.Path)
		if err == nil && e.Kind != Symlink {
			err = root.Chmod(e.Path, e.Mode)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// blame tells an entry that its maker got wrong from a disk that is full.
func blame(name string, err error) error {
	if DiskFull(err) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	return bad("entry %q cannot be unpacked: %v", name, err)
}
