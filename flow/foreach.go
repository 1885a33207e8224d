package flow

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// forEach reads the items of a step and gives their type.
func (p *parser) forEach(d *draft) Type {
	n, each := d.forEach, d.step.ForEach
	if n.Kind == yaml.MappingNode {
		return p.forEachMap(d, n)
	}
	v, t := p.value(d, n, "for_each", List, d.site)
	each.List = &v
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		p.node(n, "for_each: the list is empty", "")
	}
	elem, ok := t.Elem()
	if !ok {
		return Any
	}
	return elem
}

// forEachMap reads a range, or a source in storage, and gives the items' type.
func (p *parser) forEachMap(d *draft, n *yaml.Node) Type {
	each, item := d.step.ForEach, Int
	read := func(target **Value, name string, want Type) func(*yaml.Node) {
		return func(n *yaml.Node) {
			v, _ := p.value(d, n, "for_each "+name, want, d.site)
			*target = &v
		}
	}
	known := []field{{"from", read(&each.From, "from", Int)}, {"to", read(&each.To, "to", Int)}}
	sources := each.sources()
	for _, s := range sources {
		known = append(known, field{s.name, read(s.value, s.name, s.want)})
	}
	p.fields(n, "for_each", append(known, later("by", "step")...))
	var found []string
	for _, s := range sources {
		if p.has(n, s.name) {
			found, item = append(found, s.name), s.item
		}
	}
	ranged := p.has(n, "from") || p.has(n, "to")
	if ranged {
		found = append(found, "from")
	}
	if len(found) > 1 {
		p.node(n, fmt.Sprintf("for_each: %s cannot stand together", join(found)), "leave all out but one")
		return Any
	}
	if ranged || len(p.pairs(n)) == 0 {
		p.checkRange(n, each)
	}
	return item
}

// source is one form of for_each whose items are in storage.
type source struct {
	name  string
	value **Value
	want  Type // of what is given
	item  Type
}

func (e *ForEach) sources() []source {
	return []source{
		{"lines", &e.Lines, File, String},
		{"values", &e.Values, File, Any},
		{"files", &e.Files, Directory, File},
		{"objects", &e.Objects, String, File},
	}
}

func (p *parser) checkRange(n *yaml.Node, each *ForEach) {
	for _, missing := range []struct {
		name  string
		value *Value
	}{{"from", each.From}, {"to", each.To}} {
		if missing.value == nil {
			p.node(n, fmt.Sprintf("for_each: the range has no %q", missing.name), "write {from: 1, to: 10}")
		}
	}
	from, to := literalInt(each.From), literalInt(each.To)
	if from != nil && to != nil {
		switch count := *to - *from + 1; {
		case count < 1:
			p.node(n, fmt.Sprintf("for_each: the range from %d to %d is empty", *from, *to), "")
		case count > MaxPartitions:
			p.node(n, fmt.Sprintf("for_each: %d items, at most %d are allowed", count, MaxPartitions), "")
		}
	}
}

func literalInt(v *Value) *int64 {
	if v == nil || v.Literal == nil {
		return nil
	}
	decoded, err := decodeJSON(v.Literal)
	n, ok := decoded.(int64)
	if err != nil || !ok {
		return nil
	}
	return &n
}

// MinSuccess is how many of its partitions must succeed for a step to succeed: all
// but those that may fail. Exactly one of its fields is set.
type MinSuccess struct {
	Percent *float64 `json:"percent,omitempty"`
	Count   *int     `json:"count,omitempty"`
}

// Of gives the number for a step of n partitions; a nil MinSuccess wants all.
func (m *MinSuccess) Of(n int) int {
	switch {
	case m == nil:
	case m.Count != nil:
		return min(*m.Count, n)
	case m.Percent != nil:
		const rounding = 1e-9 // of a product such as 0.29 × 100
		return min(n, int(math.Ceil(*m.Percent*float64(n)/100-rounding)))
	}
	return n
}

// minSuccess reads "95%" or a number of partitions.
func (p *parser) minSuccess(d *draft, n *yaml.Node) {
	n = follow(n)
	p.needsForEach(d, n, "min_success")
	if v, err := scalar(n); err == nil {
		if count, ok := v.(int64); ok && count >= 0 && count <= MaxPartitions {
			number := int(count)
			d.step.MinSuccess = &MinSuccess{Count: &number}
			return
		}
		if text, ok := v.(string); ok {
			number, isPercent := strings.CutSuffix(text, "%")
			percent, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			if isPercent && err == nil && percent >= 0 && percent <= 100 {
				d.step.MinSuccess = &MinSuccess{Percent: &percent}
				return
			}
		}
	}
	hint := ""
	if v, err := scalar(n); err == nil {
		if share, ok := v.(float64); ok && share > 0 && share <= 100 {
			if share < 1 {
				share *= 100
			}
			hint = fmt.Sprintf("write %s%%", formatNumber(share))
		}
	}
	p.node(n, fmt.Sprintf("min_success: expected a share such as 95%%, or a number of partitions, found %s", describe(n)), hint)
}

func (p *parser) failFast(d *draft, n *yaml.Node) {
	p.needsForEach(d, n, "fail_fast")
	d.step.FailFast, _ = p.boolean(n, "fail_fast")
}

// needsForEach reports a field that is of no use to a plain step.
func (p *parser) needsForEach(d *draft, n *yaml.Node, field string) {
	if d.forEach == nil {
		p.node(n, field+": the step has no for_each", "leave "+field+" out, or add for_each")
	}
}
