package sharing

import (
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/mesos/placement"
)

var small = Config{Seed: 7, Teams: 4, Days: 1, Percentile: 0.99, Tick: 30 * time.Second}.withDefaults()

// All work is done on both sides, for less on shared machines, and no later.
func TestSharingDoesTheSameWorkOnFewerMachines(t *testing.T) {
	r := Run(small)
	var out strings.Builder
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + out.String())
	if r.Tasks < 500 || r.Jobs < 50 {
		t.Fatalf("%d tasks of %d jobs are too few to show anything", r.Tasks, r.Jobs)
	}
	for name, s := range map[string]Side{"static": r.Static, "shared": r.Shared} {
		done := s.Utilisation * s.MachineHours * small.CPUs
		if diff := done/r.CPUHours - 1; diff < -1e-9 || diff > 1e-9 {
			t.Errorf("%s: %.3f CPU hours done of %.3f", name, done, r.CPUHours)
		}
	}
	if r.Shared.Machines >= r.Static.Machines || !r.Shared.noWorse(r.Static) {
		t.Errorf("shared %+v, static %+v", r.Shared, r.Static)
	}
	if again := Run(small); again != r {
		t.Errorf("a second run gives\n%+v\nnot\n%+v", again, r)
	}
	other := small
	other.Seed++
	if Run(other) == r {
		t.Error("the seed does not matter")
	}
}

// No machine ever has more on it than it has room for, every task runs once, and in
// the end all machines are empty.
func TestMachinesAreNotOvercommitted(t *testing.T) {
	tasks, _ := trace(small)
	p := newPool(small, tasks, 12)
	full := 0
	p.watch = func(now int64, agents []placement.Agent) {
		held := make([]placement.Vector, len(agents))
		for _, e := range p.ends {
			held[e.agent] = held[e.agent].Add(tasks[e.task].need)
		}
		for i, a := range agents {
			held[i] = held[i].Add(a.Free)
			for range a.Executors {
				held[i] = held[i].Add(overhead)
			}
			if held[i] != small.machine() || !(placement.Vector{}).Fits(a.Free) {
				t.Fatalf("at %d machine %d has %v in all, %v free", now, i, held[i], a.Free)
			}
			if a.Free[placement.CPUs] < 500 {
				full++
			}
		}
	}
	p.run()
	if full == 0 {
		t.Error("no machine was ever full")
	}
	for i, w := range p.waited {
		if w < 0 {
			t.Fatalf("task %d never ran", i)
		}
	}
	for i, a := range p.agents {
		if a.Free != small.machine() {
			t.Errorf("machine %d has %v free in the end", i, a.Free)
		}
	}
}

// The trace has what the model is known for.
func TestTraceFollowsTheModel(t *testing.T) {
	cfg := Config{Seed: 3, Teams: 30, Days: 10}.withDefaults()
	tasks, jobs := trace(cfg)
	if perDay := float64(jobs) / 30 / 10; perDay < 60 || perDay > 120 {
		t.Errorf("%.1f jobs of a team in a day", perDay)
	}
	night, day := 0, 0
	for _, task := range tasks {
		switch hour := task.submit / 3600 % 24; {
		case hour >= 1 && hour < 5:
			night++
		case hour >= 12 && hour < 16:
			day++
		}
	}
	if day < 3*night {
		t.Errorf("%d tasks come in four hours of the day, %d in four of the night", day, night)
	}
	if per := float64(len(tasks)) / float64(jobs); per < 6 || per > 18 {
		t.Errorf("%.1f tasks in a job", per)
	}
}

func TestOwnMachinesAreForThePercentile(t *testing.T) {
	cfg := Config{}.withDefaults()
	need := placement.Vector{placement.CPUs: 15_000}
	own := []task{{0, 0, 90, need}, {0, 80, 20, need}} // two at once for a tenth of the time
	for want, part := range map[int]float64{2: 1, 1: 0.9} {
		cfg.Percentile = part
		if n := machines(cfg, own); n != want {
			t.Errorf("%d machines for %v of the time, want %d", n, part, want)
		}
	}
}
