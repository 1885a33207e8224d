package storagetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
)

// Open opens the store of a URL until t ends.
func Open(t *testing.T, url string) storage.Store {
	t.Helper()
	s, err := storage.Open(context.Background(), url)
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

// Setting is one that is wrong.
type Setting struct {
	URL  string
	Env  map[string]string // over that of a store that works
	Want string            // stands in the error
}

// WrongSettings proves that each of these is told within 40 s and in one line, at
// Open or by the first Put, and that secret stands in none of the errors. setUp sets
// the environment of a store that works.
func WrongSettings(t *testing.T, setUp func(testing.TB), secret string, settings map[string]Setting) {
	for name, wrong := range settings {
		t.Run(name, func(t *testing.T) {
			setUp(t)
			for name, value := range wrong.Env {
				t.Setenv(name, value)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			err := use(ctx, wrong.URL)
			if err == nil || !strings.Contains(err.Error(), wrong.Want) || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v\nwant one line with %q", err, wrong.Want)
			}
		})
	}
}

func use(ctx context.Context, url string) error {
	s, err := storage.Open(ctx, url)
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = storage.PutBytes(ctx, s, "key", []byte("content"))
	return err
}
