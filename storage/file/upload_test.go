package file

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/baas-batch/baas/storage"
)

func TestUploadsLeaveNoParts(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	id, err := s.CreateUpload(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	var parts []storage.UploadPart
	for n, content := range []string{"one", "two", "three"} {
		etag, err := s.putPart(t.Context(), "key", id, n+1, strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, storage.UploadPart{Number: n + 1, ETag: etag})
	}
	if _, err := s.CompleteUpload(t.Context(), "key", id, parts[:2]); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "key", "onetwo")
	wantNoTemps(t, s)
	if _, err := os.Stat(filepath.Join(dir, partsPath(id))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the parts are still there: %v", err)
	}
	if _, err := s.putPart(t.Context(), "key", id, 4, strings.NewReader("late")); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("a part after completion: %v", err)
	}
	wantNoTemps(t, s)
}

// TestCompleteAfterDeath: the object was published, the note of it was not.
func TestCompleteAfterDeath(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	for _, contents := range [][]string{{"one"}, {"one", "two"}} {
		id, err := s.CreateUpload(t.Context(), "key")
		if err != nil {
			t.Fatal(err)
		}
		var parts []storage.UploadPart
		for n, content := range contents {
			etag, err := s.putPart(t.Context(), "key", id, n+1, strings.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, storage.UploadPart{Number: n + 1, ETag: etag})
		}
		paths, err := s.partFiles(id, parts)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.join(t.Context(), paths, "key"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.CompleteUpload(t.Context(), "key", id, parts); err != nil {
			t.Errorf("complete again: %v", err)
		}
		wantContent(t, s, "key", strings.Join(contents, ""))
		wantNoTemps(t, s)
	}
}

func TestConcurrentParts(t *testing.T) {
	dir := t.TempDir()
	stores := []*Store{openStore(t, dir, Options{NoSync: true}), openStore(t, dir, Options{NoSync: true})}
	id, err := stores[0].CreateUpload(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 20 {
				content := bytes.Repeat([]byte{byte('a' + i)}, 1000+n)
				if _, err := stores[i%2].putPart(t.Context(), "key", id, 1, bytes.NewReader(content)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	versions, err := readDir(stores[0].root, partPath(id, 1))
	if err != nil || len(versions) != 1 {
		t.Fatalf("versions of the part: %v, %v; want one", versions, err)
	}
	part := storage.UploadPart{Number: 1, ETag: versions[0].Name()}
	infos := make([]storage.Info, 4)
	for i := range infos {
		wg.Go(func() {
			var err error
			if infos[i], err = stores[i%2].CompleteUpload(t.Context(), "key", id, []storage.UploadPart{part}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, info := range infos {
		if info.ETag != infos[0].ETag {
			t.Errorf("completed as %+v and %+v", infos[0], info)
		}
	}
}
