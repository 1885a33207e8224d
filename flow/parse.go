package flow

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/baas-batch/baas/tasklet"
)

// Parse reads and checks a flow file. The error is Problems: every mistake that
// was found, in file order. The filename is for messages only.
func Parse(filename string, src []byte, opts Options) (*Flow, error) {
	d, root := load(filename, src)
	p := &parser{document: d, opts: opts, flow: &Flow{Version: PlanVersion, Priority: DefaultPriority}, tasklets: map[string]*Tasklet{}}
	if root != nil {
		p.file(root)
	}
	if len(d.problems) > 0 {
		d.problems.sort()
		return nil, d.problems
	}
	p.flow.link()
	return p.flow, nil
}

// parser turns one file into a flow: first the structure, then, when all names
// and types are known, the expressions.
type parser struct {
	*document
	opts     Options
	flow     *Flow
	defaults settings
	env      []entry          // of defaults
	secrets  []tasklet.Secret // likewise
	drafts   []*draft
	checker  *checker
	tasklets map[string]*Tasklet // of the app's files, by path; nil for a broken one

	expressions, expressionText, repeated int // used up so far, of their limits
}

// later are fields that other versions know.
var (
	laterFlow = later("after", "calendar", "locks", "on_failure", "pools", "restartable", "schedule", "secrets", "start_limit")
	laterStep = later("allow_start_if_complete", "app", "approval", "locks",
		"loop", "on_failure", "pools", "ports", "repartition", "restartable",
		"start_limit", "wait")
)

func (p *parser) file(root *yaml.Node) {
	var params, defaults, steps, onExit *yaml.Node
	named := false
	ok := p.fields(root, "flow", append([]field{
		{"name", func(n *yaml.Node) { p.flow.Name, named = p.name(n, "name"), true }},
		{"owner", func(n *yaml.Node) { p.flow.Owner = p.name(n, "owner") }},
		{"description", func(n *yaml.Node) { p.flow.Description, _ = p.text(n, "description") }},
		{"params", func(n *yaml.Node) { params = n }},
		{"defaults", func(n *yaml.Node) { defaults = n }},
		{"expect", func(n *yaml.Node) { p.flow.Expect, _ = p.positiveDuration(n, "expect") }},
		{"notify", func(n *yaml.Node) { p.notify(n) }},
		{"retention", func(n *yaml.Node) { p.flow.Retention = p.retention(n) }},
		{"priority", func(n *yaml.Node) { p.flow.Priority = p.priority(n) }},
		{"steps", func(n *yaml.Node) { steps = n }},
		{"on_exit", func(n *yaml.Node) { onExit = n }},
	}, laterFlow...))
	if !ok {
		return
	}
	if !named {
		p.node(root, "the flow has no name", "write name: first")
	}
	p.params(params)
	if defaults != nil {
		p.fields(defaults, "defaults", append(p.settingsFields(&p.defaults),
			field{"env", func(n *yaml.Node) { p.env = p.envEntries(n) }},
			field{"secrets", func(n *yaml.Node) { p.secrets = p.stepSecrets(n, nil) }}))
	}
	if steps == nil && !p.has(root, "steps") {
		p.node(root, "the flow has no steps", "write steps: and at least one step")
	}
	p.steps(steps, onExit)
}

func (d *document) has(n *yaml.Node, name string) bool {
	for _, pair := range d.pairs(n) {
		if pair.key.Value == name {
			return true
		}
	}
	return false
}

func (p *parser) notify(n *yaml.Node) {
	notify := &Notify{}
	p.fields(n, "notify", append([]field{
		{"email", func(n *yaml.Node) {
			p.elements(n, "email", true, func(e *yaml.Node) {
				if address, ok := p.text(e, "email"); ok && emailPattern.MatchString(address) {
					notify.Email = append(notify.Email, address)
				} else if ok {
					p.node(e, fmt.Sprintf("email: %q is no address", clip(address)), "")
				}
			})
		}},
		{"on", func(n *yaml.Node) {
			p.elements(n, "on", true, func(e *yaml.Node) {
				if word, ok := p.oneOf(e, "on", []string{"failure", "long_running", "success"}); ok {
					notify.On = append(notify.On, word)
				}
			})
		}},
	}, later("command", "digest", "slack", "webhook")...))
	p.flow.Notify = notify
}

