package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func TestPlan(t *testing.T) {
	plan := Plan{First: 8, Most: 64, Parts: 100}
	for n, want := range map[int]int64{1: 8, 10: 8, 11: 16, 20: 16, 21: 32, 31: 64, 100: 64} {
		if got := plan.Size(n); got != want {
			t.Errorf("part %d has %d bytes, want %d", n, got, want)
		}
	}
	if got := (Plan{First: 100, Most: 64, Parts: 1000}).Size(1000); got != 100 {
		t.Errorf("parts that are large from the start have %d bytes at the end, want 100", got)
	}
}

// parts collects what Split sends, and bounds what is under way.
type parts struct {
	plan    Plan // that of Split; zero: parts do not wait
	whole   []byte
	joined  int // parts
	aborted bool
	fail    int // the part that cannot be sent
	failing error

	mu           sync.Mutex
	sent         map[int][]byte // nil until begun
	flying, most int64          // bytes
	newest       int
	held         []chan struct{} // one for each part that waits
	ended        bool            // the stream
}

func (p *parts) sinks() Sinks {
	return Sinks{
		Whole: func(_ context.Context, b []byte) error { p.whole = bytes.Clone(b); return nil },
		Begin: func(context.Context) error { p.sent = map[int][]byte{}; return nil },
		Send:  p.send,
		Join:  func(_ context.Context, parts int) error { p.joined = parts; return nil },
		Abort: func(ctx context.Context) error { p.aborted = true; return ctx.Err() },
	}
}

// send keeps parts until they stand in the way of the next one, and lets them go in
// random order.
func (p *parts) send(ctx context.Context, part Part) error {
	released, size := make(chan struct{}), int64(len(part.Body))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flying, p.newest, p.held = p.flying+size, max(p.newest, part.Number), append(p.held, released)
	p.most = max(p.most, p.flying)
	p.settle()
	p.mu.Unlock()
	select {
	case <-released:
	case <-ctx.Done():
	}
	p.mu.Lock()
	p.flying -= size
	p.settle()
	if part.Number == p.fail {
		return p.failing
	}
	p.sent[part.Number] = bytes.Clone(part.Body)
	return ctx.Err()
}

func (p *parts) settle() {
	for len(p.held) > 0 && (p.ended || p.flying+p.plan.Size(p.newest+1) > p.plan.Memory) {
		i := rand.IntN(len(p.held))
		close(p.held[i])
		p.held = slices.Delete(p.held, i, i+1)
		if !p.ended {
			return
		}
	}
}

// Read is the end of the stream.
func (p *parts) Read([]byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.settle()
	return 0, io.EOF
}

func TestSplit(t *testing.T) {
	plan := Plan{First: 10, Most: 40, Parts: 50, Memory: 64}
	most := int64(0)
	for size := range 400 {
		content := bytes.Repeat([]byte("0123456789abcdef"), 30)[:size]
		p := parts{plan: plan}
		n, err := Split(t.Context(), io.MultiReader(iotest.HalfReader(bytes.NewReader(content)), &p), plan, p.sinks())
		if err != nil || n != int64(size) {
			t.Fatalf("%d bytes: %d, %v", size, n, err)
		}
		got := p.whole
		for i := 1; i <= p.joined; i++ {
			if len(p.sent[i]) == 0 || i < p.joined && int64(len(p.sent[i])) != plan.Size(i) {
				t.Errorf("%d bytes: part %d of %d has %d bytes", size, i, p.joined, len(p.sent[i]))
			}
			got = append(got, p.sent[i]...)
		}
		if !bytes.Equal(got, content) || (p.sent != nil) != (size >= 10) || p.most > plan.Memory || len(p.sent) != p.joined || p.aborted {
			t.Errorf("%d bytes came as %d in %d parts of %d, %d at a time, aborted %t", size, len(got), p.joined, len(p.sent), p.most, p.aborted)
		}
		most = max(most, p.most)
	}
	if most <= plan.Memory-plan.First {
		t.Errorf("at most %d bytes were under way together, of %d that may be", most, plan.Memory)
	}
}

