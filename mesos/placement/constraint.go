package placement

import (
	"regexp"
	"slices"
)

// Op is what a Constraint asks for.
type Op int

// The operators. All but Spread exclude agents; Differs, Unlike and NotIn alone
// take agents that have no value of the key.
const (
	Is      Op = iota // the value is Values[0]
	Differs           // it is not
	In                // the value is one of Values
	NotIn             // it is none of them
	Like              // Pattern matches the whole value
	Unlike            // it does not
	MaxPer            // at most Max tasks of the group on the agents of each value
	GroupBy           // only on agents of a value that has the fewest tasks of the group
	Spread            // rather there, but elsewhere before not at all
)

// Counts tells whether the operator looks at where the group's other tasks are.
func (o Op) Counts() bool { return o >= MaxPer }

// Constraint is one rule about the agents that a task may go to. Key is an
// attribute of the agent, or "host", "region" or "zone".
type Constraint struct {
	Key     string
	Op      Op
	Values  []string
	Pattern *regexp.Regexp // anchored by whoever makes it
	Max     int
}

// Admits tells whether an agent's values meet a constraint that does not count;
// of one that does, whether the agent has a value to count by.
func (c *Constraint) Admits(values map[string]string) bool {
	v, has := values[c.Key]
	switch c.Op {
	case Is, In:
		return has && slices.Contains(c.Values, v)
	case Differs, NotIn:
		return !has || !slices.Contains(c.Values, v)
	case Like:
		return has && c.Pattern.MatchString(v)
	case Unlike:
		return !has || !c.Pattern.MatchString(v)
	case Spread:
		return true
	}
	return has
}

// Rules are the constraints of a group of tasks, those of one step of a run, and
// where its tasks are. Tasks of one group share one Rules, by pointer.
type Rules struct {
	Constraints []Constraint
	// Live counts the group's tasks by the value of the agents that they are on,
	// one map for each constraint (nil where it does not count). For GroupBy, the
	// values that have no task yet, but could, stand in it with 0.
	Live []map[string]int
	// Unknown are tasks of the group on agents whose values nobody knows, for each
	// constraint. MaxPer takes them to be wherever they would do harm.
	Unknown []int
}

// scope is what Rules mean for the agents of one round.
type scope struct {
	admitted []bool // by agent: meets what does not change within the round
	list     []int  // of those that are admitted
	counters []counter
	even     bool // has a GroupBy: a placement may open agents that were closed
	placed   int
}

// counter is one constraint that counts.
type counter struct {
	op     Op
	value  []int // by agent: index into counts
	counts []int
	here   []bool // by index into counts: an admitted agent has the value
	bound  int    // the largest count of a value that may have one more
}

func newScope(r *Rules, agents []Agent) *scope {
	s := &scope{admitted: make([]bool, len(agents))}
	for i := range agents {
		s.admitted[i] = true
		for c := range r.Constraints {
			if !r.Constraints[c].Admits(agents[i].Values) {
				s.admitted[i] = false
				break
			}
		}
		if s.admitted[i] {
			s.list = append(s.list, i)
		}
	}
	for i := range r.Constraints {
		if c := &r.Constraints[i]; c.Op.Counts() {
			s.counters = append(s.counters, newCounter(c, r.live(i), r.unknown(i), agents, s.admitted))
			s.even = s.even || c.Op == GroupBy
		}
	}
	return s
}

func (r *Rules) live(i int) map[string]int {
	if i < len(r.Live) {
		return r.Live[i]
	}
	return nil
}

func (r *Rules) unknown(i int) int {
	if i < len(r.Unknown) {
		return r.Unknown[i]
	}
	return 0
}

func newCounter(c *Constraint, live map[string]int, unknown int, agents []Agent, admitted []bool) counter {
	n := counter{op: c.Op, value: make([]int, len(agents)), bound: c.Max - 1 - unknown}
	index := make(map[string]int, len(live))
	at := func(value string) int {
		i, known := index[value]
		if !known {
			i = len(n.counts)
			index[value] = i
			n.counts, n.here = append(n.counts, live[value]), append(n.here, false)
		}
		return i
	}
	for value := range live {
		at(value)
	}
	for i := range agents {
		if admitted[i] {
			n.value[i] = at(agents[i].Values[c.Key])
			n.here[n.value[i]] = true
		}
	}
	n.level()
	return n
}

// level finds the bound of a GroupBy: the fewest tasks that a value has.
func (n *counter) level() {
	if n.op == GroupBy && len(n.counts) > 0 {
		n.bound = slices.Min(n.counts)
	}
}

// admits tells whether agent i may have one more task, as things stand.
func (s *scope) admits(i int) bool {
	if !s.admitted[i] {
		return false
	}
	for c := range s.counters {
		if n := &s.counters[c]; n.op != Spread && n.counts[n.value[i]] > n.bound {
			return false
		}
	}
	return true
}

// spreads tells whether the group's tasks are to be spread.
func (s *scope) spreads() bool {
	return s != nil && slices.ContainsFunc(s.counters, func(n counter) bool { return n.op == Spread })
}

// reopens tells whether a placement may open agents that were closed.
func (s *scope) reopens() bool { return s != nil && s.even }

// changes counts the placements that may have opened agents.
func (s *scope) changes() int {
	if s == nil {
		return 0
	}
	return s.placed
}

// crowd is how many tasks of the group stand in the way of an even spread there.
func (s *scope) crowd(i int) int {
	sum := 0
	for c := range s.counters {
		if n := &s.counters[c]; n.op == Spread {
			sum += n.counts[n.value[i]]
		}
	}
	return sum
}

// least is the smallest crowd of an admitted agent; ok is false if that takes more
// than a look at one counter.
func (s *scope) least() (crowd int, ok bool) {
	var spread *counter
	for c := range s.counters {
		if n := &s.counters[c]; n.op == Spread {
			if spread != nil {
				return 0, false
			}
			spread = n
		}
	}
	for i, here := range spread.here {
		if n := spread.counts[i]; here && (!ok || n < crowd) {
			crowd, ok = n, true
		}
	}
	return crowd, ok
}

// take counts a task that goes to agent i.
func (s *scope) take(i int) {
	if s == nil {
		return
	}
	for c := range s.counters {
		n := &s.counters[c]
		n.counts[n.value[i]]++
		n.level()
	}
	if s.even {
		s.placed++
	}
}

// Excluded tells how many of the agents each constraint excludes by itself as
// things stand, and which agents all of them admit.
func (r *Rules) Excluded(agents []Agent) (excluded []int, admitted []bool) {
	excluded, admitted = make([]int, len(r.Constraints)), make([]bool, len(agents))
	for i := range agents {
		admitted[i] = true
	}
	for i := range r.Constraints {
		one := Rules{
			Constraints: r.Constraints[i : i+1],
			Live:        []map[string]int{r.live(i)}, Unknown: []int{r.unknown(i)},
		}
		s := newScope(&one, agents)
		for a := range agents {
			if !s.admits(a) {
				excluded[i]++
				admitted[a] = false
			}
		}
	}
	return excluded, admitted
}
