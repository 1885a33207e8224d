package placement

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"
)

// farm is a cluster of agents of four sizes, and a queue of tasks of twenty owners
// and sixty kinds of needs that together ask for load times its CPUs. The sizes of
// tasks follow what clusters see: most are small, a few take half a machine.
func farm(agents, tasks int, load float64) *Round {
	rng := rand.New(rand.NewPCG(1, 2))
	r := &Round{Held: map[string]Vector{}}
	for i := range agents {
		cpus := float64(int(8) << (i % 4))
		r.Agents = append(r.Agents, Agent{ID: fmt.Sprint("agent", i), Free: vec(cpus, 4000*cpus)})
		r.Total = r.Total.Add(r.Agents[i].Free)
	}
	var kinds []Vector
	for i := range 60 {
		cpus := []float64{0.1, 0.25, 0.5, 0.5, 1, 1, 1, 2, 2, 4}[i%10]
		kinds = append(kinds, vec(cpus, cpus*float64(500*(1+rng.IntN(16)))))
	}
	asked := Vector{}
	for i := range tasks {
		owner := fmt.Sprint("owner", rng.IntN(20))
		t := Task{Owner: owner, Age: int64(i), Executor: owner, Overhead: vec(0.1, 32), Need: kinds[rng.IntN(len(kinds))]}
		r.Tasks = append(r.Tasks, t)
		asked = asked.Add(t.Need)
	}
	// Scale the needs, so that the load is what it shall be whatever the numbers.
	factor := load * float64(r.Total[CPUs]) / float64(asked[CPUs])
	for i := range r.Tasks {
		for d := range r.Tasks[i].Need {
			r.Tasks[i].Need[d] = int64(float64(r.Tasks[i].Need[d]) * factor)
		}
	}
	return r
}

// packed is what the placed tasks and their executors take, what the agents that
// they are on have, and how many these are.
func packed(r *Round, as []Assignment) (taken, tasks, opened Vector, agents int) {
	seen := make([]bool, len(r.Agents))
	for _, a := range as {
		tasks = tasks.Add(r.Tasks[a.Task].Need)
		taken = taken.Add(r.Tasks[a.Task].Need)
		if a.Starts {
			taken = taken.Add(r.Tasks[a.Task].Overhead)
		}
		if !seen[a.Agent] {
			seen[a.Agent] = true
			opened = opened.Add(r.Agents[a.Agent].Free)
			agents++
		}
	}
	return taken, tasks, opened, agents
}

// queued has the tasks of a round wait in a queue.
func queued(r *Round) *Round {
	q := NewQueue()
	for i := range r.Tasks {
		q.Add(&r.Tasks[i])
	}
	return &Round{Queue: q, Tasks: r.Tasks, Agents: r.Agents, Held: r.Held, Total: r.Total}
}

// BenchmarkPass places 100,000 tasks on 10,000 agents. No way to pack them can do
// with agents that have less in all than the tasks need of the scarcer resource; so
// much of what the opened agents have is used. Where not all tasks find a place, all
// agents are open, and the same figure is the part placed of the most that could be.
func BenchmarkPass(b *testing.B) {
	for _, c := range []struct {
		name   string
		load   float64
		change func(r *Round)
	}{
		{"room for all", 0.7, nil},
		{"too many", 1.3, nil},
		{"executors everywhere", 1.3, func(r *Round) { warm(r, 20, 20) }},
		{"executors of 200 owners", 1.3, func(r *Round) { warm(r, 200, 10) }},
		{"half used already", 1.3, used},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := farm(10_000, 100_000, c.load)
			if c.change != nil {
				c.change(r)
			}
			r = queued(r)
			var p Placer
			as := p.Place(r)
			b.ReportAllocs()
			began := cpuTime(b)
			for b.Loop() {
				as = p.Place(r)
			}
			b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
			taken, tasks, opened, agents := packed(r, as)
			b.ReportMetric(float64(len(as)), "placed")
			b.ReportMetric(float64(agents), "agents")
			b.ReportMetric(100*tasks.Share(opened), "%tasks/opened")
			b.ReportMetric(100*taken.Share(opened), "%taken/opened")
		})
	}
}

