package file

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
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
	u, err := s.SignURL(t.Context(), key, storage.SignOptions{Method: method, Expires: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return u
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
			urls[i], _ = stores[i].SignURL(t.Context(), "key", storage.SignOptions{Method: "GET", Expires: time.Minute})
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

// send writes raw bytes of a request and closes the sending side.
func send(t testing.TB, rawURL, request string) (answer string) {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\n%s", u.RequestURI(), request); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(conn) // a reset is as good as an end
	return string(b)
}

func TestCutBodiesLeaveNothing(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	serveStore(t, s, GatewayOptions{})
	id, err := s.CreateUpload(t.Context(), "upload")
	if err != nil {
		t.Fatal(err)
	}
	part, err := s.SignPart(t.Context(), "upload", id, 1, storage.SignOptions{Expires: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for name, request := range map[string]string{
		"Content-Length":         "Content-Length: 100\r\n\r\nfifty",
		"no body":                "Content-Length: 100\r\n\r\n",
		"chunk cut":              "Transfer-Encoding: chunked\r\n\r\n64\r\nfifty",
		"no last chunk":          "Transfer-Encoding: chunked\r\n\r\n5\r\nfifty\r\n",
		"no end after last":      "Transfer-Encoding: chunked\r\n\r\n5\r\nfifty\r\n0\r\n",
		"malformed chunk length": "Transfer-Encoding: chunked\r\n\r\n5\r\nfifty\r\nzz\r\n",
	} {
		for what, u := range map[string]string{"object": signed(t, s, "PUT", "key"), "part": part} {
			if answer := send(t, u, request); strings.HasPrefix(answer, "HTTP/1.1 2") {
				t.Errorf("%s, %s: %s", name, what, answer)
			}
		}
	}
	for _, key := range []string{"key", "upload"} {
		if _, err := s.Stat(t.Context(), key); !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("stat %q: %v", key, err)
		}
	}
	if entries, err := readDir(s.root, partsPath(id)); err != nil || len(entries) != 0 {
		t.Errorf("parts: %v, %v", entries, err)
	}
	wantNoTemps(t, s)
	whole := "Transfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n"
	if answer := send(t, signed(t, s, "PUT", "key"), whole); !strings.HasPrefix(answer, "HTTP/1.1 200") {
		t.Errorf("whole chunked body: %s", answer)
	}
	wantContent(t, s, "key", "whole")
}

func TestGatewaySizeLimit(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	serveStore(t, s, GatewayOptions{MaxSize: 10})
	u := signed(t, s, "PUT", "key")
	if status, answer, _ := do(t, "PUT", u, "ten bytes!"); status != 200 {
		t.Errorf("10 bytes: %d %s", status, answer)
	}
	if status, _, _ := do(t, "PUT", u, "eleven byte"); status != 413 {
		t.Errorf("11 bytes: %d", status)
	}
	if answer := send(t, u, "Transfer-Encoding: chunked\r\n\r\nb\r\neleven byte\r\n0\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 413") {
		t.Errorf("11 bytes, chunked: %s", answer)
	}
	wantContent(t, s, "key", "ten bytes!")
	wantNoTemps(t, s)
}

// TestIdleTransfersEnd: one that stands still ends, one that only takes long does not.
func TestIdleTransfersEnd(t *testing.T) {
	const idle = 300 * time.Millisecond
	s := openStore(t, t.TempDir(), Options{})
	serveStore(t, s, GatewayOptions{IdleTimeout: idle})
	u, err := url.Parse(signed(t, s, "PUT", "key"))
	if err != nil {
		t.Fatal(err)
	}
	start := func(size int) (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", u.RequestURI(), size)
		return conn, bufio.NewReader(conn)
	}
	conn, answer := start(100)
	fmt.Fprint(conn, "then nothing")
	if response, err := http.ReadResponse(answer, nil); err == nil && response.StatusCode != http.StatusRequestTimeout {
		t.Errorf("a body that stands still: %s", response.Status)
	}
	if _, err := s.Stat(t.Context(), "key"); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}

	const pieces = 10
	conn, answer = start(pieces)
	tick := time.NewTicker(idle / 3) // together more than three times the limit
	defer tick.Stop()
	for range pieces {
		<-tick.C
		if _, err := io.WriteString(conn, "x"); err != nil {
			t.Fatal(err)
		}
	}
	response, err := http.ReadResponse(answer, nil)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("a slow body: %v, %v", response, err)
	}
	wantContent(t, s, "key", strings.Repeat("x", pieces))
}

// TestIdleReadersEnd: a client that takes nothing off the connection is dropped.
func TestIdleReadersEnd(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	g := serveStore(t, s, GatewayOptions{IdleTimeout: 300 * time.Millisecond})
	if _, err := s.Put(t.Context(), "key", io.LimitReader(zeros{}, 64<<20), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(signed(t, s, "GET", "key"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", u.RequestURI())
	if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	// Stop waits for the transfer, which ends by the timeout.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := g.Stop(ctx); err != nil {
		t.Errorf("the transfer went on: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestGatewayLife(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	first := serveStore(t, s, GatewayOptions{})
	taken := strings.TrimPrefix(first.URL(), "http://")
	second, err := NewGateway(s, GatewayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if second.URL() != "" {
		t.Errorf("URL before Start: %q", second.URL())
	}
	if err := second.Start(taken); err != nil {
		t.Fatalf("Start on a port that is taken: %v", err)
	}
	if second.URL() == first.URL() || !strings.HasPrefix(second.URL(), "http://127.0.0.1:") {
		t.Errorf("second gateway at %s, first at %s", second.URL(), first.URL())
	}
	if err := second.Start(""); err == nil {
		t.Error("second Start succeeded")
	}
	address := strings.TrimPrefix(second.URL(), "http://")
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := second.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("it still listens after Stop")
	}
	third, err := NewGateway(s, GatewayOptions{AdvertiseHost: "batch.example"})
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	if err := third.Start("0.0.0.0:" + port); err != nil {
		t.Fatal(err)
	}
	defer third.Stop(t.Context())
	if third.URL() != "http://batch.example:"+port {
		t.Errorf("URL %q, want the preferred port %s on batch.example", third.URL(), port)
	}
	if err := third.Start("300.0.0.1:x"); err == nil {
		t.Error("Start on a bad address succeeded")
	}
}

// TestStopCuts: when its time is up, Stop does not wait for transfers.
func TestStopCuts(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	g := serveStore(t, s, GatewayOptions{})
	r, w := io.Pipe()
	request, err := http.NewRequest("PUT", signed(t, s, "PUT", "key"), r)
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			err = response.Body.Close()
		}
		failed <- err
	}()
	if _, err := io.WriteString(w, strings.Repeat("x", 100<<10)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the Put to begin", func() bool {
		entries, err := readDir(s.root, tempDir)
		return err == nil && len(entries) == 1
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := g.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop: %v", err)
	}
	w.CloseWithError(io.ErrClosedPipe) // the client waits for its body, even now
	if err := <-failed; err == nil {
		t.Error("the transfer ended well")
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	if _, err := s.Stat(t.Context(), "key"); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for ", what)
		}
	}
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
