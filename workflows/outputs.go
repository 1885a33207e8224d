package workflows

import (
	"encoding/json"
	"fmt"

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
		list := make([]byte, 0, o.bytes+2)
		list = append(list, '[')
		for j, raw := range o.values[i] {
			if j > 0 {
				list = append(list, ',')
			}
			if raw == nil {
				raw = json.RawMessage("null")
			}
			list = append(list, raw...)
		}
		all[d.Name] = append(list, ']')
	}
	return all
}
