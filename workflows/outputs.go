package workflows

import (
	"encoding/json"
	"fmt"

	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

// outputs collects what the partitions of a step give, in partition order.
//
// An optional output that a tasklet did not write is absent from a plain step, so
// that has() answers false; in the list of a for_each step null holds its place,
// so that the list's index stays the item's.
type outputs struct {
	declared []tasklet.Output
	values   [][]json.RawMessage // by declaration, then partition
	bytes    int                 // as JSON
}

func newOutputs(declared []tasklet.Output, partitions int) outputs {
	o := outputs{declared: declared, values: make([][]json.RawMessage, len(declared))}
	for i := range o.values {
		o.values[i] = make([]json.RawMessage, partitions)
	}
	return o
}

// add notes the outputs of one partition. It fails when a required one is missing
// or the step's outputs together are over the limit.
func (o *outputs) add(partition int, given map[string]json.RawMessage) error {
	for i, d := range o.declared {
		raw := given[d.Name]
		if raw == nil {
			if !d.Optional {
				return fmt.Errorf("output %s is missing in the result", d.Name)
			}
			o.bytes += len("null,")
			continue
		}
		o.bytes += len(raw) + len(",")
		o.values[i][partition] = raw
	}
	if o.bytes > maxStepOutputs {
		return fmt.Errorf("the outputs of the step are over %d bytes together, the limit for values and "+
			"file references that pass inline: write large values to a file output, or use fewer partitions", maxStepOutputs)
	}
	return nil
}

// plain gives the outputs of a step without for_each.
func (o *outputs) plain() map[string]json.RawMessage {
	if len(o.declared) == 0 {
		return nil
	}
	all := make(map[string]json.RawMessage, len(o.declared))
	for i, d := range o.declared {
		if raw := o.values[i][0]; raw != nil {
			all[d.Name] = raw
		}
	}
	return all
}

// lists gives one list for each output.
func (o *outputs) lists() map[string]json.RawMessage {
	if len(o.declared) == 0 {
		return nil
	}
	all := make(map[string]json.RawMessage, len(o.declared))
	for i, d := range o.declared {
		all[d.Name] = list(o.bytes, o.values[i])
	}
	return all
}

// list writes values as one list; nil is null.
func list(bytes int, values ...[]json.RawMessage) json.RawMessage {
	text := make([]byte, 0, bytes+2)
	text = append(text, '[')
	for _, some := range values {
		for _, raw := range some {
			if len(text) > 1 {
				text = append(text, ',')
			}
			if raw == nil {
				raw = json.RawMessage("null")
			}
			text = append(text, raw...)
		}
	}
	return append(text, ']')
}

// publishRanges makes the outputs of a step that ran in ranges visible: as lists when
// all ranges have brought theirs and the run's state has room for them, else as what
// stands for a list in storage.
func (p *phase) publishRanges(s *step) {
	if len(s.def.Outputs) == 0 {
		return
	}
	all, bytes := s.ranges.lists(s.def.Outputs)
	if all == nil || p.outputBytes+bytes > p.outputRoom() {
		if all, bytes = s.ranges.many(s.def.Outputs, s.state.Partitions); p.outputBytes+bytes > p.outputRoom() {
			p.noRoom(s)
			return
		}
	}
	p.outputBytes += bytes
	s.state.Outputs = all
}

// lists gives one list for each output; nil when a range has not brought its own.
func (r *ranges) lists(declared []tasklet.Output) (all map[string]json.RawMessage, bytes int) {
	all = make(map[string]json.RawMessage, len(declared))
	for _, d := range declared {
		size, values := 0, make([][]json.RawMessage, len(r.parts))
		for i := range r.parts {
			values[i] = r.parts[i].outputs[d.Name]
			if len(values[i]) != r.parts[i].count {
				return nil, 0
			}
			for _, raw := range values[i] {
				size += max(len(raw), len("null")) + len(",")
			}
		}
		all[d.Name] = list(size, values...)
		bytes += len(all[d.Name])
	}
	return all, bytes
}

// many stands for the outputs in the manifests of all ranges.
func (r *ranges) many(declared []tasklet.Output, n int) (all map[string]json.RawMessage, bytes int) {
	manifests := make([]tasklet.LinesRef, len(r.parts))
	for i := range r.parts {
		manifests[i] = r.parts[i].manifest
	}
	all = make(map[string]json.RawMessage, len(declared))
	for _, d := range declared {
		raw, err := json.Marshal(flow.NewMany(d.Name, n, manifests))
		if err != nil {
			continue // cannot be: it is made of text and numbers
		}
		all[d.Name] = raw
		bytes += len(raw)
	}
	return all, bytes
}
