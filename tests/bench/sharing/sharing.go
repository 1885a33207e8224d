// Package sharing replays one trace of batch jobs on machines that each team has for
// itself, and on agents that all teams share, and compares what both need. It is
// pure: the same Config gives the same Report.
//
// The trace follows the model of Lublin and Feitelson ("The workload on parallel
// supercomputers: modeling the characteristics of rigid jobs", JPDC 63(11), 2003),
// fitted to logs of the Parallel Workloads Archive (SDSC Paragon, KTH SP2, LANL
// CM-5), with the parameters for all jobs of the authors' program m_lublin99.c: the
// number of tasks of a job (24.4 % have one, the others up to 128, mostly powers of
// two), how long they run (a mixture around a minute and around three hours, the
// large jobs rather long, at most 45 hours), and when jobs come (about a hundred a
// day, in the busiest hour eight times as many as in the quietest). Each team is one such site; all teams have the
// same daily cycle, which is the hardest case for sharing. Not of the model, but
// assumed: what a task needs (half a CPU to two, 1 to 8 GB), that the tasks of a job
// may run one after the other, and the number of teams.
package sharing

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/baas-batch/baas/mesos/placement"
)

// Config says what is compared. Zero values stand for 20 teams, 5 days, machines of
// 16 CPUs and 64 GB, a peak of 100 % and ticks of 10 s.
type Config struct {
	Seed   uint64
	Teams  int
	Days   int
	CPUs   float64 // of a machine
	Memory float64 // of a machine, GB
	// Percentile is how much of the time a team's own machines are enough for all
	// that it wants to run at once; 1 for its peak.
	Percentile float64
	Tick       time.Duration // all times are whole ticks; at least a second
}

func (c Config) withDefaults() Config {
	if c.Teams <= 0 {
		c.Teams = 20
	}
	if c.Days <= 0 {
		c.Days = 5
	}
	if c.CPUs <= 0 {
		c.CPUs = 16
	}
	if c.Memory <= 0 {
		c.Memory = 64
	}
	if c.Percentile <= 0 || c.Percentile > 1 {
		c.Percentile = 1
	}
	if c.Tick < time.Second {
		c.Tick = 10 * time.Second
	}
	return c
}

func (c Config) machine() placement.Vector {
	return placement.Vector{placement.CPUs: placement.Milli(c.CPUs), placement.Mem: placement.Milli(1024 * c.Memory)}
}

// Side is how one of the two does.
type Side struct {
	Machines     int
	Utilisation  float64 // part of the machines' CPUs that tasks asked for, up to the makespan
	Makespan     time.Duration
	WaitP50      time.Duration
	WaitP95      time.Duration
	WorstTeam    time.Duration // p95 of the team that waits most
	MachineHours float64       // the cost: all machines until the makespan
}

// Report is what Run found out.
type Report struct {
	Config         Config
	Jobs, Tasks    int
	CPUHours       float64 // that all tasks ask for
	Static, Shared Side
}

// Run replays the trace on both sides. The static side has for each team as many
// machines as the percentile says; the shared one as few as keep p50 and p95 of the
// waiting time, over all tasks and for the team that waits most, at or below those
// of the static side.
func Run(cfg Config) Report {
	cfg = cfg.withDefaults()
	tasks, jobs := trace(cfg)
	r := Report{Config: cfg, Jobs: jobs, Tasks: len(tasks)}
	for _, t := range tasks {
		r.CPUHours += float64(t.need[placement.CPUs]*t.lasts) / 1000 / 3600
	}
	var parts []*pool
	for team := range cfg.Teams {
		own := slices.DeleteFunc(slices.Clone(tasks), func(t task) bool { return t.team != team })
		if len(own) > 0 {
			p := newPool(cfg, own, machines(cfg, own))
			p.run()
			parts = append(parts, p)
		}
	}
	r.Static = sum(cfg, parts)
	// More machines hardly ever make it worse, so halving finds the least, or one
	// close to it.
	few, enough := 0, r.Static.Machines
	for few+1 < enough {
		n := (few + enough) / 2
		if s, _ := shared(cfg, tasks, n); s.noWorse(r.Static) {
			enough = n
		} else {
			few = n
		}
	}
	r.Shared, _ = shared(cfg, tasks, enough)
	return r
}

