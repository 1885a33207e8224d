package executor

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
)

// maxBinary is the size in bytes that the executor must stay under: it is fetched
// onto every agent.
const maxBinary = 15_000_000

// TestBinary builds the executor as it is shipped and runs tasks with it.
func TestBinary(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "baas-executor")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "../cmd/baas-executor")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the executor has %d bytes", info.Size())
	if info.Size() > maxBinary {
		t.Errorf("%d bytes are too many", info.Size())
	}
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if libs, err := f.ImportedLibraries(); err != nil || len(libs) > 0 {
		t.Errorf("not static: %v, %v", libs, err)
	}

	r := newRig(t, setup{binary: binary})
	bundle := r.bundle(tarZstd(entry{name: "x.sh", content: "#!/bin/sh\necho {\\\"n\\\": $BAAS_INPUT_N} > $BAAS_OUTPUTS/outputs.json\n", mode: 0o755}))
	for range 20 {
		l := r.job("./x.sh")
		l.Bundle = &bundle
		l.Partitions[0].Inputs = map[string]tasklet.Input{"n": {Value: []byte("7")}}
		r.output(l, "n", tasklet.TypeInt)
		if state, results := r.run(l); state != mesos.TASK_FINISHED || string(results[0].Outputs["n"]) != "7" {
			t.Fatalf("%s %+v", state, results)
		}
	}
	if p, ok := readProc(r.cmd.Process.Pid); ok {
		t.Logf("the executor uses %s after 20 tasks", megabytes(p.rss))
	}
	r.agent.shutdown()
	if code := r.exitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestImports keeps the executor small and apart: of this module it knows the
// wire types only, and nothing of clouds, Temporal or flows.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "../cmd/baas-executor").Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{"tasklet": true, "tasklet/lines": true, "tasklet/tree": true, "executor": true, "cmd/baas-executor": true}
	for name := range bytes.Lines(out) {
		name := strings.TrimSpace(string(name))
		if own, ok := strings.CutPrefix(name, "github.com/baas-batch/baas/"); ok && !allowed[own] {
			t.Errorf("imports %s", name)
		}
		for _, heavy := range []string{"aws", "temporal", "google.golang.org", "cloud.google.com", "k8s.io"} {
			if strings.Contains(name, heavy) {
				t.Errorf("imports %s", name)
			}
		}
	}
}

func TestMissingEnvironmentIsSaidAtOnce(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{asExecutor + "=1"}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "MESOS_AGENT_ENDPOINT") {
		t.Errorf("%v: %s", err, out)
	}
}
