package fault

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tests/harness"
	"github.com/baas-batch/baas/worker"
)

// Role is the role of a World's workers; see Roles.
const Role = "fault-worker"

// Options of the role.
const (
	optionLinks   = "links"   // JSON: for each master's host:port, that of the link to it
	optionControl = "control" // directory of the store's faults
)

// Roles are for harness.Main of a package that makes Worlds.
func Roles() map[string]harness.Role {
	return map[string]harness.Role{Role: harness.WorkerRole(Hooks)}
}

// Hooks put a World's faults into a worker: its way to the masters leads over the
// links, and its store fails as it is told. Roles of other hooks add to these.
func Hooks(cfg harness.WorkerConfig) (harness.Hooks, error) {
	var links map[string]string
	if err := json.Unmarshal([]byte(cfg.Options[optionLinks]), &links); err != nil {
		return harness.Hooks{}, fmt.Errorf("option %s: %w", optionLinks, err)
	}
	return harness.Hooks{
		Store: func(s storage.Store) storage.Store {
			return &faultyStore{Store: s, control: StoreControl{cfg.Options[optionControl]}}
		},
		Worker: func(c *worker.Config) {
			c.Mesos.Transport = func(next http.RoundTripper) http.RoundTripper { return detour{next, links} }
			c.RangeSize, c.FirstPack = rangeSize, firstPack
		},
	}, nil
}

// detour sends requests over links, also those to a master that another one names.
type detour struct {
	next  http.RoundTripper
	links map[string]string
}

func (d detour) RoundTrip(r *http.Request) (*http.Response, error) {
	link, ok := d.links[r.URL.Host]
	if !ok {
		return nil, fmt.Errorf("there is no link to %s", r.URL.Host)
	}
	r = r.Clone(r.Context())
	r.Host, r.URL.Host = r.URL.Host, link
	return d.next.RoundTrip(r)
}
