package fault

import (
	"context"
	"io"
	"strings"

	"github.com/baas-batch/baas/storage"
)

// crashStore makes points of a worker's own calls of storage.
type crashStore struct {
	storage.Store
	crasher *crasher
}

// kinds name objects by a part of their keys.
var kinds = []struct{ part, name string }{
	{"/results/", "result"}, {"/segments/", "segment"}, {"/manifests/", "manifest"}, {"/checkpoints/", "checkpoint"},
	{"bundles/", "bundle"}, {"instances/", "instance"},
}

func kind(key string) string {
	for _, k := range kinds {
		if strings.Contains(key, k.part) {
			return k.name
		}
	}
	return "object"
}

func (s *crashStore) around(subject string, call func() error) error {
	s.crasher.pass(CrashPoint("before " + subject))
	err := call()
	if err == nil {
		s.crasher.pass(CrashPoint("after " + subject))
	}
	return err
}

func (s *crashStore) Put(ctx context.Context, key string, r io.Reader, o storage.PutOptions) (info storage.Info, err error) {
	err = s.around("write of "+kind(key), func() error { info, err = s.Store.Put(ctx, key, r, o); return err })
	return info, err
}

func (s *crashStore) Get(ctx context.Context, key string, offset, length int64) (body io.ReadCloser, info storage.Info, err error) {
	err = s.around("read of "+kind(key), func() error { body, info, err = s.Store.Get(ctx, key, offset, length); return err })
	return body, info, err
}

func (s *crashStore) List(ctx context.Context, o storage.ListOptions) (page storage.Page, err error) {
	err = s.around("list of "+kind(o.Prefix)+"s", func() error { page, err = s.Store.List(ctx, o); return err })
	return page, err
}

func (s *crashStore) SignURL(ctx context.Context, key string, o storage.SignOptions) (signed storage.Signed, err error) {
	err = s.around("signature for "+kind(key), func() error { signed, err = s.Store.SignURL(ctx, key, o); return err })
	return signed, err
}
