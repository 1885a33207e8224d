package flow

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types/ref"
)

// Template gives the inputs and the environment of each partition of one step. It
// holds all that its expressions need, and goes as JSON to whoever launches them.
type Template struct {
	// Inputs and Env are common to all partitions.
	Inputs map[string]json.RawMessage `json:"inputs,omitempty"`
	Env    map[string]string          `json:"env,omitempty"`

	// With and EachEnv read the item or its index, and Reads.
	With    []Binding `json:"with,omitempty"`
	EachEnv []Binding `json:"each_env,omitempty"`
	Item    Type      `json:"item,omitempty"` // of each item
	Reads   Reads     `json:"reads,omitzero"`

	scope Scope
}

// Reads are the names that the expressions of a Template read, with their values,
// those left out that are not set.
type Reads struct {
	Params  []ParamType           `json:"params,omitempty"`
	Outputs []OutputType          `json:"outputs,omitempty"`
	Values  map[string]any        `json:"values,omitempty"` // of the parameters
	Steps   map[string]StepResult `json:"steps,omitempty"`
	Run     *RunInfo              `json:"run,omitempty"`
}

// ParamType declares a parameter.
type ParamType struct {
	Name string `json:"name"`
	Type Type   `json:"type"`
}

// OutputType declares an output of a step; without an Output, the step alone.
type OutputType struct {
	Step   string `json:"step"`
	Output string `json:"output,omitempty"`
	Type   Type   `json:"type,omitempty"`
	// Many tells that the step has a for_each: Type is that of one element.
	Many bool `json:"many,omitempty"`
}

// Bounds of what a step with many partitions passes inline, in bytes of JSON.
const (
	MaxTemplate        = 256 << 10 // a Template
	MaxPartitionInputs = 256 << 10 // what Template.Eval gives for one partition
)

// Template works out what does not depend on the item, and keeps the rest for Eval.
// One over MaxTemplate is an error that says which values are too large.
func (f *Flow) Template(s *Step, scope Scope) (Template, error) {
	if s.ForEach == nil {
		return Template{}, fmt.Errorf("flow: step %s has no for_each", s.ID)
	}
	names := newNames()
	fixedWith, with, err := names.divide(s.With)
	if err != nil {
		return Template{}, err
	}
	fixedEnv, env, err := names.divide(s.Env)
	if err != nil {
		return Template{}, err
	}
	t := Template{With: with, EachEnv: env, Item: s.ForEach.Item, Reads: f.readsOf(names, scope)}
	if t.Inputs, t.Env, _, err = evaluate(fixedWith, fixedEnv, scope, math.MaxInt); err != nil {
		return Template{}, err
	}
	raw, err := json.Marshal(t)
	if err != nil {
		return Template{}, fmt.Errorf("flow: template of step %s: %w", s.ID, err)
	}
	if len(raw) > MaxTemplate {
		return Template{}, t.tooLarge(len(raw))
	}
	var own Template // its expressions are apart from those of the flow
	return own, json.Unmarshal(raw, &own)
}

// UnmarshalJSON reads a template and makes its expressions ready to evaluate.
func (t *Template) UnmarshalJSON(data []byte) error {
	type plain Template
	var p plain
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	*t = Template(p)
	t.link()
	return nil
}

// link makes a flow of what the expressions read.
func (t *Template) link() {
	f := &Flow{programs: &programs{bySource: map[string]cel.Program{}}, fixed: map[outputName]ref.Val{}}
	for _, p := range t.Reads.Params {
		f.Params = append(f.Params, Param{Name: p.Name, Type: p.Type})
		if v := t.Reads.Values[p.Name]; v != nil {
			f.fixed[outputName{name: p.Name}] = p.Type.toCEL(v)
		}
	}
	for _, o := range t.Reads.Outputs {
		step := f.declare(o)
		if v := t.Reads.Steps[o.Step].Outputs[o.Output]; v != nil {
			f.fixed[outputName{o.Step, o.Output}] = step.outputToCEL(o.Output, v)
		}
	}
	linkBindings(f, t.With, t.EachEnv)
	t.scope = Scope{Params: t.Reads.Values, Steps: t.Reads.Steps}
	if t.Reads.Run != nil {
		t.scope.Run = *t.Reads.Run
	}
}

