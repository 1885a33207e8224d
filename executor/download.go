package executor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/baas-batch/baas/tasklet"
)

const (
	// finalRefusals is how often the leader's fresh URLs of something to read are
	// turned down before it is held to be gone.
	finalRefusals = 3
	// maxMismatches is how often content may differ from its hash.
	maxMismatches = 3
)

// download is a file to fetch.
type download struct {
	taskID  string
	source  tasklet.Source
	request tasklet.Request
	path    string // must not exist
	user    user
}

// download fetches an object, or a range of one, and checks its hash. What has
// arrived before a failure is kept. The error is an *unavailableError or
// *deniedError when storage or leader will not give it, a *localError when it
// cannot be written, else the cause of ctx's end.
func (s *store) download(ctx context.Context, d download) error {
	f, err := os.OpenFile(d.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return &localError{err}
	}
	t := &fetching{download: d, file: f, hash: sha256.New()}
	err = t.run(ctx, s)
	if err := errors.Join(d.user.give(d.path), f.Close()); err != nil {
		return &localError{err}
	}
	return err
}

// fetching is a download under way: so many bytes are written and hashed.
type fetching struct {
	download
	file       *os.File
	hash       hash.Hash
	done       int64
	mismatches int
}

func (t *fetching) run(ctx context.Context, s *store) error {
	if t.source.Size == 0 && (t.source.SHA256 == "" || t.source.SHA256 == emptySHA256) {
		return nil
	}
	a := &access{url: t.source.URL, taskID: t.taskID, request: t.request, fromGrant: grantURL, bulk: true}
	return s.persist(ctx, a, policy{refusals: finalRefusals}, func(ctx context.Context, url string) error {
		return t.try(ctx, s, url)
	})
}

var emptySHA256 = hex.EncodeToString(sha256.New().Sum(nil))

func (t *fetching) try(ctx context.Context, s *store, url string) error {
	want := int64(-1) // a source without a size is taken whole
	if t.source.Size > 0 {
		want = t.source.Size - t.done
	}
	if want != 0 {
		body, err := s.get(ctx, url, t.source.Offset+t.done, want)
		if err != nil {
			return err
		}
		n, err := t.copy(body)
		_ = body.Close()
		t.done += n
		if err != nil {
			return err
		}
		if want > 0 && n < want {
			return fmt.Errorf("%d bytes missing: %w", want-n, io.ErrUnexpectedEOF)
		}
	}
	return t.verify()
}

// copy tells a failure to write, which is ours, from one to read.
func (t *fetching) copy(body io.Reader) (int64, error) {
	w := &writeFailure{w: io.MultiWriter(t.file, t.hash)}
	n, err := io.Copy(w, body)
	if w.err != nil {
		return n, &localError{w.err}
	}
	return n, withoutURL(err)
}

type writeFailure struct {
	w   io.Writer
	err error
}

func (w *writeFailure) Write(p []byte) (n int, err error) {
	n, w.err = w.w.Write(p)
	return n, w.err
}

func (t *fetching) verify() error {
	have := hex.EncodeToString(t.hash.Sum(nil))
	if t.source.SHA256 == "" || have == t.source.SHA256 {
		return nil
	}
	err := fmt.Errorf("content has SHA-256 %.12s…, expected %.12s…", have, t.source.SHA256)
	if t.mismatches++; t.mismatches >= maxMismatches {
		return &localError{&unavailableError{err}}
	}
	t.hash.Reset()
	t.done = 0
	if _, e := t.file.Seek(0, io.SeekStart); e != nil {
		return &localError{e}
	}
	if e := t.file.Truncate(0); e != nil {
		return &localError{e}
	}
	return err
}
