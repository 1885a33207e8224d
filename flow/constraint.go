package flow

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxConstraints bounds the constraints of one step, MaxPattern the characters of
// one of their patterns.
const (
	MaxConstraints = 20
	MaxPattern     = 256
)

// Constraint says which machines the tasks of a step may run on.
type Constraint struct {
	Text string `json:"text"` // as it stands in the file
	// Key is an attribute of the machines, or "host", "region" or "zone".
	Key    string   `json:"key"`
	Op     string   `json:"op"`               // one of the Op constants
	Values []string `json:"values,omitempty"` // of OpLike and OpUnlike: one RE2 pattern, of the whole value
	Max    int      `json:"max,omitempty"`    // of OpMaxPer
}

// What a Constraint asks for.
const (
	OpIs      = "is"
	OpNot     = "not"
	OpIn      = "in"
	OpNotIn   = "not_in"
	OpLike    = "like"
	OpUnlike  = "unlike"
	OpMaxPer  = "max_per"
	OpGroupBy = "group_by"
	OpSpread  = "spread"
)

const constraintKey = `([A-Za-z_][A-Za-z0-9_.:/-]*)`

var (
	compareConstraint = regexp.MustCompile(`^` + constraintKey + `\s*(==|!=|not\s+in\b|in\b|like\b|unlike\b)\s*(.*)$`)
	spreadConstraint  = regexp.MustCompile(`^(spread(?:\s+over)?|group\s+by|unique(?:\s+per)?)\s+` + constraintKey + `$`)
	maxConstraint     = regexp.MustCompile(`^max\s+(\d{1,6})\s+per\s+` + constraintKey + `$`)
	wordConstraint    = regexp.MustCompile(`^` + constraintKey + `\s*(\S+)`)
	comparisons       = map[string]string{"==": OpIs, "!=": OpNot, "in": OpIn, "not in": OpNotIn, "like": OpLike, "unlike": OpUnlike}
	comparisonWords   = []string{"==", "!=", "in", "not in", "like", "unlike"}
	constraintForms   = "write it like 'rack == r1', 'zone in [a, b]', 'host unlike ^old-', 'spread rack', 'group by zone' or 'max 2 per host'"
)

// constraints reads the list.
func (d *document) constraints(n *yaml.Node) []Constraint {
	out := []Constraint{}
	d.elements(n, "constraints", true, func(e *yaml.Node) {
		text, ok := d.text(e, "constraints")
		if !ok {
			return
		}
		c, problem, hint := parseConstraint(strings.TrimSpace(text))
		if problem != "" {
			d.node(e, "constraints: "+problem, hint)
			return
		}
		for _, other := range out {
			if c.Op == OpIs && other.Op == OpIs && c.Key == other.Key && c.Values[0] != other.Values[0] {
				d.node(e, fmt.Sprintf("constraints: %s cannot be %q and %q at once", c.Key, other.Values[0], c.Values[0]),
					fmt.Sprintf("write %s in [%s, %s]", c.Key, other.Values[0], c.Values[0]))
				return
			}
		}
		out = append(out, c)
	})
	if len(out) > MaxConstraints {
		d.node(n, fmt.Sprintf("constraints: %d, at most %d are allowed", len(out), MaxConstraints), "")
		return nil
	}
	return out
}

// parseConstraint reads one; the problem is empty when it is right.
func parseConstraint(text string) (c Constraint, problem, hint string) {
	c.Text = text
	if strings.Contains(text, openMark) {
		return c, "${{ }} cannot be part of a constraint", "write the value itself"
	}
	if m := maxConstraint.FindStringSubmatch(text); m != nil {
		c.Op, c.Key = OpMaxPer, constraintName(m[2])
		if c.Max, _ = strconv.Atoi(m[1]); c.Max < 1 {
			return c, fmt.Sprintf("%q leaves no machine", clip(text)), "max is at least 1"
		}
		return c, "", ""
	}
	if m := spreadConstraint.FindStringSubmatch(text); m != nil {
		c.Key = constraintName(m[2])
		switch word, _, _ := strings.Cut(m[1], " "); word {
		case "spread":
			c.Op = OpSpread
		case "unique":
			c.Op, c.Max = OpMaxPer, 1
		default:
			c.Op = OpGroupBy
		}
		return c, "", ""
	}
	m := compareConstraint.FindStringSubmatch(text)
	if m == nil {
		return c, fmt.Sprintf("%q is not understood", clip(text)), constraintHint(text)
	}
	c.Key, c.Op = constraintName(m[1]), comparisons[strings.Join(strings.Fields(m[2]), " ")]
	problem, hint = c.compareWith(m[3])
	return c, problem, hint
}

