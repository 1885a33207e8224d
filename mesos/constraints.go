package mesos

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/mesos/placement"
)

// Constraint says which agents a task may go to.
type Constraint struct {
	Text string // as its author wrote it, for people
	// Key is the name of an attribute of the agents, or "host", "region" or "zone".
	Key    string
	Op     string   // one of the keys of operators
	Values []string // for is, not, in and not_in; for like and unlike an RE2 pattern of the whole value
	Max    int      // for max_per
}

var operators = map[string]placement.Op{
	"is": placement.Is, "not": placement.Differs, "in": placement.In, "not_in": placement.NotIn,
	"like": placement.Like, "unlike": placement.Unlike,
	"max_per": placement.MaxPer, "group_by": placement.GroupBy, "spread": placement.Spread,
}

// rules are the constraints of a task, made ready.
type rules struct {
	list  []placement.Constraint
	texts []string
	// counts: where the other tasks of the group are matters.
	counts bool
}

// newRules returns nil for no constraints.
func newRules(list []Constraint) (*rules, error) {
	if len(list) == 0 {
		return nil, nil
	}
	r := &rules{}
	for _, c := range list {
		op, known := operators[c.Op]
		p := placement.Constraint{Key: c.Key, Op: op, Values: c.Values, Max: c.Max}
		switch {
		case !known || c.Key == "":
			return nil, fmt.Errorf("constraint %q: operator %q on %q", c.Text, c.Op, c.Key)
		case !op.Counts() && len(c.Values) == 0:
			return nil, fmt.Errorf("constraint %q has no value", c.Text)
		case op == placement.MaxPer && c.Max < 1:
			return nil, fmt.Errorf("constraint %q: at most %d", c.Text, c.Max)
		}
		if op == placement.Like || op == placement.Unlike {
			pattern, err := regexp.Compile(`^(?:` + c.Values[0] + `)$`)
			if err != nil {
				return nil, fmt.Errorf("constraint %q: %w", c.Text, err)
			}
			p.Pattern = pattern
		}
		r.list, r.texts = append(r.list, p), append(r.texts, c.Text)
		r.counts = r.counts || op.Counts()
	}
	return r, nil
}

// ruleBook keeps the rules that have been made, since a step's tasks all have the
// same. It is guarded by Framework.mu.
type ruleBook struct{ byText map[string]*rules }

// maxRules bounds the book; it begins anew when it is full.
const maxRules = 2000

func (b *ruleBook) of(list []Constraint) (*rules, error) {
	if len(list) == 0 {
		return nil, nil
	}
	var text strings.Builder
	for _, c := range list {
		fmt.Fprintf(&text, "%q %q %q %q %d\n", c.Text, c.Key, c.Op, c.Values, c.Max)
	}
	key := text.String()
	if r := b.byText[key]; r != nil {
		return r, nil
	}
	r, err := newRules(list)
	if err != nil {
		return nil, err
	}
	if b.byText == nil || len(b.byText) >= maxRules {
		b.byText = make(map[string]*rules)
	}
	b.byText[key] = r
	return r, nil
}

// admits tells whether an agent meets what does not count tasks.
func (r *rules) admits(a *agentRecord) bool {
	if r == nil {
		return true
	}
	for i := range r.list {
		if !r.list[i].Admits(a.values) {
			return false
		}
	}
	return true
}

// agentValues are an agent's values of the keys of constraints: its attributes as
// text, its host name, and its fault domain. Where it has no fault domain,
// attributes called region and zone stand in for it.
func agentValues(host string, attributes []mesos.Attribute, domain *mesos.DomainInfo) map[string]string {
	values := make(map[string]string, len(attributes)+3)
	for i := range attributes {
		if text := attributeText(&attributes[i]); text != "" {
			values[attributes[i].Name] = text
		}
	}
	if host != "" {
		values["host"] = host
	}
	if fault := domain.GetFaultDomain(); fault != nil {
		values["region"], values["zone"] = fault.Region.Name, fault.Zone.Name
	}
	return values
}

