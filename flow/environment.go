package flow

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"
)

// IsolationTask gives each task of a step an executor, and so a container, of its own.
const IsolationTask = "task"

// Fetch is a file that the Mesos agent fetches before the step's executor starts,
// and keeps for others that want the same.
type Fetch struct {
	URI  string `json:"uri"`            // http or https
	Name string `json:"name,omitempty"` // in BAAS_FETCHED
	// NoCache has the agent fetch it anew for each executor.
	NoCache    bool `json:"no_cache,omitempty"`
	Executable bool `json:"executable,omitempty"`
}

// MaxFetch is how many files a step may have fetched.
const MaxFetch = 20

var userPattern = regexp.MustCompile(`^(?:[a-z_][a-z0-9_-]{0,31}|[1-9][0-9]{0,9}(?::[1-9][0-9]{0,9})?)$`)

// user reads whom the tasks run as: a name or "uid[:gid]", never root.
func (d *document) user(n *yaml.Node) *string {
	s, ok := d.text(n, "user")
	if ok && (s == "root" || !userPattern.MatchString(s)) {
		d.node(n, fmt.Sprintf("user: %q cannot be the user of a task", clip(s)), "write a name, or 'uid:gid'; never root")
		return nil
	}
	return given(s, ok)
}

// fetch reads `fetch:`, a list of URIs and of maps with a URI.
func (d *document) fetch(n *yaml.Node) []Fetch {
	list := []Fetch{}
	d.elements(n, "fetch", true, func(e *yaml.Node) {
		f, ok := d.oneFetch(e)
		if !ok {
			return
		}
		if slices.ContainsFunc(list, func(o Fetch) bool { return o.Name == f.Name }) {
			d.node(e, fmt.Sprintf("fetch: two files are called %q", f.Name), "give one of them another name")
			return
		}
		list = append(list, f)
	})
	if len(list) > MaxFetch {
		d.node(n, fmt.Sprintf("fetch: %d files, at most %d are allowed", len(list), MaxFetch), "")
	}
	return list
}

func (d *document) oneFetch(n *yaml.Node) (f Fetch, ok bool) {
	n = follow(n)
	where := n
	if n.Kind == yaml.MappingNode {
		cache := true
		d.fields(n, "fetch", []field{
			{"uri", func(n *yaml.Node) { f.URI, ok = d.text(n, "uri"); where = n }},
			{"name", func(n *yaml.Node) { f.Name, _ = d.text(n, "name") }},
			{"cache", func(n *yaml.Node) { cache, _ = d.boolean(n, "cache") }},
			{"executable", func(n *yaml.Node) { f.Executable, _ = d.boolean(n, "executable") }},
		})
		f.NoCache = !cache
		if !d.has(n, "uri") {
			d.node(n, "fetch: there is no uri", "write uri: https://…")
		}
	} else {
		f.URI, ok = d.text(n, "fetch")
	}
	if !ok {
		return f, false
	}
	u, err := url.Parse(f.URI)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || len(f.URI) > 2048 {
		d.node(where, fmt.Sprintf("fetch: %q is no address of a file", clip(f.URI)), "write http://… or https://…, without a password")
		return f, false
	}
	if f.Name == "" {
		f.Name = path.Base(u.Path)
	}
	if !fetchName.MatchString(f.Name) {
		d.node(where, fmt.Sprintf("fetch: %q cannot be the name of the file", clip(f.Name)), "give it a name: of letters, digits, '.', '_' and '-'")
		return f, false
	}
	return f, true
}

var fetchName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,200}$`)
