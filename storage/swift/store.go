// Package swift keeps objects in OpenStack Swift. Large ones are static large
// objects (SLO), whose segments lie beside them under storage.ReservedPrefix.
package swift

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/internal/remote"
)

func init() {
	storage.Register("swift", func(_ context.Context, u *url.URL) (storage.Store, error) {
		o, err := ParseURL(u)
		if err != nil {
			return nil, err
		}
		return Open(o)
	})
}

// Store is a storage.Store in one container, or below a prefix of it.
type Store struct {
	o         Options
	login     *login
	transport *http.Transport
	http      *http.Client
	names     remote.Names
	plan      remote.Plan
	ca        string // PEM, for Capabilities
	key       tempKey
	clock     remote.Clock
	seen      uploadKeys
}

// Open makes a store. It makes no call: wrong credentials or a missing container
// are told by the first use.
func Open(o Options) (*Store, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	ca, err := remote.SetUp(transport, o.CAFile)
	if err != nil {
		return nil, err
	}
	login, err := newLogin(o, transport)
	if err != nil {
		return nil, err
	}
	return &Store{
		o: o, login: login, transport: transport, http: &http.Client{Transport: transport},
		names: remote.Names{Prefix: o.Prefix}, plan: remote.NewPlan(o.PartSize, maxParts), ca: ca,
	}, nil
}

// Capabilities implements storage.Store.
func (s *Store) Capabilities() storage.Capabilities {
	return storage.Capabilities{MinPartSize: minPartSize, MaxParts: maxParts, ParallelGet: true, PrivateCA: s.ca}
}

// Close implements storage.Store.
func (s *Store) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// Headers of Swift's.
const (
	slo         = "X-Static-Large-Object"
	uploadLabel = "X-Object-Meta-Baas-Upload" // of which upload an object is the result
)

func (s *Store) info(key string, h http.Header) (storage.Info, error) {
	size, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if _, total, ranged := strings.Cut(h.Get("Content-Range"), "/"); ranged {
		size, err = strconv.ParseInt(total, 10, 64)
	}
	if err != nil {
		return storage.Info{}, fmt.Errorf("the server tells no size of %q: %w", key, err)
	}
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	if seconds, finer := strconv.ParseFloat(h.Get("X-Timestamp"), 64); finer == nil {
		modified, err = time.UnixMicro(int64(seconds*1e6)), nil
	}
	if err != nil {
		return storage.Info{}, fmt.Errorf("the server tells no time of %q: %w", key, err)
	}
	return storage.Info{Key: key, Size: size, Modified: modified, ETag: storage.TrimETag(h.Get("Etag"))}, nil
}

// Stat implements storage.Store.
func (s *Store) Stat(ctx context.Context, key string) (storage.Info, error) {
	name, err := s.names.Object(ctx, key)
	if err != nil {
		return storage.Info{}, fmt.Errorf("stat: %w", err)
	}
	h, err := s.call(ctx, request{method: http.MethodHead, name: name})
	if err != nil {
		return storage.Info{}, s.failed("stat", key, err)
	}
	return s.info(key, h)
}

// Get implements storage.Store. A body that is cut is asked for again from there.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	name, err := s.names.Object(ctx, key)
	if err == nil && offset < 0 {
		err = fmt.Errorf("offset %d", offset)
	}
	if err != nil {
		return nil, storage.Info{}, fmt.Errorf("get: %w", err)
	}
	if length == 0 {
		return remote.Nothing(ctx, s, key)
	}
	header := map[string]string{}
	if asked := remote.Range(offset, length); asked != "" {
		header["Range"] = asked
	}
	response, err := s.do(ctx, request{method: http.MethodGet, name: name, header: header})
	if isStatus(err, http.StatusRequestedRangeNotSatisfiable) {
		return remote.Nothing(ctx, s, key) // it begins beyond the end
	}
	if err != nil {
		return nil, storage.Info{}, s.failed("get", key, err)
	}
	info, err := s.info(key, response.Header)
	if err != nil {
		return nil, info, errors.Join(err, response.Body.Close())
	}
	sent := response.ContentLength
	return remote.Resume(ctx, response.Body, offset, sent, func(ctx context.Context, from int64) (io.ReadCloser, error) {
		response, err := s.do(ctx, request{method: http.MethodGet, name: name, header: map[string]string{
			"Range": remote.Range(from, offset+sent-from), "If-Match": info.ETag,
		}})
		if isStatus(err, http.StatusPreconditionFailed) {
			return nil, fmt.Errorf("get %q: %w", key, storage.ErrChanged)
		}
		if err != nil {
			return nil, s.failed("go on with", key, err)
		}
		return response.Body, nil
	}), info, nil
}

