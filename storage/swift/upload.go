package swift

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/internal/remote"
)

// note is the object uploadsDir/<ID> of an upload on its way, or of what is left of
// one.
type note struct {
	Key     string    `json:"key"`
	Created time.Time `json:"created"`
	// Joining is since when its segments may become the object at any moment, or may be
	// it no more.
	Joining time.Time `json:"joining,omitzero"`
	// Replaced says that it was the object, and that another one takes its place.
	Replaced bool `json:"replaced,omitempty"`
}

// CreateUpload implements storage.Store.
func (s *Store) CreateUpload(ctx context.Context, key string) (string, error) {
	if _, err := s.names.Object(ctx, key); err != nil {
		return "", fmt.Errorf("create upload: %w", err)
	}
	id, _, err := s.begin(ctx, key)
	return id, s.failed("create upload of", key, err)
}

func (s *Store) begin(ctx context.Context, key string) (id string, n note, err error) {
	id, n = newID(), note{Key: key, Created: time.Now().UTC()}
	return id, n, s.write(ctx, id, n)
}

func (s *Store) write(ctx context.Context, id string, n note) error {
	body, err := json.Marshal(n)
	if err != nil {
		return err
	}
	_, err = s.call(ctx, request{
		method: http.MethodPut, name: s.names.Of(uploadsDir + id), body: body, header: map[string]string{"ETag": sumOf(body)},
	})
	return err
}

// forget takes the note away: there is no such upload any more.
func (s *Store) forget(ctx context.Context, id string) error {
	_, err := s.call(ctx, request{method: http.MethodDelete, name: s.names.Of(uploadsDir + id)})
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// note reads what is known of an upload; ErrNotExist.
func (s *Store) note(ctx context.Context, id string) (n note, err error) {
	if id == "" || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		return n, fmt.Errorf("%w: upload %q", storage.ErrNotExist, id)
	}
	response, err := s.do(ctx, request{method: http.MethodGet, name: s.names.Of(uploadsDir + id)})
	if isStatus(err, http.StatusNotFound) {
		return n, fmt.Errorf("%w: upload %q", storage.ErrNotExist, id)
	}
	if err != nil {
		return n, err
	}
	err = json.NewDecoder(response.Body).Decode(&n)
	return n, errors.Join(err, finish(response))
}

// upload is note for an upload of that key that is under way.
func (s *Store) upload(ctx context.Context, key, id string) (note, error) {
	n, err := s.note(ctx, id)
	if err == nil && n.Replaced {
		err = fmt.Errorf("%w: upload %q is complete", storage.ErrNotExist, id)
	}
	if err == nil {
		s.seen.add(id, n.Key)
		err = ofKey(n.Key, key, id)
	}
	return n, err
}

func ofKey(own, key, id string) error {
	if own != key {
		return fmt.Errorf("%w: upload %q is of another key", storage.ErrNotExist, id)
	}
	return nil
}

// uploadKeys remembers the keys of uploads, which never change, for those that sign
// one part after the other.
type uploadKeys struct {
	mu   sync.Mutex
	keys map[string]string // by ID
}

const maxUploadKeys = 10_000

func (u *uploadKeys) add(id, key string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.keys == nil || len(u.keys) >= maxUploadKeys {
		u.keys = make(map[string]string)
	}
	u.keys[id] = key
}

func (u *uploadKeys) get(id string) (key string, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	key, ok = u.keys[id]
	return key, ok
}

// CompleteUpload implements storage.Store.
func (s *Store) CompleteUpload(ctx context.Context, key, uploadID string, parts []storage.UploadPart) (storage.Info, error) {
	name, err := s.names.Object(ctx, key)
	if err := errors.Join(err, storage.CheckParts(parts, s.Capabilities())); err != nil {
		return storage.Info{}, fmt.Errorf("complete upload: %w", err)
	}
	n, err := s.upload(ctx, key, uploadID)
	switch {
	case errors.Is(err, storage.ErrNotExist):
		// Gone by this very call, made before, if its object is there.
		done, headErr := s.head(ctx, name)
		if headErr != nil || uploadID == "" || done.Get(uploadLabel) != uploadID {
			return storage.Info{}, errors.Join(s.failed("complete upload of", key, err), headErr)
		}
	case err == nil:
		err = s.complete(ctx, name, uploadID, n, parts)
		fallthrough
	default:
		if err != nil {
			return storage.Info{}, s.failed("complete upload of", key, err)
		}
	}
	return s.Stat(ctx, key)
}

