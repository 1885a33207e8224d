package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func vec(cpus, mem float64) Vector { return Vector{CPUs: Milli(cpus), Mem: Milli(mem)} }

func place(r *Round) []Assignment { return new(Placer).Place(r) }

func where(r *Round, as []Assignment) map[int]string {
	out := make(map[int]string)
	for _, a := range as {
		out[a.Task] = r.Agents[a.Agent].ID
	}
	return out
}

func TestBestFit(t *testing.T) {
	for _, c := range []struct {
		name   string
		task   Task
		agents []Agent
		want   string // "" for none
	}{
		{"the agent that it fills best", Task{Need: vec(1, 10)},
			[]Agent{{ID: "large", Free: vec(8, 80)}, {ID: "tight", Free: vec(1, 10)}, {ID: "small", Free: vec(1, 9)}}, "tight"},
		{"a living executor before a tighter agent", Task{Need: vec(1, 10), Executor: "x", Overhead: vec(1, 1)},
			[]Agent{{ID: "tight", Free: vec(2, 11)}, {ID: "warm", Free: vec(8, 80), Executors: map[string]Executor{"x": Alive}}}, "warm"},
		{"no room for the executor", Task{Need: vec(1, 10), Executor: "x", Overhead: vec(1, 1)},
			[]Agent{{ID: "a", Free: vec(1.5, 80)}}, ""},
		{"the executor lives there", Task{Need: vec(1, 10), Executor: "x", Overhead: vec(1, 1)},
			[]Agent{{ID: "a", Free: vec(1, 10), Executors: map[string]Executor{"x": Alive}}}, "a"},
		{"the executor is leaving", Task{Need: vec(1, 10), Executor: "x"},
			[]Agent{{ID: "a", Free: vec(8, 80), Executors: map[string]Executor{"x": Leaving}}}, ""},
		{"sums that floats get wrong", Task{Need: vec(0.1+0.2, 1)}, []Agent{{ID: "a", Free: vec(0.3, 1)}}, "a"},
		{"away from GPUs", Task{Need: vec(1, 10)},
			[]Agent{{ID: "gpu", Free: Vector{1000, 10_000, 0, 4000}}, {ID: "plain", Free: vec(1.5, 11)}}, "plain"},
		{"avoided agents last", Task{Need: vec(1, 10), Avoid: []string{"bad"}},
			[]Agent{{ID: "bad", Free: vec(1, 10)}, {ID: "good", Free: vec(8, 80)}}, "good"},
		{"avoided agents rather than none", Task{Need: vec(1, 10), Avoid: []string{"bad"}},
			[]Agent{{ID: "bad", Free: vec(1, 10)}, {ID: "good", Free: vec(0.5, 80)}}, "bad"},
		{"nothing on an agent avoided by all", Task{Need: vec(1, 10)},
			[]Agent{{ID: "bad", Free: vec(1, 10), Avoided: true}}, ""},
		{"another agent, though it fits less well", Task{Need: vec(1, 10)},
			[]Agent{{ID: "bad", Free: vec(1, 10), Avoided: true}, {ID: "good", Free: vec(8, 80)}}, "good"},
		{"the last resort", Task{Need: vec(1, 10), LastResort: true},
			[]Agent{{ID: "bad", Free: vec(1, 10), Avoided: true}}, "bad"},
		{"a last resort that has not lost it yet", Task{Need: vec(1, 10), LastResort: true, Avoid: []string{"bad"}},
			[]Agent{{ID: "bad", Free: vec(1, 10), Avoided: true}, {ID: "worse", Free: vec(8, 80), Avoided: true}}, "worse"},
		{"avoided agents never", Task{Need: vec(1, 10), Avoid: []string{"bad"}, Strict: true},
			[]Agent{{ID: "bad", Free: vec(1, 10)}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Round{Tasks: []Task{c.task}, Agents: c.agents}
			if got := where(r, place(r))[0]; got != c.want {
				t.Errorf("placed on %q, want %q", got, c.want)
			}
		})
	}
}

