package flow

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"

	"go.yaml.in/yaml/v3"

	"github.com/baas-batch/baas/tasklet"
)

// Tasklet is a tasklet file: what a step of that tasklet takes, gives and runs.
type Tasklet struct {
	Name        string
	Version     string // major.minor.patch
	Description string
	Inputs      []Input // in file order
	Outputs     []tasklet.Output
	Shell       string // exactly one of Shell and Args is set
	Args        []string
	Checkpoint  bool     // goes on from a checkpoint
	Files       []string // files of the app that it needs
	Path        string   // in the app's directory; empty for one of the catalogue

	settings settings
}

// Input is one input of a tasklet.
type Input struct {
	Name        string
	Type        Type
	Description string
	Required    bool
	Default     json.RawMessage
	Pattern     string // RE2, matched against the whole text
	Choices     []json.RawMessage
}

// UnknownTaskletError tells that a catalogue has no such tasklet or version.
type UnknownTaskletError struct {
	Name, Version string
	Versions      []string // that there are, oldest first; empty when the name is unknown
}

func (e *UnknownTaskletError) Error() string {
	return fmt.Sprintf("there is no tasklet %s@%s", e.Name, e.Version)
}

// Ref is the tasklet's name and version, or the path of a file of the app.
func (t *Tasklet) Ref() string {
	if t.Path != "" {
		return "./" + t.Path
	}
	return t.Name + "@" + t.Version
}

// Input finds an input by its name.
func (t *Tasklet) Input(name string) (*Input, bool) {
	for i := range t.Inputs {
		if t.Inputs[i].Name == name {
			return &t.Inputs[i], true
		}
	}
	return nil, false
}

var versionPattern = regexp.MustCompile(`^(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})$`)

// ParseTasklet reads and checks a tasklet file. The error is Problems. With files
// nil it is one for a catalogue, which carries its whole command in itself;
// otherwise files is the app's directory.
func ParseTasklet(filename string, src []byte, files fs.FS) (*Tasklet, error) {
	d, root := load(filename, src)
	t := &Tasklet{}
	if root != nil {
		d.tasklet(root, t, files)
	}
	if len(d.problems) > 0 {
		d.problems.sort()
		return nil, d.problems
	}
	return t, nil
}

func (d *document) tasklet(root *yaml.Node, t *Tasklet, files fs.FS) {
	var run *yaml.Node
	given := map[string]bool{}
	note := func(name string, read func(*yaml.Node)) field {
		return field{name, func(n *yaml.Node) { given[name] = true; read(n) }}
	}
	ok := d.fields(root, "tasklet", append(append([]field{
		note("name", func(n *yaml.Node) { t.Name = d.name(n, "name") }),
		note("version", func(n *yaml.Node) { t.Version = d.version(n) }),
		{"description", func(n *yaml.Node) { t.Description, _ = d.text(n, "description") }},
		{"inputs", func(n *yaml.Node) { t.Inputs = d.inputs(n) }},
		{"outputs", func(n *yaml.Node) { t.Outputs = d.outputs(n) }},
		note("run", func(n *yaml.Node) { run = n }),
		{"checkpoint", func(n *yaml.Node) { t.Checkpoint, _ = d.boolean(n, "checkpoint") }},
		{"files", func(n *yaml.Node) { t.Files = d.taskletFiles(n, files) }},
	}, d.settingsFields(&t.settings)...), later("examples", "listeners", "needs")...))
	if !ok {
		return
	}
	for _, name := range []string{"name", "version", "run"} {
		if !given[name] {
			d.node(root, fmt.Sprintf("the tasklet has no %s", name), "")
		}
	}
	if run == nil {
		return
	}
	t.Shell, t.Args = d.command(run, files)
	if files == nil && relativeCommand.MatchString(t.Shell+" "+joinWords(t.Args)) {
		d.node(run, "run: a tasklet of the catalogue has no files of an app", "write the commands here")
	}
}

var relativeCommand = regexp.MustCompile(`^\s*\.\.?/`)

func joinWords(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

func (d *document) version(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || !versionPattern.MatchString(n.Value) {
		d.expected(n, "version", "major.minor.patch such as 1.0.0")
		return ""
	}
	return n.Value
}

func (d *document) taskletFiles(n *yaml.Node, files fs.FS) []string {
	var out []string
	if files == nil {
		d.node(n, "files: a tasklet of the catalogue has no files of an app", "write the commands in run")
		return nil
	}
	d.elements(n, "files", false, func(e *yaml.Node) {
		if name, ok := d.text(e, "files"); ok {
			if _, ok := d.stat(e, name, files); ok {
				out = append(out, name)
			}
		}
	})
	return out
}

func (d *document) inputs(n *yaml.Node) []Input {
	var out []Input
	variables := map[string]string{}
	d.entries(n, "inputs", "input", func(name string, key, value *yaml.Node) {
		variable := tasklet.InputVariable(name)
		if other, twice := variables[variable]; twice {
			d.node(key, fmt.Sprintf("inputs %q and %q share the variable %s", other, name, variable), "rename one of them")
			return
		}
		variables[variable] = name
		out = append(out, d.input(name, key, value))
	})
	return out
}

func (d *document) input(name string, key, value *yaml.Node) Input {
	what := fmt.Sprintf("input %q", name)
	in := Input{Name: name, Type: Any, Required: true}
	var c declaration
	if !d.declaration(what, key, value, &c) {
		return in
	}
	in.Type, in.Description = c.typ, c.description
	in.Pattern = d.pattern(what, c.pattern, c.typ)
	in.Choices = d.choices(what, c.choices, c.typ)
	if c.def != nil {
		in.Required = false
		in.Default = d.inputDefault(what, c, in)
	}
	if c.required != nil {
		in.Required = *c.required
		if in.Required && c.def != nil {
			d.node(c.def, what+" is required and has a default", "leave one of them out")
		}
	}
	return in
}

func (d *document) inputDefault(what string, c declaration, in Input) json.RawMessage {
	if c.typ == File || c.typ == Files || c.typ == Directory {
		d.node(c.def, what+": a file or directory has no default", "")
		return nil
	}
	v, ok := d.literal(c.def)
	if !ok {
		return nil
	}
	v, err := c.typ.convert(v)
	if err == nil {
		err = in.check(v)
	}
	if err != nil {
		d.node(c.def, fmt.Sprintf("%s: default: %s", what, err), quoteHint(c.typ, c.def))
		return nil
	}
	return marshal(v)
}
