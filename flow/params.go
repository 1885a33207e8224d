package flow

import (
	"encoding/json"
	"fmt"
	"regexp"

	"go.yaml.in/yaml/v3"
)

func (p *parser) params(n *yaml.Node) {
	if n == nil {
		return
	}
	p.entries(n, "params", "parameter", func(name string, key, value *yaml.Node) {
		p.flow.Params = append(p.flow.Params, p.param(name, key, value))
	})
	if len(p.flow.Params) > MaxParams {
		p.node(n, fmt.Sprintf("the flow has %d parameters, at most %d are allowed", len(p.flow.Params), MaxParams), "")
	}
}

// declaration is what parameters and inputs of tasklets have in common.
type declaration struct {
	typ         Type
	required    *bool
	def         *yaml.Node
	pattern     *yaml.Node
	choices     *yaml.Node
	description string
}

func (d *document) declarationFields(what string, c *declaration) []field {
	return []field{
		{"type", func(n *yaml.Node) {
			if word, ok := d.oneOf(n, what, paramTypes); ok {
				c.typ = Type(word)
			} else {
				c.typ = Any // spares later messages
			}
		}},
		{"default", func(n *yaml.Node) { c.def = n }},
		{"pattern", func(n *yaml.Node) { c.pattern = n }},
		{"choices", func(n *yaml.Node) { c.choices = n }},
		{"required", func(n *yaml.Node) { c.required = given(d.boolean(n, "required")) }},
		{"description", func(n *yaml.Node) { c.description, _ = d.text(n, "description") }},
	}
}

// param reads `name: type` or `name: {type: …}`.
func (p *parser) param(name string, key, value *yaml.Node) Param {
	what := fmt.Sprintf("parameter %q", name)
	param := Param{Name: name, Type: Any, Identity: true}
	var c declaration
	if !p.declaration(what, key, value, &c, field{"identity", func(n *yaml.Node) {
		if identity, ok := p.boolean(n, "identity"); ok {
			param.Identity = identity
		}
	}}) {
		return param
	}
	param.Type, param.Description = c.typ, c.description
	param.Pattern = p.pattern(what, c.pattern, c.typ)
	param.Choices = p.choices(what, c.choices, c.typ)
	if c.def != nil {
		param.Default = p.defaultValue(what, c, param)
	}
	param.Required = c.def == nil
	if c.required != nil {
		if *c.required && c.def != nil {
			p.node(c.def, what+" is required and has a default", "leave one of them out")
		}
		param.Required = *c.required
	}
	return param
}

// declaration reads the fields of a parameter or input; false when there is no
// type to go on with.
func (d *document) declaration(what string, key, value *yaml.Node, c *declaration, more ...field) bool {
	hint := "use one of " + join(paramTypes)
	switch {
	case isNull(value):
		d.node(key, what+" has no type", hint)
		return false
	case value.Kind == yaml.ScalarNode:
		word, ok := d.oneOf(value, what, paramTypes)
		c.typ = Type(word)
		return ok
	}
	if !d.fields(value, what, append(d.declarationFields(what, c), more...)) {
		return false
	}
	if c.typ == "" {
		d.node(key, what+" has no type", hint)
		return false
	}
	return true
}

func (d *document) pattern(what string, n *yaml.Node, t Type) string {
	if n == nil {
		return ""
	}
	text, ok := d.text(n, "pattern")
	if !ok {
		return ""
	}
	if t != String && t != Any {
		d.node(n, fmt.Sprintf("%s: a pattern is for text, the type is %s", what, t), "")
		return ""
	}
	if len(text) > maxPattern {
		d.node(n, fmt.Sprintf("pattern: at most %d characters are allowed", maxPattern), "")
		return ""
	}
	if _, err := regexp.Compile(text); err != nil {
		d.node(n, fmt.Sprintf("pattern: %q is no regular expression (RE2): %s", clip(text), regexpReason(err)), "")
		return ""
	}
	return text
}

func (d *document) choices(what string, n *yaml.Node, t Type) []json.RawMessage {
	if n == nil {
		return nil
	}
	switch t {
	case File, Files, Directory, List, Map:
		d.node(n, fmt.Sprintf("%s: choices are for plain values, the type is %s", what, t), "")
		return nil
	}
	var out []json.RawMessage
	d.elements(n, "choices", false, func(e *yaml.Node) {
		v, ok := d.literal(e)
		if !ok {
			return
		}
		v, err := t.convert(v)
		if err != nil {
			d.node(e, "choices: "+err.Error(), "")
			return
		}
		out = append(out, marshal(v))
	})
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		d.node(n, "choices: the list is empty", "")
	}
	return out
}

// defaultValue reads a default. That of a file is the path of a file of the app.
func (p *parser) defaultValue(what string, c declaration, param Param) json.RawMessage {
	switch c.typ {
	case File:
		path, ok := p.text(c.def, "default")
		if !ok {
			return nil
		}
		if p.opts.Files != nil {
			p.stat(c.def, path, p.opts.Files)
		} else if _, ok := appPath(path); !ok {
			p.node(c.def, fmt.Sprintf("the path %q leaves the app's directory", clip(path)), "")
		}
		return marshal(path)
	case Files, Directory:
		p.node(c.def, fmt.Sprintf("%s: %s has no default", what, article(c.typ)), "")
		return nil
	}
	v, ok := p.literal(c.def)
	if !ok {
		return nil
	}
	v, err := param.check(v)
	if err != nil {
		p.node(c.def, fmt.Sprintf("%s: default: %s", what, err), quoteHint(c.typ, c.def))
		return nil
	}
	return marshal(v)
}

// quoteHint helps where YAML took a number or truth value that was meant as text,
// or where a duration has no unit.
func quoteHint(t Type, n *yaml.Node) string {
	switch {
	case n.Kind != yaml.ScalarNode:
	case t == String && n.ShortTag() != "!!str":
		return fmt.Sprintf("put it in quotes: '%s'", clip(n.Value))
	case t == DurationType && n.ShortTag() == "!!int":
		return fmt.Sprintf("with a unit: %ss", clip(n.Value))
	}
	return ""
}
