package flow

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// resolve checks all expressions, now that all names and types are known, and
// works out what each step needs.
func (p *parser) resolve() {
	c, err := newChecker(p.flow)
	if err != nil {
		p.at(1, 1, "expressions cannot be checked: "+err.Error(), "")
		return
	}
	p.checker = c
	for _, d := range p.drafts { // types of outputs depend on who has a for_each
		if d.forEach != nil {
			d.step.ForEach = &ForEach{Item: Any}
		}
	}
	for _, d := range p.drafts {
		if d.forEach != nil {
			d.step.ForEach.Item = p.forEach(d)
		}
		if d.when != nil {
			d.step.When = p.when(d)
		}
		inner := d.site
		if d.forEach != nil {
			inner.item = d.step.ForEach.Item
		}
		if d.reduce != nil {
			p.reduce(d)
		}
		p.with(d, inner)
		p.envOf(d, inner)
		p.needs(d)
	}
}

// expression checks one expression of a scalar and reports its faults there.
func (p *parser) expression(d *draft, n *yaml.Node, pc piece, at site) *Expr {
	if !p.affordable(pc) {
		return nil
	}
	expr, reads, faults := p.checker.check(pc.text, at)
	for _, f := range faults {
		line, column := p.place(n, pc.offset+f.offset)
		p.at(line, column, f.message, f.hint)
	}
	for _, id := range reads {
		d.implied[id] = true
	}
	return expr
}

// affordable bounds what the expressions of one file cost to check: an alias, or
// a default, makes one many.
func (p *parser) affordable(pc piece) bool {
	p.expressions++
	p.expressionText += len(pc.text)
	switch {
	case p.expressions > MaxExpressions:
		p.at(1, 1, "the file has too many expressions", fmt.Sprintf("at most %d are read, those of aliases and defaults at each use", MaxExpressions))
		return false
	case p.expressionText > MaxExpressionText:
		p.at(1, 1, "the file's expressions are too long together", fmt.Sprintf("at most %d bytes are read, those of aliases and defaults at each use", MaxExpressionText))
		return false
	}
	return !p.full()
}

// room bounds what defaults and tasklets, which many steps share, add to the plan.
func (p *parser) room(bytes int) bool {
	const perValue = 64 // what the plan has around each
	p.repeated += bytes + perValue
	if p.repeated > MaxText {
		p.at(1, 1, "defaults and tasklets make the flow too large", fmt.Sprintf("at most %d bytes are taken, counted in each step", MaxText))
		return false
	}
	return true
}

// pieces splits a scalar and reports broken ${{ }}.
func (p *parser) pieces(n *yaml.Node) ([]piece, bool) {
	out, broken := split(n.Value)
	if broken != nil {
		line, column := p.place(n, broken.offset)
		hint := ""
		if strings.Contains(broken.message, "closed") {
			hint = "write $${{ for the text ${{"
		}
		p.at(line, column, broken.message, hint)
		return nil, false
	}
	return out, true
}

// single gives the expression of a scalar that is nothing but one ${{ }}.
func single(n *yaml.Node, pieces []piece) (piece, bool) {
	var found []piece
	for _, pc := range pieces {
		if pc.isExpr {
			found = append(found, pc)
		} else if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 || strings.TrimSpace(pc.text) != "" {
			return piece{}, false
		}
	}
	if len(found) != 1 {
		return piece{}, false
	}
	return found[0], true
}

func isText(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && (n.ShortTag() == "!!str" || n.ShortTag() == "!!timestamp")
}

func (p *parser) when(d *draft) *Expr {
	if !isText(d.when) {
		if v, ok := p.boolean(d.when, "when"); ok {
			return &Expr{Source: fmt.Sprint(v), Type: Bool}
		}
		return nil
	}
	pieces, ok := p.pieces(d.when)
	if !ok {
		return nil
	}
	pc, ok := single(d.when, pieces)
	if !ok {
		p.node(d.when, fmt.Sprintf("when: expected one ${{ }}, found %s", describe(d.when)),
			fmt.Sprintf("write '${{ %s }}'", oneLine(stripMarks(d.when.Value))))
		return nil
	}
	expr := p.expression(d, d.when, pc, d.site)
	if expr != nil && !Bool.accepts(expr.Type) {
		line, column := p.place(d.when, pc.offset)
		p.at(line, column, fmt.Sprintf("when: expected true or false, the expression gives %s", article(expr.Type)), "compare it with something")
	}
	return expr
}

func stripMarks(s string) string {
	return strings.NewReplacer(openMark, "", closeMark, "").Replace(s)
}

// value reads a value of the file that may hold expressions. When want is not Any,
// the value must fit; what it gives is a value of the type that it returns.
func (p *parser) value(d *draft, n *yaml.Node, what string, want Type, at site) (Value, Type) {
	n = follow(n)
	switch n.Kind {
	case yaml.SequenceNode:
		return p.listValue(d, n, what, want, at)
	case yaml.MappingNode:
		return p.mapValue(d, n, what, want, at)
	}
	if isText(n) && strings.Contains(n.Value, openMark) {
		return p.textValue(d, n, what, want, at)
	}
	v, err := scalar(n)
	if err != nil {
		p.node(n, fmt.Sprintf("%s: %s", what, err), "")
		return Value{Literal: marshal("")}, want
	}
	if want == File || want == Files || want == Directory {
		p.node(n, fmt.Sprintf("%s: expected %s, found %s", what, article(want), describe(n)),
			"files come from a parameter or from an output of a step")
		return Value{Literal: marshal("")}, want
	}
	t := typeOfValue(v)
	if want != Any {
		if v, err = want.convert(v); err != nil {
			p.node(n, fmt.Sprintf("%s: %s", what, err), quoteHint(want, n))
			return Value{Literal: marshal("")}, want
		}
		t = want
	}
	return Value{Literal: marshal(v)}, t
}

