package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/baas-batch/baas/storage"
)

// oddKeys are valid, and each has broken some store or client.
func oddKeys() []string {
	long := strings.Repeat(strings.Repeat("k", storage.MaxComponentLength)+"/", 5)
	return []string{
		"plain", "UPPER", "upper", "dot.", ".hidden", "..two", "a b", " lead", "trail ", "a+b", "a%b", "a%20b", "a%2Fb",
		"a?b=c", "a#b", "a&b;c", `back\slash`, `quote"s'`, "star*", "pipe|", "<xml>&amp;", "colon:at@", "~tilde", "$HOME",
		"[x]{y}", "Grüße/schöne", "Gru\u0308ße", "日本語/ファイル", "emoji-🚀", "-dash", "deep/a/b/c/d/e/f/g/h",
		long[:storage.MaxKeyLength],
	}
}

func invalidKeys() []string {
	return []string{
		"", "/", "/lead", "trail/", "a//b", ".", "..", "a/../b", "a/./b", "../up", "a/..", "nul\x00", "new\nline", "del\x7f",
		"c1\u0085", "bad\xff", ".baas", ".baas/tmp/x", ".baasx/y",
		strings.Repeat("k", storage.MaxComponentLength+1),
		strings.Repeat("k/", storage.MaxKeyLength/2) + "kk",
	}
}

func (h Harness) testObjects(t *testing.T) {
	t.Run("OddKeys", h.testOddKeys)
	t.Run("InvalidKeys", h.testInvalidKeys)
	t.Run("Nesting", h.testNesting)
	t.Run("Empty", h.testEmpty)
	t.Run("Large", h.testLarge)
	t.Run("Ranges", h.testRanges)
	t.Run("Parallel", h.testParallel)
	t.Run("Overwrite", h.testOverwrite)
	t.Run("Delete", h.testDelete)
	t.Run("IfAbsent", h.testIfAbsent)
	t.Run("ConcurrentWriters", h.testConcurrentWriters)
}

func (h Harness) testOddKeys(t *testing.T) {
	s := h.New(t)
	for _, key := range oddKeys() {
		mustPut(t, s, key, []byte("content of "+key))
	}
	for _, key := range oddKeys() {
		wantContent(t, s, key, []byte("content of "+key))
		info, err := s.Stat(t.Context(), key)
		if err != nil || info.Key != key {
			t.Errorf("Stat %q: %+v, %v", key, info, err)
		}
	}
	h.wantKeys(t, s, storage.ListOptions{}, oddKeys())
	for _, key := range oddKeys() {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete %q: %v", key, err)
		}
	}
	h.wantKeys(t, s, storage.ListOptions{}, nil)
}

func (h Harness) testInvalidKeys(t *testing.T) {
	s, ctx := h.New(t), t.Context()
	for _, key := range invalidKeys() {
		_, err := s.Put(ctx, key, strings.NewReader("x"), storage.PutOptions{})
		wantError(t, fmt.Sprintf("Put %.40q", key), err, storage.ErrInvalidKey)
		_, _, err = get(ctx, s, key, 0, -1)
		wantError(t, fmt.Sprintf("Get %.40q", key), err, storage.ErrInvalidKey)
		_, err = s.Stat(ctx, key)
		wantError(t, fmt.Sprintf("Stat %.40q", key), err, storage.ErrInvalidKey)
		wantError(t, fmt.Sprintf("Delete %.40q", key), s.Delete(ctx, key), storage.ErrInvalidKey)
		_, err = s.SignURL(ctx, key, storage.SignOptions{Method: "GET", Expires: signedFor})
		wantError(t, fmt.Sprintf("SignURL %.40q", key), err, storage.ErrInvalidKey)
		_, err = s.CreateUpload(ctx, key)
		wantError(t, fmt.Sprintf("CreateUpload %.40q", key), err, storage.ErrInvalidKey)
	}
	h.wantKeys(t, s, storage.ListOptions{}, nil)
}

