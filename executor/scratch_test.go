package executor

import (
	"bytes"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"
)

// What is written can be read, also where the disk takes nothing for a while.
func TestScratch(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		s := scratch{dir: t.TempDir()}
		full := filepath.Join(s.dir, "missing")
		disk := s.dir
		var want []byte
		for range 60 {
			if s.dir = disk; s.file == nil && random.IntN(2) == 0 {
				s.dir = full
			}
			at := len(want) - min(len(want), random.IntN(3)*random.IntN(40<<10))
			p := make([]byte, random.IntN(20<<10))
			for i := range p {
				p[i] = byte(random.Uint32())
			}
			if n, err := s.WriteAt(p, int64(at)); n != len(p) || err != nil {
				t.Fatalf("%d of %d bytes: %v", n, len(p), err)
			}
			want = append(want[:at], append(p, want[min(len(want), at+len(p)):]...)...)
		}
		have, err := io.ReadAll(io.NewSectionReader(&s, 0, int64(len(want))))
		if err != nil || !bytes.Equal(have, want) {
			t.Errorf("%d bytes read of %d: %v", len(have), len(want), err)
		}
		if s.base == 0 || len(s.tail) > 20<<10 { // one write
			t.Errorf("%d bytes on the disk, %d in memory", s.base, len(s.tail))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A disk that stays full is no reason to keep everything in memory.
func TestScratchOnFullDisk(t *testing.T) {
	t.Parallel()
	s := scratch{dir: filepath.Join(t.TempDir(), "missing")}
	p := make([]byte, 64<<10)
	at := int64(0)
	for ; at < scratchMost; at += int64(len(p)) {
		if _, err := s.WriteAt(p, at); err != nil {
			t.Fatalf("after %d bytes: %v", at, err)
		}
	}
	if _, err := s.WriteAt(p, at); err == nil {
		t.Error("more was taken than memory may hold")
	}
}
