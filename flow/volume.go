package flow

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Volume is a directory or file of the agent that stands in the step's container.
type Volume struct {
	Host  string `json:"host"` // absolute
	Path  string `json:"path"` // in the container; absolute
	Write bool   `json:"write,omitempty"`
}

// MaxVolumes is how many a step may have.
const MaxVolumes = 20

// volumes reads `volumes:`, a list of texts "HOST:PATH[:ro|rw]", as Docker writes it,
// but read-only where nothing is said.
func (d *document) volumes(n *yaml.Node) []Volume {
	list := []Volume{}
	d.elements(n, "volumes", true, func(e *yaml.Node) {
		v, ok := d.oneVolume(e)
		if !ok {
			return
		}
		if slices.ContainsFunc(list, func(o Volume) bool { return o.Path == v.Path }) {
			d.node(e, fmt.Sprintf("volumes: two stand at %q", v.Path), "give one of them another path")
			return
		}
		list = append(list, v)
	})
	if len(list) > MaxVolumes {
		d.node(n, fmt.Sprintf("volumes: %d, at most %d are allowed", len(list), MaxVolumes), "")
	}
	return list
}

const volumeForm = "write HOST:PATH or HOST:PATH:rw, such as /data/reference:/reference"

func (d *document) oneVolume(n *yaml.Node) (v Volume, ok bool) {
	text, ok := d.text(n, "volumes")
	if !ok {
		return v, false
	}
	words := strings.Split(text, ":")
	switch {
	case len(words) == 3 && words[2] == "rw":
		v.Write = true
	case len(words) != 2 && (len(words) != 3 || words[2] != "ro"):
		d.node(n, fmt.Sprintf("volumes: %q is no volume", clip(text)), volumeForm)
		return v, false
	}
	v.Host, v.Path = words[0], words[1]
	for _, p := range []string{v.Host, v.Path} {
		if problem := pathProblem(p); problem != "" {
			d.node(n, fmt.Sprintf("volumes: %q %s", clip(p), problem), volumeForm)
			return v, false
		}
	}
	return v, true
}

// pathProblem tells what is wrong with a path, on the agent or in the container.
func pathProblem(p string) string {
	top, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	switch {
	case !path.IsAbs(p):
		return "is not absolute"
	case path.Clean(p) != p:
		return "is not a plain path: no '..', no '//', no '/' at its end"
	case p == "/" || slices.Contains([]string{"proc", "sys", "dev"}, top):
		return "cannot be a volume"
	case len(p) > 1024:
		return "is too long"
	}
	return ""
}