// attributeText is how Mesos itself writes the value of an attribute.
func attributeText(a *mesos.Attribute) string {
	switch a.Type {
	case mesos.TEXT:
		return a.GetText().GetValue()
	case mesos.SCALAR:
		return strconv.FormatFloat(a.GetScalar().GetValue(), 'f', -1, 64)
	case mesos.RANGES:
		var parts []string
		for _, r := range a.GetRanges().GetRange() {
			parts = append(parts, fmt.Sprintf("%d-%d", r.Begin, r.End))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case mesos.SET:
		return "{" + strings.Join(slices.Sorted(slices.Values(a.GetSet().GetItem())), ", ") + "}"
	}
	return ""
}

// count keeps the number of a group's live tasks on each agent.
func (t *table) count(r *record) {
	if r.group == "" || r.counted == r.agentID {
		return
	}
	t.uncount(r)
	if r.agentID == "" {
		return
	}
	if t.groups[r.group] == nil {
		t.groups[r.group] = make(map[string]int)
	}
	t.groups[r.group][r.agentID]++
	r.counted = r.agentID
}

func (t *table) uncount(r *record) {
	if r.counted == "" {
		return
	}
	group := t.groups[r.group]
	if group[r.counted]--; group[r.counted] <= 0 {
		delete(group, r.counted)
	}
	if len(group) == 0 {
		delete(t.groups, r.group)
	}
	r.counted = ""
}

// ruling makes, for one match, what placement is told of the constraints.
type ruling struct {
	f     *Framework
	now   time.Time
	known map[ruled]*placement.Rules
	asked map[string]map[string]int // by group and agent: tasks that only a question names
}

type ruled struct {
	group string
	rules *rules
}

// ruled is what the rules of a task that has constraints come from: its group matters
// only to those that count.
func (w *waiting) ruled() ruled {
	if !w.rules.counts {
		return ruled{rules: w.rules}
	}
	return ruled{w.group, w.rules}
}

func (f *Framework) ruling(now time.Time) *ruling {
	return &ruling{f: f, now: now, known: make(map[ruled]*placement.Rules)}
}

// shut admits no agent.
var shut = &placement.Rules{Constraints: []placement.Constraint{{Key: "host", Op: placement.In}}}

// of gives the rules of a task; nil for none. f.mu is held.
func (r *ruling) of(w *waiting) *placement.Rules {
	switch {
	case w.rules == nil:
		return nil
	case w.rules.counts && r.now.Before(r.f.link.settled):
		return shut // tasks of an earlier leader are still being told
	}
	key := w.ruled()
	p := r.known[key]
	if p == nil {
		p = r.make(w)
		r.known[key] = p
	}
	return p
}

func (r *ruling) make(w *waiting) *placement.Rules {
	p := &placement.Rules{Constraints: w.rules.list}
	if !w.rules.counts {
		return p
	}
	where := r.where(w.group)
	p.Live, p.Unknown = make([]map[string]int, len(p.Constraints)), make([]int, len(p.Constraints))
	for i := range p.Constraints {
		c := &p.Constraints[i]
		if !c.Op.Counts() {
			continue
		}
		p.Live[i] = make(map[string]int)
		for agentID, n := range where {
			switch a := r.f.table.agents[agentID]; {
			case a == nil || a.values == nil:
				p.Unknown[i] += n
			case c.Admits(a.values):
				p.Live[i][a.values[c.Key]] += n
			}
		}
		if c.Op == placement.GroupBy {
			r.open(w, c.Key, p.Live[i])
		}
	}
	return p
}

// open enters the values on which the task could be, with no tasks yet.
func (r *ruling) open(w *waiting, key string, live map[string]int) {
	need := w.whole()
	for id, a := range r.f.table.agents {
		if value, has := a.values[key]; has && r.f.table.avoided[id] == nil && need.Fits(a.capacity()) && w.rules.admits(a) {
			live[value] += 0
		}
	}
}

// where counts the tasks of a group by agent: those of the table, and those that
// an earlier leader has placed and Mesos is being asked about.
func (r *ruling) where(group string) map[string]int {
	if r.asked == nil {
		r.asked = make(map[string]map[string]int)
		for id, ask := range r.f.asks.open {
			if g := r.f.cfg.GroupOf(id); g != "" && ask.agentID != "" && r.f.table.tasks[id] == nil {
				if r.asked[g] == nil {
					r.asked[g] = make(map[string]int)
				}
				r.asked[g][ask.agentID]++
			}
		}
	}
	known := r.f.table.groups[group]
	if len(r.asked[group]) == 0 {
		return known
	}
	sum := maps.Clone(r.asked[group])
	for id, n := range known {
		sum[id] += n
	}
	return sum
}
