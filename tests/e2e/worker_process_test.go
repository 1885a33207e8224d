package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
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
	sdklog "go.temporal.io/sdk/log"

	"github.com/baas-batch/baas/catalog"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/storage/file"
	"github.com/baas-batch/baas/worker"
)

// The test binary runs itself as a worker process too: one of several on the same
// Temporal, Mesos and storage, with gateways of their own or a shared one.
const envWorker = "BAAS_E2E_WORKER"

type workerConfig struct {
	Name, Temporal, Namespace, Storage string
	Gateway                            string // to share; empty: one of its own
	Masters                            []string
	Executor, ExecutorSHA256           string
	Lease, Heartbeat                   time.Duration
}

func serveWorker(raw string) error {
	var cfg workerConfig
	if err := json.Unmarshal([]byte(raw), &cfg); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { // no worker outlives its test
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	store, err := file.Open(cfg.Storage, file.Options{Logger: log})
	if err != nil {
		return err
	}
	defer store.Close()
	if cfg.Gateway == "" {
		gateway, err := file.NewGateway(store, file.GatewayOptions{Logger: log})
		if err != nil {
			return err
		}
		if err := gateway.Start("127.0.0.1:0"); err != nil {
			return err
		}
		defer gateway.Stop(context.Background())
		cfg.Gateway = gateway.URL()
	}
	if err := store.UseGateway(cfg.Gateway); err != nil {
		return err
	}
	temporal, err := client.DialContext(ctx, client.Options{
		HostPort: cfg.Temporal, Namespace: cfg.Namespace, Logger: sdklog.NewStructuredLogger(log),
	})
	if err != nil {
		return err
	}
	defer temporal.Close()
	w, err := worker.Start(ctx, worker.Config{
		Client: temporal, Namespace: cfg.Namespace, Store: store, Catalog: catalog.Catalog{},
		Mesos:    mesos.Config{Masters: cfg.Masters, ExecutorURI: cfg.Executor, ExecutorSHA256: cfg.ExecutorSHA256, Logger: log},
		Identity: cfg.Name, Logger: log,
		LeaseTimeout: cfg.Lease, HeartbeatTimeout: cfg.Heartbeat,
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	w.Stop()
	return nil
}

// workerProcess is a worker in a process of its own.
type workerProcess struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	log  string
}

// newWorker starts a worker process of a platform that has no worker itself. With
// an empty URL it has a gateway of its own.
func newWorker(t *testing.T, p *platform.Platform, name, gateway string) *workerProcess {
	t.Helper()
	like := p.WorkerConfig()
	cfg := workerConfig{
		Name: name, Temporal: p.Temporal.Address(), Namespace: like.Namespace, Storage: p.Store.Dir(), Gateway: gateway,
		Masters: like.Mesos.Masters, Executor: like.Mesos.ExecutorURI, ExecutorSHA256: like.Mesos.ExecutorSHA256,
		Lease: like.LeaseTimeout, Heartbeat: like.HeartbeatTimeout,
	}
	raw, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &workerProcess{t: t, name: name, log: filepath.Join(dir(t), "log")}
	log, err := os.Create(w.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	w.cmd = exec.Command(os.Args[0])
	w.cmd.Env = append(os.Environ(), envWorker+"="+string(raw))
	w.cmd.Stderr = log
	if _, err := w.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("worker %s did not come up: %q %v", name, line, err)
	}
	return w
}

func (w *workerProcess) signal(s syscall.Signal) {
	w.t.Helper()
	if err := w.cmd.Process.Signal(s); err != nil {
		w.t.Fatal(err)
	}
}

func (w *workerProcess) stop() {
	_ = w.cmd.Process.Signal(syscall.SIGCONT)
	_ = w.cmd.Process.Signal(syscall.SIGTERM)
	_ = w.cmd.Wait()
	if w.t.Failed() {
		lines := strings.Split(w.said(), "\n")
		w.t.Logf("the last words of worker %s:\n%s", w.name, strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
}

// said is the worker's log.
func (w *workerProcess) said() string {
	data, err := os.ReadFile(w.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}
