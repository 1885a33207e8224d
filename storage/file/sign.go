package file

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/baas-batch/baas/storage"
)

// ErrNoGateway is returned by SignURL and SignPart of a store that has not been
// told where its gateway is.
var ErrNoGateway = errors.New("the file store has no gateway to sign URLs for: set ?gateway=http://host:port in the store's URL")

const secretLength = 32

// UseGateway sets the base URL of the gateway that signed URLs name, such as
// http://127.0.0.1:7780. Any gateway of the same directory serves them.
func (s *Store) UseGateway(baseURL string) error {
	u, err := url.Parse(baseURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return fmt.Errorf("gateway %q: want http://host:port", baseURL)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	s.gateway.Store(u)
	return nil
}

// SignURL implements storage.Store; ErrNoGateway.
func (s *Store) SignURL(ctx context.Context, key string, opts storage.SignOptions) (storage.Signed, error) {
	u, err := s.sign(ctx, grant{method: opts.Method, key: key}, opts)
	if err != nil {
		return storage.Signed{}, fmt.Errorf("sign a URL for %q: %w", key, err)
	}
	return storage.Signed{URL: u}, nil
}

// SignPart implements storage.Store; ErrNoGateway.
func (s *Store) SignPart(ctx context.Context, key, uploadID string, part int, opts storage.SignOptions) (storage.Signed, error) {
	err := storage.CheckPartNumber(part, s.Capabilities())
	if err == nil && uploadID == "" {
		err = errors.New("upload ID is empty")
	}
	var u string
	if err == nil {
		opts.Method = http.MethodPut
		u, err = s.sign(ctx, grant{method: opts.Method, key: key, upload: uploadID, part: part}, opts)
	}
	if err != nil {
		return storage.Signed{}, fmt.Errorf("sign a URL for part %d of %q: %w", part, key, err)
	}
	return storage.Signed{URL: u}, nil
}

func (s *Store) sign(ctx context.Context, g grant, opts storage.SignOptions) (string, error) {
	if err := precheck(ctx, g.key); err != nil {
		return "", err
	}
	if err := storage.CheckSign(opts); err != nil {
		return "", err
	}
	base := s.gateway.Load()
	if base == nil {
		return "", ErrNoGateway
	}
	secret, err := s.secret()
	if err != nil {
		return "", err
	}
	g.expires = time.Now().Add(opts.Expires).UnixMilli()
	u := *base
	u.RawPath = base.EscapedPath() + g.escapedPath()
	u.Path = base.Path + objectsPath + g.key
	u.RawQuery = g.query(secret).Encode()
	return u.String(), nil
}

// objectsPath is where the gateway serves objects.
const objectsPath = "/o/"

// grant is what a signed URL allows.
type grant struct {
	method  string
	key     string
	expires int64  // Unix milliseconds
	upload  string // with part: one part of this upload
	part    int
}

// escapedPath escapes more than a path must have escaped, so that no client
// or proxy on the way reads it in another way.
func (g grant) escapedPath() string {
	components := strings.Split(g.key, "/")
	for i, c := range components {
		components[i] = strings.ReplaceAll(url.QueryEscape(c), "+", "%20")
	}
	return objectsPath + strings.Join(components, "/")
}

// mac signs everything but the host: gateways of one store serve for one another.
// The key comes last, since it is the only field that may hold any character.
func (g grant) mac(secret []byte) []byte {
	h := hmac.New(sha256.New, secret)
	fmt.Fprintf(h, "baas-file-gateway-1\n%s\n%d\n%s\n%d\n%s", g.method, g.expires, g.upload, g.part, g.key)
	return h.Sum(nil)
}

func (g grant) query(secret []byte) url.Values {
	q := url.Values{
		"method":  {g.method},
		"expires": {strconv.FormatInt(g.expires, 10)},
		"sig":     {base64.RawURLEncoding.EncodeToString(g.mac(secret))},
	}
	if g.part != 0 {
		q.Set("upload", g.upload)
		q.Set("part", strconv.Itoa(g.part))
	}
	return q
}

// parseGrant reads a signed URL. The answer means nothing until its signature
// is verified.
func parseGrant(u *url.URL) (g grant, sig []byte, err error) {
	key, ok := strings.CutPrefix(u.Path, objectsPath)
	if !ok {
		return g, nil, errors.New("no object's path")
	}
	g.key = key
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return g, nil, errors.New("malformed query")
	}
	for name, values := range query {
		if len(values) != 1 || values[0] == "" {
			return g, nil, fmt.Errorf("want one value of %.20q", name)
		}
		switch value := values[0]; name {
		case "method":
			g.method = value
		case "upload":
			g.upload = value
		case "part":
			g.part, err = strconv.Atoi(value)
		case "expires":
			g.expires, err = strconv.ParseInt(value, 10, 64)
		case "sig":
			sig, err = base64.RawURLEncoding.Strict().DecodeString(value)
		default:
			err = errors.New("unknown")
		}
		if err != nil {
			return g, nil, fmt.Errorf("bad parameter %.20q", name)
		}
	}
	switch {
	case sig == nil:
		return g, nil, errors.New("no signature")
	case g.method == "" || g.expires == 0 || (g.part == 0) != (g.upload == ""):
		return g, nil, errors.New("a parameter is missing")
	}
	return g, sig, nil
}

// verify checks signature and time. The reason is fit to be shown.
func (g grant) verify(secret, sig []byte, now time.Time) error {
	if !hmac.Equal(sig, g.mac(secret)) {
		return errors.New("the signature does not match")
	}
	if now.UnixMilli() >= g.expires {
		return fmt.Errorf("the URL expired at %s", time.UnixMilli(g.expires).UTC().Format(time.RFC3339))
	}
	return nil
}

// secret gives the key that all gateways of the store share. The first one makes it.
func (s *Store) secret() ([]byte, error) {
	s.secretLock.Lock()
	defer s.secretLock.Unlock()
	if s.secretKey != nil {
		return s.secretKey, nil
	}
	secret, err := s.readSecret()
	if errors.Is(err, fs.ErrNotExist) {
		fresh := make([]byte, secretLength)
		rand.Read(fresh) // never fails
		err = s.writeFile(context.Background(), secretFile, []byte(hex.EncodeToString(fresh)+"\n"), true)
		if err == nil || errors.Is(err, storage.ErrExist) {
			secret, err = s.readSecret()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the gateway's secret: %w", err)
	}
	s.secretKey = secret
	return secret, nil
}

func (s *Store) readSecret() ([]byte, error) {
	f, fi, err := openRegular(s.root, secretFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s/%s can be read by others (mode %v): remove it, or set its mode to 0600", s.dir, secretFile, fi.Mode().Perm())
	}
	text := make([]byte, 2*secretLength)
	if _, err := f.ReadAt(text, 0); err != nil {
		return nil, fmt.Errorf("%s/%s is damaged, remove it: %w", s.dir, secretFile, err)
	}
	secret, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil {
		return nil, fmt.Errorf("%s/%s is damaged, remove it: %w", s.dir, secretFile, err)
	}
	return secret, nil
}
