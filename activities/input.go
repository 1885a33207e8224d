package activities

import (
	"encoding/json"

	"github.com/baas-batch/baas/api"
)

// launchInput is what an activity is to launch. Its own Partitions stand for those of
// the LaunchInput, which has none: as long as the activity lasts, values are kept
// in slices, since a map of a few is several times their size.
type launchInput struct {
	api.LaunchInput
	Partitions []partitionInput
}

// partitionInput is one partition of a plain step.
type partitionInput struct {
	Index  int
	Inputs []inputValue
}

type inputValue struct {
	name  string
	value json.RawMessage
}

func newInput(in api.LaunchInput) *launchInput {
	kept := &launchInput{LaunchInput: in, Partitions: make([]partitionInput, len(in.Partitions))}
	kept.LaunchInput.Partitions = nil
	for i, p := range in.Partitions {
		kept.Partitions[i].Index = p.Index
		kept.Partitions[i].Inputs = inputValues(p.Inputs)
	}
	return kept
}

func inputValues(m map[string]json.RawMessage) []inputValue {
	values := make([]inputValue, 0, len(m))
	for name, value := range m {
		values = append(values, inputValue{name, value})
	}
	return values
}

// get gives nil for an input that is not there.
func (p *partitionInput) get(name string) json.RawMessage {
	for _, v := range p.Inputs {
		if v.name == name {
			return v.value
		}
	}
	return nil
}
