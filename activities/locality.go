package activities

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"

	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

const (
	// minNear is the size in bytes from which a file counts for the choice of an
	// agent: smaller ones are fetched faster than a better place is found.
	minNear = 8 << 20
	maxNear = 8 // files of a task that count, the largest
)

// reads are the large files that a task reads. Of a Range they are those that all
// partitions read: the others are known when it has its place.
func (e *entry) reads(p *pack) []mesos.Content {
	var all []mesos.Content
	if e.ranged != nil {
		for _, value := range e.in.Range.Template.Inputs {
			all = large(all, value)
		}
	} else if part := e.partition(p.first); part != nil {
		for _, in := range part.Inputs {
			all = large(all, in.value)
		}
	}
	return largest(all)
}

// written are the large files that partitions have stored.
func written(results []tasklet.Result) []mesos.Content {
	var all []mesos.Content
	for _, r := range results {
		for _, value := range r.Outputs {
			all = large(all, value)
		}
	}
	return largest(all)
}

// large adds the large files that a value refers to.
func large(all []mesos.Content, value json.RawMessage) []mesos.Content {
	if !bytes.Contains(value, []byte(`"$type"`)) {
		return all // most values, told without decoding them
	}
	refs, _, _ := fileRefs(value)
	for _, ref := range refs {
		if ref.Stored() >= minNear && ref.SHA256 != "" {
			all = append(all, mesos.Content{ID: ref.SHA256, Size: ref.Stored()})
		}
	}
	return all
}

// largest keeps each content once, and of all the largest.
func largest(all []mesos.Content) []mesos.Content {
	slices.SortFunc(all, func(a, b mesos.Content) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.ID, b.ID))
	})
	all = slices.Compact(all)
	return slices.Clip(all[:min(len(all), maxNear)])
}
