package catalog

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/baas-batch/baas/flow"
)

// built is an app's directory after its programs were built into bin/.
type built struct{ fs.FS }

func (b built) Open(name string) (fs.File, error) {
	if strings.HasPrefix(name, "bin/") {
		program, err := os.Executable()
		if err != nil {
			return nil, err
		}
		return os.Open(program)
	}
	return b.FS.Open(name)
}

// The examples use the catalogue; all of them must be good.
func TestExamplesAreGood(t *testing.T) {
	files, err := filepath.Glob("../examples/*/flow.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		opts := flow.Options{Files: built{os.DirFS(filepath.Dir(file))}, Catalog: Catalog{}}
		if _, err := flow.Parse(file, []byte(read(t, file)), opts); err != nil {
			t.Error(err)
		}
	}
}

// The reference begins with a flow file, and has a tasklet file near its end.
func TestReferenceIsGood(t *testing.T) {
	blocks := strings.Split(read(t, "../docs/flow.md"), "```yaml\n")[1:]
	flows, tasklets := 0, 0
	for _, block := range blocks {
		src, _, _ := strings.Cut(block, "```")
		var err error
		switch {
		case strings.Contains(src, "\nsteps:"):
			flows++
			_, err = flow.Parse("flow.md", []byte(src), flow.Options{Catalog: Catalog{}})
		case strings.Contains(src, "\nversion:"):
			tasklets++
			_, err = flow.ParseTasklet("flow.md", []byte(src), os.DirFS("testdata"))
		}
		if err != nil {
			t.Errorf("%v\n%s", err, src)
		}
	}
	if flows != 1 || tasklets != 1 {
		t.Errorf("%d flow files and %d tasklet files", flows, tasklets)
	}
}
