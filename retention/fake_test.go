package retention

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
)

// openRuns is a Temporal that tests write.
type openRuns struct {
	mu   sync.Mutex
	live map[string]Live // by instance
	late map[string]bool // instances that the listing does not show yet
	err  error
	asks int // calls of Open
}

func newOpenRuns(live ...Live) *openRuns {
	o := &openRuns{live: map[string]Live{}, late: map[string]bool{}}
	for _, l := range live {
		o.live[l.Instance] = l
	}
	return o
}

// begin starts a run; late: the listing does not show it yet.
func (o *openRuns) begin(l Live, late bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.live[l.Instance], o.late[l.Instance] = l, late
}

func (o *openRuns) Open(_ context.Context, instance string) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asks++
	return o.live[instance].Run, o.err
}

func (o *openRuns) Home(context.Context) (api.StoreHome, error) { return here, o.err }

// here is where the runs of the tests are.
var here = api.StoreHome{Namespace: "default", NamespaceID: "here"}

func (o *openRuns) Live(_ context.Context, _ string, progress func()) ([]Live, error) {
	progress()
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []Live
	for _, l := range o.live {
		if !o.late[l.Instance] {
			list = append(list, l)
		}
	}
	return list, o.err
}

// hookedStore calls before each change of the store.
type hookedStore struct {
	storage.Store
	hook func(what, key string) error
}

func (s *hookedStore) Put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Info, error) {
	if s.hook != nil {
		if err := s.hook("put", key); err != nil {
			return storage.Info{}, err
		}
	}
	return s.Store.Put(ctx, key, r, opts)
}

func (s *hookedStore) Delete(ctx context.Context, key string) error {
	if s.hook != nil {
		if err := s.hook("delete", key); err != nil {
			return err
		}
	}
	return s.Store.Delete(ctx, key)
}

var errCut = errors.New("cut")

func newStore(t *testing.T) *hookedStore {
	t.Helper()
	s, err := file.Open(t.TempDir(), file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &hookedStore{Store: s}
}

func instance(app string, n int) string { return fmt.Sprintf("%s-%016x", app, n) }

func runName(app string, inst, n int) string {
	return api.RunID(instance(app, inst), fmt.Sprintf("%08x", n))
}

// objects are what a run of the tests leaves.
func objects(app, run string) []string {
	step := api.StepPrefix(app, run, "work")
	return []string{
		api.CheckpointKey(step, 0, 1, 1), api.LogKey(step, 0, 1, 1),
		api.OutputKey(step, 0, 1, 1, "out"), api.ResultKey(step, "work-1", 0, 1),
	}
}

func write(t *testing.T, s storage.Store, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if _, err := storage.PutBytes(t.Context(), s, key, []byte("content")); err != nil {
			t.Fatal(err)
		}
	}
}

// ended writes all that a run leaves.
func ended(t *testing.T, s storage.Store, app string, r api.RunRecord) {
	t.Helper()
	write(t, s, objects(app, r.Run)...)
	if err := put(t.Context(), s, app, r); err != nil {
		t.Fatal(err)
	}
}

func keys(t *testing.T, s storage.Store, prefix string) []string {
	t.Helper()
	var list []string
	for info, err := range storage.All(t.Context(), s, storage.ListOptions{Prefix: prefix}) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, info.Key)
	}
	return list
}

// whole tells whether all objects of a run are there.
func whole(t *testing.T, s storage.Store, app, run string) bool {
	t.Helper()
	have := keys(t, s, api.RunPrefix(app, run))
	return !slices.ContainsFunc(objects(app, run), func(key string) bool { return !slices.Contains(have, key) })
}

func record(app string, inst, n int, status api.Status, ago time.Duration) api.RunRecord {
	return api.RunRecord{
		Run: runName(app, inst, n), Instance: instance(app, inst), Status: status,
		Started: midnight.Add(-ago - time.Minute), Ended: midnight.Add(-ago),
	}
}

// serial makes changes one at a time, as hooks change the world between them.
type serial struct {
	*hookedStore
	one *sync.Mutex
}

func (s serial) Put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Info, error) {
	s.one.Lock()
	defer s.one.Unlock()
	return s.hookedStore.Put(ctx, key, r, opts)
}

func (s serial) Delete(ctx context.Context, key string) error {
	s.one.Lock()
	defer s.one.Unlock()
	return s.hookedStore.Delete(ctx, key)
}
