package file

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
)

const benchLarge = 64 << 20

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{1 << 10, benchLarge} {
		for _, noSync := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/sync=%v", size, !noSync), func(b *testing.B) {
				s := openStore(b, b.TempDir(), Options{NoSync: noSync})
				content := bytes.Repeat([]byte{'x'}, size)
				b.SetBytes(int64(size))
				for i := 0; b.Loop(); i++ {
					if _, err := storage.PutBytes(b.Context(), s, fmt.Sprint("bench/dir/", i%8), content); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	for _, size := range []int64{1 << 10, benchLarge} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := openStore(b, b.TempDir(), Options{})
			putZeros(b, s, size)
			b.SetBytes(size)
			for b.Loop() {
				r, _, err := s.Get(b.Context(), "key", 0, -1)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}

// BenchmarkCopyRatio puts a file and copies it plainly, with fsync both times,
// in turns; "x-plain" is how many times as long the store takes.
func BenchmarkCopyRatio(b *testing.B) {
	for _, size := range []int64{1 << 10, benchLarge} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			dir := b.TempDir()
			s := openStore(b, dir, Options{})
			source := filepath.Join(b.TempDir(), "source")
			if err := os.WriteFile(source, make([]byte, size), 0o600); err != nil {
				b.Fatal(err)
			}
			var plain, stored time.Duration
			for i := 0; b.Loop(); i++ {
				plain += timed(b, source, func(src *os.File) error {
					return plainCopy(src, filepath.Join(dir, hiddenDir, fmt.Sprint("plain", i%8)))
				})
				stored += timed(b, source, func(src *os.File) error {
					_, err := s.Put(b.Context(), fmt.Sprint("key", i%8), src, storage.PutOptions{})
					return err
				})
			}
			b.ReportMetric(float64(stored)/float64(plain), "x-plain")
		})
	}
}

func timed(b *testing.B, source string, copy func(*os.File) error) time.Duration {
	src, err := os.Open(source)
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	start := time.Now()
	if err := copy(src); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

func plainCopy(src *os.File, name string) error {
	dst, err := os.Create(name)
	if err != nil {
		return err
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	return dst.Sync()
}

func BenchmarkGateway(b *testing.B) {
	for _, size := range []int64{1 << 10, benchLarge} {
		s := openStore(b, b.TempDir(), Options{})
		serveStore(b, s, GatewayOptions{})
		putZeros(b, s, size)
		for _, method := range []string{http.MethodGet, http.MethodPut} {
			u := signed(b, s, method, "key")
			b.Run(fmt.Sprintf("%s/%d", method, size), func(b *testing.B) {
				b.SetBytes(size)
				for b.Loop() {
					request, err := http.NewRequest(method, u, io.LimitReader(zeros{}, size))
					if err != nil {
						b.Fatal(err)
					}
					if method == http.MethodGet {
						request.Body = nil
					} else {
						request.ContentLength = size
					}
					response, err := http.DefaultClient.Do(request)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
						b.Fatal(response.Status, err)
					}
					response.Body.Close()
				}
			})
		}
	}
}

func BenchmarkList(b *testing.B) {
	s := openStore(b, b.TempDir(), Options{NoSync: true})
	for i := range 10_000 {
		if _, err := storage.PutBytes(b.Context(), s, fmt.Sprintf("flat/%06d", i), nil); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		n := 0
		for _, err := range storage.All(b.Context(), s, storage.ListOptions{}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 10_000 {
			b.Fatal(n)
		}
	}
}

func putZeros(b *testing.B, s storage.Store, size int64) {
	if _, err := s.Put(b.Context(), "key", io.LimitReader(zeros{}, size), storage.PutOptions{}); err != nil {
		b.Fatal(err)
	}
}
