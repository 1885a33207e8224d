package executor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/baas-batch/baas/tasklet"
)

// parts collects the ranges that are asked for.
type parts struct {
	mu   sync.Mutex
	all  []string
	most int // at the same time
	now  int
}

func (p *parts) enter(rng string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, rng)
	p.now++
	p.most = max(p.most, p.now)
}

func (p *parts) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now--
}

func TestLargeInputComesInParts(t *testing.T) {
	r := newRig(t, setup{tune: func(t *Tuning) { t.SplitDownload, t.DownloadPart = 1<<20, 300_000 }})
	src := r.source("doc", 2_000_000)
	src.Offset, src.Size = 500, 1_999_000
	src.SHA256, _ = hashReader(t.Context(), strings.NewReader(string(r.store.objects["doc"][500:1_999_500])), src.Size)
	l := r.job("cksum < $BAAS_INPUT_DOC; stat -c '%a %s' $BAAS_INPUT_DOC")
	l.Partitions[0].Inputs = map[string]tasklet.Input{"doc": {Files: []tasklet.Source{src}}}
	var seen parts
	together := make(chan struct{})
	var waiting, cut atomic.Int32
	r.store.set(func() {
		r.store.intercept = func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method != http.MethodGet {
				return false
			}
			seen.enter(req.Header.Get("Range"))
			defer seen.leave()
			switch n := waiting.Add(1); {
			case n == parallelGets:
				close(together)
			case n < parallelGets:
				<-together
			case n == parallelGets+1:
				cut.Add(1)
				w.Header().Set("Content-Length", "300000")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(make([]byte, 10))
				panic(http.ErrAbortHandler) // wrong bytes, and not all
			}
			return false
		}
	})
	res := r.one(l)
	if res.Outcome != tasklet.Succeeded || res.Usage.Fetched != src.Size || cut.Load() != 1 {
		t.Fatalf("%+v, %d cut", res, cut.Load())
	}
	check := r.job("tail -c +501 $BAAS_INPUT_DOC | head -c 1999000 | cksum; echo 600 1999000")
	check.Partitions[0].Inputs = map[string]tasklet.Input{"doc": {Files: []tasklet.Source{r.source("doc", 2_000_000)}}}
	r.one(check)
	if have, want := r.logOf(l, 0), r.logOf(check, 0); have != want {
		t.Errorf("%q, not %q", have, want)
	}
	for _, want := range []string{"bytes=500-300499", "bytes=1800500-1999499"} {
		if !slices.Contains(seen.all, want) {
			t.Errorf("no %s in %v", want, seen.all)
		}
	}
}

// checking is a landing that is busy with what has arrived.
type checking struct {
	fileLanding
	content io.ReaderAt
}

func (c *checking) verify(arrived func(int64) error) error {
	return verifyFile(c.content, 0, c.size, c.sha256, arrived)
}

// countedReads calls a function at one of its reads.
type countedReads struct {
	reads, at int
	call      func()
}

func (c *countedReads) ReadAt(p []byte, _ int64) (int, error) {
	if c.reads++; c.reads == c.at {
		c.call()
	}
	return len(p), nil
}

// Who is killed does not wait until all that has arrived is hashed.
func TestCheckOfAnArrivedFileEnds(t *testing.T) {
	ctx, kill := context.WithCancelCause(t.Context())
	s := newStore(quickTuning(), nil, nil, slog.New(slog.DiscardHandler))
	content := &countedReads{at: 3, call: func() { kill(errKilled) }}
	err := s.fetchSpans(ctx, download{}, 0, nil, &checking{fileLanding{size: 64 << 20}, content})
	if perStep := verifyStep >> 15; !errors.Is(err, errKilled) || content.reads < 3 || content.reads > 3*perStep {
		t.Errorf("%v after %d reads", err, content.reads)
	}
}

// BenchmarkDownload compares one stream with parts, by plain HTTP on this machine.
func BenchmarkDownload(b *testing.B) {
	const size = 256 << 20
	dir := b.TempDir()
	f, err := os.Create(filepath.Join(dir, "object"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, h), zeros{}, size); err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	source := tasklet.Source{
		FileRef: tasklet.NewFileRef("object", size, hex.EncodeToString(h.Sum(nil)), "object"), URL: server.URL + "/object",
	}
	for name, split := range map[string]int64{"one stream": math.MaxInt64, "parts": 64 << 20} {
		b.Run(name, func(b *testing.B) {
			tune := DefaultTuning()
			tune.SplitDownload = split
			s := newStore(tune, nil, nil, slog.New(slog.DiscardHandler))
			defer s.http.CloseIdleConnections()
			b.SetBytes(size)
			for b.Loop() {
				path := filepath.Join(dir, "copy")
				if err := s.download(b.Context(), download{source: source, path: path}); err != nil {
					b.Fatal(err)
				}
				if err := os.Remove(path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
