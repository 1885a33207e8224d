// Package harness builds the programs and starts what tests of the whole of BAAS
// need: platforms in the test's process, and parts of them (workers, Temporal) in
// processes of their own that a test can kill, pause and start again.
package harness

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/baas-batch/baas/catalog"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/starter"
)

// Patience is how long a test waits for what must happen: machines are loaded.
const Patience = 2 * time.Minute

// Build builds a command of this module, statically, and fails the test if it cannot.
func Build(t testing.TB, output, pkg string) {
	t.Helper()
	if err := build(output, pkg); err != nil {
		t.Fatal(err)
	}
}

func build(output, pkg string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", output, "github.com/baas-batch/baas/"+pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build of %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// executor builds baas-executor once for all tests of a process.
var executor = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "baas-executor-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "baas-executor")
	if err := build(path, "cmd/baas-executor"); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// programs are the commands that Binary has built; Main removes them.
var programs struct {
	sync.Mutex
	dir   string
	built map[string]bool
}

// Binary builds a command of this module once for all tests of a process, and
// gives its path; all lie in one directory. It needs Main, which removes them.
func Binary(t testing.TB, name string) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	if programs.dir == "" {
		t.Fatal("harness.Binary without harness.Main")
	}
	path := filepath.Join(programs.dir, name)
	if programs.built[name] {
		return path
	}
	Build(t, path, "cmd/"+name)
	programs.built[name] = true
	return path
}

// Executor gives a test a copy of the baas-executor binary, in a directory that
// agents and tasks can pass through.
func Executor(t testing.TB) string {
	t.Helper()
	binary, err := executor()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(Dir(t), "baas-executor")
	if err := os.WriteFile(path, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// Dir makes a directory that tasks, which run as other users, can pass through.
// It goes when the test ends; with BAAS_KEEP set, that of a failed test stays.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "baas-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("BAAS_KEEP") != "" {
			t.Log("kept", dir)
			return
		}
		os.RemoveAll(dir)
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Start starts a platform in this process, and stops it when the test ends.
func Start(t testing.TB, change ...func(*platform.Config)) *platform.Platform {
	t.Helper()
	cfg := platform.Config{
		Dir: filepath.Join(Dir(t), "data"), Memory: true, NoUI: true, Executor: Executor(t),
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	for _, f := range change {
		f(&cfg)
	}
	p, err := platform.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := p.Stop(ctx, false); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Client is the Go client of a platform.
func Client(p *platform.Platform) *starter.Client {
	return starter.New(starter.Config{
		Temporal: p.Client, Store: p.Store, Catalog: catalog.Catalog{}, ReadLive: mesos.ReadFile,
	})
}

// Eventually waits for a condition.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %s in vain: %s", Patience, what)
		}
	}
}
