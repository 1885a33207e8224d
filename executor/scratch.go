package executor

import (
	"io"
	"os"
)

const (
	scratchBuffer = 16 << 10 // bytes in memory before they are written to the disk
	scratchMost   = 1 << 20  // bytes in memory while the disk is full
)

// scratch holds bytes that are written and read at offsets, mostly from the front to
// the end: the last ones in memory, those before in a file of its own. While the
// disk is full it keeps more in memory: what tasks have done must not be lost by that.
// The zero value with a directory is ready for use.
type scratch struct {
	dir  string
	file *os.File
	base int64 // so many bytes are in file
	tail []byte
}

func (s *scratch) WriteAt(p []byte, at int64) (n int, err error) {
	if at < s.base {
		n = min(len(p), int(s.base-at))
		if n, err = s.file.WriteAt(p[:n], at); err != nil || n == len(p) {
			return n, err
		}
		p, at = p[n:], at+int64(n)
	}
	if int(at-s.base)+len(p) > scratchBuffer && len(s.tail) > 0 {
		switch err := s.flush(); {
		case err == nil:
			more, err := s.WriteAt(p, at)
			return n + more, err
		case int(at-s.base)+len(p) > scratchMost:
			return n, err
		}
	}
	end := int(at-s.base) + len(p)
	if end > len(s.tail) {
		s.tail = append(s.tail, make([]byte, end-len(s.tail))...)
	}
	return n + copy(s.tail[at-s.base:], p), nil
}

// flush writes what is in memory to the disk.
func (s *scratch) flush() (err error) {
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "scratch-")
		if err != nil {
			return err
		}
		s.file = f
		_ = os.Remove(f.Name()) // else it goes with the spool
	}
	if _, err := s.file.WriteAt(s.tail, s.base); err != nil {
		return err
	}
	s.base += int64(len(s.tail))
	s.tail = s.tail[:0]
	return nil
}

func (s *scratch) ReadAt(p []byte, at int64) (n int, err error) {
	if at < s.base {
		n = min(len(p), int(s.base-at))
		if n, err = s.file.ReadAt(p[:n], at); err != nil || n == len(p) {
			return n, err
		}
		p, at = p[n:], at+int64(n)
	}
	if from := at - s.base; from < int64(len(s.tail)) {
		n += copy(p, s.tail[from:])
		p = p[min(len(p), len(s.tail)-int(from)):]
	}
	if len(p) > 0 {
		return n, io.EOF
	}
	return n, nil
}

func (s *scratch) Close() error {
	s.tail = nil
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