// Small objects take little memory; the buffer grows without losing a byte.
func TestSplitWhole(t *testing.T) {
	plan := NewPlan(0, 10_000)
	content := make([]byte, plan.First+1)
	for i := range content {
		content[i] = byte(i * i >> 9)
	}
	for _, size := range []int64{0, 1, short - 1, short, short + 1, 16*short - 1, 16 * short, 16*short + 1, plan.First - 1, plan.First, plan.First + 1} {
		var p parts
		if n, err := Split(t.Context(), bytes.NewReader(content[:size]), plan, p.sinks()); err != nil || n != size {
			t.Fatalf("%d bytes: %d, %v", size, n, err)
		}
		if got := slices.Concat(p.whole, p.sent[1], p.sent[2]); !bytes.Equal(got, content[:size]) {
			t.Errorf("%d bytes came as %d", size, len(got))
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var p parts
	if _, err := Split(t.Context(), bytes.NewReader(content[:100]), plan, p.sinks()); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 2*short {
		t.Errorf("100 bytes took %d", used)
	}
}

func TestSplitFails(t *testing.T) {
	plan := Plan{First: 10, Most: 40, Parts: 50, Memory: 64}
	broken, refused, most := errors.New("the producer broke"), errors.New("refused"), int64(0)
	for n := range plan.Parts {
		most += plan.Size(n + 1)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		r    io.Reader
		fail int
		want error
	}{
		"at once":       {r: iotest.ErrReader(broken), want: broken},
		"later":         {r: io.MultiReader(strings.NewReader(strings.Repeat("x", 95)), iotest.ErrReader(broken)), want: broken},
		"part":          {r: strings.NewReader(strings.Repeat("x", 300)), fail: 3, want: refused},
		"last part":     {r: strings.NewReader(strings.Repeat("x", 25)), fail: 3, want: refused},
		"cut, short":    {r: io.MultiReader(strings.NewReader("12345"), iotest.ErrReader(io.ErrUnexpectedEOF)), want: io.ErrUnexpectedEOF},
		"cut, long":     {r: io.MultiReader(strings.NewReader(strings.Repeat("x", 95)), iotest.ErrReader(io.ErrUnexpectedEOF)), want: io.ErrUnexpectedEOF},
		"cut at a part": {r: io.MultiReader(strings.NewReader(strings.Repeat("x", 40)), iotest.ErrReader(io.ErrUnexpectedEOF)), want: io.ErrUnexpectedEOF},
		"with a part":   {r: iotest.DataErrReader(io.MultiReader(strings.NewReader(strings.Repeat("x", 20)), iotest.ErrReader(broken))), want: broken},
		"at the limit":  {r: io.MultiReader(strings.NewReader(strings.Repeat("x", int(most))), iotest.ErrReader(broken)), want: broken},
		"no progress":   {r: idle{}, want: io.ErrNoProgress},
		"too long":      {r: strings.NewReader(strings.Repeat("x", 5000)), want: ErrTooLong},
		"cancelled":     {ctx: cancelled, r: strings.NewReader("x"), want: context.Canceled},
		"endless, part": {r: endless{}, fail: 2, want: refused},
	} {
		ctx := t.Context()
		if c.ctx != nil {
			ctx = c.ctx
		}
		p := parts{fail: c.fail, failing: refused}
		if _, err := Split(ctx, c.r, plan, p.sinks()); !errors.Is(err, c.want) || p.joined > 0 || p.aborted != (p.sent != nil) {
			t.Errorf("%s: %v, joined %t, aborted %t; want %v", name, err, p.joined > 0, p.aborted, c.want)
		}
	}
}

// A join that has begun is not left half-way; it has an end all the same.
func TestFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		if err := Finish(ctx, func(ctx context.Context) error { cancel(); return Sleep(ctx, finishTime/2) }); err != nil {
			t.Errorf("cut off: %v", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		began := time.Now()
		err := Finish(ctx, func(ctx context.Context) error { cancel(); return Sleep(ctx, time.Hour) })
		if took := time.Since(began); !errors.Is(err, context.Canceled) || took != finishTime {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// A body that is cut is asked for again where it was; one that is cut again and again
// without a byte ends with an error.
func TestResume(t *testing.T) {
	content := []byte(strings.Repeat("0123456789", 100))
	body := func(from, n int) io.ReadCloser {
		return io.NopCloser(io.MultiReader(bytes.NewReader(content[from:min(from+n, 900)]), iotest.ErrReader(io.ErrUnexpectedEOF)))
	}
	reopened := 0
	r := Resume(t.Context(), body(100, 50), 100, 800, func(_ context.Context, offset int64) (io.ReadCloser, error) {
		reopened++
		return body(int(offset), 300), nil
	})
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, content[100:900]) || reopened != 3 {
		t.Errorf("%d bytes, %v, opened %d times again", len(got), err, reopened)
	}

	gone := errors.New("replaced")
	r = Resume(t.Context(), body(0, 10), 0, 900, func(context.Context, int64) (io.ReadCloser, error) { return nil, gone })
	if got, err := io.ReadAll(r); !errors.Is(err, gone) || len(got) != 10 {
		t.Errorf("%d bytes, %v", len(got), err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r = Resume(ctx, body(0, 0), 0, 900, func(context.Context, int64) (io.ReadCloser, error) { return body(0, 0), nil })
	if _, err := io.ReadAll(r); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cut for ever: %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "soon": 0, "-5": 0, "7": 7 * time.Second, "86400": maxRetryAfter,
		now.Add(9 * time.Second).Format(http.TimeFormat): 9 * time.Second, now.Add(-time.Hour).Format(http.TimeFormat): 0,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

func TestText(t *testing.T) {
	for s, want := range map[string]string{"": "", "é/x": "é/x", "a\xff": "a", "\xff": "", "a\xc3": "a", "\ufffdx": "\ufffdx"} {
		if got, whole := Text(s); got != want || whole != (got == s) {
			t.Errorf("%q: %q, %t", s, got, whole)
		}
	}
}
