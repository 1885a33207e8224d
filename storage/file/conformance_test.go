package file

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/storagetest"
)

func openStore(t testing.TB, dir string, opts Options) *Store {
	t.Helper()
	opts.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// serveStore starts a gateway for s, and has s sign URLs for it.
func serveStore(t testing.TB, s *Store, opts GatewayOptions) *Gateway {
	t.Helper()
	opts.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	g, err := NewGateway(s, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := g.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := s.UseGateway(g.URL()); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Harness{
		New: func(t *testing.T) storage.Store {
			s := openStore(t, t.TempDir(), Options{})
			serveStore(t, s, GatewayOptions{})
			return s
		},
		RefusesNesting: true,
	})
}