// Eval gives what one partition has beyond the template's Inputs and Env. Safe for
// use by many goroutines.
func (t *Template) Eval(item json.RawMessage, index int) (inputs map[string]json.RawMessage, env map[string]string, err error) {
	if len(t.With) == 0 && len(t.EachEnv) == 0 {
		return nil, nil, nil
	}
	scope := t.scope
	scope.Index = index
	if scope.Item, err = t.Item.decode(item); err != nil {
		return nil, nil, fmt.Errorf("for_each: element %d: %w", index, err)
	}
	inputs, env, _, err = evaluate(t.With, t.EachEnv, scope, MaxPartitionInputs)
	return inputs, env, err
}

// decode reads a JSON value of the type. Small whole numbers, which most items are,
// need no decoder.
func (t Type) decode(raw json.RawMessage) (any, error) {
	if n, ok := smallNumber(raw); ok && t == Int {
		return n, nil
	}
	v, err := decodeJSON(raw)
	if err != nil {
		return nil, err
	}
	return t.convert(v)
}

func smallNumber(raw []byte) (n int64, ok bool) {
	if len(raw) == 0 || len(raw) > 9 || raw[0] == '0' && len(raw) > 1 {
		return 0, false
	}
	for _, c := range raw {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

// Inputs evaluates the inputs and the environment of one partition, which have at
// most limit bytes together.
func (s *Step) Inputs(scope Scope, limit int) (inputs map[string]json.RawMessage, env map[string]string, bytes int, err error) {
	return evaluate(s.With, s.Env, scope, limit)
}

func evaluate(with, env []Binding, scope Scope, limit int) (map[string]json.RawMessage, map[string]string, int, error) {
	inputs, bytes, err := evaluateInputs(with, scope)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("with.%w", err)
	}
	variables, more, err := evaluateEnv(env, scope)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("env.%w", err)
	}
	if bytes += more; bytes > limit {
		return nil, nil, 0, fmt.Errorf("the inputs are %d bytes together, over the limit of %d for values that "+
			"pass inline: pass large values as files", bytes, limit)
	}
	return inputs, variables, bytes, nil
}

func evaluateInputs(with []Binding, scope Scope) (inputs map[string]json.RawMessage, bytes int, err error) {
	if len(with) > 0 {
		inputs = make(map[string]json.RawMessage, len(with))
	}
	for _, b := range with {
		value, err := b.Eval(scope)
		if err != nil {
			return nil, 0, err
		}
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", b.Name, err)
		}
		inputs[b.Name] = raw
		bytes += len(b.Name) + len(raw)
	}
	return inputs, bytes, nil
}

func evaluateEnv(env []Binding, scope Scope) (variables map[string]string, bytes int, err error) {
	if len(env) > 0 {
		variables = make(map[string]string, len(env))
	}
	for _, b := range env {
		value, err := b.Eval(scope)
		if err != nil {
			return nil, 0, err
		}
		text, ok := value.(string)
		if !ok {
			return nil, 0, fmt.Errorf("%s: expected text, found %T", b.Name, value)
		}
		variables[b.Name] = text
		bytes += len(b.Name) + len(text)
	}
	return variables, bytes, nil
}

// tooLarge names the largest values of a template that is over its bound.
func (t *Template) tooLarge(size int) error {
	type part struct {
		name string
		size int
	}
	var parts []part
	add := func(name string, v any) { parts = append(parts, part{name, len(marshal(v))}) }
	for _, name := range sortedKeys(t.Inputs) {
		add("with."+name, t.Inputs[name])
	}
	for _, name := range sortedKeys(t.Env) {
		add("env."+name, t.Env[name])
	}
	for _, name := range sortedKeys(t.Reads.Values) {
		add("params."+name, t.Reads.Values[name])
	}
	for _, id := range sortedKeys(t.Reads.Steps) {
		outputs := t.Reads.Steps[id].Outputs
		for _, name := range sortedKeys(outputs) {
			add("steps."+id+".outputs."+name, outputs[name])
		}
	}
	slices.SortStableFunc(parts, func(a, b part) int { return cmp.Compare(b.size, a.size) })
	const shown = 3
	var largest []string
	for _, p := range parts[:min(shown, len(parts))] {
		largest = append(largest, fmt.Sprintf("%s has %s", p.name, thousands(p.size)))
	}
	message := fmt.Sprintf("what the inputs of all partitions have in common is %s bytes, over the limit of %s",
		thousands(size), thousands(MaxTemplate))
	if len(largest) > 0 {
		message += " (" + strings.Join(largest, ", ") + ")"
	}
	return errors.New(message + ": pass large values as files")
}
