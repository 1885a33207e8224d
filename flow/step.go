package flow

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/baas-batch/baas/tasklet"
)

// draft is a step whose expressions have not been looked at.
type draft struct {
	step     *Step
	key      *yaml.Node
	site     site
	needs    []*yaml.Node
	when     *yaml.Node
	forEach  *yaml.Node
	reduce   *yaml.Node
	with     []entry
	env      []entry
	tasklet  *Tasklet // nil for `run:`
	taskNode *yaml.Node
	own      settings
	gathered []string        // inputs that reduce gives
	implied  map[string]bool // steps that the expressions read
	explicit map[string]bool
}

// entry is a value that has a name.
type entry struct {
	name       string
	key, value *yaml.Node
}

// step reads one step.
func (p *parser) step(id string, key, value *yaml.Node) *draft {
	what := fmt.Sprintf("step %q", id)
	d := &draft{step: &Step{ID: id}, key: key, implied: map[string]bool{}, explicit: map[string]bool{}}
	if isNull(value) {
		p.node(key, what+" has nothing to do", "give it run: or tasklet:")
		d.step.unsure = true
		return d
	}
	var run, outputs, parallel, minSuccess, failFast, env, secrets *yaml.Node
	ok := p.fields(value, what, append(append([]field{
		{"description", func(n *yaml.Node) { d.step.Description, _ = p.text(n, "description") }},
		{"needs", func(n *yaml.Node) { p.elements(n, "needs", true, func(e *yaml.Node) { d.needs = append(d.needs, e) }) }},
		{"when", func(n *yaml.Node) { d.when = n }},
		{"for_each", func(n *yaml.Node) { d.forEach = n }},
		{"reduce", func(n *yaml.Node) { d.reduce = n }},
		{"parallel", func(n *yaml.Node) { parallel = n }},
		{"min_success", func(n *yaml.Node) { minSuccess = n }},
		{"fail_fast", func(n *yaml.Node) { failFast = n }},
		{"run", func(n *yaml.Node) { run = n }},
		{"tasklet", func(n *yaml.Node) { d.taskNode = n }},
		{"with", func(n *yaml.Node) { d.with = p.withEntries(n) }},
		{"outputs", func(n *yaml.Node) { outputs = n }},
		{"env", func(n *yaml.Node) { env = n }},
		{"secrets", func(n *yaml.Node) { secrets = n }},
	}, p.settingsFields(&d.own)...), laterStep...))
	if !ok {
		d.step.unsure = true
		return d
	}
	p.commandOf(d, what, run, outputs, p.isLater(value))
	if parallel != nil {
		p.parallel(d, parallel)
	}
	if minSuccess != nil {
		p.minSuccess(d, minSuccess)
	}
	if failFast != nil {
		p.failFast(d, failFast)
	}
	d.env = p.env
	if env != nil {
		d.env = mergeEntries(p.env, p.envEntries(env))
	}
	d.step.Secrets = p.secrets
	if secrets != nil {
		d.step.Secrets = p.stepSecrets(secrets, p.secrets)
	}
	p.secretsApart(d, cmp.Or(secrets, key))
	return d
}

// isLater tells whether the step is of a kind that this version does not know.
func (p *parser) isLater(n *yaml.Node) bool {
	for _, pair := range p.pairs(follow(n)) {
		switch pair.key.Value {
		case "app", "approval", "wait":
			return true
		}
	}
	return false
}

func (p *parser) parallel(d *draft, n *yaml.Node) {
	v, ok := p.whole(n, "parallel", 1, MaxPartitions)
	if ok {
		p.needsForEach(d, n, "parallel")
	}
	d.step.Parallel = int(v)
}

// commandOf fills in what the step runs: its own command or that of its tasklet.
func (p *parser) commandOf(d *draft, what string, run, outputs *yaml.Node, isLater bool) {
	switch {
	case run != nil && d.taskNode != nil:
		p.node(d.taskNode, what+" has both run and tasklet", "leave one of them out")
	case isLater:
		d.step.unsure = true
	case run == nil && d.taskNode == nil:
		p.node(d.key, what+" has nothing to do", "give it run: or tasklet:")
	}
	if run != nil {
		d.step.Shell, d.step.Args = p.command(run, p.opts.Files)
		d.step.Bundle = true
	}
	if outputs != nil {
		d.step.Outputs = p.outputs(outputs)
		if d.taskNode != nil {
			p.node(outputs, what+": the outputs are those of its tasklet", "leave outputs out")
		}
	}
	base := p.defaults
	if d.taskNode != nil {
		if t := p.findTasklet(d.taskNode); t != nil {
			d.tasklet = t
			base = base.over(t.settings)
			d.step.Tasklet = t.Ref()
			d.step.Shell, d.step.Args = t.Shell, t.Args
			p.room(len(t.Shell) + len(strings.Join(t.Args, " ")) + 64*len(t.Outputs))
			d.step.Outputs, d.step.Checkpoint, d.step.Bundle = t.Outputs, t.Checkpoint, t.Path != ""
		} else {
			d.step.unsure = true
		}
	}
	all := base.over(d.own)
	all.apply(d.step, p.flow.Priority)
	p.checkLimits(d.step, all.limits)
	if d.step.Preemptible && d.step.AtMostOnce {
		p.node(all.preemptibleNode, fmt.Sprintf("preemptible: step %q is at_most_once, and what is preempted must run again", d.step.ID),
			"leave one of them out")
	}
	if len(d.step.Volumes) > 0 && d.step.Image == "" {
		p.node(all.volsNode, fmt.Sprintf("volumes: step %q has no image, and sees its agent's files without any", d.step.ID),
			"give it an image, or leave the volumes out")
	}
}

