package flow

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// field is one name that a map of the language may have.
type field struct {
	name string
	read func(*yaml.Node)
}

// fields reads a map by its fields and reports those that are not known, have no
// value, or belong to a later version (those without read). It returns false when
// n is no map.
func (d *document) fields(n *yaml.Node, what string, known []field) bool {
	n = follow(n)
	if n.Kind != yaml.MappingNode {
		d.node(n, fmt.Sprintf("%s: expected a map, found %s", what, describe(n)), "")
		return false
	}
	names := make([]string, 0, len(known))
	for _, f := range known {
		if f.read != nil {
			names = append(names, f.name)
		}
	}
	for _, p := range d.pairs(n) {
		if d.full() {
			break
		}
		f, ok := findField(known, p.key.Value)
		switch {
		case !ok:
			d.misspelt(p.key, fmt.Sprintf("%s: unknown field %q", what, clip(p.key.Value)), p.key.Value, names)
		case f.read == nil:
			d.node(p.key, fmt.Sprintf("%s: %q is not supported by this version", what, f.name), "")
		case isNull(p.value):
			d.node(p.key, fmt.Sprintf("%q has no value", f.name), "give it one or leave it out")
		default:
			f.read(p.value)
		}
	}
	return true
}

func findField(known []field, name string) (field, bool) {
	for _, f := range known {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

func later(names ...string) []field {
	out := make([]field, len(names))
	for i, name := range names {
		out[i] = field{name: name}
	}
	return out
}

// entries reads a map whose names users choose, and checks the names.
func (d *document) entries(n *yaml.Node, what, kind string, each func(name string, key, value *yaml.Node)) {
	n = follow(n)
	if n.Kind != yaml.MappingNode {
		d.node(n, fmt.Sprintf("%s: expected a map, found %s", what, describe(n)), "")
		return
	}
	for _, p := range d.pairs(n) {
		if d.identifier(p.key, kind) {
			each(p.key.Value, p.key, p.value)
		}
	}
}

var (
	identifierPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	namePattern       = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)
)

// identifier checks a name that expressions may use.
func (d *document) identifier(n *yaml.Node, kind string) bool {
	switch {
	case len(n.Value) > MaxNameLength:
		d.node(n, fmt.Sprintf("the name of %s has at most %d characters", a(kind), MaxNameLength), "")
	case n.Value == "in" || n.Value == "true" || n.Value == "false" || n.Value == "null":
		d.node(n, fmt.Sprintf("%s cannot be called %q", a(kind), n.Value), "expressions have another use for the word")
	case !identifierPattern.MatchString(n.Value):
		d.node(n, fmt.Sprintf("%q cannot be the name of %s", clip(n.Value), a(kind)),
			"use letters, digits and _, with a letter first")
	default:
		return true
	}
	return false
}

func a(kind string) string {
	if strings.ContainsRune("aeiou", rune(kind[0])) {
		return "an " + kind
	}
	return "a " + kind
}

// name reads the name of a flow, owner or tasklet.
func (d *document) name(n *yaml.Node, what string) string {
	s, ok := d.text(n, what)
	if !ok {
		return ""
	}
	if len(s) > MaxNameLength || !namePattern.MatchString(s) {
		d.node(n, fmt.Sprintf("%s: %q cannot be a name", what, clip(s)),
			fmt.Sprintf("use up to %d small letters, digits, - and _, with a letter first", MaxNameLength))
		return ""
	}
	return s
}

func (d *document) expected(n *yaml.Node, what, wanted string) {
	d.node(n, fmt.Sprintf("%s: expected %s, found %s", what, wanted, describe(n)), "")
}

// text reads text that is not empty.
func (d *document) text(n *yaml.Node, what string) (string, bool) {
	n = follow(n)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" && n.ShortTag() != "!!timestamp" {
		hint := ""
		if n.Kind == yaml.ScalarNode && !isNull(n) {
			hint = fmt.Sprintf("put it in quotes: '%s'", clip(n.Value))
		}
		d.node(n, fmt.Sprintf("%s: expected text, found %s", what, describe(n)), hint)
		return "", false
	}
	if n.Value == "" {
		d.node(n, fmt.Sprintf("%s: the text is empty", what), "")
		return "", false
	}
	return n.Value, true
}

func (d *document) whole(n *yaml.Node, what string, low, high int64) (int64, bool) {
	wanted := fmt.Sprintf("a whole number from %d to %d", low, high)
	if high == math.MaxInt64 {
		wanted = fmt.Sprintf("a whole number of at least %d", low)
	}
	v, err := scalar(n)
	value, ok := v.(int64)
	if err != nil || !ok || value < low || value > high {
		d.expected(n, what, wanted)
		return 0, false
	}
	return value, true
}

func (d *document) number(n *yaml.Node, what string, low, high float64) (float64, bool) {
	v, err := scalar(n)
	value, ok := floatNumber(v)
	if err != nil || !ok || value < low || value > high {
		d.expected(n, what, fmt.Sprintf("a number from %g to %g", low, high))
		return 0, false
	}
	return value, true
}

