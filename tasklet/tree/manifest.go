package tree

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math"
	"path"
	"path/filepath"
	"strings"
)

// Kind of an entry.
type Kind string

// The kinds of entries.
const (
	Dir     Kind = "dir"
	File    Kind = "file"
	Symlink Kind = "link"
)

// Entry is one file, directory or symbolic link of a tree. Directories stand
// before what is in them; the contents of files lie one behind the other, in the
// order of the entries.
type Entry struct {
	Path   string      `json:"path"` // relative, with slashes, clean
	Kind   Kind        `json:"kind"`
	Mode   fs.FileMode `json:"mode,omitempty"` // permission bits, of files and directories
	Link   string      `json:"link,omitempty"` // what a symbolic link says
	Offset int64       `json:"offset,omitempty"`
	Size   int64       `json:"size,omitempty"`  // bytes, of files
	SHA256 Hash        `json:"sha256,omitzero"` // of files
}

// Hash is a SHA-256, in hexadecimal digits as JSON.
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	if n, err := hex.Decode(h[:], text[:min(len(text), 2*len(h))]); err != nil || n != len(h) || len(text) != 2*len(h) {
		return errors.New("no SHA-256 in hexadecimal digits")
	}
	return nil
}

// maxLine of a manifest, in bytes: two names, each of whose bytes may be escaped.
const maxLine = 2*6*maxName + 1<<10

// WriteManifest writes one JSON object a line. Its length does not depend on the
// hashes, but that those of files are set.
func WriteManifest(w io.Writer, entries []Entry) error {
	b := bufio.NewWriter(w)
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	for i := range entries {
		if err := encoder.Encode(&entries[i]); err != nil {
			return err
		}
	}
	return b.Flush()
}

// ReadManifest reads and checks the manifest of a tree whose files have so many
// bytes together. Its error is an *Error when the manifest is to blame.
func ReadManifest(r io.Reader, size int64, bounds Bounds) ([]Entry, error) {
	c := check{bounds: bounds, kinds: map[string]Kind{".": Dir}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	var entries []Entry
	for lines.Scan() {
		e, err := readEntry(lines.Bytes())
		if err == nil {
			err = c.entry(e)
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, bad("the manifest has a line over %d bytes", maxLine)
	case err != nil:
		return nil, err
	case c.end != size:
		return nil, bad("the manifest has files of %d bytes, expected %d", c.end, size)
	}
	return entries, nil
}

func readEntry(line []byte) (e Entry, err error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields() // what this reader does not know it cannot stage
	if err := d.Decode(&e); err != nil {
		return e, bad("the manifest cannot be read: %v", err)
	}
	if d.InputOffset() != int64(len(line)) {
		return e, bad("the manifest cannot be read: more than one value in a line")
	}
	return e, nil
}

// check looks at entries one after the other.
type check struct {
	bounds  Bounds
	entries int
	end     int64 // of the last file
	kinds   map[string]Kind
}

func (c *check) entry(e Entry) error {
	c.entries++
	if err := errors.Join(c.bounds.check(c.end, c.entries), checkName(e.Path)); err != nil {
		return err
	}
	switch {
	case !fs.ValidPath(e.Path) || e.Path == "." || !filepath.IsLocal(e.Path) || strings.ContainsRune(e.Path, 0):
		return bad("entry %q has no allowed path", e.Path)
	case c.kinds[e.Path] != "":
		return bad("entry %q occurs twice", e.Path)
	case c.kinds[path.Dir(e.Path)] != Dir: // so nothing lies behind a link
		return bad("entry %q is in no directory", e.Path)
	case e.Mode&^fs.ModePerm != 0:
		return bad("entry %q has the mode %o", e.Path, uint32(e.Mode))
	}
	c.kinds[e.Path] = e.Kind
	switch e.Kind {
	case Dir:
		return nil
	case File:
		if e.Size < 0 || e.Offset != c.end || c.end > math.MaxInt64-e.Size {
			return bad("entry %q has %d bytes at offset %d", e.Path, e.Size, e.Offset)
		}
		c.end += e.Size
		return c.bounds.check(c.end, c.entries)
	case Symlink:
		if err := checkName(e.Link); err != nil {
			return err
		}
		if e.Link == "" || strings.ContainsRune(e.Link, 0) || leadsOut(e.Path, e.Link) {
			return bad("entry %q links to %q, outside of the directory", e.Path, e.Link)
		}
		return nil
	}
	return bad("entry %q is neither file, directory nor link", e.Path)
}
