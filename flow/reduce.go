package flow

import (
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/baas-batch/baas/tasklet"
)

// ReduceResults is the input of a step with `reduce` that has a line of JSON for each
// partition of the other step.
const ReduceResults = "results"

// ReduceInputs names the files that a step gets which reduces one with these outputs:
// ReduceResults, and one for each output of type file.
func ReduceInputs(outputs []tasklet.Output) []string {
	names := []string{ReduceResults}
	for _, o := range outputs {
		if o.Type == tasklet.TypeFile {
			names = append(names, o.Name)
		}
	}
	return names
}

// reduce reads the step whose results this one gets.
func (p *parser) reduce(d *draft) {
	n := follow(d.reduce)
	if d.forEach != nil {
		p.node(n, "reduce: the step has a for_each", "leave one of them out, or reduce in a step of its own")
		return
	}
	id, ok := p.text(n, "reduce")
	if !ok || !p.need(d, n, "reduce", id) {
		return
	}
	other, ok := p.flow.Step(id)
	switch {
	case !ok:
		return
	case other.ForEach == nil:
		p.node(n, fmt.Sprintf("reduce: step %q has no for_each", id),
			fmt.Sprintf("read its outputs: ${{ steps.%s.outputs.… }}", id))
		return
	}
	d.step.Reduce = id
	d.gathered = ReduceInputs(other.Outputs)
	p.reduceApart(d, n, id)
}

// reduceApart sees to it that no two inputs have the same name, or variable.
func (p *parser) reduceApart(d *draft, n *yaml.Node, id string) {
	variables := map[string]string{}
	for _, name := range d.gathered {
		variable := tasklet.InputVariable(name)
		other, twice := variables[variable]
		switch {
		case twice && other == ReduceResults:
			p.node(n, fmt.Sprintf("reduce: output %q of step %q and the results of its partitions share the variable %s", name, id, variable),
				"rename the output")
		case twice:
			p.node(n, fmt.Sprintf("reduce: outputs %q and %q of step %q share the variable %s", other, name, id, variable),
				"rename one of them")
		}
		variables[variable] = name
	}
	for _, e := range d.with {
		if name, twice := variables[tasklet.InputVariable(e.name)]; twice {
			p.node(e.key, fmt.Sprintf("input %q: reduce gives the step an input %q", e.name, name), "rename it")
		}
	}
}

// reduceTasklet checks that the step's tasklet takes what reduce gives it, and names
// that.
func (p *parser) reduceTasklet(d *draft) []string {
	for _, name := range d.gathered {
		in, ok := d.tasklet.Input(name)
		switch {
		case !ok:
			p.node(follow(d.reduce), fmt.Sprintf("reduce: %s has no input %q, which reduce gives it", d.tasklet.Ref(), name),
				fmt.Sprintf("declare it in the tasklet: %s: file", name))
		case !in.Type.accepts(File):
			p.node(follow(d.reduce), fmt.Sprintf("reduce: input %q of %s is %s, and reduce gives it a file",
				name, d.tasklet.Ref(), article(in.Type)), "")
		}
	}
	return d.gathered
}
