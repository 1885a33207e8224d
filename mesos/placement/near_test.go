package placement

import (
	"fmt"
	"testing"
)

func TestNear(t *testing.T) {
	x := map[string]Executor{"x": Alive}
	tight := Agent{ID: "tight", Free: vec(1, 10), Executors: x}
	large := func(change func(*Agent)) Agent {
		a := Agent{ID: "large", Free: vec(8, 80), Executors: x, Values: map[string]string{"zone": "b"}}
		if change != nil {
			change(&a)
		}
		return a
	}
	near := []Near{{"gone", "x", 100}, {"large", "x", 50}, {"tight", "x", 10}}
	for _, c := range []struct {
		name  string
		task  Task
		large Agent
		want  string
		bytes int64
	}{
		{"before an agent that it fills better", Task{Near: near}, large(nil), "large", 50},
		{"nothing is there", Task{}, large(nil), "tight", 0},
		{"another executor has it", Task{Near: []Near{{"large", "y", 50}}}, large(nil), "tight", 0},
		{"the executor is gone", Task{Near: near[:2]}, large(func(a *Agent) { a.Executors = nil }), "tight", 0},
		{"the executor is leaving", Task{Near: near[:2]}, large(func(a *Agent) { a.Executors = map[string]Executor{"x": Leaving} }), "tight", 0},
		{"no room, and nobody waits", Task{Near: near[:2]}, large(func(a *Agent) { a.Free = vec(0.5, 80) }), "tight", 0},
		{"no room, the next best", Task{Near: near}, large(func(a *Agent) { a.Free = vec(0.5, 80) }), "tight", 10},
		{"it has lost the task", Task{Near: near[:2], Avoid: []string{"large"}}, large(nil), "tight", 0},
		{"avoided by all", Task{Near: near[:2]}, large(func(a *Agent) { a.Avoided = true }), "tight", 0},
		{"avoided by all, though a last resort", Task{Near: near[:2], LastResort: true}, large(func(a *Agent) { a.Avoided = true }), "tight", 0},
		{"excluded by a constraint", Task{Near: near[:2], Rules: &Rules{Constraints: []Constraint{{Key: "zone", Op: Differs, Values: []string{"b"}}}}}, large(nil), "tight", 0},
		{"to be spread", Task{Near: near[:2], Rules: &Rules{
			Constraints: []Constraint{{Key: "zone", Op: Spread}}, Live: []map[string]int{{"b": 1}}}}, large(nil), "tight", 0},
		{"another role's", Task{Near: near[:2]}, large(func(a *Agent) { a.Role = "other" }), "tight", 0},
		{"maintained too soon", Task{Near: near[:2], Lasts: 2}, large(func(a *Agent) { a.Left = 1 }), "tight", 0},
		{"GPUs that it does not need", Task{Near: near[:2]}, large(func(a *Agent) { a.Free[GPUs] = 1000 }), "tight", 0},
		{"another way", Task{Near: []Near{{"large", "y", 50}}, Rather: []Way{{Need: vec(1, 10), Executor: "y"}}},
			large(func(a *Agent) { a.Executors = map[string]Executor{"y": Alive} }), "large", 50},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.task.Need, c.task.Executor = vec(1, 10), "x"
			r := &Round{Tasks: []Task{c.task}, Agents: []Agent{tight, c.large}}
			as := place(r)
			if len(as) != 1 || where(r, as)[0] != c.want || as[0].Near != c.bytes {
				t.Errorf("placed as %+v, want on %s for %d bytes", as, c.want, c.bytes)
			}
		})
	}
}

// A look at the agents that have the inputs does not cost a look at all others.
func BenchmarkNear(b *testing.B) {
	r := &Round{}
	for i := range 5000 {
		r.Agents = append(r.Agents, Agent{ID: fmt.Sprint(i), Free: vec(32, 128_000), Executors: map[string]Executor{"x": Alive}})
	}
	for i := range 1000 {
		r.Tasks = append(r.Tasks, Task{Age: int64(i), Need: vec(1, 100), Executor: "x", Near: []Near{{fmt.Sprint(i), "x", 1}}})
	}
	var p Placer
	for b.Loop() {
		p.Place(r)
	}
}