// emptySum is the MD5 of nothing. Swift allows no empty segment, so these are left
// out.
var emptySum = sumOf(nil)

func (s *Store) complete(ctx context.Context, name, id string, n note, parts []storage.UploadPart) error {
	var segments []segment
	for _, part := range parts {
		p := segment{"/" + s.o.Container + "/" + s.partName(id, part.Number), storage.TrimETag(part.ETag)}
		if p.ETag != emptySum {
			segments = append(segments, p)
			continue
		}
		h, err := s.head(ctx, s.partName(id, part.Number))
		if err != nil {
			return err
		}
		if storage.TrimETag(h.Get("Etag")) != emptySum {
			return fmt.Errorf("%w %d: another one was sent since", storage.ErrInvalidPart, part.Number)
		}
	}
	if len(segments) > 0 {
		_, err := s.join(ctx, name, id, n, segments, "")
		return err
	}
	_, err := s.replace(ctx, n.Key, request{
		method: http.MethodPut, name: name, body: []byte{}, header: withType(map[string]string{uploadLabel: id, "ETag": emptySum}, ""),
	}, id)
	if err == nil {
		err = s.forget(ctx, id)
	}
	return err
}

// AbortUpload implements storage.Store.
func (s *Store) AbortUpload(ctx context.Context, key, uploadID string) error {
	name, err := s.names.Object(ctx, key)
	if err != nil {
		return fmt.Errorf("abort upload: %w", err)
	}
	n, err := s.note(ctx, uploadID)
	if err == nil {
		err = ofKey(n.Key, key, uploadID)
	}
	if errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = s.abort(ctx, name, uploadID, n)
	}
	return s.failed("abort upload of", key, err)
}

// abort throws the segments of an upload away, unless they are the object and only the
// note about it was left. As long as a call may still change that, all stays.
func (s *Store) abort(ctx context.Context, name, id string, n note) error {
	object, err := s.head(ctx, name)
	if err != nil {
		return err
	}
	stands := object.Get(uploadLabel) == id
	if stands == n.Replaced && time.Since(n.Joining) < remote.Settled {
		return nil
	}
	if !stands {
		if err := s.dropParts(ctx, id); err != nil {
			return err
		}
	}
	return s.forget(ctx, id)
}

// partsOf goes over the segments of an upload, some at a time.
func (s *Store) partsOf(ctx context.Context, id string, do func(context.Context, string) error) error {
	if id == "" {
		return nil
	}
	prefix, marker := s.names.Of(partsDir+id+"/"), ""
	for {
		entries, err := s.listing(ctx, prefix, marker, storage.MaxPage)
		if err != nil || len(entries) == 0 {
			return err
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(8)
		for _, e := range entries {
			group.Go(func() error {
				err := do(ctx, e.Name)
				if isStatus(err, http.StatusNotFound) {
					return nil // the listing is late
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		marker = entries[len(entries)-1].Name
	}
}

func (s *Store) dropParts(ctx context.Context, id string) error {
	return s.partsOf(ctx, id, func(ctx context.Context, name string) error {
		_, err := s.call(ctx, request{method: http.MethodDelete, name: name})
		return err
	})
}

// lateReaders may go on with an object that was replaced for that long, in seconds.
const lateReaders = "3600"

func (s *Store) expireParts(ctx context.Context, id string) error {
	return s.partsOf(ctx, id, func(ctx context.Context, name string) error {
		_, err := s.call(ctx, request{method: http.MethodPost, name: name, header: map[string]string{"X-Delete-After": lateReaders}})
		return err
	})
}

// ListUploads implements storage.Store.
func (s *Store) ListUploads(ctx context.Context, prefix string) (uploads []storage.Upload, err error) {
	dir, marker := s.names.Of(uploadsDir), ""
	for {
		entries, err := s.listing(ctx, dir, marker, storage.MaxPage)
		if err != nil {
			return nil, s.failed("list uploads of", prefix, err)
		}
		for _, e := range entries {
			id := strings.TrimPrefix(e.Name, dir)
			n, err := s.note(ctx, id)
			if errors.Is(err, storage.ErrNotExist) {
				continue // the listing is late
			}
			if err != nil {
				return nil, s.failed("list uploads of", cmp.Or(n.Key, prefix), err)
			}
			if strings.HasPrefix(n.Key, prefix) {
				uploads = append(uploads, storage.Upload{Key: n.Key, ID: id, Created: n.Created})
			}
		}
		if len(entries) < storage.MaxPage {
			return uploads, nil
		}
		marker = entries[len(entries)-1].Name
	}
}
