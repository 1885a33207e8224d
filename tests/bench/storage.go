package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
)

const (
	objects    = 4
	objectSize = 64 << 20
)

// shelf takes objects in and gives them out again, by itself and over HTTP. What it
// has taken is on the disk when put returns: file and directory are synced.
type shelf struct {
	put func(ctx context.Context, key string, r io.Reader) error
	get func(ctx context.Context, key string) (io.ReadCloser, error)
	url func(ctx context.Context, key, method string) (string, error)
}

func measureStorage(ctx context.Context, j job) (_ Sample, err error) {
	store, err := file.Open(filepath.Join(j.Dir, "store"), file.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	gateway, err := file.NewGateway(store, file.GatewayOptions{})
	if err != nil {
		return nil, err
	}
	if err := gateway.Start("127.0.0.1:0"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, gateway.Stop(context.WithoutCancel(ctx))) }()
	if err := store.UseGateway(gateway.URL()); err != nil {
		return nil, err
	}
	return shelf{
		put: func(ctx context.Context, key string, r io.Reader) error {
			_, err := store.Put(ctx, key, r, storage.PutOptions{})
			return err
		},
		get: func(ctx context.Context, key string) (io.ReadCloser, error) {
			r, _, err := store.Get(ctx, key, 0, -1)
			return r, err
		},
		url: func(ctx context.Context, key, method string) (string, error) {
			signed, err := store.SignURL(ctx, key, storage.SignOptions{Method: method, Expires: time.Hour})
			return signed.URL, err
		},
	}.measure(ctx)
}

// measureFiles copies files, and serves them over HTTP as they are.
func measureFiles(ctx context.Context, j job) (Sample, error) {
	put := func(_ context.Context, key string, r io.Reader) error { return copyFile(filepath.Join(j.Dir, key), r) }
	files := http.NewServeMux()
	files.Handle("GET /", http.FileServer(http.Dir(j.Dir)))
	files.HandleFunc("PUT /{key}", func(w http.ResponseWriter, r *http.Request) {
		if err := put(r.Context(), r.PathValue("key"), r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: files}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() { server.Close(); <-served }()
	return shelf{
		put: put,
		get: func(_ context.Context, key string) (io.ReadCloser, error) { return os.Open(filepath.Join(j.Dir, key)) },
		url: func(_ context.Context, key, _ string) (string, error) {
			return "http://" + listener.Addr().String() + "/" + key, nil
		},
	}.measure(ctx)
}

// copyFile makes a file appear whole and lasting, as the store does.
func copyFile(name string, r io.Reader) error {
	f, err := os.Create(name + ".new")
	if err != nil {
		return err
	}
	if err := errors.Join(carry(f, r), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// carry copies by large blocks: those of io.Copy cost a floor a third of its rate.
func carry(w io.Writer, r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 1<<20))
	return err
}

// measure gives the MB/s of each way in and out.
func (s shelf) measure(ctx context.Context) (Sample, error) {
	block := make([]byte, 8<<20)
	rand.Read(block)
	content := func() io.Reader { return io.LimitReader(&endless{block: block}, objectSize) }
	sample := Sample{}
	for _, way := range []struct {
		name  string
		times int // what is read comes from memory, and fast
		take  func(key string) error
	}{
		{"put", 1, func(key string) error { return s.put(ctx, key, content()) }},
		{"get", 8, func(key string) error {
			r, err := s.get(ctx, key)
			if err != nil {
				return err
			}
			return drain(r)
		}},
		{"upload", 1, func(key string) error { return s.request(ctx, http.MethodPut, "up-"+key, content()) }},
		{"download", 4, func(key string) error { return s.request(ctx, http.MethodGet, "up-"+key, nil) }},
	} {
		begin := time.Now()
		for i := range objects * way.times {
			if err := way.take("object" + strconv.Itoa(i%objects)); err != nil {
				return nil, fmt.Errorf("%s: %w", way.name, err)
			}
		}
		sample[way.name] = float64(objects*way.times) * objectSize / mb / time.Since(begin).Seconds()
	}
	return sample, nil
}

// drain reads an object to its end, and expects all of it.
func drain(r io.ReadCloser) error {
	got := &counter{}
	if err := errors.Join(carry(got, r), r.Close()); err != nil {
		return err
	}
	if got.n != objectSize {
		return fmt.Errorf("%d bytes of %d", got.n, objectSize)
	}
	return nil
}

func (s shelf) request(ctx context.Context, method, key string, body io.Reader) error {
	url, err := s.url(ctx, key, method)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	if body != nil {
		r.ContentLength = objectSize
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return errors.Join(fmt.Errorf("%s: %s", method, resp.Status), resp.Body.Close())
	}
	if method == http.MethodGet {
		return drain(resp.Body)
	}
	return resp.Body.Close()
}

// endless repeats a block that does not compress, at different offsets.
type endless struct {
	block []byte
	at    int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.block[e.at:])
	e.at = (e.at + n) % len(e.block)
	return n, nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
