// Package fetcher brings the URIs of a command into a sandbox, as the Mesos
// fetcher does (docs/fetcher.md): local files and HTTP, through a cache or not,
// made executable or unpacked. It writes nowhere but below the sandbox.
package fetcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/agent/internal/container"
)

// StallTimeout is how long a download may bring nothing (--fetcher_stall_timeout).
const StallTimeout = time.Minute

// Fetcher fetches for one agent.
type Fetcher struct {
	client *http.Client
	cache  *cache
}

// New makes a fetcher with an empty cache in dir, of at most cacheSize bytes.
func New(dir string, cacheSize int64) (*Fetcher, error) {
	c, err := newCache(dir, cacheSize)
	if err != nil {
		return nil, err
	}
	return &Fetcher{client: &http.Client{}, cache: c}, nil
}

// Request is all that one container needs.
type Request struct {
	Sandbox    string
	URIs       []mesos.CommandInfo_URI
	User       string                // whose the cache entries are; may be empty
	Credential *container.Credential // nil: the agent's own
	Log        io.Writer             // takes a line per step
}

// Fetch brings all URIs, one after the other. The error names the URI; queries
// and passwords, which may be secrets, are left out of it.
func (f *Fetcher) Fetch(ctx context.Context, r Request) error {
	root, err := os.OpenRoot(r.Sandbox)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, uri := range r.URIs {
		if err := f.fetch(ctx, r, root, uri); err != nil {
			err = fmt.Errorf("failed to fetch '%s': %w", Redact(uri.Value), err)
			fmt.Fprintln(r.Log, err)
			return err
		}
	}
	return nil
}

// Redact drops what may be secret of a URI.
func Redact(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		uri, _, _ = strings.Cut(uri, "?")
		return uri
	}
	if u.RawQuery != "" {
		u.RawQuery = "..."
	}
	u.Fragment = ""
	return u.Redacted()
}

func (f *Fetcher) fetch(ctx context.Context, r Request, root *os.Root, uri mesos.CommandInfo_URI) error {
	name, err := target(uri)
	if err != nil {
		return err
	}
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	value := strings.TrimLeft(uri.Value, " \t")
	executable, extract := uri.GetExecutable(), uri.Extract == nil || *uri.Extract
	if uri.GetCache() {
		entry, err := f.cache.get(ctx, r.User+"\x00"+value, func(w io.Writer) error {
			return f.copy(ctx, r, value, w)
		})
		if err == nil {
			defer entry.release()
			fmt.Fprintf(r.Log, "Fetching '%s' from cache\n", Redact(value))
			return deliver(root, name, entry.path, executable, extract)
		}
		fmt.Fprintf(r.Log, "Fetching '%s' without the cache: %v\n", Redact(value), err)
	}
	fmt.Fprintf(r.Log, "Fetching '%s' into the sandbox\n", Redact(value))
	if err := create(root, name, func(w io.Writer) error { return f.copy(ctx, r, value, w) }); err != nil {
		return err
	}
	if executable {
		return root.Chmod(name, 0o755)
	}
	if extract && isArchive(name) {
		file, err := root.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		return unpack(root, name, file)
	}
	return nil
}

// deliver takes a file from the cache; an archive leaves only its contents.
func deliver(root *os.Root, name, from string, executable, extract bool) error {
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	if !executable && extract && isArchive(name) {
		return unpack(root, name, file)
	}
	if err := create(root, name, func(w io.Writer) error { _, err := io.Copy(w, file); return err }); err != nil {
		return err
	}
	if executable {
		return root.Chmod(name, 0o755)
	}
	return nil
}

func create(root *os.Root, name string, fill func(io.Writer) error) error {
	file, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(fill(file), file.Close())
}

// target is the name of the fetched file below the sandbox: output_file, else
// the last part of the URI as it stands, a query included.
func target(uri mesos.CommandInfo_URI) (string, error) {
	if name := uri.GetOutputFile(); name != "" {
		if !filepath.IsLocal(name) || path.Clean(name) == "." {
			return "", fmt.Errorf("output file '%s' must be a path inside the sandbox", name)
		}
		return path.Clean(name), nil
	}
	value := strings.TrimLeft(uri.Value, " \t")
	if strings.ContainsAny(value, "\\'\x00") {
		return "", errors.New("URI contains illegal characters")
	}
	if _, rest, ok := strings.Cut(value, "://"); ok && !strings.Contains(rest, "/") {
		return "", errors.New("malformed URI: missing path")
	}
	name := path.Base(value)
	if strings.HasSuffix(value, "/") || !filepath.IsLocal(name) || name == "." {
		return "", errors.New("malformed URI: missing file name")
	}
	return name, nil
}

// copy writes what the URI names to w.
func (f *Fetcher) copy(ctx context.Context, r Request, uri string, w io.Writer) error {
	scheme, _, remote := strings.Cut(uri, "://")
	switch {
	case !remote && path.IsAbs(uri):
		return f.copyLocal(ctx, r, uri, w)
	case !remote:
		return errors.New("a relative path was passed for the resource but the agent has no frameworks home")
	case scheme == "file":
		local := strings.TrimPrefix(strings.TrimPrefix(uri, "file://"), "localhost")
		if !path.IsAbs(local) {
			return errors.New("file URI only supports absolute paths")
		}
		return f.copyLocal(ctx, r, local, w)
	case scheme == "http" || scheme == "https":
		return f.download(ctx, uri, w)
	}
	return fmt.Errorf("scheme '%s' is not supported: use file, http or https", scheme)
}

// copyLocal reads as the container's user, so that a task gets nothing that its
// user could not read.
func (f *Fetcher) copyLocal(ctx context.Context, r Request, name string, w io.Writer) error {
	if r.Credential != nil {
		var stderr bytes.Buffer
		cmd := exec.CommandContext(ctx, "cat", "--", name)
		cmd.Stdout, cmd.Stderr = w, &stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{
			Uid: r.Credential.UID, Gid: r.Credential.GID, Groups: r.Credential.Groups,
		}}
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
		}
		return nil
	}
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not block
	if err != nil {
		return err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("'%s' is not a regular file", name)
	}
	_, err = io.Copy(w, file)
	return err
}

func (f *Fetcher) download(ctx context.Context, uri string, w io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(StallTimeout, func() {
		cancel(fmt.Errorf("nothing received for %v", StallTimeout))
	})
	defer stall.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return plain(err)
	}
	response, err := f.client.Do(request)
	if err != nil {
		return fmt.Errorf("error downloading resource: %w", plain(err))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("error downloading resource, received HTTP return code %d", response.StatusCode)
	}
	_, err = io.Copy(w, io.TeeReader(response.Body, progress(func() { stall.Reset(StallTimeout) })))
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return err
}

// plain drops the URL, with its query, that net/http puts into its errors.
func plain(err error) error {
	var full *url.Error
	if errors.As(err, &full) {
		return full.Err
	}
	return err
}

type progress func()

func (p progress) Write(b []byte) (int, error) { p(); return len(b), nil }
