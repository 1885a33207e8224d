package starter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
	"github.com/baas-batch/baas/tasklet/tree"
)

// Output is one output of a step.
type Output struct {
	Step  string          `json:"step"`
	Name  string          `json:"name"`
	Value json.RawMessage `json:"value"`
	// Files are all references in the value. Their keys are those of the store.
	Files []tasklet.FileRef `json:"files,omitempty"`
	// Many is set when the values are so many that they lie in storage.
	Many *flow.Many `json:"-"`
}

// Outputs gives the outputs of all steps that have any so far, in the order of
// the file.
func (r *Run) Outputs() []Output {
	var list []Output
	for _, s := range r.Steps {
		for _, name := range slices.Sorted(maps.Keys(s.Outputs)) {
			o := Output{Step: s.ID, Name: name, Value: s.Outputs[name]}
			if many, ok := flow.AsMany(o.Value); ok {
				o.Many = &many
			} else {
				o.Files = references(o.Value)
			}
			list = append(list, o)
		}
	}
	return list
}

// references finds the files in a value, in order.
func references(raw json.RawMessage) []tasklet.FileRef {
	var ref tasklet.FileRef
	if json.Unmarshal(raw, &ref) == nil && ref.Tag == tasklet.FileRefTag {
		return []tasklet.FileRef{ref}
	}
	var found []tasklet.FileRef
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil {
		for _, element := range list {
			found = append(found, references(element)...)
		}
		return found
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) == nil {
		for _, key := range slices.Sorted(maps.Keys(object)) {
			found = append(found, references(object[key])...)
		}
	}
	return found
}

// Download writes the files and directories of an output below dir, each whole or
// not at all, and gives their paths: <step>/<name>/<file>; where two have one name,
// and where the values lie in storage, a number goes before it, then that of the
// partition. Every byte is checked against its hash. A directory that is there already
// is replaced.
func (c *Client) Download(ctx context.Context, o Output, dir string) ([]string, error) {
	if len(o.Files) == 0 && o.Many == nil {
		return nil, nil
	}
	folder := filepath.Join(safeName(o.Step), safeName(o.Name))
	if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(filepath.Join(dir, folder))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var written []string
	get := func(name string, ref tasklet.FileRef) error {
		fetch := c.fetch
		if ref.IsDirectory() {
			fetch = c.fetchDirectory
		}
		if err := fetch(ctx, root, name, ref); err != nil {
			return fmt.Errorf("download %s of step %s: %w", o.Name, o.Step, err)
		}
		written = append(written, filepath.Join(dir, folder, name))
		return nil
	}
	if o.Many != nil {
		err := c.eachOf(ctx, *o.Many, get)
		return written, err
	}
	for i, name := range fileNames(o.Files) {
		if err := get(name, o.Files[i]); err != nil {
			return written, err
		}
	}
	return written, nil
}

// eachOf goes over the files of an output that lies in manifests.
func (c *Client) eachOf(ctx context.Context, many flow.Many, get func(name string, ref tasklet.FileRef) error) error {
	for _, manifest := range many.Manifests {
		r, err := lines.Open(ctx, storage.Section(c.store, manifest.Key), manifest.Size)
		if err != nil {
			return fmt.Errorf("manifest %s: %w", manifest.Key, err)
		}
		for one, err := range lines.As[tasklet.Result](r.Values(ctx, 0, r.Len())) {
			if err != nil {
				return fmt.Errorf("manifest %s: %w", manifest.Key, err)
			}
			files := references(one.Outputs[many.Output])
			for i, name := range fileNames(files) {
				if err := get(fmt.Sprintf("%07d-%s", one.Partition, name), files[i]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// fileNames gives each file a name of its own.
func fileNames(files []tasklet.FileRef) []string {
	count := map[string]int{}
	for _, f := range files {
		count[safeName(f.Name)]++
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = safeName(f.Name)
		if count[names[i]] > 1 {
			names[i] = fmt.Sprintf("%05d-%s", i, names[i])
		}
	}
	return names
}

// safeName makes a file name of what a tasklet chose.
func safeName(name string) string {
	name = path.Base(path.Clean("/" + strings.ReplaceAll(name, `\`, "/")))
	if name == "/" || name == "." || strings.ContainsRune(name, 0) {
		return "file"
	}
	return name
}

// unpackFile writes the content of a compressed file.
func (c *Client) unpackFile(ctx context.Context, w io.Writer, ref tasklet.FileRef) error {
	packed, err := os.CreateTemp("", "baas-packed-*")
	if err != nil {
		return err
	}
	defer os.Remove(packed.Name())
	defer packed.Close()
	err = storage.CopyVerified(ctx, packed, c.store, storage.Content{Key: ref.Key, Size: ref.Packed.Size, SHA256: ref.Packed.SHA256})
	if err == nil {
		_, err = packed.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	hashed, digest := storage.HashWriter(w)
	if err := tree.Decompress(hashed, packed, ref.Size); err != nil {
		return err
	}
	if digest.Size() != ref.Size || digest.SHA256() != ref.SHA256 {
		return fmt.Errorf("%q: %w", ref.Key, storage.ErrCorrupt)
	}
	return nil
}

func (c *Client) fetch(ctx context.Context, root *os.Root, name string, ref tasklet.FileRef) (err error) {
	partial := name + ".partial"
	f, err := root.Create(partial)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.Remove(partial))
		}
	}()
	if ref.IsPacked() {
		err = c.unpackFile(ctx, f, ref)
	} else {
		err = storage.CopyVerified(ctx, f, c.store, storage.Content{Key: ref.Key, Offset: ref.Offset, Size: ref.Size, SHA256: ref.SHA256})
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return root.Rename(partial, name)
}
