package file

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/baas-batch/baas/storage"
)

// List implements storage.Store. It reads only the directories that can hold
// keys of the page.
func (s *Store) List(ctx context.Context, opts storage.ListOptions) (storage.Page, error) {
	// One key more than asked for tells whether there is a next page.
	limit := storage.PageLimit(opts.Limit)
	w := &walk{ctx: ctx, prefix: opts.Prefix, after: opts.After, want: limit + 1}
	start := opts.Prefix[:strings.LastIndexByte(opts.Prefix, '/')+1]
	if start != "" && storage.CheckKey(strings.TrimSuffix(start, "/")) != nil {
		return storage.Page{}, ctx.Err() // no key starts so
	}
	if err := w.below(s.root, start); err != nil {
		return storage.Page{}, fmt.Errorf("list %q: %w", opts.Prefix, err)
	}
	page := storage.Page{Items: w.items}
	if len(page.Items) > limit {
		page.Items = page.Items[:limit]
		page.Next = page.Items[limit-1].Key
	}
	return page, nil
}

// walk gathers keys in byte order.
type walk struct {
	ctx           context.Context
	prefix, after string
	want          int
	items         []storage.Info
}

func (w *walk) full() bool { return len(w.items) >= w.want }

// below walks the directory path ("" or with a slash at its end) under root.
func (w *walk) below(root *os.Root, path string) error {
	if path == "" {
		return w.directory(root, path)
	}
	sub, err := openDir(root, strings.TrimSuffix(path, "/"))
	if sub == nil {
		return err
	}
	defer sub.Close()
	return w.directory(sub, path)
}

// openDir gives nil without an error where there is no directory.
func openDir(root *os.Root, name string) (*os.Root, error) {
	fi, err := root.Lstat(name)
	if isAbsent(err) || err == nil && !fi.IsDir() {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	sub, err := root.OpenRoot(name)
	if isAbsent(err) {
		return nil, nil
	}
	return sub, err
}

// directory walks the directory dir, whose keys start with path.
func (w *walk) directory(dir *os.Root, path string) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	for last := ""; ; {
		names, more, err := w.names(d, path, last)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := w.entry(dir, path, name); err != nil || w.full() {
				return err
			}
		}
		if !more {
			return nil
		}
		last = names[len(names)-1]
	}
}

func (w *walk) entry(dir *os.Root, path, name string) error {
	if strings.HasSuffix(name, "/") {
		sub, err := openDir(dir, strings.TrimSuffix(name, "/"))
		if sub == nil {
			return err
		}
		defer sub.Close()
		return w.directory(sub, path+name)
	}
	fi, err := dir.Lstat(name)
	if isAbsent(err) {
		return nil
	} else if err != nil {
		return err
	}
	if fi.Mode().IsRegular() {
		w.items = append(w.items, info(path+name, fi))
	}
	return nil
}

// names gives the smallest names of d after last that matter, sorted, and
// whether there are more. A directory's name has a slash at its end: so its
// place among the names is the place of its keys among the keys ("a-b" < "a/b").
func (w *walk) names(d *os.File, path, last string) (names []string, more bool, err error) {
	if _, err := d.Seek(0, io.SeekStart); err != nil {
		return nil, false, err
	}
	var bound string // with more: names from here on come another time
	for {
		if err := w.ctx.Err(); err != nil {
			return nil, false, err
		}
		entries, err := d.ReadDir(1024)
		for _, entry := range entries {
			name := nameOf(entry)
			if name > last && (!more || name < bound) && w.matters(path, name) {
				names = append(names, name)
			}
		}
		// Bounds the memory for huge directories.
		if len(names) >= 4*w.want {
			slices.Sort(names)
			bound, more = names[w.want], true
			clear(names[w.want:])
			names = names[:w.want]
		}
		if err == io.EOF || isAbsent(err) { // removed meanwhile
			slices.Sort(names)
			return slices.Compact(names), more, nil
		} else if err != nil {
			return nil, false, err
		}
	}
}

func nameOf(entry fs.DirEntry) string {
	switch {
	case entry.IsDir():
		return entry.Name() + "/"
	case entry.Type().IsRegular():
		return entry.Name()
	}
	return ""
}

// matters tells whether name in the directory path is a key of the listing, or
// a directory that may hold one.
func (w *walk) matters(path, name string) bool {
	key := path + name
	if dir, isDir := strings.CutSuffix(key, "/"); isDir {
		if !strings.HasPrefix(key, w.prefix) && !strings.HasPrefix(w.prefix, key) {
			return false
		}
		return (key > w.after || strings.HasPrefix(w.after, key)) && storage.CheckKey(dir) == nil
	}
	return strings.HasPrefix(key, w.prefix) && key > w.after && storage.CheckKey(key) == nil
}

func readDir(root *os.Root, name string) ([]fs.DirEntry, error) {
	d, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadDir(-1)
}