var emailPattern = regexp.MustCompile(`^[^\s@<>,;]+@[^\s@<>,;]+$`)

func (d *document) priority(n *yaml.Node) int {
	v, ok := d.whole(n, "priority", 1, 5)
	if !ok {
		return DefaultPriority
	}
	return int(v)
}

func (p *parser) steps(steps, onExit *yaml.Node) {
	for i, section := range []*yaml.Node{steps, onExit} {
		if section == nil {
			continue
		}
		what := []string{"steps", "on_exit"}[i]
		before := len(p.drafts)
		p.entries(section, what, "step", func(id string, key, value *yaml.Node) {
			d := p.step(id, key, value)
			d.site.onExit = i == 1
			p.drafts = append(p.drafts, d)
		})
		if len(p.drafts) == before && section.Kind == yaml.MappingNode && len(section.Content) == 0 {
			p.node(section, what+" has no steps in it", "")
		}
	}
	if len(p.drafts) > MaxSteps {
		p.at(1, 1, fmt.Sprintf("the flow has %d steps, at most %d are allowed", len(p.drafts), MaxSteps), "")
		return
	}
	p.keepSteps()
	p.resolve()
	p.cycles()
}

// keepSteps puts the steps into the flow, where they stay.
func (p *parser) keepSteps() {
	count := 0
	for _, d := range p.drafts {
		if !d.site.onExit {
			count++
		}
	}
	p.flow.Steps = make([]Step, 0, count)
	p.flow.OnExit = make([]Step, 0, len(p.drafts)-count)
	seen := map[string]*yaml.Node{}
	for _, d := range p.drafts {
		if other, twice := seen[d.step.ID]; twice {
			p.node(d.key, fmt.Sprintf("step %q is in steps and in on_exit", d.step.ID),
				fmt.Sprintf("the other stands in line %d", other.Line))
		}
		seen[d.step.ID] = d.key
		list := &p.flow.Steps
		if d.site.onExit {
			list = &p.flow.OnExit
		}
		*list = append(*list, *d.step)
		d.step = &(*list)[len(*list)-1]
	}
	if len(p.flow.OnExit) == 0 {
		p.flow.OnExit = nil
	}
}

// outputs reads declared outputs: a type each, or a map with type and optional.
func (d *document) outputs(n *yaml.Node) []tasklet.Output {
	var out []tasklet.Output
	d.entries(n, "outputs", "output", func(name string, key, value *yaml.Node) {
		o := tasklet.Output{Name: name}
		readType := func(n *yaml.Node) {
			if word, ok := d.oneOf(n, "output "+name, outputTypes); ok {
				o.Type = tasklet.OutputType(word)
			}
		}
		switch {
		case isNull(value):
			d.node(key, fmt.Sprintf("output %q has no type", name), "use one of "+join(outputTypes))
			return
		case value.Kind != yaml.MappingNode:
			readType(value)
		default:
			typed := false
			var compress *yaml.Node
			d.fields(value, "output "+name, []field{
				{"type", func(n *yaml.Node) { readType(n); typed = true }},
				{"optional", func(n *yaml.Node) { o.Optional, _ = d.boolean(n, "optional") }},
				{"compress", func(n *yaml.Node) { compress = n }},
				{"description", func(n *yaml.Node) { d.text(n, "description") }},
			})
			if !typed {
				d.node(key, fmt.Sprintf("output %q has no type", name), "use one of "+join(outputTypes))
			}
			o.Compress = d.compression(compress, name, o.Type)
		}
		if o.Type != "" {
			out = append(out, o)
		} else {
			out = append(out, tasklet.Output{Name: name, Type: tasklet.OutputType(Any)}) // spares later messages
		}
	})
	return out
}

