// Package stream moves streams whose length nobody knows through `baas storage`, in
// and out of real servers, and measures what its process takes.
package stream

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tests/harness"
	"github.com/baas-batch/baas/tests/servers"
	"github.com/baas-batch/baas/tests/syncbuf"
)

var size = flag.Int64("stream", 256<<20, "bytes of a stream")

// own bounds what a process takes of the machine's memory: its anonymous pages. Its
// peak counts the pages of the program's file too, most of which the start maps; how
// many is the page cache's affair.
const own = 60 << 20

func TestMemory(t *testing.T) {
	baas := install(t)
	t.Run("s3", func(t *testing.T) {
		s := servers.StartS3(t, nil)
		s.Credentials(t)
		measure(t, baas, s.Bucket(t, "bucket"))
	})
	t.Run("swift", func(t *testing.T) {
		s := servers.StartSwift(t)
		s.Credentials(t)
		measure(t, baas, s.Container(t, "container"))
	})
}

// install builds the program and copies it. How much of a file is mapped at once
// depends on how the page cache came by it: the linker's output is mapped whole.
func install(t *testing.T) string {
	t.Helper()
	built := filepath.Join(t.TempDir(), "baas")
	harness.Build(t, built, "cmd/baas")
	from, err := os.Open(built)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(built+"-installed", os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
	return to.Name()
}

func measure(t *testing.T, baas, url string) {
	t.Setenv("BAAS_STORAGE", url)
	start := run(t, baas, strings.NewReader(""), io.Discard, "put", "-", "empty")
	in, sent := storage.HashReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), *size))
	put := run(t, baas, in, io.Discard, "put", "-", "stream")
	received := storage.NewDigest()
	get := run(t, baas, nil, received, "get", "stream", "-")
	if sent.Size() != *size || received.SHA256() != sent.SHA256() {
		t.Errorf("%d bytes came back with SHA-256 %s; %d with %s were sent", received.Size(), received.SHA256(), sent.Size(), sent.SHA256())
	}
	for what, m := range map[string]memory{"put": put, "get": get} {
		t.Logf("%s of %d MB: own %d MB, peak %d MB; peak of the start %d MB", what, *size/1e6, m.own/1e6, m.peak/1e6, start.peak/1e6)
		if m.own == 0 || m.own > own {
			t.Errorf("%s takes %d bytes of its own", what, m.own)
		}
	}
}

// memory is the most that a process had, in bytes.
type memory struct{ own, peak int64 }

// run gives the memory of `baas storage` with these arguments, sampled until its end.
func run(t *testing.T, baas string, in io.Reader, out io.Writer, args ...string) (m memory) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), baas, append([]string{"storage"}, args...)...)
	var said syncbuf.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("baas storage %s: %v\n%s", strings.Join(args, " "), err, said.Tail())
			}
			return m
		case <-tick.C:
			// It may have ended meanwhile: then there is nothing in it.
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
			m.own, m.peak = max(m.own, kib(status, "RssAnon:")), max(m.peak, kib(status, "VmHWM:"))
		}
	}
}

// kib reads a line of proc_pid_status(5), in bytes.
func kib(status []byte, name string) (n int64) {
	_, rest, _ := strings.Cut(string(status), name)
	fmt.Sscan(rest, &n)
	return n << 10
}