// How one pass grows with the agents and the tasks that wait, ten for each.
func BenchmarkPassOver(b *testing.B) {
	for _, agents := range []int{100, 1000, 10_000} {
		b.Run(strconv.Itoa(agents), func(b *testing.B) {
			r := queued(farm(agents, 10*agents, 1.3))
			var p Placer
			p.Place(r)
			began := cpuTime(b)
			for b.Loop() {
				p.Place(r)
			}
			b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime is what the process has used: other work on the machine does not count.
func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// warm has owners, and executors of some of them alive on each agent.
func warm(r *Round, owners, each int) {
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range r.Tasks {
		t := &r.Tasks[i]
		t.Owner = fmt.Sprint("owner", rng.IntN(owners))
		t.Executor = t.Owner
	}
	for i := range r.Agents {
		r.Agents[i].Executors = make(map[string]Executor)
		for range each {
			r.Agents[i].Executors[fmt.Sprint("owner", rng.IntN(owners))] = Alive
		}
	}
}

// used has tasks on each agent already, that leave some of this and some of that.
func used(r *Round) {
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range r.Agents {
		free := &r.Agents[i].Free
		for d := range free {
			free[d] = int64(float64(free[d]) * rng.Float64())
		}
	}
	warm(r, 20, 5)
}

// BenchmarkFull has 100,000 tasks wait, and ten agents with little room come along.
func BenchmarkFull(b *testing.B) {
	for _, c := range []struct {
		name string
		room float64 // of an agent
	}{{"nothing fits", 0.004}, {"a few fit", 0.05}, {"empty agents", 1}} {
		b.Run(c.name, func(b *testing.B) {
			r := queued(farm(10_000, 100_000, 1.3))
			r.Agents = r.Agents[:10]
			for i := range r.Agents {
				for d := range r.Agents[i].Free {
					r.Agents[i].Free[d] = int64(c.room * float64(r.Agents[i].Free[d]))
				}
			}
			var p Placer
			as := p.Place(r)
			b.ReportAllocs()
			began := cpuTime(b)
			for b.Loop() {
				as = p.Place(r)
			}
			b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(len(as)), "placed")
			b.ReportMetric(float64(len(r.Queue.classes)), "classes")
		})
	}
}

// Once a Placer has seen a round, another one costs no memory.
func TestPlacesWithoutAllocation(t *testing.T) {
	r := queued(farm(200, 2000, 1.3))
	r.Near = func(i int) []Near { return inputs[:i%2] }
	var p Placer
	if n := len(p.Place(r)); n < 1000 {
		t.Fatalf("%d tasks placed", n)
	}
	if n := testing.AllocsPerRun(10, func() { p.Place(r) }); n > 0 {
		t.Errorf("%v allocations in a round", n)
	}
}

var inputs = []Near{{"agent3", "owner3", 100}}

// What a round costs does not grow with the tasks that wait for what is not there:
// one of each kind is tried, and none if nobody has so much of something.
func TestTriesOneTaskOfAKind(t *testing.T) {
	for _, c := range []struct {
		name string
		free []Vector
		none bool
	}{
		{"too little of all", []Vector{vec(0.01, 1)}, true},
		{"never all at once", []Vector{vec(0.01, 100_000), vec(100, 1)}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := queued(farm(200, 10_000, 1.3))
			r.Agents = r.Agents[:len(c.free)]
			for i := range c.free {
				r.Agents[i].Free = c.free[i]
			}
			asked := 0
			r.Ask = func(int, *Turn) { asked++ }
			var p Placer
			if n := len(p.Place(r)); n > 0 {
				t.Fatalf("%d tasks placed", n)
			}
			if kinds := len(r.Queue.classes); kinds > 20*60 || c.none && asked > 0 || !c.none && asked != kinds {
				t.Errorf("%d tasks tried of %d kinds", asked, kinds)
			}
		})
	}
}

// Packing stays within five hundredths of the least that could do.
func TestPacksWell(t *testing.T) {
	for _, load := range []float64{0.7, 1.3} {
		r := farm(500, 5000, load)
		as := place(r)
		if _, tasks, opened, _ := packed(r, as); tasks.Share(opened) < 0.95 {
			t.Errorf("%.1f %% of the opened agents are used at load %v", 100*tasks.Share(opened), load)
		}
	}
}
