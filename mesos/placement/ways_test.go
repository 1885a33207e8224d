package placement

import (
	"math/rand/v2"
	"testing"
)

// A task takes only what is offered to its role.
func TestRolesArePlacedApart(t *testing.T) {
	round := &Round{
		Agents: []Agent{
			{ID: "a", Role: "x", Free: Vector{CPUs: 1000}},
			{ID: "a", Role: "y", Free: Vector{CPUs: 3000}},
		},
	}
	for _, role := range []string{"x", "y", "x", "y", "z"} {
		round.Tasks = append(round.Tasks, Task{Owner: role, Role: role, Executor: role, Need: Vector{CPUs: 1000}})
	}
	var p Placer
	placed := map[string]int{}
	for _, a := range p.Place(round) {
		if round.Tasks[a.Task].Role != round.Agents[a.Agent].Role {
			t.Errorf("a task of role %s took an offer to %s", round.Tasks[a.Task].Role, round.Agents[a.Agent].Role)
		}
		placed[round.Tasks[a.Task].Role]++
	}
	if placed["x"] != 1 || placed["y"] != 2 || placed["z"] != 0 {
		t.Errorf("placed %v", placed)
	}
}

// What is preferred is tried first, the task's own way last, and each takes what it
// says.
func TestPreferredWays(t *testing.T) {
	task := Task{
		Owner: "o", Executor: "plain", Need: Vector{CPUs: 1000, Mem: 100}, Overhead: Vector{CPUs: 100},
		Rather: []Way{{Need: Vector{RevocableCPUs: 1000, Mem: 100}, Executor: "brave", Overhead: Vector{RevocableCPUs: 100}}},
	}
	round := &Round{
		Tasks:  []Task{task, task, task, task},
		Agents: []Agent{{ID: "a", Free: Vector{CPUs: 1100, RevocableCPUs: 2100, Mem: 1000}}},
	}
	var p Placer
	var ways []int
	starts := 0
	for _, a := range p.Place(round) {
		ways = append(ways, a.Way)
		if a.Starts {
			starts++
		}
	}
	if len(ways) != 3 || ways[0] != 1 || ways[1] != 1 || ways[2] != 0 || starts != 2 {
		t.Errorf("ways %v with %d executors started, want two preferred, one plain and an executor for each kind", ways, starts)
	}
}

// No task is placed where it might not end in time, whatever the mix.
func TestWindowsAreKept(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		round := &Round{}
		for range 1 + r.IntN(5) {
			round.Agents = append(round.Agents, Agent{Free: Vector{CPUs: 5000}, Left: int64(r.IntN(4)) * 100})
		}
		for range r.IntN(20) {
			round.Tasks = append(round.Tasks, Task{Need: Vector{CPUs: 1000}, Lasts: int64(r.IntN(5)) * 80})
		}
		var p Placer
		open := 0
		for _, a := range p.Place(round) {
			agent, task := round.Agents[a.Agent], round.Tasks[a.Task]
			if agent.Left > 0 && (task.Lasts == 0 || task.Lasts > agent.Left) {
				t.Fatalf("a task of %d was placed on an agent that goes in %d", task.Lasts, agent.Left)
			}
			if agent.Left == 0 {
				open++
			}
		}
		for _, agent := range round.Agents {
			if agent.Left == 0 && len(round.Tasks) >= 5 && open == 0 {
				t.Fatal("nothing was placed on an agent that stays")
			}
		}
	}
}

// Executors that serve one task alone are alike, and each is started.
func TestSingleTasksStartTheirOwn(t *testing.T) {
	round := &Round{Queue: NewQueue(), Agents: []Agent{{ID: "a", Free: Vector{CPUs: 3300}}}}
	for i, id := range []string{"x", "y", "z"} {
		round.Queue.Add(&Task{Age: int64(i), Single: true, Executor: id, Need: Vector{CPUs: 1000}, Overhead: Vector{CPUs: 200}})
	}
	if n := len(round.Queue.classes); n != 1 {
		t.Errorf("%d kinds of tasks", n)
	}
	var p Placer
	as := p.Place(round)
	if len(as) != 2 || !as[0].Starts || !as[1].Starts {
		t.Errorf("placed %+v, want two that start executors", as)
	}
}
