package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// busyStore counts reads, and fails writes when it is told to.
type busyStore struct {
	storage.Store
	mu   sync.Mutex
	gets map[string]int
	fail error
	put  func() // called when a write begins
	// meet holds the first reads of segments back until there are two.
	meet chan struct{}
	held int
}

func (s *busyStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	s.mu.Lock()
	s.gets[key]++
	if wait := s.meet; wait != nil && strings.Contains(key, "/segments/") {
		if s.held++; s.held == 2 {
			close(wait)
		}
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, storage.Info{}, ctx.Err()
		case <-time.After(30 * time.Second):
			return nil, storage.Info{}, errors.New("no other read has come")
		}
	} else {
		s.mu.Unlock()
	}
	return s.Store.Get(ctx, key, offset, length)
}

func (s *busyStore) Put(ctx context.Context, key string, r io.Reader, o storage.PutOptions) (storage.Info, error) {
	if s.put != nil {
		s.put()
	}
	if s.fail != nil {
		_, _ = io.ReadFull(r, make([]byte, 1))
		return storage.Info{}, s.fail
	}
	return s.Store.Put(ctx, key, r, o)
}

// Many partitions are streams: files that lie together come with one
// request, and memory does not grow with their number.
func TestGatherMany(t *testing.T) {
	w := newItemWorld(t)
	const segments, each = 8, 5000
	contents := make([]string, each)
	var manifests []tasklet.LinesRef
	want := sha256.New()
	size := int64(0)
	for s := range segments {
		for i := range contents {
			contents[i] = fmt.Sprintf("statement of account %06d\n%s\n", s*each+i, strings.Repeat("x", 1000))
			want.Write([]byte(contents[i]))
			size += int64(len(contents[i]))
		}
		key := api.SegmentKey(renderPrefix, "render-1", 0, 1, s)
		w.put(key, strings.Join(contents, "a log in between"))
		results := make([]tasklet.Result, each)
		offset := int64(0)
		for i, content := range contents {
			sum := sha256.Sum256([]byte(content))
			ref := tasklet.NewFileRef(key, int64(len(content)), hex.EncodeToString(sum[:]), "statement")
			ref.Offset = offset
			offset += int64(len(content) + len("a log in between"))
			results[i] = did(map[string]any{"sum": i, "statement": ref})
		}
		manifests = append(manifests, w.manifest(s*each, results...))
	}
	store := &busyStore{Store: w.store, gets: map[string]int{}}
	g := newGatherer(store, api.GatherInput{
		App: "app", Owner: "team", Run: "app-1", Step: "total", Outputs: gatherOutputs[:2], Manifests: manifests}, 1)
	var most uint64
	stop := g.beat(t.Context(), 5*time.Millisecond, func(Gathering) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapInuse)
	})
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	files, err := g.run(t.Context())
	took := time.Since(began)
	stop()
	if err != nil {
		t.Fatal(err)
	}
	if files[1].Size != size || files[1].SHA256 != hex.EncodeToString(want.Sum(nil)) {
		t.Errorf("%d bytes, want %d in the order of their partitions", files[1].Size, size)
	}
	if n := strings.Count(w.content(files[0]), "\n"); n != segments*each {
		t.Errorf("%d lines", n)
	}
	reads := 0
	for key, n := range store.gets {
		if strings.Contains(key, "/segments/") {
			reads += n
		}
	}
	if most := segments*each/maxTogether + int(size/maxPart)*11/10 + segments; reads > most {
		t.Errorf("%d reads of %d segments, want at most %d", reads, segments, most)
	}
	grown := int64(most) - int64(before.HeapInuse)
	t.Logf("%d partitions, %d bytes in %s; %d reads; the heap grew by %d KiB", segments*each, size, took.Round(time.Millisecond), reads, grown>>10)
	if most == 0 || grown > 24<<20 {
		t.Errorf("the heap grew by %d bytes while %d were gathered", grown, size)
	}
}

// Small objects are read side by side, and come in the order of their partitions all
// the same.
func TestGatherReadsAhead(t *testing.T) {
	w := newItemWorld(t)
	var results []tasklet.Result
	var want strings.Builder
	for i := range 3 * maxAhead {
		content := fmt.Sprintf("statement %d\n", i)
		if i == maxAhead {
			content = strings.Repeat("large", maxPart) // one that is not small
		}
		want.WriteString(content)
		results = append(results, did(map[string]any{"statement": w.segmentOf(i, content)[0]}))
	}
	store := &busyStore{Store: w.store, gets: map[string]int{}, meet: make(chan struct{})}
	g := newGatherer(store, api.GatherInput{App: "app", Owner: "team", Run: "app-1", Step: "total", Outputs: gatherOutputs[1:2],
		Manifests: []tasklet.LinesRef{w.manifest(0, results...)}}, 1)
	files, err := g.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if w.content(files[1]) != want.String() {
		t.Error("the files are not in the order of their partitions")
	}
}

func TestGatherEndsWithItsStore(t *testing.T) {
	w := newItemWorld(t)
	full := errors.New("the disk is full")
	in := api.GatherInput{App: "app", Owner: "team", Run: "app-1", Step: "total", Outputs: gatherOutputs[:1],
		Manifests: []tasklet.LinesRef{w.manifest(0, did(nil), did(nil))}}
	store := &busyStore{Store: w.store, gets: map[string]int{}, fail: full}
	if _, err := newGatherer(store, in, 1).run(t.Context()); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	store = &busyStore{Store: w.store, gets: map[string]int{}, put: cancel}
	if _, err := newGatherer(store, in, 1).run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// It heartbeats also while a store takes its time.
func TestGatherTellsHowFarItIs(t *testing.T) {
	w := newItemWorld(t)
	told, once := make(chan Gathering, 1), sync.Once{}
	heard := make(chan struct{})
	store := &busyStore{Store: w.store, gets: map[string]int{}, put: func() { <-heard }}
	g := newGatherer(store, api.GatherInput{App: "app", Owner: "team", Run: "app-1", Step: "total",
		Manifests: []tasklet.LinesRef{w.manifest(0, did(nil), did(nil))}}, 1)
	stop := g.beat(t.Context(), time.Millisecond, func(at Gathering) {
		if at.File != "" {
			once.Do(func() { told <- at; close(heard) })
		}
	})
	defer stop()
	if _, err := g.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at := <-told; at.File != "results" || at.Of != 2 {
		t.Errorf("told %+v", at)
	}
	if n := g.done.Load(); n != 2 {
		t.Errorf("%d partitions at the end", n)
	}
}
