package flow

import (
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// activation gives an expression its variables, each only when it is read.
type activation struct {
	flow    *Flow
	scope   Scope
	item    Type
	meter   meter
	missing *NotSetError // the last name that was asked for and not there
	many    *manyValue   // the last that was read
}

// Parent implements interpreter.Activation.
func (a *activation) Parent() cel.Activation { return nil }

// ResolveName implements interpreter.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case meterName:
		return &a.meter, true
	case "params":
		return record{a.param}, true
	case "steps":
		return record{a.step}, true
	case "run":
		return record{a.run}, true
	case "item":
		if a.item == "" {
			return nil, false
		}
		return a.item.toCEL(a.scope.Item), true
	case "index":
		return types.Int(a.scope.Index), true
	}
	return nil, false
}

func (a *activation) param(name string) (ref.Val, bool) {
	if v, ok := a.flow.fixed[outputName{name: name}]; ok {
		return v, true
	}
	p, ok := a.flow.Param(name)
	v, given := a.scope.Params[name]
	if !ok || !given || v == nil {
		a.missing = &NotSetError{Param: name}
		return nil, false
	}
	return p.Type.toCEL(v), true
}

func (a *activation) step(id string) (ref.Val, bool) {
	step, ok := a.flow.Step(id)
	if !ok {
		return nil, false
	}
	result, ended := a.scope.Steps[id]
	return record{func(field string) (ref.Val, bool) {
		if !ended && field != "outputs" {
			return types.WrapErr(&NotSetError{Step: id}), true
		}
		switch field {
		case "status":
			return types.String(result.Status), true
		case "exit_status":
			return types.String(result.ExitStatus), true
		case "count":
			return types.Int(result.Count), true
		case "outputs":
			return record{func(name string) (ref.Val, bool) { return a.output(step, result, name) }}, true
		}
		return nil, false
	}}, true
}

func (a *activation) output(step *Step, result StepResult, name string) (ref.Val, bool) {
	if v, ok := a.flow.fixed[outputName{step.ID, name}]; ok {
		return a.note(v), true
	}
	v, ok := result.Outputs[name]
	if !ok || v == nil {
		a.missing = &NotSetError{Step: step.ID, Output: name, Status: result.Status}
		return nil, false
	}
	return a.note(step.outputToCEL(name, v)), true
}

// note remembers an output that is a Many.
func (a *activation) note(v ref.Val) ref.Val {
	if many, ok := v.(manyValue); ok {
		a.many = &many
	}
	return v
}

// outputName names an output of a step; without a step, a parameter.
type outputName struct{ step, name string }

func (s *Step) outputToCEL(name string, v any) ref.Val {
	if s.ForEach != nil {
		if many, ok := AsMany(v); ok {
			return manyValue{fmt.Sprintf("steps.%s.outputs.%s", s.ID, name), many}
		}
	}
	t, _ := s.OutputType(name)
	return t.toCEL(v)
}

// OutputType is the type of an output as expressions see it: with for_each, a list
// with one element per partition. False when the step declares no such output.
func (s *Step) OutputType(name string) (Type, bool) {
	for _, o := range s.Outputs {
		if o.Name == name {
			t := Type(o.Type)
			if s.ForEach != nil {
				t = listOf(t)
			}
			return t, true
		}
	}
	return Any, s.unsure
}

func (a *activation) run(field string) (ref.Val, bool) {
	r := a.scope.Run
	switch field {
	case "id":
		return types.String(r.ID), true
	case "app":
		return types.String(r.App), true
	case "owner":
		return types.String(r.Owner), true
	case "date":
		return types.String(r.Date), true
	case "status":
		return types.String(r.Status), true
	case "failed_step":
		return types.String(r.FailedStep), true
	case "reason":
		return types.String(r.Reason), true
	}
	return nil, false
}
