package flow

import (
	"encoding/json"

	"github.com/google/cel-go/cel"
)

// UnmarshalJSON reads a plan and makes its expressions ready to evaluate.
func (f *Flow) UnmarshalJSON(data []byte) error {
	type plain Flow
	var p plain
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	*f = Flow(p)
	f.link()
	return nil
}

// link gives every expression the flow whose declarations it needs. Copies of the
// flow share them.
func (f *Flow) link() {
	f.programs = &programs{bySource: map[string]cel.Program{}}
	for _, list := range [][]Step{f.Steps, f.OnExit} {
		for i := range list {
			list[i].link(f)
		}
	}
}

func (s *Step) link(f *Flow) {
	if s.When != nil {
		s.When.flow = f
	}
	if s.ForEach != nil {
		for _, v := range []*Value{s.ForEach.List, s.ForEach.From, s.ForEach.To} {
			if v != nil {
				v.link(f)
			}
		}
		for _, source := range s.ForEach.sources() {
			if v := *source.value; v != nil {
				v.link(f)
			}
		}
	}
	linkBindings(f, s.With, s.Env)
}

func linkBindings(f *Flow, lists ...[]Binding) {
	for _, bindings := range lists {
		for i := range bindings {
			bindings[i].Value.link(f)
		}
	}
}

func (v *Value) link(f *Flow) {
	if v.Expr != nil {
		v.Expr.flow = f
	}
	for i := range v.Text {
		if v.Text[i].Expr != nil {
			v.Text[i].Expr.flow = f
		}
	}
	for i := range v.List {
		v.List[i].link(f)
	}
	for i := range v.Map {
		v.Map[i].Value.link(f)
	}
}
