// Package servers starts real servers of object storage for tests, each in processes
// of its own that end with the test.
package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/baas-batch/baas/tests/syncbuf"
)

// patience bounds the start of a server: five Python programs on a machine that has
// much else to do.
const patience = 3 * time.Minute

// tool gives the path of a program that Go can build, and builds it if it is missing.
func tool(t testing.TB, name, pkg string) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(file), "..", "..", "bin", "tools")
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	t.Logf("building %s, which takes minutes", pkg)
	build := exec.CommandContext(t.Context(), "go", "install", pkg)
	build.Dir = os.TempDir() // outside of this module
	build.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go install %s: %v\n%s", pkg, err, out)
	}
	return path
}

// FreeAddress is host:port on the loopback, for servers that want it by number.
// Another process may take it meanwhile.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// process is a server's; what it says is shown when the test fails.
type process struct {
	cmd   *exec.Cmd
	said  syncbuf.Buffer
	ended chan struct{} // closed after its end
}

func run(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.said, &p.said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		cmd.Wait() // its end is all that matters
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("the last words of %s:\n%s", filepath.Base(cmd.Path), p.said.Tail())
		}
	})
	return p
}

// ready waits until check holds.
func (p *process) ready(t testing.TB, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-p.ended:
			t.Fatalf("%s has ended:\n%s", filepath.Base(p.cmd.Path), p.said.Tail())
		case <-ctx.Done():
			t.Fatal(errors.Join(fmt.Errorf("%s does not serve within %s", filepath.Base(p.cmd.Path), patience), err))
		}
	}
}