func shared(cfg Config, tasks []task, machines int) (Side, *pool) {
	p := newPool(cfg, tasks, machines)
	p.run()
	return sum(cfg, []*pool{p}), p
}

func (s Side) noWorse(than Side) bool {
	return s.WaitP50 <= than.WaitP50 && s.WaitP95 <= than.WaitP95 && s.WorstTeam <= than.WorstTeam
}

// machines is how many a team has for itself: for what it would run at once if
// nothing waited, in the scarcer resource, as much as the percentile of the time.
func machines(cfg Config, own []task) int {
	type change struct {
		at   int64
		what placement.Vector
	}
	var changes []change
	for _, t := range own {
		changes = append(changes, change{t.submit, t.need}, change{t.submit + t.lasts, placement.Vector{}.Sub(t.need)})
	}
	slices.SortStableFunc(changes, func(a, b change) int { return int(a.at - b.at) })
	// Each machine has an executor of the team's.
	machine, wanted := cfg.machine().Sub(overhead), placement.Vector{}
	time := map[int]int64{} // by the number of machines that are enough
	for i, c := range changes {
		wanted = wanted.Add(c.what)
		if i+1 < len(changes) {
			n := 1
			for d := range machine {
				if machine[d] > 0 {
					n = max(n, int((wanted[d]+machine[d]-1)/machine[d]))
				}
			}
			time[n] += changes[i+1].at - c.at
		}
	}
	total, most := int64(0), 0
	for n, t := range time {
		total += t
		if t > 0 {
			most = max(most, n)
		}
	}
	for n, soFar := 1, int64(0); n < most; n++ {
		if soFar += time[n]; float64(soFar) >= cfg.Percentile*float64(total) {
			return n
		}
	}
	return max(most, 1)
}

// sum adds up pools that make one side.
func sum(cfg Config, pools []*pool) Side {
	var s Side
	var waits []int64
	byTeam := map[int][]int64{}
	worked, makespan := int64(0), int64(0)
	for _, p := range pools {
		s.Machines += len(p.agents)
		makespan = max(makespan, p.makespan)
		worked += p.worked
		for i, w := range p.waited {
			waits = append(waits, w)
			byTeam[p.tasks[i].team] = append(byTeam[p.tasks[i].team], w)
		}
	}
	s.Makespan = time.Duration(makespan) * time.Second
	s.WaitP50, s.WaitP95 = percentile(waits, 0.5), percentile(waits, 0.95)
	for _, own := range byTeam {
		s.WorstTeam = max(s.WorstTeam, percentile(own, 0.95))
	}
	s.MachineHours = float64(s.Machines) * s.Makespan.Hours()
	s.Utilisation = float64(worked) / 1000 / 3600 / (s.MachineHours * cfg.CPUs)
	return s
}

func percentile(seconds []int64, part float64) time.Duration {
	slices.Sort(seconds)
	return time.Duration(seconds[min(len(seconds)-1, int(part*float64(len(seconds))))]) * time.Second
}

// Print writes the report as a table.
func (r Report) Print(w io.Writer) error {
	fmt.Fprintf(w, "%d jobs of %d teams in %d days, %d tasks of %.0f CPU hours; machines of %g CPUs and %g GB; own machines for %g %% of the time\n",
		r.Jobs, r.Config.Teams, r.Config.Days, r.Tasks, r.CPUHours, r.Config.CPUs, r.Config.Memory, 100*r.Config.Percentile)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tmachines\tutilisation\tmakespan\twait p50\twait p95\tworst team's p95\tmachine hours\t")
	for _, row := range []struct {
		name string
		Side
	}{{"own machines", r.Static}, {"shared agents", r.Shared}} {
		fmt.Fprintf(t, "%s\t%d\t%.1f %%\t%s\t%s\t%s\t%s\t%.0f\t\n", row.name, row.Machines, 100*row.Utilisation,
			row.Makespan.Round(time.Minute), row.WaitP50, row.WaitP95, row.WorstTeam, row.MachineHours)
	}
	return t.Flush()
}