// Delete implements storage.Store, with the segments of a large object.
func (s *Store) Delete(ctx context.Context, key string) error {
	name, err := s.names.Object(ctx, key)
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	old, err := s.head(ctx, name)
	if err == nil && old != nil {
		_, err = s.call(ctx, request{method: http.MethodDelete, name: name})
		if err == nil {
			err = s.dropParts(ctx, old.Get(uploadLabel))
		}
	}
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	return s.failed("delete", key, err)
}

// head gives an object's headers, nil if there is none.
func (s *Store) head(ctx context.Context, name string) (http.Header, error) {
	h, err := s.call(ctx, request{method: http.MethodHead, name: name})
	if isStatus(err, http.StatusNotFound) {
		return nil, nil
	}
	return h, err
}

// entry is a line of a listing.
type entry struct {
	Name     string `json:"name"`
	Bytes    int64  `json:"bytes"`
	Hash     string `json:"hash"`
	SLOETag  string `json:"slo_etag"`
	Modified string `json:"last_modified"` // ISO 8601, UTC without zone
}

// listing gives one page of names after marker.
func (s *Store) listing(ctx context.Context, prefix, marker string, limit int) (entries []entry, err error) {
	query := url.Values{"format": {"json"}, "prefix": {prefix}, "limit": {strconv.Itoa(limit)}}
	if marker != "" {
		query.Set("marker", marker)
	}
	response, err := s.do(ctx, request{method: http.MethodGet, query: query})
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusNoContent {
		err = json.NewDecoder(response.Body).Decode(&entries)
	}
	return entries, errors.Join(err, finish(response))
}

// List implements storage.Store.
func (s *Store) List(ctx context.Context, opts storage.ListOptions) (storage.Page, error) {
	if err := ctx.Err(); err != nil {
		return storage.Page{}, fmt.Errorf("list: %w", err)
	}
	page, limit, marker := storage.Page{}, storage.PageLimit(opts.Limit), ""
	if _, text := remote.Text(opts.Prefix); !text {
		return page, nil
	}
	if after, _ := remote.Text(opts.After); after != "" {
		marker = s.names.Of(after)
	}
	for {
		entries, err := s.listing(ctx, s.names.Of(opts.Prefix), marker, limit)
		if err != nil {
			return storage.Page{}, s.failed("list", opts.Prefix, err)
		}
		full := len(entries) == limit
		for _, e := range entries {
			marker = e.Name
			key, ours := s.names.Key(e.Name)
			if !ours {
				// Jump over what may be thousands of segments.
				marker, full = s.names.Of(storage.ReservedPrefix+"\U0010FFFF"), true
				break
			}
			if key <= opts.After || storage.CheckKey(key) != nil {
				continue
			}
			info, err := e.info(key)
			if err != nil {
				return storage.Page{}, err
			}
			page.Items = append(page.Items, info)
			if len(page.Items) == limit {
				break
			}
		}
		if !full {
			return page, nil
		}
		if len(page.Items) == limit {
			page.Next = page.Items[limit-1].Key
			return page, nil
		}
	}
}

func (e entry) info(key string) (storage.Info, error) {
	modified, err := time.Parse("2006-01-02T15:04:05.999999", e.Modified)
	if err != nil {
		return storage.Info{}, fmt.Errorf("list: time of %q: %w", key, err)
	}
	return storage.Info{Key: key, Size: e.Bytes, Modified: modified, ETag: storage.TrimETag(cmp.Or(e.SLOETag, e.Hash))}, nil
}