// compression reads how a file is stored.
func (d *document) compression(n *yaml.Node, output string, t tasklet.OutputType) string {
	if n == nil {
		return ""
	}
	word, ok := d.oneOf(n, "compress", []string{tasklet.EncodingZstd})
	if ok && t != tasklet.TypeFile && t != "" {
		hint := ""
		if t == tasklet.TypeDirectory {
			hint = "a directory of up to 64 MiB is compressed anyway"
		}
		d.node(n, fmt.Sprintf("output %s: compress is for a file, the type is %s", output, t), hint)
	}
	return word
}

// command reads `run:`.
func (d *document) command(n *yaml.Node, files fs.FS) (shell string, args []string) {
	switch {
	case n.Kind == yaml.SequenceNode:
		for _, e := range n.Content {
			if word, ok := d.text(follow(e), "run"); ok {
				d.noExpressions(follow(e))
				args = append(args, word)
			}
		}
		if len(n.Content) == 0 {
			d.node(n, "run: the list is empty", "")
		}
		if len(args) > 0 {
			d.appFile(follow(n.Content[0]), args[0], files)
		}
	default:
		text, ok := d.text(n, "run")
		if !ok {
			return "", nil
		}
		d.noExpressions(n)
		shell = text
		if words := strings.Fields(text); len(words) > 0 {
			d.appFile(n, words[0], files)
		}
	}
	return shell, args
}

// noExpressions refuses ${{ }} in a command, where it would pass a value through a
// shell, and names the way that values come in.
func (d *document) noExpressions(n *yaml.Node) {
	pieces, broken := split(n.Value)
	if broken != nil {
		line, column := d.place(n, broken.offset)
		d.at(line, column, "run: ${{ }} cannot be part of a command", `values come in through "with" and the environment`)
		return
	}
	for _, piece := range pieces {
		if !piece.isExpr || d.full() {
			continue
		}
		name := inputName(piece.text)
		line, column := d.place(n, strings.LastIndex(n.Value[:piece.offset], openMark))
		d.at(line, column, fmt.Sprintf("run: ${{ %s }} cannot be part of a command", oneLine(piece.text)),
			fmt.Sprintf(`write "$%s" here and add with: {%s: '${{ %s }}'}`, tasklet.InputVariable(name), name, oneLine(piece.text)))
	}
}

var lastName = regexp.MustCompile(`^[A-Za-z_][\w.]*$`)

func inputName(expression string) string {
	if !lastName.MatchString(expression) {
		return "value"
	}
	name := expression[strings.LastIndexByte(expression, '.')+1:]
	if name == "" {
		return "value"
	}
	return name
}

// appFile checks that a command that is a file of the app is there.
func (d *document) appFile(n *yaml.Node, word string, files fs.FS) {
	if files == nil || !strings.HasPrefix(word, "./") && !strings.HasPrefix(word, "../") {
		return
	}
	if strings.ContainsAny(word, "\"'$`*?[\\;&|<>()") {
		return // the shell's to make sense of
	}
	info, ok := d.stat(n, word, files)
	switch {
	case !ok:
	case info.IsDir():
		d.node(n, fmt.Sprintf("run: %q is a directory", clip(word)), "")
	case info.Mode().Perm() != 0 && info.Mode().Perm()&0o111 == 0:
		d.node(n, fmt.Sprintf("run: %q is not executable", clip(word)), "chmod +x it, or call its interpreter")
	}
}

// stat finds a file of the app, and suggests another name if it is not there.
func (d *document) stat(n *yaml.Node, name string, files fs.FS) (fs.FileInfo, bool) {
	clean, ok := appPath(name)
	if !ok {
		d.node(n, fmt.Sprintf("the path %q leaves the app's directory", clip(name)), "")
		return nil, false
	}
	info, err := fs.Stat(files, clean)
	if err == nil {
		return info, true
	}
	var names []string
	if entries, err := fs.ReadDir(files, path.Dir(clean)); err == nil {
		for _, e := range entries {
			names = append(names, "./"+path.Join(path.Dir(clean), e.Name()))
		}
	}
	d.node(n, fmt.Sprintf("there is no file %q in the app's directory", clip(name)), didYouMean("./"+clean, names))
	return nil, false
}

// appPath cleans the path of a file of the app; false when it leads elsewhere.
func appPath(name string) (string, bool) {
	clean := path.Clean(name)
	return clean, fs.ValidPath(clean) && clean != "."
}
