package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/baas-batch/baas/platform"
)

// The test binary runs itself as a platform process, so that kill -9 takes
// Temporal, Mesos, gateway and worker down at once and leaves executors alone.
const envPlatform = "BAAS_E2E_PLATFORM"

type processConfig struct {
	Dir      string
	Executor string
}

func TestMain(m *testing.M) {
	for variable, serve := range map[string]func(string) error{envPlatform: servePlatform, envWorker: serveWorker} {
		raw := os.Getenv(variable)
		if raw == "" {
			continue
		}
		if err := serve(raw); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if build.dir != "" {
		os.RemoveAll(build.dir)
	}
	os.Exit(code)
}

func servePlatform(raw string) error {
	var cfg processConfig
	if err := json.Unmarshal([]byte(raw), &cfg); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	p, err := platform.Start(ctx, platform.Config{
		Dir: cfg.Dir, NoUI: true, Executor: cfg.Executor,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		return err
	}
	fmt.Println("address", p.Temporal.Address())
	<-ctx.Done()
	return p.Stop(context.Background(), false)
}

// process is a platform in a process of its own.
type process struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	log  *os.File
	Addr string
}

func newProcess(t *testing.T) *process {
	t.Helper()
	d := dir(t)
	log, err := os.OpenFile(filepath.Join(d, "platform.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, dir: d, log: log}
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

func (p *process) tail() {
	data, err := os.ReadFile(p.log.Name())
	if err != nil {
		return
	}
	lines := strings.Split(string(data), "\n")
	p.t.Logf("the platform's last words:\n%s", strings.Join(lines[max(0, len(lines)-60):], "\n"))
}

// up starts the process and waits for its address.
func (p *process) up() {
	p.t.Helper()
	cfg, err := json.Marshal(processConfig{Dir: filepath.Join(p.dir, "data"), Executor: binary(p.t, "baas-executor")})
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), envPlatform+"="+string(cfg))
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.tail()
		p.t.Fatalf("the platform did not come up: %v", err)
	}
	p.Addr = strings.TrimSpace(strings.TrimPrefix(line, "address "))
}

func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	_ = p.cmd.Wait()
	p.cmd = nil
}

func (p *process) dial() client.Client {
	p.t.Helper()
	c, err := client.DialContext(p.t.Context(), client.Options{HostPort: p.Addr})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return c
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
