package swift

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/internal/remote"
)

// Where the segments lie, and the notes about uploads on their way.
const (
	partsDir   = storage.ReservedPrefix + "/parts/"
	uploadsDir = storage.ReservedPrefix + "/uploads/"
)

func (s *Store) partName(id string, part int) string {
	return s.names.Of(fmt.Sprintf("%s%s/%05d", partsDir, id, part))
}

func newID() string {
	b := make([]byte, 15)
	rand.Read(b) // never fails
	return base32.StdEncoding.EncodeToString(b)
}

// Put implements storage.Store. What is longer than a part becomes a static large
// object; the server compares each body with its MD5.
func (s *Store) Put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Info, error) {
	name, err := s.names.Object(ctx, key)
	if err == nil && opts.IfAbsent {
		err = errors.New("only if there is none: no Swift can promise that")
	}
	if err != nil {
		return storage.Info{}, fmt.Errorf("put: %w", err)
	}
	p := &put{s: s, key: key, name: name, contentType: opts.ContentType}
	size, err := remote.Split(ctx, r, s.plan, remote.Sinks{Whole: p.whole, Begin: p.begin, Send: p.send, Join: p.join, Abort: p.abort})
	if err != nil {
		return storage.Info{}, s.failed("put", key, err)
	}
	// Near enough: the server's own time would cost another call.
	return storage.Info{Key: key, Size: size, Modified: time.Now(), ETag: p.etag}, nil
}

// put is one Put on its way.
type put struct {
	s                      *Store
	key, name, contentType string

	id    string // of the upload, once it has begun
	note  note   // of it
	parts []segment
	etag  string // of the object
}

func (p *put) whole(ctx context.Context, body []byte) (err error) {
	p.etag, err = p.s.replace(ctx, p.key, request{
		method: http.MethodPut, name: p.name, body: notNil(body), header: withType(map[string]string{"ETag": sumOf(body)}, p.contentType),
	}, "")
	return err
}

func (p *put) begin(ctx context.Context) (err error) {
	p.parts = make([]segment, maxParts)
	p.id, p.note, err = p.s.begin(ctx, p.key)
	return err
}

func (p *put) send(ctx context.Context, part remote.Part) error {
	name, sum := p.s.partName(p.id, part.Number), sumOf(part.Body)
	p.parts[part.Number-1] = segment{Path: "/" + p.s.o.Container + "/" + name, ETag: sum}
	_, err := p.s.call(ctx, request{method: http.MethodPut, name: name, body: part.Body, header: map[string]string{"ETag": sum}})
	return err
}

func (p *put) join(ctx context.Context, parts int) (err error) {
	p.etag, err = p.s.join(ctx, p.name, p.id, p.note, p.parts[:parts], p.contentType)
	return err
}

func (p *put) abort(ctx context.Context) error {
	if p.id == "" {
		return nil
	}
	n, err := p.s.note(ctx, p.id)
	if errors.Is(err, storage.ErrNotExist) {
		n, err = p.note, nil // it may not have come to one
	}
	if err != nil {
		return err
	}
	return p.s.abort(ctx, p.name, p.id, n)
}

// notNil keeps an empty body a body: Swift wants its length.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func withType(h map[string]string, contentType string) map[string]string {
	if contentType == "" {
		contentType = "application/octet-stream" // or Swift guesses from the name
	}
	h["Content-Type"] = contentType
	return h
}

func sumOf(body []byte) string {
	sum := md5.Sum(body)
	return hex.EncodeToString(sum[:])
}

// replace puts an object, then has the segments of the one before expire. They stay
// for a while, for those who are reading. A note about them stays until that is done:
// AbortUpload does the rest.
func (s *Store) replace(ctx context.Context, key string, r request, id string) (etag string, err error) {
	old, err := s.head(ctx, r.name)
	if err != nil {
		return "", err
	}
	before := old.Get(uploadLabel)
	if before == id {
		before = ""
	}
	if before != "" {
		now := time.Now().UTC()
		if err := s.write(ctx, before, note{Key: key, Created: now, Joining: now, Replaced: true}); err != nil {
			return "", err
		}
	}
	h, err := s.call(ctx, r)
	if before != "" && (err == nil && s.expireParts(ctx, before) == nil || refused(err)) {
		_ = s.forget(ctx, before) // the object stands, or it does not; this is no news
	}
	if err != nil {
		return "", err
	}
	return storage.TrimETag(h.Get("Etag")), nil
}

// segment is a line of a manifest (Swift's documentation, "Static Large Objects").
type segment struct {
	Path string `json:"path"`
	ETag string `json:"etag"`
}

// join makes one object of segments, over manifests of manifests if there are many.
func (s *Store) join(ctx context.Context, name, id string, n note, parts []segment, contentType string) (etag string, err error) {
	defer func() {
		if isStatus(err, http.StatusBadRequest) {
			err = fmt.Errorf("%w: %w", storage.ErrInvalidPart, err)
		}
	}()
	for level := 1; len(parts) > perManifest; level++ {
		var above []segment
		for i := 0; i < len(parts); i += perManifest {
			// They count as segments, so that they go where those go.
			sub := s.partName(id, maxParts*level+i/perManifest)
			h, err := s.call(ctx, manifest(sub, nil, parts[i:min(i+perManifest, len(parts))]))
			if err != nil {
				return "", err
			}
			above = append(above, segment{"/" + s.o.Container + "/" + sub, storage.TrimETag(h.Get("Etag"))})
		}
		parts = above
	}
	n.Joining = time.Now().UTC()
	if err := s.write(ctx, id, n); err != nil {
		return "", err
	}
	etag, err = s.replace(ctx, n.Key, manifest(name, withType(map[string]string{uploadLabel: id}, contentType), parts), id)
	if refused(err) {
		n.Joining = time.Time{}
		return "", errors.Join(err, s.write(ctx, id, n))
	}
	if err != nil {
		return "", err
	}
	_ = s.forget(ctx, id) // the object stands; a note that stays tells no lie
	return etag, nil
}

func manifest(name string, header map[string]string, parts []segment) request {
	body, _ := json.Marshal(parts) // strings only
	return request{method: http.MethodPut, name: name, query: url.Values{"multipart-manifest": {"put"}}, header: header, body: body}
}
