package lines

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// object reads from memory and counts the reads.
type object struct {
	data  []byte
	reads int
	bytes int64
}

func (o *object) read(_ context.Context, offset, length int64) (io.ReadCloser, error) {
	o.reads++
	o.bytes += length
	return io.NopCloser(io.NewSectionReader(bytes.NewReader(o.data), offset, length)), nil
}

func write(t testing.TB, before string, values ...any) *object {
	t.Helper()
	var out bytes.Buffer
	out.WriteString(before)
	w := NewWriter(&out, int64(len(before)))
	for _, v := range values {
		if err := w.Add(v); err != nil {
			t.Fatal(err)
		}
	}
	size, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if size != int64(out.Len()) || w.Len() != len(values) {
		t.Fatalf("Close gives %d bytes, %d values; there are %d and %d", size, w.Len(), out.Len(), len(values))
	}
	return &object{data: out.Bytes()}
}

func numbers(n int) []any {
	values := make([]any, n)
	for i := range values {
		values[i] = map[string]any{"i": i, "text": strings.Repeat("x\n\u2028", i%50)}
	}
	return values
}

func check(t *testing.T, r *Reader, from, to, want int) {
	t.Helper()
	n := from
	for raw, err := range r.Values(t.Context(), from, to) {
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			I    int
			Text string
		}
		if err := json.Unmarshal(raw, &v); err != nil || v.I != n || v.Text != strings.Repeat("x\n\u2028", n%50) {
			t.Fatalf("value %d is %s, error %v", n, raw, err)
		}
		n++
	}
	if n-from != want {
		t.Errorf("Values(%d, %d) gives %d values, want %d", from, to, n-from, want)
	}
}

func TestValues(t *testing.T) {
	const n = 20_000
	for _, before := range []string{"", "logs and outputs"} {
		o := write(t, before, numbers(n)...)
		r, err := Open(t.Context(), o.read, int64(len(o.data)))
		if err != nil {
			t.Fatal(err)
		}
		if r.Len() != n || len(r.blocks) < 20 {
			t.Fatalf("%d values in %d blocks", r.Len(), len(r.blocks))
		}
		for _, part := range []struct{ from, to, want int }{
			{0, n, n}, {0, 1, 1}, {n - 1, n, 1}, {n - 1, n + 5, 1}, {777, 9999, 9222}, {5, 5, 0}, {n, n + 1, 0}, {-3, 2, 2},
		} {
			check(t, r, max(part.from, 0), part.to, part.want)
		}
		for i := range r.blocks { // every border of blocks
			first := r.blocks[i].first
			check(t, r, first, first+1, 1)
			check(t, r, max(first-1, 0), first+1, min(first, 1)+1)
		}
		o.reads, o.bytes = 0, 0
		check(t, r, 9000, 9001, 1)
		if o.reads != 1 || o.bytes > 2*blockSize {
			t.Errorf("one value took %d reads of %d bytes", o.reads, o.bytes)
		}
	}
}

func TestEarlyEnd(t *testing.T) {
	o := write(t, "", numbers(5000)...)
	r, err := Open(t.Context(), o.read, int64(len(o.data)))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for range r.Values(t.Context(), 0, 5000) {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("took %d values", n)
	}
}

func TestLargeIndex(t *testing.T) {
	const n = 10_000
	var out bytes.Buffer
	w := NewWriter(&out, 0)
	for i := range n { // a block each
		if err := w.Add(i); err != nil {
			t.Fatal(err)
		}
		w.flush()
	}
	size, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	o := &object{data: out.Bytes()}
	r, err := Open(t.Context(), o.read, size)
	if err != nil {
		t.Fatal(err)
	}
	if o.reads != 2 {
		t.Errorf("opened with %d reads: the index was to be larger than the tail", o.reads)
	}
	if r.Len() != n || len(r.blocks) != n {
		t.Errorf("%d values, %d blocks", r.Len(), len(r.blocks))
	}
}

func TestEmptyAndLimits(t *testing.T) {
	o := write(t, "only bytes")
	r, err := Open(t.Context(), o.read, int64(len(o.data)))
	if err != nil || r.Len() != 0 {
		t.Fatalf("%v, %d values", err, r.Len())
	}
	check(t, r, 0, 10, 0)
	w := NewWriter(io.Discard, 0)
	if err := w.Add(strings.Repeat("z", MaxValue)); err == nil {
		t.Error("a value over the limit was taken")
	}
	if err := w.Add(make(chan int)); err == nil {
		t.Error("a value that is no JSON was taken")
	}
	if err := w.Add("good"); err != nil || w.Len() != 1 {
		t.Errorf("after two bad ones: %v, %d values", err, w.Len())
	}
}

// Damage is told, never read as something else.
func TestDamage(t *testing.T) {
	o := write(t, "before", numbers(3000)...)
	whole := o.data
	readAll := func(data []byte) error {
		o := &object{data: data}
		r, err := Open(t.Context(), o.read, int64(len(data)))
		if err != nil {
			return err
		}
		n := 0
		for raw, err := range r.Values(t.Context(), 0, r.Len()) {
			if err != nil {
				return err
			}
			if !json.Valid(raw) {
				return fmt.Errorf("value %d is no JSON", n)
			}
			n++
		}
		if n != 3000 {
			return fmt.Errorf("%d values", n)
		}
		return nil
	}
	if err := readAll(whole); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{1, footerSize - 1, footerSize, 100, len(whole) / 2, len(whole)} {
		if err := readAll(whole[:len(whole)-cut]); !errors.Is(err, ErrFormat) {
			t.Errorf("without its last %d bytes: %v", cut, err)
		}
	}
	for at := len("before"); at < len(whole); at += 997 {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x55
		if err := readAll(bad); err == nil {
			t.Errorf("byte %d of %d is another one, and nobody noticed", at, len(whole))
		}
	}
}

func TestFailedWrite(t *testing.T) {
	full := errors.New("full")
	w := NewWriter(failing{full}, 0)
	var err error
	for i := 0; err == nil && i < 1_000_000; i++ {
		err = w.Add(i)
	}
	if !errors.Is(err, full) {
		t.Fatalf("Add: %v", err)
	}
	if _, err := w.Close(); !errors.Is(err, full) {
		t.Errorf("Close: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func FuzzOpen(f *testing.F) {
	f.Add(write(f, "x", numbers(10)...).data)
	f.Add(write(f, "").data)
	f.Fuzz(func(t *testing.T, data []byte) {
		o := &object{data: data}
		r, err := Open(t.Context(), o.read, int64(len(data)))
		if err != nil {
			return
		}
		for _, err := range r.Values(t.Context(), 0, r.Len()) {
			if err != nil {
				return
			}
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	v := map[string]any{"i": 12345, "outcome": "succeeded", "exit": 0, "agent": "host-17", "usage": map[string]any{"cpu": 0.0012, "mem": 123456}}
	w := NewWriter(io.Discard, 0)
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Add(v); err != nil {
			b.Fatal(err)
		}
	}
	size, _ := w.Close()
	b.ReportMetric(float64(size)/float64(w.Len()), "bytes/value")
}
