package executor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"unicode"

	"github.com/baas-batch/baas/tasklet/tree"
)

// errNotRegular is something else where a file was expected.
var errNotRegular = errors.New("is not a regular file")

// openRegular opens a file that a task has made, below a directory that it may
// change at any moment: no link leads out of the directory, a pipe does not
// block, and, where tasks have users of their own, the file must be its user's
// (a hard link to somebody else's file is not).
func openRegular(root *os.Root, name string, u user) (*os.File, fs.FileInfo, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s %w", name, errNotRegular)
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err = f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s %w", name, errNotRegular)
	}
	if err == nil && u.switched {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != u.uid {
			err = fmt.Errorf("%s belongs to somebody else", name)
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// opener is openRegular for files that a user must own.
func opener(u user) tree.Open {
	return func(root *os.Root, name string) (*os.File, fs.FileInfo, error) { return openRegular(root, name, u) }
}

// readSmall reads a file that a task has made, of at most limit bytes.
// fs.ErrNotExist when there is none.
func readSmall(dir, name string, u user, limit int64) ([]byte, error) {
	if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
		return nil, err // most often there is none
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, info, err := openRegular(root, name, u)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has more than %d KB", name, limit>>10)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

type copyBuffer [16 << 10]byte

// buffers are for copying: most partitions copy little.
var buffers = sync.Pool{New: func() any { return new(copyBuffer) }}

// copyBytes copies r to its end.
func copyBytes(w io.Writer, r io.Reader) (int64, error) {
	buffer := buffers.Get().(*copyBuffer)
	defer buffers.Put(buffer)
	return io.CopyBuffer(w, r, buffer[:])
}

// printable makes text from a task fit for one line of a message.
func printable(s string, limit int) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?")))
	for len(s) > limit {
		_, size := lastRune(s)
		s = s[:len(s)-size]
	}
	return s
}

func lastRune(s string) (rune, int) {
	i := len(s) - 1
	for i > 0 && s[i]&0xc0 == 0x80 {
		i--
	}
	return rune(s[i]), len(s) - i
}