func TestOverheadCountsOncePerAgent(t *testing.T) {
	r := &Round{Agents: []Agent{{ID: "a", Free: vec(4, 40)}}}
	for i := range 5 {
		r.Tasks = append(r.Tasks, Task{Age: int64(i), Need: vec(1, 5), Executor: "x", Overhead: vec(1, 5)})
	}
	as := place(r)
	if len(as) != 3 {
		t.Fatalf("%d tasks on 4 CPUs of which the executor has one, want 3", len(as))
	}
	if !as[0].Starts || as[1].Starts || as[2].Starts {
		t.Errorf("the executor is started by %v", as)
	}
}

func TestPriorityThenFairThenOldest(t *testing.T) {
	r := &Round{
		Agents: []Agent{{ID: "a", Free: vec(6, 60)}},
		Total:  vec(20, 200),
		Held:   map[string]Vector{"big": vec(2, 20)},
	}
	add := func(owner string, priority, n int) {
		for range n {
			r.Tasks = append(r.Tasks, Task{Owner: owner, Priority: priority, Age: int64(len(r.Tasks)), Need: vec(1, 10)})
		}
	}
	add("big", 0, 10)
	add("small", 0, 10)
	add("urgent", 5, 1)
	as := place(r)
	var order []string
	for _, a := range as {
		order = append(order, fmt.Sprintf("%s%d", r.Tasks[a.Task].Owner, a.Task))
	}
	// urgent first; small catches up with what big holds, then they take turns, the
	// older task first.
	want := []string{"urgent20", "small10", "small11", "big0", "small12", "big1"}
	if !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}

func TestShare(t *testing.T) {
	if got := vec(2, 10).Share(vec(10, 100)); got != 0.2 {
		t.Errorf("dominant share %v, want 0.2 (CPUs)", got)
	}
	if got := (Vector{0, 0, 0, 1000}).Share(vec(10, 100)); got != 0 {
		t.Errorf("share of what nobody has: %v", got)
	}
}

func randomRound(rng *rand.Rand) *Round {
	r := &Round{Held: map[string]Vector{}}
	for i := range 1 + rng.IntN(12) {
		a := Agent{ID: fmt.Sprint("agent", i), Free: vec(float64(rng.IntN(80))/10, float64(rng.IntN(200))), Executors: map[string]Executor{}}
		a.Avoided = rng.IntN(4) == 0
		if rng.IntN(4) == 0 {
			a.Free[GPUs] = 1000 * int64(rng.IntN(3))
		}
		for x := range 3 {
			a.Executors[fmt.Sprint("x", x)] = Executor(rng.IntN(3))
		}
		r.Total = r.Total.Add(a.Free)
		r.Agents = append(r.Agents, a)
	}
	for range rng.IntN(80) {
		task := Task{
			Owner: fmt.Sprint("owner", rng.IntN(4)), Priority: rng.IntN(3), Age: int64(rng.IntN(1000)),
			Need:     vec(float64(1+rng.IntN(30))/10, float64(rng.IntN(60))),
			Executor: fmt.Sprint("x", rng.IntN(5)), Overhead: vec(0.1, 3), LastResort: rng.IntN(3) == 0,
		}
		if rng.IntN(5) == 0 {
			task.Need[GPUs] = 1000
		}
		if rng.IntN(4) == 0 {
			task.Avoid, task.Strict = []string{"agent0", "agent1"}, rng.IntN(2) == 0
		}
		for range rng.IntN(3) {
			task.Near = append(task.Near, Near{fmt.Sprint("agent", rng.IntN(14)), fmt.Sprint("x", rng.IntN(5)), 1})
		}
		r.Tasks = append(r.Tasks, task)
	}
	return r
}

