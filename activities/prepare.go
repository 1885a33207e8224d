package activities

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/retention"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// Preparer does what a run needs of storage before and after its steps. Any
// worker may do it.
type Preparer struct {
	Store    storage.Store
	Catalog  flow.Catalog
	Settings api.Settings
	// Images pins images to digests; nil leaves their names as they are.
	Images ImagePinner
}

// maxBundle bounds what a bundle may unpack to, in bytes.
const maxBundle = 1 << 30

// Prepare is the activity api.ActivityPrepare: it reads the flow from its bundle,
// checks it and the parameters, and returns the compiled plan. What a person must
// mend is a non-retryable error of type api.ErrorInvalidFlow with all problems.
func (p *Preparer) Prepare(ctx context.Context, in api.PrepareInput) (api.PrepareResult, error) {
	var r api.PrepareResult
	source := in.Run.Source
	if source == nil {
		return r, invalid(errors.New("the argument names no flow: give source.bundle and source.path"))
	}
	if !strings.HasPrefix(source.Bundle.Key, "bundles/") {
		return r, invalid(fmt.Errorf("source.bundle.key is %q: it must be a key under bundles/", source.Bundle.Key))
	}
	dir, err := os.MkdirTemp("", "baas-prepare-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	if err := p.unpack(ctx, source.Bundle, dir); err != nil {
		return r, err
	}
	f, err := p.parse(dir, source.Path)
	if err != nil {
		return r, invalid(err)
	}
	given := make(map[string]any, len(in.Run.Params))
	for name, raw := range in.Run.Params {
		given[name] = raw
	}
	params, err := f.Bind(given)
	if err != nil {
		return r, invalid(err)
	}
	if err := p.checkGiven(ctx, f.Name, params); err != nil {
		return r, err
	}
	pinned, err := p.pin(ctx, f)
	if err != nil {
		return r, err
	}
	return api.PrepareResult{
		Images: pinned,
		Flow:   *f, Bundle: &source.Bundle, Owner: api.AdhocOwner,
		Params: params, Identity: f.IdentityDigest(params), Settings: p.Settings,
	}, nil
}

// checkGiven refuses parameters that name objects of a run that is being swept.
func (p *Preparer) checkGiven(ctx context.Context, app string, params any) error {
	given, err := json.Marshal(params)
	if err != nil {
		return invalid(err)
	}
	if err = retention.CheckGiven(ctx, p.Store, app, given); errors.Is(err, retention.ErrSwept) {
		return invalid(fmt.Errorf("parameters: %w", err))
	}
	return err
}

func invalid(err error) error {
	return temporal.NewNonRetryableApplicationError(err.Error(), api.ErrorInvalidFlow, nil)
}

func (p *Preparer) parse(dir, name string) (*flow.Flow, error) {
	if !fs.ValidPath(name) {
		return nil, fmt.Errorf("source.path is %q: it must be a path inside the bundle", name)
	}
	src, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		return nil, fmt.Errorf("the bundle has no flow file %q", name)
	}
	root := filepath.Join(dir, filepath.FromSlash(path.Dir(name)))
	return flow.Parse(path.Base(name), src, flow.Options{Files: os.DirFS(root), Catalog: p.Catalog})
}

// unpack writes a bundle into dir. The hash is checked: a bundle is named by it.
func (p *Preparer) unpack(ctx context.Context, ref tasklet.FileRef, dir string) error {
	var packed bytes.Buffer
	content := storage.Content{Key: ref.Key, SHA256: ref.SHA256, Size: ref.Size}
	if err := storage.CopyVerified(ctx, &packed, p.Store, content); err != nil {
		return fmt.Errorf("bundle %s: %w", ref.Key, err)
	}
	zipped, err := gzip.NewReader(&packed)
	if err != nil {
		return invalid(fmt.Errorf("bundle %s: %w", ref.Key, err))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := untar(root, io.LimitReader(zipped, maxBundle)); err != nil {
		return invalid(fmt.Errorf("bundle %s: %w", ref.Key, err))
	}
	return nil
}

// untar writes the directories and regular files of an archive; os.Root keeps
// every name inside.
func untar(root *os.Root, r io.Reader) error {
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		name := path.Clean(header.Name)
		switch header.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o700)
		case tar.TypeReg:
			err = untarFile(root, name, header.FileInfo().Mode(), archive)
		default:
			err = fmt.Errorf("%s is neither a file nor a directory", header.Name)
		}
		if err != nil {
			return err
		}
	}
}

func untarFile(root *os.Root, name string, mode fs.FileMode, r io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	file, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode&0o500|0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, r)
	return errors.Join(err, file.Close())
}

// SaveInstance is the activity api.ActivitySaveInstance.
func (p *Preparer) SaveInstance(ctx context.Context, state api.RunState) error {
	digest, ok := strings.CutPrefix(state.Instance, state.App+"-")
	if !ok {
		return temporal.NewNonRetryableApplicationError(
			fmt.Sprintf("instance %q is not one of app %q", state.Instance, state.App), "InvalidInstance", nil)
	}
	data, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if err := retention.Save(ctx, p.Store, state); err != nil {
		return err
	}
	_, err = storage.PutBytes(ctx, p.Store, api.InstanceKey(state.App, digest), data)
	return err
}
