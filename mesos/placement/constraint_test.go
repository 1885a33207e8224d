package placement

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
)

func TestConstraints(t *testing.T) {
	rack := func(id, value string) Agent {
		a := Agent{ID: id, Free: vec(1, 10), Values: map[string]string{"host": id}}
		if value != "" {
			a.Values["rack"] = value
		}
		return a
	}
	agents := []Agent{rack("none", ""), rack("one", "r1"), rack("two", "r2"), rack("ten", "r10")}
	for _, c := range []struct {
		name string
		c    Constraint
		want []string
	}{
		{"is", Constraint{Op: Is, Values: []string{"r1"}}, []string{"one"}},
		{"differs, also without a value", Constraint{Op: Differs, Values: []string{"r1"}}, []string{"none", "ten", "two"}},
		{"in", Constraint{Op: In, Values: []string{"r1", "r2"}}, []string{"one", "two"}},
		{"not in", Constraint{Op: NotIn, Values: []string{"r1", "r2"}}, []string{"none", "ten"}},
		{"like", Constraint{Op: Like, Pattern: regexp.MustCompile(`^(?:r1.*)$`)}, []string{"one", "ten"}},
		{"unlike", Constraint{Op: Unlike, Pattern: regexp.MustCompile(`^(?:r1.*)$`)}, []string{"none", "two"}},
		{"max per", Constraint{Op: MaxPer, Max: 1}, []string{"one", "ten", "two"}},
		{"group by", Constraint{Op: GroupBy}, []string{"one", "ten", "two"}},
		{"spread", Constraint{Op: Spread}, []string{"none", "one", "ten", "two"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.c.Key = "rack"
			rules := &Rules{Constraints: []Constraint{c.c}}
			r := &Round{Agents: agents}
			for i := range 5 {
				r.Tasks = append(r.Tasks, Task{Age: int64(i), Need: vec(1, 10), Rules: rules})
			}
			var got []string
			for _, id := range where(r, place(r)) {
				got = append(got, id)
			}
			if slices.Sort(got); !slices.Equal(got, c.want) {
				t.Errorf("placed on %v, want %v", got, c.want)
			}
		})
	}
}

func TestWhatRunsAlreadyCounts(t *testing.T) {
	agents := []Agent{
		{ID: "a", Free: vec(9, 90), Values: map[string]string{"rack": "r1"}},
		{ID: "b", Free: vec(9, 90), Values: map[string]string{"rack": "r2"}},
	}
	for _, c := range []struct {
		name  string
		rules Rules
		a, b  int
	}{
		{"at most three", Rules{Constraints: []Constraint{{Key: "rack", Op: MaxPer, Max: 3}}, Live: []map[string]int{{"r1": 2}}}, 1, 3},
		{"at most three, with some that nobody knows where", Rules{Constraints: []Constraint{{Key: "rack", Op: MaxPer, Max: 3}},
			Live: []map[string]int{{"r1": 2}}, Unknown: []int{1}}, 0, 2},
		{"evenly", Rules{Constraints: []Constraint{{Key: "rack", Op: GroupBy}}, Live: []map[string]int{{"r1": 4}}}, 3, 7},
		{"evenly, with a value that is not offered", Rules{Constraints: []Constraint{{Key: "rack", Op: GroupBy}},
			Live: []map[string]int{{"r1": 4, "r3": 1}}}, 0, 2},
		{"spread", Rules{Constraints: []Constraint{{Key: "rack", Op: Spread}}, Live: []map[string]int{{"r1": 4}}}, 3, 7},
		{"both", Rules{Constraints: []Constraint{{Key: "rack", Op: GroupBy}, {Key: "rack", Op: MaxPer, Max: 5}},
			Live: []map[string]int{{"r1": 4}, {"r1": 4}}}, 1, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Round{Agents: agents}
			for i := range 10 {
				r.Tasks = append(r.Tasks, Task{Age: int64(i), Need: vec(0.5, 5), Rules: &c.rules})
			}
			count := map[string]int{}
			for _, id := range where(r, place(r)) {
				count[id]++
			}
			if count["a"] != c.a || count["b"] != c.b {
				t.Errorf("%d on a and %d on b, want %d and %d", count["a"], count["b"], c.a, c.b)
			}
		})
	}
}

