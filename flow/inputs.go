package flow

import (
	"fmt"
	"strings"
)

// with binds a step's inputs: those that it lists, or those that its tasklet
// declares.
func (p *parser) with(d *draft, at site) {
	if d.tasklet == nil {
		for _, e := range d.with {
			v, t := p.value(d, e.value, fmt.Sprintf("input %q", e.name), Any, at)
			d.step.With = append(d.step.With, Binding{Name: e.name, Type: t, Value: v})
		}
		return
	}
	gathered := p.reduceTasklet(d)
	given := map[string]entry{}
	for _, e := range d.with {
		given[e.name] = e
		if _, ok := d.tasklet.Input(e.name); !ok {
			p.unknownInput(d.tasklet, e)
			p.value(d, e.value, fmt.Sprintf("input %q", e.name), Any, at)
		}
	}
	for _, in := range d.tasklet.Inputs {
		e, ok := given[in.Name]
		switch {
		case contained(gathered, in.Name):
		case ok:
			d.step.With = append(d.step.With, p.input(d, in, e, at))
		case in.Default != nil && !p.room(len(in.Default)):
		case in.Default != nil:
			d.step.With = append(d.step.With, Binding{Name: in.Name, Type: in.Type, Value: Value{Literal: in.Default}})
		case in.Required:
			p.node(d.taskNode, fmt.Sprintf("step %q: input %q (%s) of %s is missing", d.step.ID, in.Name, in.Type, d.tasklet.Ref()),
				fmt.Sprintf("add with: {%s: …}", in.Name))
		}
	}
}

func (p *parser) unknownInput(t *Tasklet, e entry) {
	names := make([]string, len(t.Inputs))
	for i, in := range t.Inputs {
		names[i] = in.Name
	}
	hint := didYouMean(e.name, names)
	if hint == "" && len(names) > 0 {
		hint = "it has " + join(names)
	}
	p.node(e.key, fmt.Sprintf("%s has no input %q", t.Ref(), e.name), hint)
}

func (p *parser) input(d *draft, in Input, e entry, at site) Binding {
	what := fmt.Sprintf("input %q", e.name)
	before := len(p.problems)
	v, _ := p.value(d, e.value, what, in.Type, at)
	if v.Literal != nil && len(p.problems) == before {
		decoded, err := decodeJSON(v.Literal)
		if err == nil {
			err = in.check(decoded)
		}
		if err != nil {
			p.node(e.value, fmt.Sprintf("%s: %s", what, err), "")
		}
	}
	return Binding{Name: in.Name, Type: in.Type, Pattern: in.Pattern, Value: v}
}

// envOf reads the environment, whose values are text as it is written.
func (p *parser) envOf(d *draft, at site) {
	for _, e := range d.env {
		if !p.room(len(e.name) + len(e.value.Value)) {
			return
		}
		what := fmt.Sprintf("variable %q", e.name)
		if !isText(e.value) || !strings.Contains(e.value.Value, openMark) {
			d.step.Env = append(d.step.Env, Binding{Name: e.name, Type: String, Value: Value{Literal: marshal(e.value.Value)}})
			continue
		}
		v, t := p.textValue(d, e.value, what, Any, at)
		if v.Expr != nil && isPlain(t) {
			v = Value{Text: []Segment{{Expr: v.Expr}}}
		} else if v.Expr != nil {
			p.node(e.value, fmt.Sprintf("%s: %s cannot be part of a text", what, article(t)), textHint(t))
		}
		d.step.Env = append(d.step.Env, Binding{Name: e.name, Type: String, Value: v})
	}
}

// check tells whether a value fits pattern and choices of the input.
func (in *Input) check(v any) error {
	if err := checkPattern(in.Pattern, v); err != nil {
		return err
	}
	if len(in.Choices) == 0 {
		return nil
	}
	_, err := (&Param{Type: in.Type, Choices: in.Choices}).check(v)
	return err
}