func typeOfValue(v any) Type {
	switch v.(type) {
	case string:
		return String
	case bool:
		return Bool
	case int64:
		return Int
	case float64:
		return Float
	}
	return Any
}

func (p *parser) listValue(d *draft, n *yaml.Node, what string, want Type, at site) (Value, Type) {
	inner := Any
	if want != Any {
		elem, ok := want.Elem()
		if !ok {
			p.expected(n, what, article(want))
			return Value{Literal: marshal("")}, want
		}
		inner = elem
	}
	list := make([]Value, 0, len(n.Content))
	common := Type("")
	for _, e := range n.Content {
		v, t := p.value(d, e, what, inner, at)
		list = append(list, v)
		if common == "" {
			common = t
		} else if common != t {
			common = Any
		}
	}
	if common == "" || inner != Any {
		common = inner
	}
	if want != Any && inner != Any {
		return collapseList(list), want
	}
	return collapseList(list), listOf(common)
}

func collapseList(list []Value) Value {
	raw := []byte("[")
	for i, v := range list {
		if v.Literal == nil {
			return Value{List: list}
		}
		if i > 0 {
			raw = append(raw, ',')
		}
		raw = append(raw, v.Literal...)
	}
	return Value{Literal: append(raw, ']')}
}

func (p *parser) mapValue(d *draft, n *yaml.Node, what string, want Type, at site) (Value, Type) {
	if want != Any && want != Map {
		p.expected(n, what, article(want))
		return Value{Literal: marshal("")}, want
	}
	var entries []Entry
	literals := map[string]any{}
	for _, pair := range p.pairs(n) {
		v, _ := p.value(d, pair.value, what, Any, at)
		entries = append(entries, Entry{Name: pair.key.Value, Value: v})
		if v.Literal != nil {
			literals[pair.key.Value] = v.Literal
		}
	}
	if len(literals) == len(entries) {
		return Value{Literal: marshal(literals)}, Map
	}
	return Value{Map: entries}, Map
}

// textValue reads text with ${{ }} in it.
func (p *parser) textValue(d *draft, n *yaml.Node, what string, want Type, at site) (Value, Type) {
	none := Value{Literal: marshal("")}
	pieces, ok := p.pieces(n)
	if !ok {
		return none, want
	}
	if pc, ok := single(n, pieces); ok {
		expr := p.expression(d, n, pc, at)
		if expr == nil {
			return none, want
		}
		if !want.accepts(expr.Type) {
			p.mismatch(n, pc, what, want, expr.Type)
		}
		return Value{Expr: expr}, expr.Type
	}
	segments := make([]Segment, 0, len(pieces))
	for _, pc := range pieces {
		if !pc.isExpr {
			segments = append(segments, Segment{Text: pc.text})
			continue
		}
		expr := p.expression(d, n, pc, at)
		segments = append(segments, Segment{Expr: expr})
		if expr != nil && !isPlain(expr.Type) {
			line, column := p.place(n, pc.offset)
			p.at(line, column, fmt.Sprintf("%s: %s cannot be part of a text", what, article(expr.Type)), textHint(expr.Type))
		}
	}
	if want != Any && !want.accepts(String) {
		p.expected(n, what, article(want))
		return none, want
	}
	if len(segments) == 1 && segments[0].Expr == nil {
		return p.plainText(n, segments[0].Text, what, want)
	}
	return Value{Text: segments}, String
}

// plainText is a scalar that had nothing but escaped ${{ in it.
func (p *parser) plainText(n *yaml.Node, text, what string, want Type) (Value, Type) {
	v, err := want.convert(text)
	if err != nil {
		p.node(n, fmt.Sprintf("%s: %s", what, err), "")
	}
	return Value{Literal: marshal(v)}, String
}

func isPlain(t Type) bool {
	switch t {
	case String, Int, Float, Bool, DurationType, Time, Date, Any:
		return true
	}
	return false
}

func textHint(t Type) string {
	switch t {
	case File:
		return "use its name, size, sha256 or key"
	case "list(string)":
		return "join its elements: .join(',')"
	}
	return ""
}

func (p *parser) mismatch(n *yaml.Node, pc piece, what string, want, have Type) {
	hint := ""
	elem, isList := want.Elem()
	switch {
	case want == String && isPlain(have):
		hint = fmt.Sprintf("write ${{ string(%s) }}", oneLine(pc.text))
	case what == "for_each" && have == Int:
		hint = fmt.Sprintf("write {from: 1, to: '${{ %s }}'}", oneLine(pc.text))
	case what == "for_each" && have == Map:
		hint = fmt.Sprintf("over its names: ${{ (%s).map(k, k) }}", oneLine(pc.text))
	case isList && elem.accepts(have):
		hint = fmt.Sprintf("write ${{ [%s] }}", oneLine(pc.text))
	case want == Int && have == Float:
		hint = fmt.Sprintf("write ${{ int(%s) }}", oneLine(pc.text))
	case want == Int && have == String:
		hint = fmt.Sprintf("write ${{ int(%s) }}", oneLine(pc.text))
	case want == File && have == Files:
		hint = "write for_each over the list, or take one: [0]"
	}
	line, column := p.place(n, pc.offset)
	p.at(line, column, fmt.Sprintf("%s: expected %s, the expression gives %s", what, article(want), article(have)), hint)
}
