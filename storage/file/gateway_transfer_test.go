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
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
)

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
		for what, u := range map[string]string{"object": signed(t, s, "PUT", "key"), "part": part.URL} {
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
