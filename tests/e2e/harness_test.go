package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

var build struct {
	sync.Once
	dir string
	err error
}

// binary builds the commands once, and gives the path of one of them.
func binary(t *testing.T, name string) string {
	t.Helper()
	build.Do(func() {
		build.dir, build.err = os.MkdirTemp("", "baas-bin-")
		if build.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-o", build.dir+"/", "github.com/baas-batch/baas/cmd/...")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			build.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return filepath.Join(build.dir, name)
}

// dir makes a directory that tasks, which run as other users, can pass through.
func dir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp("", "baas-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() || os.Getenv("BAAS_KEEP") == "" {
			os.RemoveAll(d)
		} else {
			t.Log("kept", d)
		}
	})
	return d
}

func start(t *testing.T, change ...func(*platform.Config)) *platform.Platform {
	t.Helper()
	cfg := platform.Config{
		Dir: dir(t), Memory: true, NoUI: true, Executor: binary(t, "baas-executor"),
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

// target is where a flow is started.
type target struct {
	client client.Client
	store  storage.Store
}

func platformOf(c client.Client, s storage.Store) target { return target{c, s} }

func run(t *testing.T, p target, files map[string]string, params map[string]string) client.WorkflowRun {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	w := tar.NewWriter(z)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(text))
	}
	w.Close()
	z.Close()
	ctx := t.Context()
	content, err := storage.PutContent(ctx, p.store, "bundles/", &packed)
	if err != nil {
		t.Fatal(err)
	}
	f, err := flow.Parse("flow.yaml", []byte(files["flow.yaml"]), flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	values, err := f.ParseParams(params)
	if err != nil {
		t.Fatal(err)
	}
	bound, err := f.Bind(values)
	if err != nil {
		t.Fatal(err)
	}
	in := api.RunInput{Source: &api.FlowSource{Path: "flow.yaml",
		Bundle: tasklet.NewFileRef(content.Key, content.Size, content.SHA256, "bundle.tar.gz")}, Params: map[string]json.RawMessage{}}
	for k, v := range values {
		in.Params[k], _ = json.Marshal(v)
	}
	r, err := p.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: api.InstanceID(f.Name, f.IdentityDigest(bound)), TaskQueue: api.TaskQueue}, api.WorkflowBatchFlow, in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestHello(t *testing.T) {
	p := start(t)
	r := run(t, platformOf(p.Client, p.Store), map[string]string{
		"flow.yaml": `
name: hello
steps:
  greet:
    run: ./greet.sh
    outputs: {greeting: string, letter: file}
  shout:
    run: tr a-z A-Z <"$BAAS_INPUT_LETTER" >"$BAAS_OUTPUTS/loud"; echo "$BAAS_INPUT_GREETING"
    with: {letter: '${{ steps.greet.outputs.letter }}', greeting: '${{ steps.greet.outputs.greeting }}'}
    outputs: {loud: string}
`,
		"greet.sh": "#!/bin/sh\necho '{\"greeting\": \"hello\"}' >$BAAS_OUTPUTS/outputs.json; echo a letter >$BAAS_OUTPUTS/letter\n",
	}, nil)
	var result api.RunResult
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := r.Get(ctx, &result); err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", result)
}