func (h Harness) testNesting(t *testing.T) {
	if !h.RefusesNesting {
		return // a rule that such a store leaves to its callers
	}
	s, ctx := h.New(t), t.Context()
	mustPut(t, s, "file", []byte("file"))
	mustPut(t, s, "dir/sub/file", []byte("deep"))
	for _, key := range []string{"file/below", "file/far/below", "dir", "dir/sub"} {
		for _, ifAbsent := range []bool{false, s.Capabilities().AtomicCreate} {
			_, err := s.Put(ctx, key, strings.NewReader("x"), storage.PutOptions{IfAbsent: ifAbsent})
			wantError(t, "Put "+key, err, storage.ErrInvalidKey)
		}
		_, err := s.Stat(ctx, key)
		wantError(t, "Stat "+key, err, storage.ErrNotExist)
		_, _, err = get(ctx, s, key, 0, -1)
		wantError(t, "Get "+key, err, storage.ErrNotExist)
		if err := s.Delete(ctx, key); err != nil {
			t.Errorf("Delete %q: %v", key, err)
		}
	}
	wantContent(t, s, "file", []byte("file"))
	wantContent(t, s, "dir/sub/file", []byte("deep"))

	// Once the one is gone, the other may come.
	if err := errors.Join(s.Delete(ctx, "file"), s.Delete(ctx, "dir/sub/file")); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "file/below", []byte("1"))
	mustPut(t, s, "dir", []byte("2"))
	h.wantKeys(t, s, storage.ListOptions{}, []string{"dir", "file/below"})
}

func (h Harness) testEmpty(t *testing.T) {
	s := h.New(t)
	mustPut(t, s, "empty", nil)
	wantContent(t, s, "empty", nil)
	for _, offset := range []int64{0, 1, 100} {
		if b, _, err := get(t.Context(), s, "empty", offset, 10); err != nil || len(b) != 0 {
			t.Errorf("Get from %d: %q, %v, want nothing", offset, b, err)
		}
	}
}

func (h Harness) testLarge(t *testing.T) {
	s, ctx := h.New(t), t.Context()
	in := newHeapMeter(pattern(1, h.LargeSize))
	hashed, sent := storage.HashReader(in)
	info, err := s.Put(ctx, "large", hashed, storage.PutOptions{})
	if err != nil || info.Size != h.LargeSize {
		t.Fatalf("Put: %+v, %v, want size %d", info, err, h.LargeSize)
	}
	if in.used() > h.MaxMemory {
		t.Errorf("Put used %d bytes of heap, want at most %d", in.used(), h.MaxMemory)
	}
	for _, streams := range []int{1, 4} {
		r, _, err := storage.GetParallel(ctx, s, "large", 0, -1, storage.Parallel{Streams: streams})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		out := newHeapMeter(r)
		received := storage.NewDigest()
		if _, err := io.Copy(received, out); err != nil {
			t.Fatal(err)
		}
		if sent.SHA256() != received.SHA256() || received.Size() != h.LargeSize {
			t.Errorf("got %d bytes, %s; want %d, %s", received.Size(), received.SHA256(), h.LargeSize, sent.SHA256())
		}
		if out.used() > h.MaxMemory {
			t.Errorf("Get by %d streams used %d bytes of heap, want at most %d", streams, out.used(), h.MaxMemory)
		}
	}
}

// testParallel: ranges that are fetched side by side are those of one object, or
// else there is an error.
func (h Harness) testParallel(t *testing.T) {
	s, ctx := h.New(t), t.Context()
	content := patternBytes(9, 1_000_500)
	mustPut(t, s, "parallel", content)
	size, small := int64(len(content)), storage.Parallel{PartSize: 50_000}
	for _, c := range []struct{ offset, length, from, to int64 }{
		{0, -1, 0, size},
		{1, 500_000, 1, 500_001},
		{size - 150_000, 1 << 40, size - 150_000, size},
		{size + 1, -1, size, size},
	} {
		r, info, err := storage.GetParallel(ctx, s, "parallel", c.offset, c.length, small)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, content[c.from:c.to]) || info.Size != size {
			t.Errorf("Get(%d, %d): %s, %v, %+v; want %s", c.offset, c.length, summary(got), err, info, summary(content[c.from:c.to]))
		}
	}

	r, _, err := storage.GetParallel(ctx, s, "parallel", 0, -1, small)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	first := make([]byte, 60_000)
	if _, err := io.ReadFull(r, first); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "parallel", patternBytes(10, size))
	rest, err := io.ReadAll(r)
	got := append(first, rest...)
	if err == nil && len(got) < len(content) || err != nil && !errors.Is(err, storage.ErrChanged) || !bytes.Equal(got, content[:len(got)]) {
		t.Errorf("the object was replaced meanwhile: %s, %v; want bytes of the old one only, and ErrChanged unless these are all", summary(got), err)
	}
}