var taskletRef = regexp.MustCompile(`^([a-z][a-z0-9_-]*)@(\d+(?:\.\d+\.\d+)?)$`)

func (p *parser) findTasklet(n *yaml.Node) *Tasklet {
	ref, ok := p.text(n, "tasklet")
	if !ok {
		return nil
	}
	if strings.HasPrefix(ref, ".") || strings.HasSuffix(ref, ".yaml") || strings.HasSuffix(ref, ".yml") {
		return p.taskletFile(n, ref)
	}
	m := taskletRef.FindStringSubmatch(ref)
	if m == nil {
		p.node(n, fmt.Sprintf("tasklet: %q names neither a file nor a tasklet with its version", clip(ref)),
			p.taskletHint(ref))
		return nil
	}
	if p.opts.Catalog == nil {
		p.node(n, fmt.Sprintf("there is no catalogue to find %q in", ref), "")
		return nil
	}
	t, err := p.opts.Catalog.Find(m[1], m[2])
	var unknown *UnknownTaskletError
	switch {
	case errors.As(err, &unknown) && len(unknown.Versions) > 0:
		p.node(n, fmt.Sprintf("tasklet %s has no version %s", m[1], m[2]), "it has "+join(unknown.Versions))
		return nil
	case errors.As(err, &unknown):
		p.node(n, fmt.Sprintf("unknown tasklet %q", m[1]), didYouMean(m[1], p.opts.Catalog.Names()))
		return nil
	case err != nil:
		p.node(n, fmt.Sprintf("tasklet %s: %s", ref, err), "")
		return nil
	}
	return t
}

func (p *parser) taskletHint(ref string) string {
	name, _, _ := strings.Cut(ref, "@")
	if p.opts.Catalog != nil {
		names := p.opts.Catalog.Names()
		if !contained(names, name) {
			name = Suggest(name, names)
		}
		if name != "" {
			return fmt.Sprintf("write %s@1", name)
		}
	}
	return "write name@1 or ./file.yaml"
}

// taskletFile reads a tasklet of the app. Its problems carry its own file name.
func (p *parser) taskletFile(n *yaml.Node, ref string) *Tasklet {
	if p.opts.Files == nil {
		p.node(n, fmt.Sprintf("the app's directory is not known, so %q cannot be read", clip(ref)), "")
		return nil
	}
	if _, ok := p.stat(n, ref, p.opts.Files); !ok {
		return nil
	}
	name, _ := appPath(ref)
	if t, known := p.tasklets[name]; known {
		return t
	}
	p.tasklets[name] = nil
	src, err := fs.ReadFile(p.opts.Files, name)
	if err != nil {
		p.node(n, fmt.Sprintf("%q cannot be read: %s", clip(ref), err), "")
		return nil
	}
	t, err := ParseTasklet(name, src, p.opts.Files)
	var problems Problems
	if errors.As(err, &problems) {
		for _, problem := range problems {
			if !p.seen[problem] && !p.full() {
				p.seen[problem] = true
				p.problems = append(p.problems, problem)
			}
		}
		return nil
	}
	t.Path = name
	p.tasklets[name] = t
	return t
}

func (p *parser) withEntries(n *yaml.Node) []entry {
	var out []entry
	variables := map[string]string{}
	p.entries(n, "with", "input", func(name string, key, value *yaml.Node) {
		variable := tasklet.InputVariable(name)
		if other, twice := variables[variable]; twice {
			p.node(key, fmt.Sprintf("inputs %q and %q share the variable %s", other, name, variable), "rename one of them")
			return
		}
		variables[variable] = name
		if isNull(value) {
			p.node(key, fmt.Sprintf("input %q has no value", name), "give it one or leave it out")
			return
		}
		out = append(out, entry{name, key, value})
	})
	return out
}

func (d *document) envEntries(n *yaml.Node) []entry {
	var out []entry
	d.entries(n, "env", "variable", func(name string, key, value *yaml.Node) {
		switch {
		case strings.HasPrefix(name, "BAAS_") || strings.HasPrefix(name, "MESOS_"):
			d.node(key, fmt.Sprintf("env: %s is the platform's to set", name), "use another name")
		case isNull(value):
			d.node(key, fmt.Sprintf("variable %q has no value", name), "write '' for empty text")
		case value.Kind != yaml.ScalarNode:
			d.node(value, fmt.Sprintf("variable %q: expected text, found %s", name, describe(value)), "")
		default:
			out = append(out, entry{name, key, value})
		}
	})
	if len(out) > MaxVariables {
		d.node(n, fmt.Sprintf("env: %d variables, at most %d are allowed", len(out), MaxVariables), "")
		return nil
	}
	return out
}

func mergeEntries(weak, strong []entry) []entry {
	out := append([]entry{}, weak...)
	at := make(map[string]int, len(out))
	for i, e := range out {
		at[e.name] = i
	}
	for _, e := range strong {
		if i, ok := at[e.name]; ok {
			out[i] = e
			continue
		}
		at[e.name] = len(out)
		out = append(out, e)
	}
	return out
}
