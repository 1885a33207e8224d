// Package file is the storage backend for one directory, file:///dir, and the
// gateway that serves its signed URLs over HTTP. The directory may be shared by
// several processes and hosts.
package file

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/baas-batch/baas/storage"
)

// Below the store's directory, beside the objects' own paths.
const (
	hiddenDir  = storage.ReservedPrefix
	tempDir    = hiddenDir + "/tmp"     // objects and uploads that are being written
	uploadsDir = hiddenDir + "/uploads" // multipart uploads by ID
	secretFile = hiddenDir + "/gateway.key"
)

// Objects are the worker's alone: tasks on the same machine may run as other
// users, and reach them by signed URLs only.
const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600
)

const maxParts = 10_000

// DefaultTempAge is how long a temporary file rests untouched before its writer
// is taken for dead.
const DefaultTempAge = 24 * time.Hour

// Options of Open. The zero value is ready for use.
type Options struct {
	// Gateway is the base URL of the gateway, for SignURL; see UseGateway.
	Gateway string
	// NoSync leaves out fsync: objects survive the death of processes as ever,
	// but not a power failure.
	NoSync bool
	// TempAge replaces DefaultTempAge.
	TempAge time.Duration
	// Logger hears of trouble that fails no call; nil means none.
	Logger *slog.Logger
}

// Store keeps each object in a file of its key's name. It implements storage.Store.
type Store struct {
	dir     string
	root    *os.Root
	temp    *os.Root
	noSync  bool
	tempAge time.Duration
	log     *slog.Logger

	gateway atomic.Pointer[url.URL]

	secretLock sync.Mutex
	secretKey  []byte // nil until it was needed

	nextSweep atomic.Int64 // Unix nanoseconds
	durable   pathSet      // directories that are known to be in their parents to stay
}

var _ storage.Store = (*Store)(nil)

func init() {
	storage.Register("file", func(_ context.Context, u *url.URL) (storage.Store, error) { return openURL(u) })
}

// openURL takes file:///dir?gateway=http://host:port&sync=off.
func openURL(u *url.URL) (*Store, error) {
	const want = "want file:///dir with an absolute path"
	switch {
	case u.Host != "" && u.Host != "localhost", u.User != nil:
		return nil, fmt.Errorf("names the host %q: %s, three slashes in all", u.Host, want)
	case u.Opaque != "" || !filepath.IsAbs(u.Path):
		return nil, errors.New("has no absolute path: " + want)
	case u.Fragment != "":
		return nil, fmt.Errorf("has the fragment %q: write a # in the path as %%23", u.Fragment)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	var opts Options
	for name, values := range query {
		switch {
		case len(values) != 1:
			return nil, fmt.Errorf("query: %q is given %d times", name, len(values))
		case name == "gateway":
			opts.Gateway = values[0]
		case name == "sync" && (values[0] == "on" || values[0] == "off"):
			opts.NoSync = values[0] == "off"
		default:
			return nil, fmt.Errorf("query: %s=%s is not known: known are gateway=http://host:port and sync=on|off", name, values[0])
		}
	}
	return Open(u.Path, opts)
}

// Open opens the store in dir, which it creates if need be.
func Open(dir string, opts Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open file store: %w", err)
	}
	if dir == "/" {
		return nil, errors.New("open file store: / cannot be a store: name a directory")
	}
	s := &Store{
		dir:     dir,
		noSync:  opts.NoSync,
		tempAge: cmp.Or(opts.TempAge, DefaultTempAge),
		log:     cmp.Or(opts.Logger, slog.New(slog.DiscardHandler)),
	}
	if opts.Gateway != "" {
		if err := s.UseGateway(opts.Gateway); err != nil {
			return nil, err
		}
	}
	if err := s.openRoots(); err != nil {
		return nil, fmt.Errorf("open file store %s: %w", dir, err)
	}
	s.maybeSweep()
	return s, nil
}

func (s *Store) openRoots() (err error) {
	if err := os.MkdirAll(s.dir, dirMode); err != nil {
		return err
	}
	if s.root, err = os.OpenRoot(s.dir); err != nil {
		return err
	}
	for _, dir := range []string{tempDir, uploadsDir} {
		if err := s.root.MkdirAll(dir, dirMode); err != nil {
			return errors.Join(err, s.root.Close())
		}
	}
	if s.temp, err = s.root.OpenRoot(tempDir); err != nil {
		return errors.Join(err, s.root.Close())
	}
	return nil
}

