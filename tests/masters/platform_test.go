package masters

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tests/harness"
)

// A task runs where the master and the agent speak only TLS, with certificates of a
// private authority, and want credentials and executors' tokens.
func TestTaskOverTLS(t *testing.T) {
	ca := newAuthority(t, "ca")
	trust := load(t, mesos.TLSFiles{CA: ca.file("ca.pem")})
	p := harness.Start(t, func(cfg *platform.Config) {
		cfg.Mesos.Master.TLS = ca.server("master", soon(), localhost)
		cfg.Mesos.Master.Credentials = map[string]string{"batch": "s3cret"}
		cfg.Mesos.Agent.TLS, cfg.Mesos.Agent.TLSCA = ca.server("agent", soon(), localhost), ca.file("ca.pem")
		cfg.Mesos.Agent.AuthenticateExecutors = true
		cfg.Scheduler = func(cfg *mesos.Config) { cfg.TLS, cfg.Principal, cfg.Secret = trust, "batch", "s3cret" }
	})
	file := filepath.Join(harness.Dir(t), "flow.yaml")
	text := "name: sealed\nsteps:\n  work:\n    run: echo \"hello to $BAAS_STEP\"\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	runs := harness.Client(p)
	started, err := runs.Start(t.Context(), starter.StartOptions{File: file})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	last, err := runs.Wait(ctx, started.Run)
	if err != nil || last.Status != api.StatusSucceeded {
		t.Fatalf("the run ended as %s %s (%v)", last.Status, last.Reason, err)
	}
	var log strings.Builder
	for chunk, err := range runs.Logs(ctx, started.Run, starter.LogOptions{Partition: starter.AllPartitions}) {
		if err != nil {
			t.Fatal(err)
		}
		log.Write(chunk.Data)
	}
	if !strings.Contains(log.String(), "hello to work") {
		t.Errorf("the log is %q", log.String())
	}
	// All of it went by TLS: nobody serves anything else.
	agent, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Cluster.Agents()[0].Address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := http.DefaultClient.Do(agent); err == nil {
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("the agent answers without TLS: %s", res.Status)
		}
	}
}
