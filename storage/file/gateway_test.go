package file

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
)

func signed(t testing.TB, s *Store, method, key string) string {
	t.Helper()
	signed, err := s.SignURL(t.Context(), key, storage.SignOptions{Method: method, Expires: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return signed.URL
}

func do(t testing.TB, method, url, body string) (status int, answer string, header http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(b), response.Header
}

func wantStatus(t testing.TB, method, url string, want int, reason string) {
	t.Helper()
	status, answer, _ := do(t, method, url, "")
	if status != want || !strings.Contains(answer, reason) {
		t.Errorf("%s %s: %d %q; want %d with %q", method, url, status, answer, want, reason)
	}
	if strings.Count(answer, "\n") > 1 {
		t.Errorf("%s %s: the reason has several lines: %q", method, url, answer)
	}
}

func TestGatewayAnswers(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	g := serveStore(t, s, GatewayOptions{})
	put(t, s, "dir/key", "content")
	good, putURL := signed(t, s, "GET", "dir/key"), signed(t, s, "PUT", "dir/key")

	wantStatus(t, "GET", good, 200, "content")
	wantStatus(t, "GET", good+"x", 403, "signature")
	wantStatus(t, "GET", good+"&more=1", 403, `bad parameter "more"`)
	wantStatus(t, "GET", good+"&method=GET", 403, `one value of "method"`)
	wantStatus(t, "GET", strings.Replace(good, "dir/key", "dir", 1), 403, "signature")
	wantStatus(t, "GET", strings.Replace(good, "dir/key", "dir/", 1), 403, "signature")
	wantStatus(t, "GET", strings.Replace(good, "dir/key", hiddenDir+"/gateway.key", 1), 403, "signature")
	wantStatus(t, "GET", strings.Replace(good, "/o/", "/p/", 1), 403, "no object's path")
	wantStatus(t, "GET", g.URL(), 403, "no object's path")
	wantStatus(t, "GET", g.URL()+"/o/", 403, "no signature")
	wantStatus(t, "GET", g.URL()+"/o/dir/key", 403, "no signature")
	wantStatus(t, "GET", putURL, 403, "signed for PUT")
	wantStatus(t, "PUT", good, 403, "signed for GET")
	wantStatus(t, "POST", putURL, 405, "only GET, HEAD and PUT")
	wantStatus(t, "DELETE", good, 405, "only GET, HEAD and PUT")
	wantStatus(t, "GET", signed(t, s, "GET", "no/such"), 404, "no such object")
	wantStatus(t, "GET", signed(t, s, "GET", "dir"), 404, "no such object")
	wantStatus(t, "PUT", signed(t, s, "PUT", "dir"), 409, "directory of other keys")
	wantContent(t, s, "dir/key", "content")
}

func TestGatewayHead(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	serveStore(t, s, GatewayOptions{})
	put(t, s, "page.html", "<script>")
	status, body, header := do(t, "HEAD", signed(t, s, "GET", "page.html"), "")
	if status != 200 || body != "" || header.Get("Content-Length") != "8" {
		t.Errorf("HEAD: %d %q %v", status, body, header)
	}
	info, err := s.Stat(t.Context(), "page.html")
	if err != nil || header.Get("ETag") != `"`+info.ETag+`"` {
		t.Errorf("ETag %s, want %q", header.Get("ETag"), info.ETag)
	}
	if header.Get("Content-Type") != "application/octet-stream" || header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("a browser might run it: %v", header)
	}
}

func TestGatewayExpiry(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	g := serveStore(t, s, GatewayOptions{})
	put(t, s, "key", "content")
	u := signed(t, s, "GET", "key")
	g.now = func() time.Time { return time.Now().Add(59 * time.Second) }
	wantStatus(t, "GET", u, 200, "content")
	g.now = func() time.Time { return time.Now().Add(61 * time.Second) }
	wantStatus(t, "GET", u, 403, "expired at")
	// A forged URL does not learn about time.
	wantStatus(t, "GET", strings.Replace(u, "/key?", "/kez?", 1), 403, "signature")
}

// TestGatewaysShareASecret: workers on one directory serve for one another, and
// for those that are gone; those of another directory do not.
func TestGatewaysShareASecret(t *testing.T) {
	dir := t.TempDir()
	stores, urls := make([]*Store, 8), make([]string, 8)
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() {
			stores[i] = openStore(t, dir, Options{Gateway: "http://gone.invalid:1"})
			signed, _ := stores[i].SignURL(t.Context(), "key", storage.SignOptions{Method: "GET", Expires: time.Minute})
			urls[i] = signed.URL
		})
	}
	wg.Wait()
	put(t, stores[0], "key", "content")
	g := serveStore(t, openStore(t, dir, Options{}), GatewayOptions{})
	stranger := serveStore(t, openStore(t, t.TempDir(), Options{}), GatewayOptions{})
	for _, u := range urls {
		wantStatus(t, "GET", strings.Replace(u, "http://gone.invalid:1", g.URL(), 1), 200, "content")
		wantStatus(t, "GET", strings.Replace(u, "http://gone.invalid:1", stranger.URL(), 1), 403, "signature")
	}
	fi, err := os.Stat(filepath.Join(dir, secretFile))
	if err != nil || fi.Mode() != 0o600 {
		t.Errorf("the secret's mode: %v, %v", fi.Mode(), err)
	}
}

func TestSecretMustBeSecret(t *testing.T) {
	dir := t.TempDir()
	if _, err := NewGateway(openStore(t, dir, Options{}), GatewayOptions{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, secretFile)
	for want, spoil := range map[string]func() error{
		"set its mode to 0600": func() error { return os.Chmod(path, 0o644) },
		"is damaged":           func() error { return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("short"), 0o600)) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		_, err := NewGateway(openStore(t, dir, Options{}), GatewayOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewGateway: %v; want %q", err, want)
		}
	}
}

func TestSignWithoutGateway(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	_, err := s.SignURL(t.Context(), "key", storage.SignOptions{Method: "GET", Expires: time.Minute})
	if !errors.Is(err, ErrNoGateway) || !strings.Contains(err.Error(), "?gateway=") {
		t.Errorf("SignURL: %v", err)
	}
	for _, bad := range []string{"", "host:80", "ftp://host", "http://", "http://h?x=1", "http://u:p@h"} {
		if err := s.UseGateway(bad); err == nil {
			t.Errorf("UseGateway took %q", bad)
		}
	}
}

// TestGatewayBehindPath: the base URL may have a path, which a proxy takes off.
func TestGatewayBehindPath(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	g := serveStore(t, s, GatewayOptions{})
	put(t, s, "a b/ü", "content")
	if err := s.UseGateway("https://proxy.example/sto%20re/"); err != nil {
		t.Fatal(err)
	}
	u := signed(t, s, "GET", "a b/ü")
	rest, ok := strings.CutPrefix(u, "https://proxy.example/sto%20re")
	if !ok || !strings.HasPrefix(rest, "/o/a%20b/%C3%BC?") {
		t.Fatalf("signed URL %q", u)
	}
	wantStatus(t, "GET", g.URL()+rest, 200, "content")
}

func TestGatewayPublishes(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	g := serveStore(t, s, GatewayOptions{})
	g.Handle("/executor/abc", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "executor", time.Time{}, strings.NewReader("the executor"))
	}))
	wantStatus(t, "GET", g.URL()+"/executor/abc", 200, "the executor")
	wantStatus(t, "GET", g.URL()+"/executor/abcd", 403, "forbidden")
	wantStatus(t, "GET", g.URL()+"/executor/", 403, "forbidden")
}
