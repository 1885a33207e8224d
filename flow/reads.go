package flow

import (
	"fmt"

	"github.com/google/cel-go/common/ast"

	"github.com/baas-batch/baas/tasklet"
)

// names are those that expressions read.
type names struct {
	each   bool // item or index, in the last that was looked at
	params map[string]bool
	steps  map[string]map[string]bool // by ID: their outputs
	run    bool
}

func newNames() *names {
	return &names{params: map[string]bool{}, steps: map[string]map[string]bool{}}
}

// divide parts bindings by whether they depend on the item, and notes what those
// that do read beside it.
func (n *names) divide(bindings []Binding) (fixed, each []Binding, err error) {
	for _, b := range bindings {
		own := newNames()
		if err := own.value(b.Value); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", b.Name, err)
		}
		if !own.each {
			fixed = append(fixed, b)
			continue
		}
		each = append(each, b)
		n.add(own)
	}
	return fixed, each, nil
}

func (n *names) add(other *names) {
	for _, name := range sortedKeys(other.params) {
		n.params[name] = true
	}
	for _, id := range sortedKeys(other.steps) {
		outputs := n.step(id)
		for _, name := range sortedKeys(other.steps[id]) {
			outputs[name] = true
		}
	}
	n.run = n.run || other.run
}

func (n *names) step(id string) map[string]bool {
	if n.steps[id] == nil {
		n.steps[id] = map[string]bool{}
	}
	return n.steps[id]
}

func (n *names) value(v Value) error {
	if v.Expr != nil {
		return n.expr(v.Expr)
	}
	for _, segment := range v.Text {
		if segment.Expr == nil {
			continue
		}
		if err := n.expr(segment.Expr); err != nil {
			return err
		}
	}
	for _, e := range v.List {
		if err := n.value(e); err != nil {
			return err
		}
	}
	for _, e := range v.Map {
		if err := n.value(e.Value); err != nil {
			return err
		}
	}
	return nil
}

func (n *names) expr(e *Expr) error {
	env, err := language()
	if err != nil {
		return e.wrap(err)
	}
	parsed, issues := env.Parse(e.Source)
	if issues.Err() != nil {
		return e.wrap(issues.Err())
	}
	walk(n, parsed.NativeRep().Expr(), nil)
	return nil
}

func (n *names) ident(_ ast.Expr, name string) {
	n.each = n.each || name == "item" || name == "index"
}

func (n *names) reference(_ ast.Expr, root string, path []ast.Expr) {
	first := path[0].AsSelect().FieldName()
	switch root {
	case "params":
		n.params[first] = true
	case "run":
		n.run = true
	case "steps":
		outputs := n.step(first)
		if len(path) > 2 && path[1].AsSelect().FieldName() == "outputs" {
			outputs[path[2].AsSelect().FieldName()] = true
		}
	}
}

func (n *names) namespace(ast.Expr) {}
func (n *names) structure(ast.Expr) {}

// readsOf takes what the names stand for out of a scope.
func (f *Flow) readsOf(n *names, scope Scope) Reads {
	var r Reads
	for _, name := range sortedKeys(n.params) {
		p, ok := f.Param(name)
		if !ok {
			continue
		}
		r.Params = append(r.Params, ParamType{Name: name, Type: p.Type})
		if v := scope.Params[name]; v != nil {
			if r.Values == nil {
				r.Values = map[string]any{}
			}
			r.Values[name] = v
		}
	}
	for _, id := range sortedKeys(n.steps) {
		if step, ok := f.Step(id); ok {
			r.addStep(step, sortedKeys(n.steps[id]), scope)
		}
	}
	if n.run {
		r.Run = &scope.Run
	}
	return r
}

func (r *Reads) addStep(step *Step, outputs []string, scope Scope) {
	declared := OutputType{Step: step.ID, Many: step.ForEach != nil}
	result, ended := scope.Steps[step.ID]
	own := result
	own.Outputs = nil
	for _, name := range outputs {
		for _, o := range step.Outputs {
			if o.Name == name {
				declared.Output, declared.Type = name, Type(o.Type)
				r.Outputs = append(r.Outputs, declared)
			}
		}
		if v := result.Outputs[name]; v != nil {
			if own.Outputs == nil {
				own.Outputs = map[string]any{}
			}
			own.Outputs[name] = v
		}
	}
	if declared.Output == "" {
		r.Outputs = append(r.Outputs, declared)
	}
	if !ended {
		return
	}
	if r.Steps == nil {
		r.Steps = map[string]StepResult{}
	}
	r.Steps[step.ID] = own
}

// declare adds what a Template says of an output, or of a step, to its flow.
func (f *Flow) declare(o OutputType) *Step {
	step, ok := f.Step(o.Step)
	if !ok {
		f.Steps = append(f.Steps, Step{ID: o.Step})
		step = &f.Steps[len(f.Steps)-1]
	}
	if o.Many {
		step.ForEach = &ForEach{}
	}
	if o.Output != "" {
		step.Outputs = append(step.Outputs, tasklet.Output{Name: o.Output, Type: tasklet.OutputType(o.Type)})
	}
	return step
}
