package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// mixed is a round with everything in it: several roles and priorities, more kinds of
// executors than a mask has bits, windows, avoided agents, constraints, inputs, ways
// and tasks that are alike.
func mixed(rng *rand.Rand) *Round {
	r := &Round{Held: map[string]Vector{}}
	agents, executors := 1+rng.IntN(200), 1+rng.IntN(150)
	values := []string{"v0", "v1", "v2"}
	for i := range agents {
		a := Agent{
			ID: fmt.Sprint("agent", i-i%2*rng.IntN(2)), Role: fmt.Sprint("role", rng.IntN(2)*rng.IntN(2)),
			Free:    vec(float64(rng.IntN(160))/10, float64(rng.IntN(16_000))),
			Avoided: rng.IntN(8) == 0, Executors: map[string]Executor{}, Values: map[string]string{},
		}
		if rng.IntN(8) == 0 {
			a.Free[GPUs] = 1000 * int64(rng.IntN(3))
		}
		if rng.IntN(4) == 0 {
			a.Free[Disk], a.Left = 1000*int64(rng.IntN(100)), int64(rng.IntN(3))*50
		}
		for range rng.IntN(4) * rng.IntN(8) {
			a.Executors[fmt.Sprint("x", rng.IntN(executors))] = Executor(rng.IntN(3))
		}
		for _, key := range []string{"x", "y"} {
			if v := rng.IntN(4); v < 3 {
				a.Values[key] = values[v]
			}
		}
		r.Total = r.Total.Add(a.Free)
		r.Agents = append(r.Agents, a)
	}
	for o := range 3 {
		r.Held[fmt.Sprint("owner", o)] = vec(float64(rng.IntN(20)), float64(rng.IntN(1000)))
	}
	groups := []*Rules{nil, nil, nil, randomRules(rng, r.Agents), randomRules(rng, r.Agents)}
	var kinds []Task
	for range 1 + rng.IntN(40) {
		t := Task{
			Owner: fmt.Sprint("owner", rng.IntN(5)), Priority: rng.IntN(2), Role: fmt.Sprint("role", rng.IntN(2)*rng.IntN(2)),
			Need:     vec(float64(rng.IntN(30))/10, float64(rng.IntN(40)*100)),
			Executor: fmt.Sprint("x", rng.IntN(executors)), Overhead: vec(0.1, 32),
			LastResort: rng.IntN(3) == 0, Lasts: int64(rng.IntN(2) * rng.IntN(100)), Rules: groups[rng.IntN(len(groups))],
		}
		if rng.IntN(8) == 0 {
			t.Need[GPUs] = 1000
		}
		if rng.IntN(4) == 0 {
			t.Avoid, t.Strict = []string{"agent0", "agent2", "gone"}[rng.IntN(2):], rng.IntN(2) == 0
		}
		for range rng.IntN(2) * rng.IntN(3) {
			t.Rather = append(t.Rather, Way{Need: vec(float64(rng.IntN(20))/10, 100), Executor: fmt.Sprint("x", rng.IntN(executors)), Overhead: vec(0.1, 32)})
		}
		kinds = append(kinds, t)
	}
	tasks := rng.IntN(600)
	ages := rng.Perm(tasks)
	for i := range tasks {
		t := kinds[rng.IntN(len(kinds))]
		t.Age = int64(ages[i])
		for range rng.IntN(2) * rng.IntN(3) {
			t.Near = append(t.Near, Near{r.Agents[rng.IntN(agents)].ID, t.way(rng.IntN(1 + len(t.Rather))).Executor, int64(1 + rng.IntN(9))})
		}
		r.Tasks = append(r.Tasks, t)
	}
	return r
}

// The tasks go where a plain look at each agent for each task puts them, in the same
// order, whether they come in one heap or wait in a queue from round to round.
func TestAgreesWithThePlainWay(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var p, served Placer
	var slow slowPlacer
	placed, near, ways, starts := 0, 0, 0, 0
	for n := range 120 {
		r := mixed(rng)
		want := slow.Place(r)
		if got := p.Place(r); !slices.Equal(got, want) {
			t.Fatalf("round %d: %s", n, difference(r, got, want))
		}
		for _, a := range want {
			placed++
			near += int(min(a.Near, 1))
			ways += min(a.Way, 1)
			if a.Starts {
				starts++
			}
		}
		throughQueue(t, rng, &served, r, want)
	}
	t.Logf("%d placed, %d of them near inputs, %d another way, %d with a new executor", placed, near, ways, starts)
	if placed < 3000 || near < 30 || ways < 50 || starts < 500 {
		t.Error("too few to show anything")
	}
}

// throughQueue places the round once more, from a queue to which the tasks came in
// another order, with others that are gone again.
func throughQueue(t *testing.T, rng *rand.Rand, p *Placer, r *Round, want []Assignment) {
	t.Helper()
	q := NewQueue()
	index := make(map[int]int)
	var gone []int
	for _, i := range rng.Perm(len(r.Tasks)) {
		if rng.IntN(4) == 0 {
			other := r.Tasks[rng.IntN(len(r.Tasks))]
			other.Age = int64(rng.IntN(1000))
			gone = append(gone, q.Add(&other))
		}
		if rng.IntN(4) == 0 && len(gone) > 0 {
			q.Remove(gone[0])
			gone = gone[1:]
		}
		index[q.Add(&r.Tasks[i])] = i
	}
	for _, i := range gone {
		q.Remove(i)
	}
	r = &Round{
		Queue: q, Agents: r.Agents, Held: r.Held, Total: r.Total, Tasks: r.Tasks,
		Near: func(i int) []Near { return r.Tasks[index[i]].Near },
	}
	got := slices.Clone(p.Place(r))
	for i := range got {
		got[i].Task = index[got[i].Task]
	}
	if !slices.Equal(got, want) {
		t.Fatalf("from a queue: %s", difference(r, got, want))
	}
	for slot := range index {
		q.Remove(slot)
	}
	if len(q.classes)+len(q.lines)+len(q.owners)+len(q.levels)+len(q.executors) > 0 || q.bits != [64]int{} {
		t.Fatalf("an empty queue keeps %+v", q)
	}
}

func difference(r *Round, got, want []Assignment) string {
	for i := range want {
		if i == len(got) || got[i] != want[i] {
			var it any = "nothing"
			if i < len(got) {
				it = got[i]
			}
			return fmt.Sprintf("%d. is %+v, want %+v for %+v", i, it, want[i], r.Tasks[want[i].Task])
		}
	}
	return fmt.Sprintf("%d more than %d", len(got)-len(want), len(want))
}
