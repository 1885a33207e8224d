package flow

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// needs puts together what the step says that it needs and what it reads.
func (p *parser) needs(d *draft) {
	for _, n := range d.needs {
		if p.full() {
			return
		}
		if id, ok := p.text(n, "needs"); ok {
			p.need(d, n, "needs", id)
		}
	}
	list := p.flow.Steps
	if d.site.onExit {
		list = p.flow.OnExit
	}
	for _, s := range list {
		if d.explicit[s.ID] || d.implied[s.ID] {
			d.step.Needs = append(d.step.Needs, s.ID)
		}
	}
}

// need notes a step that another one waits for, and tells whether it may.
func (p *parser) need(d *draft, n *yaml.Node, field, id string) bool {
	switch {
	case !p.checker.isStep[id]:
		p.misspelt(n, fmt.Sprintf("%s: unknown step %q", field, clip(id)), id, p.checker.stepNames(d.site.onExit))
	case d.site.onExit && !p.checker.onExit[id]:
		p.node(n, fmt.Sprintf("%s: on_exit runs after %q anyway", field, id), "leave it out")
	case !d.site.onExit && p.checker.onExit[id]:
		p.node(n, fmt.Sprintf("%s: step %q of on_exit runs after this one", field, id), "")
	default:
		d.explicit[id] = true
		return true
	}
	return false
}

// cycles reports every group of steps that wait for one another, once, at its
// first step.
func (p *parser) cycles() {
	byID := map[string]*draft{}
	for _, d := range p.drafts {
		byID[d.step.ID] = d
	}
	const open, closed = 1, 2
	state := map[string]int{}
	var path []string
	var visit func(id string)
	visit = func(id string) {
		state[id] = open
		path = append(path, id)
		for _, need := range byID[id].step.Needs {
			switch state[need] {
			case open:
				p.cycle(byID, path, need)
			case closed:
			default:
				visit(need)
			}
		}
		path = path[:len(path)-1]
		state[id] = closed
	}
	for _, d := range p.drafts {
		if state[d.step.ID] == 0 {
			visit(d.step.ID)
		}
	}
}

func (p *parser) cycle(byID map[string]*draft, path []string, back string) {
	first := 0
	for path[first] != back {
		first++
	}
	circle := append(append([]string{}, path[first:]...), back)
	if len(circle) == 2 {
		p.node(byID[back].key, fmt.Sprintf("step %q needs itself", back), "")
		return
	}
	p.node(byID[back].key, "steps need one another in a circle: "+strings.Join(circle, " needs "), "")
}

// Order gives the IDs of steps so that each comes after what it needs; among those
// that are free, in file order.
func Order(steps []Step) []string {
	var out []string
	done := map[string]bool{}
	for len(out) < len(steps) {
		before := len(out)
		for _, s := range steps {
			if !done[s.ID] && allDone(s.Needs, done) {
				done[s.ID] = true
				out = append(out, s.ID)
			}
		}
		if len(out) == before {
			break // a circle, which Parse refuses
		}
	}
	return out
}

func allDone(needs []string, done map[string]bool) bool {
	for _, n := range needs {
		if !done[n] {
			return false
		}
	}
	return true
}

// Roots gives the steps that need no other, in file order.
func Roots(steps []Step) []string {
	var out []string
	for _, s := range steps {
		if len(s.Needs) == 0 {
			out = append(out, s.ID)
		}
	}
	return out
}

// Dependants gives, by step, those that need it directly, in file order.
func Dependants(steps []Step) map[string][]string {
	out := map[string][]string{}
	for _, s := range steps {
		for _, n := range s.Needs {
			out[n] = append(out[n], s.ID)
		}
	}
	return out
}

// Mermaid draws the flow as a Mermaid flowchart.
func (f *Flow) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart TD\n")
	numbers := map[string]string{}
	for i, s := range f.Steps {
		numbers[s.ID] = fmt.Sprintf("s%d", i)
		b.WriteString("  " + node(numbers[s.ID], &s) + "\n")
	}
	for _, s := range f.Steps {
		for _, n := range s.Needs {
			fmt.Fprintf(&b, "  %s --> %s\n", numbers[n], numbers[s.ID])
		}
	}
	if len(f.OnExit) == 0 {
		return b.String()
	}
	b.WriteString("  subgraph exit[\"on exit\"]\n")
	for i, s := range f.OnExit {
		numbers[s.ID] = fmt.Sprintf("x%d", i)
		b.WriteString("    " + node(numbers[s.ID], &s) + "\n")
	}
	for _, s := range f.OnExit {
		for _, n := range s.Needs {
			fmt.Fprintf(&b, "    %s --> %s\n", numbers[n], numbers[s.ID])
		}
	}
	b.WriteString("  end\n")
	depended := Dependants(f.Steps)
	for _, s := range f.Steps {
		if len(depended[s.ID]) == 0 {
			fmt.Fprintf(&b, "  %s -.-> exit\n", numbers[s.ID])
		}
	}
	return b.String()
}

// node draws one step: stacked for partitions, a rhombus-like hexagon with `when`.
func node(number string, s *Step) string {
	label := s.ID
	if s.Tasklet != "" {
		label += "<br/>" + s.Tasklet
	}
	if s.When != nil {
		label += "<br/>when " + s.When.Source
	}
	left, right := "[\"", "\"]"
	switch {
	case s.ForEach != nil:
		label += "<br/>for each"
		left, right = "[[\"", "\"]]"
	case s.When != nil:
		left, right = "{{\"", "\"}}"
	}
	return number + left + mermaidText(label) + right
}

var mermaidEscapes = strings.NewReplacer("\"", "#quot;", "#", "#35;", "&", "#amp;", "\n", " ", "\r", " ", "`", "#96;", "<br/>", "<br/>", "<", "#lt;", ">", "#gt;")

func mermaidText(s string) string { return mermaidEscapes.Replace(s) }
