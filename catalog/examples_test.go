package catalog

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/baas-batch/baas/flow"
)

// The examples use the catalogue; all of them must be good.
func TestExamplesAreGood(t *testing.T) {
	files, err := filepath.Glob("../examples/*/flow.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		opts := flow.Options{Files: os.DirFS(filepath.Dir(file)), Catalog: Catalog{}}
		if _, err := flow.Parse(file, []byte(read(t, file)), opts); err != nil {
			t.Error(err)
		}
	}
}