func (h Harness) testRanges(t *testing.T) {
	s := h.New(t)
	content := patternBytes(2, 100_000)
	mustPut(t, s, "ranges", content)
	size := int64(len(content))
	for _, c := range []struct{ offset, length, from, to int64 }{
		{0, -1, 0, size},
		{0, 0, 0, 0},
		{0, 1, 0, 1},
		{1, 1, 1, 2},
		{500, 70_000, 500, 70_500},
		{size - 1, 1, size - 1, size},
		{size - 1, 100, size - 1, size},
		{size - 10, -1, size - 10, size},
		{0, size + 1, 0, size},
		{size, 1, size, size},
		{size, -1, size, size},
		{size + 1, 1, size, size},
		{size + 1000, -1, size, size},
	} {
		got, info, err := get(t.Context(), s, "ranges", c.offset, c.length)
		if err != nil || !bytes.Equal(got, content[c.from:c.to]) {
			t.Errorf("Get(%d, %d): %s, %v; want %s", c.offset, c.length, summary(got), err, summary(content[c.from:c.to]))
		} else if info.Size != size {
			t.Errorf("Get(%d, %d): Info.Size %d, want the object's %d", c.offset, c.length, info.Size, size)
		}
	}
	if _, _, err := get(t.Context(), s, "ranges", -1, 1); err == nil {
		t.Error("Get from -1 succeeded")
	}
}

func (h Harness) testOverwrite(t *testing.T) {
	s := h.New(t)
	etags := map[string]int{}
	for i, content := range []string{"the first content", "other", "", "the third and last"} {
		put := mustPut(t, s, "a/key", []byte(content))
		wantContent(t, s, "a/key", []byte(content))
		stat, err := s.Stat(t.Context(), "a/key")
		if err != nil || stat.ETag != put.ETag || stat.Size != put.Size {
			t.Errorf("Stat after Put: %+v, %v; Put said %+v", stat, err, put)
		}
		if before, seen := etags[put.ETag]; seen {
			t.Errorf("contents %d and %d have the same ETag %q", before, i, put.ETag)
		}
		etags[put.ETag] = i
	}
	h.wantKeys(t, s, storage.ListOptions{}, []string{"a/key"})
}

func (h Harness) testDelete(t *testing.T) {
	s, ctx := h.New(t), t.Context()
	mustPut(t, s, "d/one", []byte("1"))
	mustPut(t, s, "d/two", []byte("2"))
	for range 2 { // the second time there is nothing, and that is fine
		if err := s.Delete(ctx, "d/one"); err != nil {
			t.Fatal(err)
		}
		h.wantNothing(t, s, "d/one")
	}
	for _, key := range []string{"never", "never/was", "d"} {
		if err := s.Delete(ctx, key); err != nil {
			t.Errorf("Delete %q: %v", key, err)
		}
	}
	wantContent(t, s, "d/two", []byte("2"))
}

func (h Harness) testIfAbsent(t *testing.T) {
	s, ctx := h.New(t), t.Context()
	once := storage.PutOptions{IfAbsent: true}
	if !s.Capabilities().AtomicCreate {
		if _, err := s.Put(ctx, "once", strings.NewReader("x"), once); err == nil {
			t.Fatal("Put with IfAbsent succeeded on a store that cannot promise it")
		}
		h.wantNothing(t, s, "once")
		return
	}
	const writers = 8
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			_, errs[i] = s.Put(ctx, "dir/once", strings.NewReader(fmt.Sprint("writer ", i)), once)
		})
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner < 0:
			winner = i
		case err == nil:
			t.Errorf("writers %d and %d both created the object", winner, i)
		case !errors.Is(err, storage.ErrExist):
			t.Errorf("writer %d: %v, want ErrExist", i, err)
		}
	}
	if winner < 0 {
		t.Fatal("no writer created the object")
	}
	wantContent(t, s, "dir/once", []byte(fmt.Sprint("writer ", winner)))
	mustPut(t, s, "dir/once", []byte("a plain Put replaces it"))
	wantContent(t, s, "dir/once", []byte("a plain Put replaces it"))
}

// testConcurrentWriters: a reader sees one of the writers' objects, whole.
func (h Harness) testConcurrentWriters(t *testing.T) {
	s, ctx := h.New(t), t.Context()
	const writers, rounds, size = 4, 5, 256 << 10
	content := func(writer int) []byte { return bytes.Repeat([]byte{byte('a' + writer)}, size+writer) }
	whole := func() error {
		b, _, err := get(ctx, s, "contended", 0, -1)
		if err == nil && (len(b) == 0 || !bytes.Equal(b, content(int(b[0]-'a')))) {
			err = fmt.Errorf("a reader saw %d bytes that no writer wrote", len(b))
		}
		return err
	}
	mustPut(t, s, "contended", content(0))
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for range rounds {
				if _, err := s.Put(ctx, "contended", bytes.NewReader(content(i)), storage.PutOptions{}); err != nil {
					t.Errorf("writer %d: %v", i, err)
				}
				if err := whole(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := whole(); err != nil {
		t.Error(err)
	}
}