// Close lets the directory go. Readers that are open stay usable.
func (s *Store) Close() error {
	return errors.Join(s.temp.Close(), s.root.Close())
}

// Dir is the store's directory, as an absolute path.
func (s *Store) Dir() string { return s.dir }

// Capabilities: everything in the contract, and atomic creation by link(2).
func (s *Store) Capabilities() storage.Capabilities {
	return storage.Capabilities{AtomicCreate: true, MinPartSize: 1, MaxParts: maxParts}
}

// Stat implements storage.Store.
func (s *Store) Stat(ctx context.Context, key string) (storage.Info, error) {
	if err := precheck(ctx, key); err != nil {
		return storage.Info{}, fmt.Errorf("stat: %w", err)
	}
	fi, err := s.root.Lstat(key)
	if err == nil && !fi.Mode().IsRegular() {
		err = notRegular(fi)
	}
	if err != nil {
		return storage.Info{}, fmt.Errorf("stat %q: %w", key, notExist(err))
	}
	return info(key, fi), nil
}

// Get implements storage.Store.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	f, info, err := s.openObject(ctx, key)
	if err != nil {
		return nil, storage.Info{}, err
	}
	if offset < 0 {
		return nil, storage.Info{}, errors.Join(fmt.Errorf("get %q: offset %d is negative", key, offset), f.Close())
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, storage.Info{}, errors.Join(fmt.Errorf("get %q: %w", key, err), f.Close())
	}
	if length < 0 {
		length = math.MaxInt64
	}
	return &reader{ctx: ctx, f: f, left: length}, info, nil
}

// reader ends when the context of its Get does.
type reader struct {
	ctx  context.Context
	f    *os.File
	left int64
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.left <= 0 {
		return 0, io.EOF
	}
	n, err := r.f.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	return n, err
}

// WriteTo lets the kernel copy where w is a file or a connection.
func (r *reader) WriteTo(w io.Writer) (int64, error) {
	n, err := copyFile(r.ctx, w, r.f, r.left)
	r.left -= n
	return n, err
}

func (r *reader) Close() error { return r.f.Close() }

func (s *Store) openObject(ctx context.Context, key string) (*os.File, storage.Info, error) {
	if err := precheck(ctx, key); err != nil {
		return nil, storage.Info{}, fmt.Errorf("get: %w", err)
	}
	f, fi, err := openRegular(s.root, key)
	if err != nil {
		return nil, storage.Info{}, fmt.Errorf("get %q: %w", key, notExist(err))
	}
	return f, info(key, fi), nil
}

// openRegular opens a regular file, and nothing else: a link, a pipe or a device
// is never an object, whoever put it there.
func openRegular(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	before, err := root.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, nil, notRegular(before)
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = notRegular(fi)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, fi, nil
}

// Delete implements storage.Store. Directories that become empty go too.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := precheck(ctx, key); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	fi, err := s.root.Lstat(key)
	if err == nil && fi.IsDir() {
		return nil
	}
	if err == nil {
		err = s.root.Remove(key)
	}
	if err != nil && !isAbsent(err) && !isOccupied(err) {
		return fmt.Errorf("delete %q: %w", key, err)
	}
	s.pruneParents(key)
	return nil
}

func precheck(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%q: %w", key, err)
	}
	return storage.CheckKey(key)
}

// info describes a file. Every Put makes a new inode, so that inode, time and
// size together change with the content and cost nothing to know.
func info(key string, fi fs.FileInfo) storage.Info {
	var inode uint64
	if stat, ok := fi.Sys().(*syscall.Stat_t); ok {
		inode = stat.Ino
	}
	return storage.Info{
		Key:      key,
		Size:     fi.Size(),
		Modified: fi.ModTime(),
		ETag:     fmt.Sprintf("%x-%x-%x", inode, fi.ModTime().UnixNano(), fi.Size()),
	}
}

// errNotRegular is what a directory, a link or a device is to a reader.
var errNotRegular = errors.New("not a regular file")

func notRegular(fi fs.FileInfo) error {
	return fmt.Errorf("%w but %v", errNotRegular, fi.Mode().Type())
}

func notExist(err error) error {
	if isAbsent(err) || errors.Is(err, errNotRegular) {
		return fmt.Errorf("%w: %w", storage.ErrNotExist, err)
	}
	return err
}

// isAbsent: the file, or a directory on the way to it, is not there.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// isOccupied: a directory stands at that path.
func isOccupied(err error) bool {
	return errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, fs.ErrExist)
}

func randomName() string { return rand.Text() }
