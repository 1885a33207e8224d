package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/baas-batch/baas/storage"
)

// StoreFault is what befalls a worker's own reads and writes of storage.
type StoreFault struct {
	Every int           // every so manieth call fails; 1: all, 0: none
	Delay time.Duration // before each call
}

// errStore is what a call that fails says: as a disk that is full.
var errStore = errors.New("injected: no space left on device")

// StoreControl is the test's end: the wrapper in the worker's process reads its
// file before each call.
type StoreControl struct{ dir string }

const (
	faultFile = "fault.json"
	hitsFile  = "hits" // one byte for each call that failed or waited
)

// Set sets what befalls calls from now on, also in the worker's next lives.
func (c StoreControl) Set(f StoreFault) error {
	raw, err := json.Marshal(f)
	if err != nil {
		return err
	}
	temp := filepath.Join(c.dir, "new")
	if err := os.WriteFile(temp, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(c.dir, faultFile))
}

// Heal ends the fault.
func (c StoreControl) Heal() error { return c.Set(StoreFault{}) }

// Struck counts the calls that a fault has befallen.
func (c StoreControl) Struck() int {
	info, err := os.Stat(filepath.Join(c.dir, hitsFile))
	if err != nil {
		return 0
	}
	return int(info.Size())
}

// faultyStore is a store whose calls over the network fail as its control says.
type faultyStore struct {
	storage.Store
	control StoreControl
	calls   atomic.Int64
}

func (s *faultyStore) befall(ctx context.Context) error {
	raw, err := os.ReadFile(filepath.Join(s.control.dir, faultFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var f StoreFault
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err != nil {
		return fmt.Errorf("control of the store's faults: %w", err)
	}
	fails := f.Every > 0 && s.calls.Add(1)%int64(f.Every) == 0
	if fails || f.Delay > 0 {
		if err := s.hit(); err != nil {
			return err
		}
	}
	select {
	case <-time.After(f.Delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	if fails {
		return errStore
	}
	return nil
}

func (s *faultyStore) hit() error {
	f, err := os.OpenFile(filepath.Join(s.control.dir, hitsFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte{'x'})
	return errors.Join(err, f.Close())
}

func (s *faultyStore) Put(ctx context.Context, key string, r io.Reader, o storage.PutOptions) (storage.Info, error) {
	if err := s.befall(ctx); err != nil {
		return storage.Info{}, err
	}
	return s.Store.Put(ctx, key, r, o)
}

func (s *faultyStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	if err := s.befall(ctx); err != nil {
		return nil, storage.Info{}, err
	}
	return s.Store.Get(ctx, key, offset, length)
}

func (s *faultyStore) Stat(ctx context.Context, key string) (storage.Info, error) {
	if err := s.befall(ctx); err != nil {
		return storage.Info{}, err
	}
	return s.Store.Stat(ctx, key)
}

func (s *faultyStore) List(ctx context.Context, o storage.ListOptions) (storage.Page, error) {
	if err := s.befall(ctx); err != nil {
		return storage.Page{}, err
	}
	return s.Store.List(ctx, o)
}

func (s *faultyStore) Delete(ctx context.Context, key string) error {
	if err := s.befall(ctx); err != nil {
		return err
	}
	return s.Store.Delete(ctx, key)
}

func (s *faultyStore) CreateUpload(ctx context.Context, key string) (string, error) {
	if err := s.befall(ctx); err != nil {
		return "", err
	}
	return s.Store.CreateUpload(ctx, key)
}

func (s *faultyStore) CompleteUpload(ctx context.Context, key, id string, parts []storage.UploadPart) (storage.Info, error) {
	if err := s.befall(ctx); err != nil {
		return storage.Info{}, err
	}
	return s.Store.CompleteUpload(ctx, key, id, parts)
}
