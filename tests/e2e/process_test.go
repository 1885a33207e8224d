package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tests/harness"
)

// TestMain lets the test binary run itself as a worker process.
func TestMain(m *testing.M) { harness.Main(m, nil) }

// upProcess is `baas up` on a data directory, in a process of its own: kill -9
// takes Temporal, Mesos, gateway and worker down at once and leaves executors
// alone.
type upProcess struct {
	t    *testing.T
	data string
	cmd  *exec.Cmd
	log  *os.File
}

func newUp(t *testing.T) *upProcess {
	t.Helper()
	d := dir(t)
	log, err := os.OpenFile(filepath.Join(d, "up.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	p := &upProcess{t: t, data: filepath.Join(d, "data"), log: log}
	t.Cleanup(func() {
		if p.cmd != nil {
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			_ = p.cmd.Wait()
		}
		log.Close()
		if t.Failed() {
			p.tail()
		}
	})
	return p
}

func (p *upProcess) tail() {
	data, err := os.ReadFile(p.log.Name())
	if err != nil {
		return
	}
	lines := strings.Split(string(data), "\n")
	p.t.Logf("last words of baas up:\n%s", strings.Join(lines[max(0, len(lines)-60):], "\n"))
}

// start starts it and waits until it says that it is up.
func (p *upProcess) start(options ...string) {
	p.t.Helper()
	harness.Binary(p.t, "baas-executor") // beside the other, where it is looked for
	p.cmd = exec.Command(harness.Binary(p.t, "baas"), append([]string{"up", "--data", p.data, "--verbose"}, options...)...)
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "BAAS is up.\n" {
		p.tail()
		p.t.Fatalf("baas up said %q: %v", line, err)
	}
}

func (p *upProcess) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	_ = p.cmd.Wait()
	p.cmd = nil
}

// baas runs a command on the platform's data directory and gives what it prints.
func (p *upProcess) baas(args ...string) string {
	p.t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(p.t.Context(), harness.Binary(p.t, "baas"), append(args, "--data", p.data)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("baas %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// succeeds waits for the end of a run, which must be a good one.
func (p *upProcess) succeeds(run string) {
	p.t.Helper()
	var state api.RunState
	eventually(p.t, 3*time.Minute, "the run does not end", func() bool {
		if err := json.Unmarshal([]byte(p.baas("status", run, "--output", "json")), &state); err != nil {
			p.t.Fatal(err)
		}
		return state.Status.Final()
	})
	if state.Status != api.StatusSucceeded {
		p.t.Errorf("the run ended as %s: %s", state.Status, state.Reason)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %s in vain: %s", limit, what)
		}
	}
}
