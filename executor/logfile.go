package executor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// logFile keeps the head and the tail of what a command writes, each half of the
// limit. Up to the limit the file grows like any other, so that it can be
// followed; beyond, the newest bytes go round in a second file, and finish puts
// the two together. Bytes stay as they are.
type logFile struct {
	path  string
	limit int64
	file  *os.File // nil until there is something
	old   *logFile // whose file is to be used again; nil when there is none
	ring  *os.File // nil until the limit is reached
	total int64    // bytes written by the command
	err   error    // the first failure to write
	late  error    // the last failure to make the file; what comes next tries again

	mu sync.Mutex // held by write and show
}

// minLog is the smallest log limit, in bytes.
const minLog = 4 << 10

// newLog begins a log. There is a file, and the directories above it, once something
// is written: that of another log, whose content is not needed then, if there is one.
func newLog(path string, limit int64, old *logFile) *logFile {
	return &logFile{path: path, limit: max(limit, minLog) &^ 1, old: old}
}

// show makes the file of a log to which nothing is written yet, for those who look.
func (l *logFile) show() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		_ = l.open() // the first bytes try again
	}
}

func (l *logFile) open() (err error) {
	if old := l.old; old != nil {
		l.old = nil
		if old.again(l.path) == nil {
			l.file = old.file
			return nil
		}
		old.discard()
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return err
	}
	l.file, err = os.OpenFile(l.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	return err
}

// again makes the file of a log an empty one under another path.
func (l *logFile) again(path string) error {
	if l.err != nil {
		return l.err
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	if _, err := l.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return os.Rename(l.path, path)
}

// left is the log whose file another one may use; nil when there is none.
func (l *logFile) left() *logFile {
	if l.file != nil {
		return l
	}
	return l.old
}

// Write takes everything, also when the disk is full: a command must not block
// or die for its log.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil && len(p) > 0 {
		l.err = l.write(p)
	}
	return len(p), nil
}

func (l *logFile) write(p []byte) error {
	if l.file == nil {
		if err := l.open(); err != nil {
			l.late = err
			return nil
		}
	}
	if room := l.limit - l.total; room > 0 {
		n := min(int64(len(p)), room)
		if _, err := l.file.Write(p[:n]); err != nil {
			return err
		}
		l.total += n
		p = p[n:]
	}
	if len(p) == 0 {
		return nil
	}
	if l.ring == nil {
		ring, err := os.OpenFile(l.path+".tail", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		l.ring = ring
	}
	half := l.limit / 2
	for len(p) > 0 {
		at := (l.total - l.limit) % half
		n := min(int64(len(p)), half-at)
		if _, err := l.ring.WriteAt(p[:n], at); err != nil {
			return err
		}
		l.total += n
		p = p[n:]
	}
	return nil
}

// finish puts the log into its final form and gives its size. The file stays
// open for reading until close.
func (l *logFile) finish() (size int64, err error) {
	if err = errors.Join(l.late, l.err); err != nil {
		err = fmt.Errorf("log: %w", err)
	}
	if l.ring != nil {
		err = errors.Join(err, l.join(), l.ring.Close(), os.Remove(l.ring.Name()))
		l.ring = nil
	}
	if l.file == nil {
		return 0, err
	}
	info, e := l.file.Stat()
	if e != nil {
		return 0, errors.Join(err, e)
	}
	return info.Size(), err
}

// seam is how far a cut may move to fall between two lines, in bytes.
const seam = 4 << 10

// join puts head, a mark and tail into a new file, in place of the old one.
func (l *logFile) join() error {
	joined, err := os.OpenFile(l.path+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := l.joinInto(joined); err != nil {
		return errors.Join(err, joined.Close(), os.Remove(joined.Name()))
	}
	err = errors.Join(os.Rename(joined.Name(), l.path), l.file.Close())
	l.file = joined
	return err
}

func (l *logFile) joinInto(w io.Writer) error {
	half := l.limit / 2
	// The last bytes: first what lies in the file's second half, then the ring
	// from its oldest byte round to its newest.
	from := l.total - half
	rest := max(0, l.limit-from)
	ring := half - rest
	oldest := (max(from, l.limit) - l.limit) % half
	tail := bufio.NewReaderSize(io.MultiReader(
		io.NewSectionReader(l.file, from, rest),
		io.NewSectionReader(l.ring, oldest, min(ring, half-oldest)),
		io.NewSectionReader(l.ring, 0, max(0, ring-(half-oldest))),
	), seam)
	start, _ := tail.Peek(int(min(seam, half)))
	skip := bytes.IndexByte(start, '\n') + 1
	if _, err := tail.Discard(skip); err != nil {
		return err
	}

	head := half
	end := make([]byte, min(seam, half))
	if _, err := l.file.ReadAt(end, half-int64(len(end))); err != nil {
		return err
	}
	if i := bytes.LastIndexByte(end, '\n'); i >= 0 {
		head -= int64(len(end) - i - 1)
	}
	if _, err := io.Copy(w, io.NewSectionReader(l.file, 0, head)); err != nil {
		return err
	}
	left := l.total - head - (half - int64(skip))
	if _, err := fmt.Fprintf(w, "\n[... %d bytes left out ...]\n", left); err != nil {
		return err
	}
	_, err := io.Copy(w, tail)
	return err
}

func (l *logFile) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// discard removes a log, if there is one.
func (l *logFile) discard() {
	if l != nil && l.file != nil {
		_ = l.file.Close()
		_ = os.Remove(l.path)
	}
}