// check replays the assignments against the rules.
func check(t *testing.T, r *Round, as []Assignment) {
	t.Helper()
	free := make([]Vector, len(r.Agents))
	started := make([]map[string]bool, len(r.Agents))
	for i, a := range r.Agents {
		free[i], started[i] = a.Free, map[string]bool{}
	}
	cost := func(task Task, a int) Vector {
		if r.Agents[a].Executors[task.Executor] == Alive || started[a][task.Executor] {
			return task.Need
		}
		return task.Need.Add(task.Overhead)
	}
	placed := map[int]bool{}
	for _, a := range as {
		task := r.Tasks[a.Task]
		if placed[a.Task] {
			t.Fatalf("task %d is placed twice", a.Task)
		}
		placed[a.Task] = true
		c := cost(task, a.Agent)
		if !c.Fits(free[a.Agent]) {
			t.Fatalf("agent %d is over-committed: %v of %v", a.Agent, c, free[a.Agent])
		}
		if starts := c != task.Need; a.Starts != starts {
			t.Fatalf("Starts is %v for %+v", a.Starts, task)
		}
		if r.Agents[a.Agent].Executors[task.Executor] == Leaving {
			t.Fatalf("task %d goes to an executor that is leaving", a.Task)
		}
		if task.Strict && slices.Contains(task.Avoid, r.Agents[a.Agent].ID) {
			t.Fatalf("task %d goes to an agent that it must avoid", a.Task)
		}
		if r.Agents[a.Agent].Avoided && !task.LastResort {
			t.Fatalf("task %d goes to an agent that is avoided", a.Task)
		}
		free[a.Agent] = free[a.Agent].Sub(c)
		started[a.Agent][task.Executor] = true
	}
	for i, task := range r.Tasks {
		for a := range r.Agents {
			ok := r.Agents[a].Executors[task.Executor] != Leaving && (!r.Agents[a].Avoided || task.LastResort) && !(task.Strict && slices.Contains(task.Avoid, r.Agents[a].ID))
			if ok && !placed[i] && cost(task, a).Fits(free[a]) {
				t.Fatalf("task %d waits, and agent %d has room for it", i, a)
			}
		}
	}
}

func TestRandomRounds(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var p Placer // scratch memory must not leak from one round into the next
	for range 2000 {
		r := randomRound(rng)
		as := p.Place(r)
		check(t, r, as)
		if fresh := place(r); !slices.Equal(as, fresh) {
			t.Fatalf("a used Placer places otherwise than a new one:\n%v\n%v", as, fresh)
		}
	}
}

// Nobody is served before an equal task of higher priority.
func TestPriorityHolds(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		r := &Round{Agents: []Agent{{ID: "a", Free: vec(10, 100)}}, Total: vec(10, 100)}
		for i := range 30 {
			r.Tasks = append(r.Tasks, Task{Owner: fmt.Sprint(rng.IntN(3)), Priority: rng.IntN(3), Age: int64(i), Need: vec(1, 10)})
		}
		as := place(r)
		for i := 1; i < len(as); i++ {
			if r.Tasks[as[i].Task].Priority > r.Tasks[as[i-1].Task].Priority {
				t.Fatalf("priorities out of order: %v", as)
			}
		}
		if len(as) != 10 {
			t.Fatalf("%d tasks on room for 10", len(as))
		}
	}
}

func BenchmarkPlace(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	r := &Round{Held: map[string]Vector{}}
	for i := range 200 {
		r.Agents = append(r.Agents, Agent{ID: fmt.Sprint(i), Free: vec(32, 128_000)})
		r.Total = r.Total.Add(r.Agents[i].Free)
	}
	for i := range 10_000 {
		r.Tasks = append(r.Tasks, Task{Owner: fmt.Sprint(i % 20), Age: int64(i), Need: vec(float64(1+rng.IntN(20))/10, float64(100*(1+rng.IntN(20)))),
			Executor: fmt.Sprint(i % 20), Overhead: vec(0.1, 32)})
	}
	var p Placer
	b.ReportAllocs()
	for b.Loop() {
		p.Place(r)
	}
}
