// Package shape keeps the shape of the source tree: who may import whom.
package shape

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/baas-batch/baas/"

// mayImport lists, for each folder, the folders that its packages may import.
// Folders below one of these follow its rule unless they have one of their own.
var mayImport = map[string][]string{
	"tasklet":           {},
	"flow":              {"tasklet"},
	"api":               {"flow", "tasklet"},
	"catalog":           {"flow", "tasklet"},
	"storage":           {"storage"},
	"retention":         {"api", "flow", "storage"},
	"secrets":           {"tasklet"},
	"images":            {},
	"mesos":             {"mesos", "tasklet"},
	"executor":          {"executor", "tasklet"},
	"workflows":         {"api", "flow", "tasklet"},
	"activities":        {"api", "flow", "images", "mesos", "retention", "secrets", "storage", "tasklet"},
	"worker":            {"activities", "api", "flow", "mesos", "retention", "secrets", "storage", "tasklet", "workflows"},
	"starter":           {"api", "catalog", "flow", "mesos", "retention", "storage", "tasklet"},
	"embedded":          {"api", "embedded"},
	"embedded/mesos":    {"embedded/mesos"},
	"platform":          {"catalog", "embedded", "mesos", "storage", "worker"},
	"cmd/baas-executor": {"executor", "tasklet"},
}

// free may import everything.
var free = []string{"cmd/baas", "tests", "examples"}

// heavy are modules that only the named folders may link, directly or not.
var heavy = map[string][]string{
	"go.temporal.io/server": {"embedded", "platform", "cmd/baas", "tests"},
	"go.temporal.io/sdk":    {"workflows", "activities", "worker", "starter", "embedded", "platform", "cmd/baas", "tests", "examples"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps", module+"...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var list []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); err == io.EOF {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func below(pkg, folder string) bool { return pkg == folder || strings.HasPrefix(pkg, folder+"/") }

// rule finds the longest folder of mayImport that holds pkg.
func rule(pkg string) (folder string, ok bool) {
	for f := range mayImport {
		if below(pkg, f) && len(f) > len(folder) {
			folder, ok = f, true
		}
	}
	return folder, ok
}

func TestImports(t *testing.T) {
	list := packages(t)
	if len(list) < len(mayImport) {
		t.Fatalf("go list found %d packages only", len(list))
	}
	for _, p := range list {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		if slices.ContainsFunc(free, func(f string) bool { return below(pkg, f) }) && pkg != "cmd/baas-executor" {
			continue
		}
		folder, ok := rule(pkg)
		if !ok {
			t.Errorf("%s: there is no rule for this folder", pkg)
			continue
		}
		for _, imported := range p.Imports {
			other, ours := strings.CutPrefix(imported, module)
			if !ours || below(other, folder) {
				continue
			}
			if !slices.ContainsFunc(mayImport[folder], func(f string) bool { return below(other, f) }) {
				t.Errorf("%s must not import %s", pkg, other)
			}
		}
	}
}

func TestHeavyModules(t *testing.T) {
	for _, p := range packages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		for mod, allowed := range heavy {
			if slices.ContainsFunc(allowed, func(f string) bool { return below(pkg, f) }) && pkg != "cmd/baas-executor" {
				continue
			}
			if i := slices.IndexFunc(p.Deps, func(d string) bool { return below(d, mod) }); i >= 0 {
				t.Errorf("%s links %s", pkg, p.Deps[i])
			}
		}
	}
}
