package executor

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/baas-batch/baas/tasklet"
)

// decodeLaunch reads and checks launch data. Its errors are sentences for a person.
func decodeLaunch(data []byte, taskID string) (*tasklet.Launch, error) {
	l := new(tasklet.Launch)
	if err := json.Unmarshal(data, l); err != nil {
		return nil, fmt.Errorf("launch data cannot be read: %w", err)
	}
	if l.Version != tasklet.WireVersion {
		return nil, fmt.Errorf("launch data has version %d, this executor speaks %d", l.Version, tasklet.WireVersion)
	}
	if l.TaskID != taskID {
		return nil, fmt.Errorf("launch data is for task %q", l.TaskID)
	}
	if (l.Shell == "") == (len(l.Args) == 0) {
		return nil, fmt.Errorf("launch data must have one of shell and args")
	}
	if len(l.Partitions) == 0 {
		return nil, fmt.Errorf("launch data has no partitions")
	}
	if l.Result.URL == "" {
		return nil, fmt.Errorf("launch data has no place for the result")
	}
	for _, o := range l.Outputs {
		if !safeName(o.Name) {
			return nil, fmt.Errorf("output name %q is not allowed", o.Name)
		}
	}
	seen := make(map[int]bool, len(l.Partitions))
	for _, p := range l.Partitions {
		if p.Index < 0 || seen[p.Index] {
			return nil, fmt.Errorf("partition %d is negative or occurs twice", p.Index)
		}
		seen[p.Index] = true
		if err := checkInputs(p); err != nil {
			return nil, fmt.Errorf("partition %d: %w", p.Index, err)
		}
	}
	return l, nil
}

func checkInputs(p tasklet.Partition) error {
	for name, in := range p.Inputs {
		if !safeName(name) {
			return fmt.Errorf("input name %q is not allowed", name)
		}
		if !in.List && len(in.Files) > 1 {
			return fmt.Errorf("input %q has %d files but is no list", name, len(in.Files))
		}
		for _, f := range in.Files {
			if f.Size < 0 || f.Offset < 0 {
				return fmt.Errorf("input %q has a negative size or offset", name)
			}
		}
	}
	return nil
}

// safeName tells whether a name from outside may be one component of a path:
// no separator, nothing hidden, no control characters, at most 255 bytes.
func safeName(s string) bool {
	if s == "" || s[0] == '.' || len(s) > 255 {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r == '/' || r == '\\' || r < ' ' || r == 0x7f || r == '\uFFFD'
	})
}