// A class of tasks that did not fit must be tried again where a placement of
// another one opens agents.
func TestGroupByOpensAgents(t *testing.T) {
	rules := &Rules{Constraints: []Constraint{{Key: "rack", Op: GroupBy}}}
	r := &Round{
		Agents: []Agent{
			{ID: "large", Free: vec(8, 80), Values: map[string]string{"rack": "r1"}},
			{ID: "small", Free: vec(1, 10), Values: map[string]string{"rack": "r2"}},
		},
		Tasks: []Task{
			{Age: 1, Need: vec(4, 40), Rules: rules}, // r1
			{Age: 2, Need: vec(4, 40), Rules: rules}, // r2 is due, and too small
			{Age: 3, Need: vec(1, 10), Rules: rules}, // r2
			{Age: 4, Need: vec(4, 40), Rules: rules}, // r1 again
		},
	}
	got := where(r, place(r))
	if len(got) != 3 || got[0] != "large" || got[2] != "small" || got[3] != "large" {
		t.Errorf("placed %v", got)
	}
}

func TestExcluded(t *testing.T) {
	r := &Rules{
		Constraints: []Constraint{
			{Key: "rack", Op: Is, Values: []string{"r1"}},
			{Key: "host", Op: MaxPer, Max: 1},
			{Key: "rack", Op: Spread},
		},
		Live: []map[string]int{nil, {"a": 1}, {"r1": 1}},
	}
	var agents []Agent
	for i, id := range []string{"a", "b", "c"} {
		agents = append(agents, Agent{ID: id, Values: map[string]string{"host": id, "rack": fmt.Sprintf("r%d", min(i, 1)+1)}})
	}
	excluded, admitted := r.Excluded(agents)
	if !slices.Equal(excluded, []int{2, 1, 0}) || !slices.Equal(admitted, []bool{false, false, false}) {
		t.Errorf("excluded %v, admitted %v", excluded, admitted)
	}
}

func randomRules(rng *rand.Rand, agents []Agent) *Rules {
	r := &Rules{}
	values := []string{"v0", "v1", "v2"}
	for range rng.IntN(4) {
		c := Constraint{
			Key: []string{"x", "y"}[rng.IntN(2)], Op: Op(rng.IntN(int(Spread) + 1)),
			Values: values[rng.IntN(2) : 1+rng.IntN(2)+1], Pattern: regexp.MustCompile(`^(?:v[0-1])$`), Max: 1 + rng.IntN(4),
		}
		live, unknown := map[string]int(nil), 0
		if c.Op.Counts() {
			live = map[string]int{}
			for range rng.IntN(4) {
				live[values[rng.IntN(3)]]++
			}
			unknown = rng.IntN(2) * rng.IntN(2)
		}
		r.Constraints, r.Live, r.Unknown = append(r.Constraints, c), append(r.Live, live), append(r.Unknown, unknown)
	}
	return r
}

// ruled is a second, plain reading of the constraints: it replays the assignments
// of a round one by one.
type ruled struct {
	rules  *Rules
	agents []Agent
	counts []map[string]int
}

func newRuled(r *Rules, agents []Agent) *ruled {
	w := &ruled{rules: r, agents: agents}
	for i := range r.Constraints {
		counts := map[string]int{}
		for v, n := range r.Live[i] {
			counts[v] = n
		}
		w.counts = append(w.counts, counts)
	}
	for i := range r.Constraints { // values that could have a task take part in the evenness
		for a := range agents {
			if w.static(a) && r.Constraints[i].Op == GroupBy {
				w.counts[i][agents[a].Values[r.Constraints[i].Key]] += 0
			}
		}
	}
	return w
}

func (w *ruled) static(a int) bool {
	for _, c := range w.rules.Constraints {
		v, has := w.agents[a].Values[c.Key]
		is := slices.Contains(c.Values, v)
		ok := map[Op]bool{
			Is: has && is, In: has && is, Differs: !has || !is, NotIn: !has || !is,
			Like: has && (v == "v0" || v == "v1"), Unlike: v != "v0" && v != "v1",
			MaxPer: has, GroupBy: has, Spread: true,
		}[c.Op]
		if !ok {
			return false
		}
	}
	return true
}

func (w *ruled) allows(a int) error {
	if !w.static(a) {
		return fmt.Errorf("agent %v does not meet %+v", w.agents[a].Values, w.rules.Constraints)
	}
	for i, c := range w.rules.Constraints {
		n := w.counts[i][w.agents[a].Values[c.Key]]
		if c.Op == MaxPer && n+w.rules.Unknown[i] >= c.Max {
			return fmt.Errorf("%d and %d unknown are there, at most %d may be", n, w.rules.Unknown[i], c.Max)
		}
		if c.Op == GroupBy {
			for v, m := range w.counts[i] {
				if m < n {
					return fmt.Errorf("%d are there, and %d on %s", n, m, v)
				}
			}
		}
	}
	return nil
}

