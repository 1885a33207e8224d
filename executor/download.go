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
	"sync/atomic"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
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
	ours    bool     // no task gets the file itself, so the cache may share it
	spool   string   // for what is packed
	traffic *traffic // of the partition; nil: not counted, and not cached
}

// traffic is what the inputs of a partition came to, in bytes.
type traffic struct {
	fetched atomic.Int64
	cached  atomic.Int64
}

// download fetches an object, or a range of one, and checks its hash. What has
// arrived before a failure is kept. The error is an *unavailableError or
// *deniedError when storage or leader will not give it, a *localError when it
// cannot be written, else the cause of ctx's end.
func (s *store) download(ctx context.Context, d download) error {
	f, err := os.OpenFile(d.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return &localError{err}
	}
	if d.traffic != nil {
		err = s.throughCache(ctx, d, f)
	} else {
		err = s.fetch(ctx, d, f)
	}
	if err := errors.Join(d.user.give(d.path), f.Close()); err != nil {
		return &localError{err}
	}
	return err
}

// throughCache takes a file from the cache, or fetches it and keeps a copy. When
// several tasks want the same content at once, one fetches it.
func (s *store) throughCache(ctx context.Context, d download, f *os.File) error {
	end, err := s.cache.turn(ctx, d.source.SHA256, s.cache.wants(d.source.SHA256, d.source.Size))
	if err != nil {
		return err
	}
	defer end()
	if s.cache.take(ctx, d.source.SHA256, d.source.Size, f) {
		d.traffic.cached.Add(d.source.Size)
		return nil
	}
	if err := s.fetch(ctx, d, f); err != nil {
		return err
	}
	if d.source.IsPacked() {
		d.traffic.fetched.Add(d.source.Packed.Size)
	} else {
		d.traffic.fetched.Add(d.source.Size)
	}
	if d.ours {
		s.cache.keepFile(ctx, d.source.SHA256, d.source.Size, f)
	} else {
		s.cache.keepCopy(ctx, d.source.SHA256, d.source.Size, f)
	}
	return nil
}

// fetch fills an empty file. Without a hash, parts might be of two versions.
func (s *store) fetch(ctx context.Context, d download, f *os.File) error {
	if d.source.IsPacked() {
		return s.fetchPacked(ctx, d, f)
	}
	if d.source.SHA256 != "" && d.source.Size > s.tune.SplitDownload {
		spans := cut(nil, 0, d.source.Size, s.tune.DownloadPart)
		return s.fetchSpans(ctx, d, d.source.Offset, spans, &fileLanding{f, d.source.Size, d.source.SHA256})
	}
	t := &fetching{download: d, file: f, hash: sha256.New()}
	return t.run(ctx, s)
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
		n, err := land(io.MultiWriter(t.file, t.hash), body)
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

// land copies a body, and tells a failure to write, which is ours, from one to read.
func land(to io.Writer, body io.Reader) (int64, error) {
	w := &tree.Sink{W: to}
	n, err := io.CopyBuffer(w, body, make([]byte, 128<<10))
	if w.Err != nil {
		return n, &localError{w.Err}
	}
	return n, withoutURL(err)
}

// mismatchError is content that is not what was stored.
type mismatchError struct{ have, want string }

func (e *mismatchError) Error() string {
	return fmt.Sprintf("content has SHA-256 %.12s…, expected %.12s…", e.have, e.want)
}

func (t *fetching) verify() error {
	have := hex.EncodeToString(t.hash.Sum(nil))
	if t.source.SHA256 == "" || have == t.source.SHA256 {
		return nil
	}
	err := &mismatchError{have, t.source.SHA256}
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
