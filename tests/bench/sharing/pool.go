package sharing

import (
	"container/heap"
	"math"

	"github.com/baas-batch/baas/mesos/placement"
)

// overhead is what a team's executor takes on each machine on which it has tasks.
var overhead = placement.Vector{placement.CPUs: 100, placement.Mem: 32_000}

// pool runs a trace on machines that are all alike.
type pool struct {
	tasks    []task
	agents   []placement.Agent
	running  []map[string]int // tasks by agent and team
	queue    *placement.Queue
	numbers  map[int]int // tasks by their numbers in the queue
	ends     endHeap
	round    placement.Round
	placer   placement.Placer
	waited   []int64 // by task, seconds; -1 before it has started
	makespan int64
	worked   int64 // thousandths of CPU seconds
	watch    func(now int64, agents []placement.Agent)
}

type end struct {
	at          int64
	task, agent int
}

// newPool has machines that are idle, and tasks that are yet to come, in order.
func newPool(cfg Config, tasks []task, machines int) *pool {
	p := &pool{
		tasks: tasks, queue: placement.NewQueue(), numbers: make(map[int]int),
		running: make([]map[string]int, machines), waited: make([]int64, len(tasks)),
	}
	for i := range machines {
		p.agents = append(p.agents, placement.Agent{ID: teamName(i), Free: cfg.machine(), Executors: make(map[string]placement.Executor)})
		p.running[i] = make(map[string]int)
		p.round.Total = p.round.Total.Add(cfg.machine())
	}
	p.round.Queue, p.round.Agents, p.round.Held = p.queue, p.agents, make(map[string]placement.Vector)
	for i := range p.waited {
		p.waited[i] = -1
	}
	return p
}

// run goes from one moment in which something happens to the next.
func (p *pool) run() {
	for next := 0; next < len(p.tasks) || len(p.ends) > 0; {
		now := int64(math.MaxInt64)
		if next < len(p.tasks) {
			now = p.tasks[next].submit
		}
		if len(p.ends) > 0 {
			now = min(now, p.ends[0].at)
		}
		for len(p.ends) > 0 && p.ends[0].at == now {
			p.finish(heap.Pop(&p.ends).(end))
		}
		for ; next < len(p.tasks) && p.tasks[next].submit == now; next++ {
			p.numbers[p.queue.Add(p.describe(next))] = next
		}
		if len(p.numbers) > 0 {
			p.start(now)
		}
		if p.watch != nil {
			p.watch(now, p.agents)
		}
	}
}

func (p *pool) describe(i int) *placement.Task {
	t := &p.tasks[i]
	name := teamName(t.team)
	return &placement.Task{Owner: name, Age: t.submit, Need: t.need, Executor: name, Overhead: overhead}
}

// start places what waits.
func (p *pool) start(now int64) {
	for _, a := range p.placer.Place(&p.round) {
		i := p.numbers[a.Task]
		delete(p.numbers, a.Task)
		p.queue.Remove(a.Task)
		t := &p.tasks[i]
		name, agent := teamName(t.team), &p.agents[a.Agent]
		agent.Free = agent.Free.Sub(t.need)
		if p.running[a.Agent][name]++; a.Starts {
			agent.Free = agent.Free.Sub(overhead)
			agent.Executors[name] = placement.Alive
		}
		p.round.Held[name] = p.round.Held[name].Add(t.need)
		p.waited[i] = now - t.submit
		heap.Push(&p.ends, end{now + t.lasts, i, a.Agent})
	}
}

func (p *pool) finish(e end) {
	t := &p.tasks[e.task]
	name, agent := teamName(t.team), &p.agents[e.agent]
	agent.Free = agent.Free.Add(t.need)
	if p.running[e.agent][name]--; p.running[e.agent][name] == 0 {
		agent.Free = agent.Free.Add(overhead)
		delete(agent.Executors, name)
	}
	p.round.Held[name] = p.round.Held[name].Sub(t.need)
	p.makespan = max(p.makespan, e.at)
	p.worked += t.need[placement.CPUs] * t.lasts
}

type endHeap []end

func (h endHeap) Len() int { return len(h) }
func (h endHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].task < h[j].task
}
func (h endHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *endHeap) Push(x any)   { *h = append(*h, x.(end)) }
func (h *endHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