func (w *ruled) take(a int) {
	for i, c := range w.rules.Constraints {
		w.counts[i][w.agents[a].Values[c.Key]]++
	}
}

// No assignment ever violates a constraint, and no task waits that has a place
// which all constraints allow at the end of the round.
func TestRandomConstraints(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var p Placer
	placed := 0
	for range 3000 {
		r := &Round{}
		for i := range 1 + rng.IntN(8) {
			a := Agent{ID: fmt.Sprint(i), Free: vec(float64(rng.IntN(5)), 1000), Values: map[string]string{}}
			for _, key := range []string{"x", "y"} {
				if v := rng.IntN(4); v < 3 {
					a.Values[key] = fmt.Sprintf("v%d", v)
				}
			}
			r.Agents = append(r.Agents, a)
		}
		groups := []*Rules{nil, randomRules(rng, r.Agents), randomRules(rng, r.Agents)}
		for i := range rng.IntN(20) {
			r.Tasks = append(r.Tasks, Task{
				Owner: fmt.Sprint(rng.IntN(2)), Priority: rng.IntN(2), Age: int64(i), Need: vec(float64(1+rng.IntN(2)), 1),
				Rules: groups[rng.IntN(3)],
			})
		}
		books := map[*Rules]*ruled{}
		for _, g := range groups[1:] {
			books[g] = newRuled(g, r.Agents)
		}
		free, waits := make([]Vector, len(r.Agents)), make([]bool, len(r.Tasks))
		for i := range r.Agents {
			free[i] = r.Agents[i].Free
		}
		for i := range waits {
			waits[i] = true
		}
		for _, as := range p.Place(r) {
			waits[as.Task] = false
			free[as.Agent] = free[as.Agent].Sub(r.Tasks[as.Task].Need)
			if w := books[r.Tasks[as.Task].Rules]; w != nil {
				if err := w.allows(as.Agent); err != nil {
					t.Fatalf("task %d on agent %d: %v", as.Task, as.Agent, err)
				}
				w.take(as.Agent)
				placed++
			}
		}
		for i, task := range r.Tasks {
			for a := range r.Agents {
				w := books[task.Rules]
				// With GroupBy a later placement may open agents to tasks that were tried
				// before: the next round has them.
				even := w != nil && slices.ContainsFunc(task.Rules.Constraints, func(c Constraint) bool { return c.Op == GroupBy })
				if waits[i] && !even && task.Need.Fits(free[a]) && (w == nil || w.allows(a) == nil) {
					t.Fatalf("task %d waits, and agent %d has room for it", i, a)
				}
			}
		}
	}
	if placed < 1000 {
		t.Errorf("%d tasks with constraints were placed: too few to show anything", placed)
	}
}

// BenchmarkConstraints places 10,000 tasks on 1,000 agents.
func BenchmarkConstraints(b *testing.B) {
	for _, c := range []struct {
		name string
		list []Constraint
	}{
		{"none", nil},
		{"attribute", []Constraint{{Key: "rack", Op: Like, Pattern: regexp.MustCompile(`^(?:r[0-9]+)$`)}, {Key: "zone", Op: In, Values: []string{"a", "b"}}}},
		{"counting", []Constraint{{Key: "rack", Op: GroupBy}, {Key: "host", Op: MaxPer, Max: 20}}},
		{"spread", []Constraint{{Key: "rack", Op: Spread}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := &Round{Held: map[string]Vector{}}
			for i := range 1000 {
				r.Agents = append(r.Agents, Agent{ID: fmt.Sprint(i), Free: vec(16, 64_000), Values: map[string]string{
					"host": fmt.Sprint(i), "rack": fmt.Sprintf("r%d", i%40), "zone": string(rune('a' + i%2)),
				}})
				r.Total = r.Total.Add(r.Agents[i].Free)
			}
			var steps []*Rules
			for range 20 {
				if c.list == nil {
					steps = append(steps, nil)
					continue
				}
				steps = append(steps, &Rules{Constraints: c.list})
			}
			for i := range 10_000 {
				r.Tasks = append(r.Tasks, Task{
					Owner: fmt.Sprint(i % 20), Age: int64(i), Need: vec(1, 1000), Rules: steps[i%20],
					Executor: fmt.Sprint(i % 20), Overhead: vec(0.1, 32),
				})
			}
			var p Placer
			placed := 0
			for b.Loop() {
				placed = len(p.Place(r))
			}
			b.ReportMetric(float64(placed), "placed")
		})
	}
}
