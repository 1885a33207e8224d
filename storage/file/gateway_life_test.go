package file

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
)

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
