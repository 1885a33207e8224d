package flow

import (
	"strings"
	"testing"

	"github.com/baas-batch/baas/tasklet"
)

// A reference to a directory is no file, and the other way round.
func TestDirectoryParameter(t *testing.T) {
	f, err := Parse("f.yaml", []byte("name: f\nparams: {d: directory, f: file}\nsteps:\n  a:\n    run: x\n"+
		"    with: {d: '${{ params.d }}', name: '${{ params.d.name + params.f.name }}', both: '${{ [params.d] }}'}\n    outputs: {out: directory}\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := tasklet.NewFileRef("files/1", 10, "00", "f")
	dir := file
	dir.Name, dir.Form, dir.Bytes = "d", tasklet.FormTree, 20
	bound, err := f.Bind(map[string]any{"d": dir, "f": file})
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]any{}
	for _, b := range f.Steps[0].With {
		if have[b.Name], err = b.Eval(Scope{Params: bound}); err != nil {
			t.Fatal(err)
		}
	}
	if ref, ok := AsFile(have["d"]); !ok || ref != dir {
		t.Errorf("%+v", have["d"])
	}
	if refs, ok := AsFiles(have["both"]); !ok || len(refs) != 1 || refs[0] != dir || have["name"] != "df" {
		t.Errorf("%+v", have)
	}
	_, err = f.Bind(map[string]any{"d": file, "f": dir})
	if err == nil || !strings.Contains(err.Error(), `"d": expected a directory, found a file`) || !strings.Contains(err.Error(), `"f": expected a file, found a directory`) {
		t.Error(err)
	}
	dir.Name = "elsewhere" // counts by its content
	other, err := f.Bind(map[string]any{"d": dir, "f": file})
	if err != nil || f.IdentityDigest(bound) != f.IdentityDigest(other) {
		t.Errorf("%v", err)
	}
}