// compareWith reads what stands behind the operator.
func (c *Constraint) compareWith(rest string) (problem, hint string) {
	list, isList := strings.CutPrefix(rest, "[")
	switch {
	case rest == "":
		return fmt.Sprintf("%q: there is nothing to compare with", clip(c.Text)), ""
	case (c.Op == OpIn || c.Op == OpNotIn) && (!isList || !strings.HasSuffix(list, "]")):
		return fmt.Sprintf("%q: expected a list", clip(c.Text)), "such as " + c.Key + " in [a, b]"
	case c.Op == OpIn || c.Op == OpNotIn:
		for item := range strings.SplitSeq(strings.TrimSuffix(list, "]"), ",") {
			if item = unquote(strings.TrimSpace(item)); item == "" {
				return fmt.Sprintf("%q: the list has an empty place", clip(c.Text)), ""
			}
			c.Values = append(c.Values, item)
		}
		return "", ""
	}
	value := unquote(rest)
	if c.Op == OpLike || c.Op == OpUnlike {
		if len(value) > MaxPattern {
			return fmt.Sprintf("%q: a pattern has at most %d characters", clip(c.Text), MaxPattern), ""
		}
		if _, err := regexp.Compile(value); err != nil {
			return fmt.Sprintf("%q is no pattern: %s", clip(value), patternFault(err)), "patterns are RE2, without look-around and back-references"
		}
	}
	c.Values = []string{value}
	return "", ""
}

func patternFault(err error) string {
	return oneLine(strings.TrimPrefix(err.Error(), "error parsing regexp: "))
}

// constraintName gives a key its one spelling.
func constraintName(key string) string {
	if key == "hostname" {
		return "host"
	}
	return key
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '\'' || s[0] == '"') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

func constraintHint(text string) string {
	m := wordConstraint.FindStringSubmatch(text)
	if m == nil {
		return constraintForms
	}
	rest := strings.TrimSpace(text[len(m[0]):])
	switch word := m[2]; {
	case word == "=" || strings.HasPrefix(word, "=") && word != "==":
		return fmt.Sprintf("write '%s == %s'", m[1], clip(strings.TrimSpace(strings.TrimLeft(word, "=")+" "+rest)))
	case Suggest(word, comparisonWords) != "" && rest != "":
		return fmt.Sprintf("write '%s %s %s'", m[1], Suggest(word, comparisonWords), clip(rest))
	case Suggest(m[1], []string{"spread", "unique", "group", "max"}) != "":
		return didYouMean(m[1], []string{"spread", "unique", "group", "max"})
	}
	return constraintForms
}

var bandwidthPattern = regexp.MustCompile(`^(\d+(?:\.\d+)?) ?([kMG])bps$`)

// bandwidth reads megabits per second.
func (d *document) bandwidth(n *yaml.Node, what string) (float64, bool) {
	m := bandwidthPattern.FindStringSubmatch(n.Value)
	if n.Kind != yaml.ScalarNode || m == nil || len(n.Value) > 64 {
		hint := ""
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!int" {
			hint = fmt.Sprintf("with a unit: %sMbps", clip(n.Value))
		}
		d.node(n, fmt.Sprintf("%s: expected bits per second such as 100Mbps or 1Gbps, found %s", what, describe(n)), hint)
		return 0, false
	}
	value, err := strconv.ParseFloat(m[1], 64)
	value *= map[string]float64{"k": 1e-3, "M": 1, "G": 1e3}[m[2]]
	if err != nil || value < 0.001 || value > 1e7 || math.IsNaN(value) {
		d.node(n, fmt.Sprintf("%s: must be from 1kbps to 10000Gbps", what), "")
		return 0, false
	}
	return value, true
}

// limits reads what a task may use beyond what it asks for.
func (d *document) limits(n *yaml.Node, s *settings) {
	s.limits = n
	d.fields(n, "limits", []field{
		{"cpus", func(n *yaml.Node) { s.maxCPUs = given(d.number(n, "limits.cpus", 0.01, 10_000)) }},
		{"mem", func(n *yaml.Node) { s.maxMem = given(d.size(n, "limits.mem")) }},
	})
}

// checkLimits reports a limit below what the step asks for.
func (p *parser) checkLimits(step *Step, n *yaml.Node) {
	l := step.Limits
	if l == nil || n == nil {
		return
	}
	if l.CPUs > 0 && l.CPUs < step.Resources.CPUs {
		p.node(n, fmt.Sprintf("limits: %g CPUs are less than the %g that step %q asks for", l.CPUs, step.Resources.CPUs, step.ID),
			"a limit is at least what resources says")
	}
	if l.Mem > 0 && l.Mem < step.Resources.Mem {
		p.node(n, fmt.Sprintf("limits: the memory is less than what step %q asks for", step.ID), "a limit is at least what resources says")
	}
}