func (d *document) boolean(n *yaml.Node, what string) (value, ok bool) {
	v, err := scalar(n)
	value, ok = v.(bool)
	if err != nil || !ok {
		d.expected(n, what, "true or false")
		return false, false
	}
	return value, true
}

func (d *document) duration(n *yaml.Node, what string) (Duration, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		d.expected(n, what, "a duration such as 90s, 1h30m or 2d")
		return 0, false
	}
	value, err := ParseDuration(n.Value)
	switch {
	case err == errDuration:
		hint := ""
		if n.ShortTag() == "!!int" {
			hint = fmt.Sprintf("with a unit: %ss", clip(n.Value))
		}
		d.node(n, fmt.Sprintf("%s: %s, found %s", what, err, describe(n)), hint)
	case err != nil:
		d.node(n, fmt.Sprintf("%s: %s", what, err), "")
	}
	return Duration(value), err == nil
}

func (d *document) positiveDuration(n *yaml.Node, what string) (Duration, bool) {
	value, ok := d.duration(n, what)
	if ok && value == 0 {
		d.node(n, fmt.Sprintf("%s: must be longer than 0", what), "")
	}
	return value, ok && value > 0
}

var sizeRange = regexp.MustCompile(`^.+\.\..+$`)

func (d *document) size(n *yaml.Node, what string) (int64, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		d.expected(n, what, "a size such as 128MB or 1GiB")
		return 0, false
	}
	if sizeRange.MatchString(n.Value) {
		d.node(n, fmt.Sprintf("%s: a range of sizes is not supported by this version", what), "give one size, such as 1GB")
		return 0, false
	}
	value, err := ParseSize(n.Value)
	switch {
	case err == errSize:
		hint := ""
		if n.ShortTag() == "!!int" {
			hint = fmt.Sprintf("with a unit: %sMB", clip(n.Value))
		}
		d.node(n, fmt.Sprintf("%s: %s, found %s", what, err, describe(n)), hint)
		return 0, false
	case err != nil:
		d.node(n, fmt.Sprintf("%s: %s", what, err), "")
		return 0, false
	case value == 0:
		d.node(n, fmt.Sprintf("%s: must be more than 0", what), "")
		return 0, false
	}
	return value, true
}

// elements reads a list; a single scalar stands for a list of one when one is set.
func (d *document) elements(n *yaml.Node, what string, one bool, each func(*yaml.Node)) {
	switch {
	case n.Kind == yaml.SequenceNode:
		for _, e := range n.Content {
			each(follow(e))
		}
	case one && n.Kind == yaml.ScalarNode:
		each(n)
	default:
		d.expected(n, what, "a list")
	}
}

// oneOf reads a word out of a set.
func (d *document) oneOf(n *yaml.Node, what string, words []string) (string, bool) {
	s, ok := d.text(n, what)
	if !ok {
		return "", false
	}
	for _, w := range words {
		if s == w {
			return s, true
		}
	}
	hint := didYouMean(s, words)
	if hint == "" {
		hint = "use one of " + join(words)
	}
	d.node(n, fmt.Sprintf("%s: %q is not known", what, clip(s)), hint)
	return "", false
}

func join(words []string) string {
	s := ""
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			s += " and "
		default:
			s += ", "
		}
		s += w
	}
	return s
}

// scalar reads a plain value: text, whole number, number or truth value.
func scalar(n *yaml.Node) (any, error) {
	n = follow(n)
	if n.Kind != yaml.ScalarNode {
		return nil, fmt.Errorf("expected a plain value, found %s", describe(n))
	}
	switch n.ShortTag() {
	case "!!null":
		return nil, fmt.Errorf("there is no value")
	case "!!bool":
		return n.Value == "true" || n.Value == "True" || n.Value == "TRUE", nil
	case "!!int":
		v, err := strconv.ParseInt(n.Value, 0, 64)
		if err != nil || v > maxInt || v < -maxInt {
			return nil, fmt.Errorf("%s is not a whole number within ±2^53", clip(n.Value))
		}
		if base10, err := strconv.ParseInt(n.Value, 10, 64); err == nil && base10 != v {
			return nil, fmt.Errorf("%s reads as an octal number: write %d, or '%s' as text", clip(n.Value), base10, clip(n.Value))
		}
		return v, nil
	case "!!float":
		v, err := strconv.ParseFloat(n.Value, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("%s is not a number", clip(n.Value))
		}
		return v, nil
	}
	return n.Value, nil
}

// literal reads any value without expressions.
func (d *document) literal(n *yaml.Node) (any, bool) {
	n = follow(n)
	switch n.Kind {
	case yaml.MappingNode:
		out, ok := map[string]any{}, true
		for _, p := range d.pairs(n) {
			v, good := d.literal(p.value)
			out[p.key.Value], ok = v, ok && good
		}
		return out, ok
	case yaml.SequenceNode:
		out, ok := make([]any, 0, len(n.Content)), true
		for _, e := range n.Content {
			v, good := d.literal(e)
			out, ok = append(out, v), ok && good
		}
		return out, ok
	}
	v, err := scalar(n)
	if err != nil {
		d.node(n, err.Error(), "")
		return nil, false
	}
	return v, true
}

func marshal(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil // cannot be: v was built from text, numbers, lists and maps
	}
	return raw
}
