package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/baas-batch/baas/storage"
)

// Names places keys below a prefix in a bucket or container.
type Names struct {
	Prefix string // without the slash at its end; may be empty
}

// Object is the name of a key, for a call that may be made; ErrInvalidKey, or the
// context's error.
func (n Names) Object(ctx context.Context, key string) (string, error) {
	if err := errors.Join(storage.CheckKey(key), ctx.Err()); err != nil {
		return "", err
	}
	name := n.Of(key)
	if len(name) > storage.MaxKeyLength+1 {
		return "", fmt.Errorf("%w: %d bytes with the store's prefix, the server allows 1,024", storage.ErrInvalidKey, len(name))
	}
	return name, nil
}

// Of is the name of a key, or of what a listing begins with.
func (n Names) Of(key string) string {
	if n.Prefix == "" {
		return key
	}
	return n.Prefix + "/" + key
}

// Key is the reverse of Of; false for what is no key of the store's.
func (n Names) Key(name string) (key string, ours bool) {
	if n.Prefix != "" {
		var below bool
		if name, below = strings.CutPrefix(name, n.Prefix+"/"); !below {
			return "", false
		}
	}
	return name, !strings.HasPrefix(name, storage.ReservedPrefix)
}

// Place reads host and path of a storage URL: the bucket or container, and the prefix
// of all keys. The errors say what to write instead: place for the URL as a whole,
// credentials for those that stand in it.
func Place(u *url.URL, place, credentials string) (bucket, prefix string, err error) {
	bucket, prefix = u.Host, strings.Trim(u.Path, "/")
	switch {
	case bucket == "" || u.Port() != "":
		err = errors.New("want " + place)
	case u.User != nil:
		err = errors.New("credentials do not belong into the URL: " + credentials)
	case prefix != "":
		if err = storage.CheckKey(prefix); err != nil {
			err = fmt.Errorf("prefix: %w", err)
		}
	}
	return bucket, prefix, err
}

// PartSize reads the parameter part_size, in MiB; the sizes are in bytes. least is
// rounded up to the next MiB.
func PartSize(v string, least, most int64) (int64, error) {
	const mib = 1 << 20
	n, err := strconv.ParseInt(v, 10, 64)
	if from, to := (least+mib-1)/mib, most/mib; err != nil || n < from || n > to {
		return 0, fmt.Errorf("%q is no size: want a number of MiB from %d to %d", v, from, to)
	}
	return n * mib, nil
}

// Nothing is the answer to a range without bytes.
func Nothing(ctx context.Context, s storage.Store, key string) (io.ReadCloser, storage.Info, error) {
	info, err := s.Stat(ctx, key)
	return http.NoBody, info, err
}
