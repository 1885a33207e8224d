package executor

import (
	"encoding/json"
	"fmt"
	"math"
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
	for _, check := range []func(*tasklet.Launch) error{checkPlaces, checkLimits, checkOutputs, checkSecrets, checkPartitions} {
		if err := check(l); err != nil {
			return nil, err
		}
	}
	if l.Bundle != nil {
		if err := checkRange(*l.Bundle); err != nil {
			return nil, fmt.Errorf("bundle: %w", err)
		}
	}
	return l, nil
}

func checkPlaces(l *tasklet.Launch) error {
	s := l.Segments
	if s == nil {
		if l.Result.URL == "" {
			return fmt.Errorf("launch data has no place for the result")
		}
		return nil
	}
	if min(s.Size, int64(s.Every)) < 0 {
		return fmt.Errorf("launch data has segments of %d bytes every %s", s.Size, s.Every)
	}
	for i, target := range s.Targets {
		if target.Key == "" || target.URL == "" {
			return fmt.Errorf("launch data has no place for segment %d", i)
		}
	}
	return nil
}

func checkLimits(l *tasklet.Launch) error {
	limits := l.Limits
	if min(limits.Memory, limits.Disk, limits.Log, int64(limits.Timeout), int64(limits.Grace)) < 0 {
		return fmt.Errorf("launch data has a negative limit")
	}
	if l.Attempt < 0 {
		return fmt.Errorf("launch data is for attempt %d", l.Attempt)
	}
	return nil
}

func checkOutputs(l *tasklet.Launch) error {
	seen := make(map[string]bool, len(l.Outputs))
	for _, o := range l.Outputs {
		if o.Compress != "" && (o.Compress != tasklet.EncodingZstd || o.Type != tasklet.TypeFile) {
			return fmt.Errorf("output %q of type %s cannot be stored as %q", o.Name, o.Type, o.Compress)
		}
		if !safeName(o.Name) {
			return fmt.Errorf("output name %q is not allowed", o.Name)
		}
		if seen[o.Name] {
			return fmt.Errorf("output %q is declared twice", o.Name)
		}
		seen[o.Name] = true
	}
	return nil
}

// Bounds of launch data, far above what a leader sends.
const (
	maxPartitions = 100_000
	maxIndex      = math.MaxInt32
	maxListFiles  = 100_000 // as many as stageNames can number
)

func checkPartitions(l *tasklet.Launch) error {
	if n := len(l.Partitions); n == 0 || n > maxPartitions {
		return fmt.Errorf("launch data has %d partitions, expected 1 to %d", n, maxPartitions)
	}
	if err := checkInputs(l.Inputs); err != nil {
		return err
	}
	seen := make(map[int]bool, len(l.Partitions))
	for _, p := range l.Partitions {
		if p.Index < 0 || p.Index > maxIndex || seen[p.Index] {
			return fmt.Errorf("partition %d is out of range or occurs twice", p.Index)
		}
		seen[p.Index] = true
		err := checkInputs(p.Inputs)
		if err == nil && p.Restore != nil {
			err = checkRange(*p.Restore)
		}
		if err != nil {
			return fmt.Errorf("partition %d: %w", p.Index, err)
		}
	}
	return nil
}

func checkInputs(inputs map[string]tasklet.Input) error {
	for name, in := range inputs {
		if !safeName(name) {
			return fmt.Errorf("input name %q is not allowed", name)
		}
		if !in.List && len(in.Files) > 1 || len(in.Files) > maxListFiles {
			return fmt.Errorf("input %q has %d files", name, len(in.Files))
		}
		for _, f := range in.Files {
			if err := checkRange(f); err != nil {
				return fmt.Errorf("input %q: %w", name, err)
			}
		}
	}
	return nil
}

func checkRange(s tasklet.Source) error {
	if s.Size < 0 || s.Offset < 0 || s.Offset > math.MaxInt64-s.Size {
		return fmt.Errorf("no object has %d bytes at offset %d", s.Size, s.Offset)
	}
	if p := s.Packed; s.IsPacked() && (p.Encoding != tasklet.EncodingZstd || p.Size <= 0 || p.SHA256 == "" || s.Offset != 0 || s.IsDirectory()) {
		return fmt.Errorf("a file is packed as %q, in %d bytes at offset %d", p.Encoding, p.Size, s.Offset)
	}
	switch s.Form {
	case "", tasklet.FormArchive:
	case tasklet.FormTree:
		if s.Bytes < 0 || s.Bytes > s.Offset {
			return fmt.Errorf("no object has %d bytes before offset %d", s.Bytes, s.Offset)
		}
	default:
		return fmt.Errorf("a directory in the unknown form %q", s.Form)
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
