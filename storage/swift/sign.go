package swift

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/baas-batch/baas/storage"
)

// keyHeader holds the key of the container's temporary URLs (Swift's documentation,
// "TempURL"). Only those who may write the account see it.
const keyHeader = "X-Container-Meta-Temp-Url-Key"

// keyMemory is how long the key is remembered. Somebody else may set another one,
// above all another worker that found none at the same moment.
const keyMemory = time.Minute

type tempKey struct {
	mu    sync.Mutex
	value string
	until time.Time
}

// tempURLKey gives the container's key, and sets one if there is none.
func (s *Store) tempURLKey(ctx context.Context) (string, error) {
	k := &s.key
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.value != "" && time.Now().Before(k.until) {
		return k.value, nil
	}
	for range 2 {
		h, err := s.call(ctx, request{method: http.MethodHead})
		if isStatus(err, http.StatusNotFound) {
			err = errNoContainer
		}
		if err != nil {
			return "", err
		}
		if k.value = h.Get(keyHeader); k.value != "" {
			k.until = time.Now().Add(keyMemory)
			return k.value, nil
		}
		_, err = s.call(ctx, request{method: http.MethodPost, header: map[string]string{keyHeader: rand.Text() + rand.Text()}})
		if err != nil {
			return "", err
		}
	}
	return "", errors.New("the container does not keep a key for temporary URLs: the account may not be allowed to set one")
}

// SignURL implements storage.Store.
func (s *Store) SignURL(ctx context.Context, key string, opts storage.SignOptions) (storage.Signed, error) {
	name, err := s.names.Object(ctx, key)
	if err == nil {
		err = storage.CheckSign(opts)
	}
	if err != nil {
		return storage.Signed{}, fmt.Errorf("sign: %w", err)
	}
	signed, err := s.sign(ctx, name, opts)
	return storage.Signed{URL: signed}, s.failed("sign", key, err)
}

// SignPart implements storage.Store. Until it expires, the URL can replace the part
// also after CompleteUpload; an object whose part has changed cannot be read.
func (s *Store) SignPart(ctx context.Context, key, uploadID string, part int, opts storage.SignOptions) (storage.Signed, error) {
	_, err := s.names.Object(ctx, key)
	opts.Method = http.MethodPut
	if err := errors.Join(err, storage.CheckSign(opts), storage.CheckPartNumber(part, s.Capabilities())); err != nil {
		return storage.Signed{}, fmt.Errorf("sign part: %w", err)
	}
	if known, ok := s.seen.get(uploadID); ok {
		err = ofKey(known, key, uploadID)
	} else {
		_, err = s.upload(ctx, key, uploadID)
	}
	if err != nil {
		return storage.Signed{}, s.failed("sign part of", key, err)
	}
	signed, err := s.sign(ctx, s.partName(uploadID, part), opts)
	return storage.Signed{URL: signed}, s.failed("sign part of", key, err)
}

func (s *Store) sign(ctx context.Context, name string, opts storage.SignOptions) (string, error) {
	key, err := s.tempURLKey(ctx)
	if err != nil {
		return "", err
	}
	who, err := s.login.get(ctx, "")
	if err != nil {
		return "", err
	}
	account, err := url.Parse(who.account)
	if err != nil {
		return "", fmt.Errorf("the account's URL: %w", err)
	}
	s.clock.Learn(ctx, func(ctx context.Context) {
		_, _ = s.call(ctx, request{method: http.MethodHead})
	})
	expires := strconv.FormatInt(s.clock.Now().Add(opts.Expires).Unix(), 10)
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "%s\n%s\n%s/%s/%s", opts.Method, expires, account.Path, s.o.Container, name)
	query := url.Values{"temp_url_sig": {hex.EncodeToString(mac.Sum(nil))}, "temp_url_expires": {expires}}
	return who.account + "/" + escape(s.o.Container) + "/" + escape(name) + "?" + query.Encode(), nil
}
