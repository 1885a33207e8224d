package file

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
)

// FuzzKeys: a key that passes the check is a path of its own below the store,
// outside the store's hidden directory; one that does not changes nothing.
func FuzzKeys(f *testing.F) {
	for _, key := range []string{"a/b", "../up", "a/../../b", "/etc/passwd", ".baas/gateway.key", "a\x00b", "ü/%2e%2e/x", `..\up`, "...", "a/./b", "~"} {
		f.Add(key)
	}
	parent := f.TempDir()
	dir := filepath.Join(parent, "store")
	s := openStore(f, dir, Options{NoSync: true})
	f.Fuzz(func(t *testing.T, key string) {
		_, err := storage.PutBytes(t.Context(), s, key, []byte(key))
		if valid := storage.CheckKey(key) == nil; valid != (err == nil) {
			t.Fatalf("put %q: %v; CheckKey says %v", key, err, storage.CheckKey(key))
		}
		if err == nil {
			if !filepath.IsLocal(key) || path.Clean(key) != key || strings.HasPrefix(key, hiddenDir) {
				t.Fatalf("%q passed the check", key)
			}
			b, err := os.ReadFile(dir + "/" + key)
			if err != nil || string(b) != key {
				t.Fatalf("the file of %q holds %q, %v", key, b, err)
			}
			page, err := s.List(t.Context(), storage.ListOptions{})
			if err != nil || len(page.Items) != 1 || page.Items[0].Key != key {
				t.Fatalf("list: %+v, %v; want %q", page, err, key)
			}
			if err := s.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
		if entries, err := os.ReadDir(parent); err != nil || len(entries) != 1 {
			t.Fatalf("beside the store: %v, %v", entries, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Fatalf("left in the store: %v, %v", entries, err)
		}
	})
}

// FuzzGateway: no request gets anything but a refusal without the secret, and
// what is signed is read back as it was.
func FuzzGateway(f *testing.F) {
	secret := bytes.Repeat([]byte{7}, secretLength)
	s := openStore(f, f.TempDir(), Options{NoSync: true})
	put(f, s, "key", "content")
	if err := s.UseGateway("http://gateway.invalid"); err != nil {
		f.Fatal(err)
	}
	g, err := NewGateway(s, GatewayOptions{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("/o/key", "method=GET&expires=99999999999999&sig=AAAA", "", 0)
	f.Add("/o/a/../key", "method=PUT&expires=1&upload=X&part=1&sig=", "X", 3)
	f.Add("/o//key", "method=GET;expires=1", "U\n5", -1)
	if u, err := s.SignURL(f.Context(), "key", storage.SignOptions{Method: http.MethodPut, Expires: time.Hour}); err == nil {
		_, query, _ := strings.Cut(u.URL, "?")
		f.Add("/o/other", query, "", 0)
	}
	f.Fuzz(func(t *testing.T, path, query, upload string, part int) {
		request := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{}, Body: http.NoBody}
		answer := httptest.NewRecorder()
		g.ServeHTTP(answer, request)
		if answer.Code != http.StatusForbidden {
			t.Fatalf("%q?%q: %d %s", path, query, answer.Code, answer.Body)
		}
		if part < 1 || upload == "" {
			part, upload = 0, ""
		}
		want := grant{method: http.MethodPut, key: strings.TrimPrefix(path, objectsPath), expires: 1 << 50, upload: upload, part: part}
		u, err := url.Parse("http://gateway.invalid" + want.escapedPath() + "?" + want.query(secret).Encode())
		if err != nil {
			t.Fatal(err)
		}
		got, sig, err := parseGrant(u)
		if err != nil || got != want {
			t.Fatalf("signed %+v, read %+v, %v", want, got, err)
		}
		if err := got.verify(secret, sig, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := got.verify(bytes.Repeat([]byte{8}, secretLength), sig, time.Now()); err == nil {
			t.Fatal("verified with another secret")
		}
	})
}
