// Package catalog holds the reusable tasklets that ship with BAAS, one file per
// version. It gives them to the flow language; it runs nothing itself.
package catalog

import (
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/baas-batch/baas/flow"
)

//go:embed tasklets/*.yaml
var files embed.FS

// Catalog is the catalogue that is built in. Its zero value is ready.
type Catalog struct{}

var _ flow.Catalog = Catalog{}

// Find implements flow.Catalog: "1" gives the newest 1.x.y, "1.2.0" that version.
func (Catalog) Find(name, version string) (*flow.Tasklet, error) {
	all, err := builtIn()
	if err != nil {
		return nil, err
	}
	return find(all[name], name, version)
}

// Names implements flow.Catalog.
func (Catalog) Names() []string {
	all, err := builtIn()
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Versions gives all versions of a tasklet, oldest first.
func (Catalog) Versions(name string) []*flow.Tasklet {
	all, err := builtIn()
	if err != nil {
		return nil
	}
	return slices.Clone(all[name])
}

// Check tells whether all files of the catalogue are good; a test calls it.
func Check() error {
	_, err := builtIn()
	return err
}

var builtIn = sync.OnceValues(func() (map[string][]*flow.Tasklet, error) {
	return load(files, "tasklets")
})

// load reads all tasklets of a directory. A file is called name@version.yaml.
func load(dir fs.FS, root string) (map[string][]*flow.Tasklet, error) {
	entries, err := fs.ReadDir(dir, root)
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	all := map[string][]*flow.Tasklet{}
	for _, e := range entries {
		src, err := fs.ReadFile(dir, root+"/"+e.Name())
		if err != nil {
			return nil, fmt.Errorf("catalog: %w", err)
		}
		t, err := flow.ParseTasklet(e.Name(), src, nil)
		if err != nil {
			return nil, fmt.Errorf("catalog: %w", err)
		}
		if want := t.Ref() + ".yaml"; e.Name() != want {
			return nil, fmt.Errorf("catalog: %s holds %s", e.Name(), t.Ref())
		}
		all[t.Name] = append(all[t.Name], t)
	}
	for _, versions := range all {
		slices.SortFunc(versions, func(a, b *flow.Tasklet) int { return compare(a.Version, b.Version) })
	}
	return all, nil
}

func find(versions []*flow.Tasklet, name, version string) (*flow.Tasklet, error) {
	for _, t := range slices.Backward(versions) {
		if t.Version == version || strings.HasPrefix(t.Version, version+".") {
			return t, nil
		}
	}
	unknown := &flow.UnknownTaskletError{Name: name, Version: version}
	for _, t := range versions {
		unknown.Versions = append(unknown.Versions, t.Version)
	}
	return nil, unknown
}

// compare orders versions by their numbers.
func compare(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		x, _ := strconv.Atoi(as[i])
		y, _ := strconv.Atoi(bs[i])
		if c := cmp.Compare(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(as), len(bs))
}
