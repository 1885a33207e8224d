// Package examples runs the examples to their end and checks the results another
// way.
package examples

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tests/harness"
)

const root = "../../examples"

// app copies an example to where it may be added to.
func app(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(harness.Dir(t), name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// begin starts the flow of an app.
func begin(t *testing.T, c *starter.Client, dir string, args map[string]string) string {
	t.Helper()
	started, err := c.Start(t.Context(), starter.StartOptions{File: filepath.Join(dir, "flow.yaml"), Args: args})
	if err != nil {
		t.Fatal(err)
	}
	return started.Run
}

// succeeded waits for the end of a run that must succeed.
func succeeded(t *testing.T, c *starter.Client, id string) starter.Run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	run, err := c.Wait(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if run.Status != api.StatusSucceeded {
		t.Fatalf("run %s is %s: %s", id, run.Status, run.Reason)
	}
	return run
}

// output decodes an output of a step.
func output[T any](t *testing.T, run starter.Run, step, name string) (v T) {
	t.Helper()
	s, ok := run.Step(step)
	if !ok || s.Outputs[name] == nil {
		t.Fatalf("step %s has no output %s", step, name)
	}
	if err := json.Unmarshal(s.Outputs[name], &v); err != nil {
		t.Fatalf("output %s of step %s: %v", name, step, err)
	}
	return v
}

// download writes the files of one output to a directory, and gives their contents
// by name.
func download(t *testing.T, c *starter.Client, run starter.Run, step, name string) map[string]string {
	t.Helper()
	contents := make(map[string]string)
	for _, o := range run.Outputs() {
		if o.Step != step || o.Name != name {
			continue
		}
		paths, err := c.Download(t.Context(), o, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			contents[filepath.Base(path)] = string(data)
		}
	}
	return contents
}

// table reads a CSV file of an example, without its header.
func table(t *testing.T, path string) [][]string {
	t.Helper()
	file, err := os.Open(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows[1:]
}
