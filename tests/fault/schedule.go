package fault

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// schedule is a random flow, or two, and the faults that befall its World while
// they run. It follows from its seed alone; when each fault strikes among the many
// processes does not, so a seed played again gives much the same, not the same.
type schedule struct {
	seed   uint64
	flows  []Flow
	faults []*injection
}

// injection is one fault of a schedule.
type injection struct {
	kind faultKind
	rand *rand.Rand // what is still to be chosen when it begins: whom it befalls, and how
	// It is due at a time from the start, or after so many entries in the ledgers
	// if that is not 0.
	at      time.Duration
	entries int
	lasts   time.Duration

	state injectionState
	until time.Time
	effect
}

type injectionState int

const (
	pending injectionState = iota
	active
	over
)

// effect is what a fault that has begun leaves to be done.
type effect struct {
	keys   []string   // parts of the world that no other fault may touch meanwhile
	end    func()     // heals what was hurt; nil: there is nothing to heal
	struck func() int // how often it has struck by now; nil: once, when it began
}

func (in *injection) String() string {
	when := in.at.String()
	if in.entries > 0 {
		when = fmt.Sprintf("after %d entries", in.entries)
	}
	if in.kind.most == 0 {
		return fmt.Sprintf("%s: %s", when, in.kind.name)
	}
	return fmt.Sprintf("%s: %s for %s", when, in.kind.name, in.lasts)
}

func (s *schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "schedule BAAS_SEED=%d, ranges: %t", s.seed, s.inRanges())
	for _, f := range s.flows {
		fmt.Fprintf(&b, "\n  flow of %d tasks, unreachable_timeout %s:", f.Tasks(), f.Unreachable)
		for _, step := range f.Steps {
			fmt.Fprintf(&b, "\n    %+v", step)
		}
	}
	for _, in := range s.faults {
		fmt.Fprintf(&b, "\n  %s", in)
	}
	return b.String()
}

// horizon is when the last fault may begin, at the latest.
const horizon = 10 * time.Second

// newSchedule draws the schedule of a seed.
func newSchedule(seed uint64) *schedule {
	kinds := faultKinds()
	r := rand.New(rand.NewPCG(seed, 1))
	s := &schedule{seed: seed, flows: []Flow{newFlow(r, 40)}}
	if r.IntN(4) == 0 {
		s.flows = append(s.flows, newFlow(r, 20))
	}
	tasks := 0
	for i := range s.flows {
		s.flows[i].Ranges = s.inRanges()
		tasks += s.flows[i].Tasks()
	}
	deadly := 0
	for i := range 3 + r.IntN(8) {
		in := &injection{kind: draw(r, kinds), rand: rand.New(rand.NewPCG(seed, uint64(i)+2))}
		if in.kind.deadly {
			if deadly++; deadly > 3 {
				continue
			}
		}
		if r.IntN(2) == 0 {
			in.at = time.Duration(r.Int64N(int64(horizon * 6 / 10))).Round(time.Millisecond)
		} else {
			in.entries = 1 + r.IntN(2*tasks) // a task enters its start and its end
		}
		if in.kind.most > 0 {
			in.lasts = between(r, in.kind.least, in.kind.most)
		}
		s.faults = append(s.faults, in)
	}
	return s
}

// inRanges tells whether the flows are; those of every other seed.
func (s *schedule) inRanges() bool { return s.seed%2 == 1 }

// draw chooses a kind by weight.
func draw(r *rand.Rand, kinds []faultKind) faultKind {
	sum := 0
	for _, k := range kinds {
		sum += k.weight
	}
	n := r.IntN(sum)
	for _, k := range kinds {
		if n -= k.weight; n < 0 {
			return k
		}
	}
	panic("unreachable")
}

// between draws a duration, short ones more often than long ones.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	f := r.Float64()
	return (least + time.Duration(f*f*float64(most-least))).Round(time.Millisecond)
}

// spare is how many attempts a task has beyond those that fail by themselves: so
// many times may its process be killed.
const spare = 3

// newFlow draws a flow of 10 to max tasks.
func newFlow(r *rand.Rand, most int) Flow {
	f := Flow{Name: "random", Unreachable: between(r, time.Second, 4*time.Second)}
	left := 10 + r.IntN(most-9)
	for len(f.Steps) < 7 && left > 0 {
		s := newStep(r, f.Steps)
		if s.Tasks = min(s.Tasks, left); len(f.Steps) == 6 {
			s.Tasks = left
		}
		left -= s.Tasks
		f.Steps = append(f.Steps, s)
	}
	return f
}

// newStep draws a step that may need some of the earlier ones.
func newStep(r *rand.Rand, earlier []Step) Step {
	s := Step{
		Name: fmt.Sprintf("s%d", len(earlier)), Tasks: 1 + r.IntN(14), Attempts: 1 + spare,
		Short: between(r, 0, 400*time.Millisecond),
	}
	s.Long = s.Short + between(r, 0, 1500*time.Millisecond)
	for _, e := range earlier {
		// Whether a step that runs at most once succeeds is not certain under faults,
		// so nothing waits for it.
		if !e.AtMostOnce && r.IntN(3) == 0 {
			s.Needs = append(s.Needs, e.Name)
		}
	}
	switch r.IntN(10) {
	case 0, 1: // the user's failures
		s.Fails = 1 + r.IntN(2)
		s.Attempts = s.Fails + 1 + spare
	case 2: // fails for good
		s.Fails, s.Attempts = 99, 1+r.IntN(3)
	case 3, 4:
		s.Tasks = min(s.Tasks, 4)
		s.Checkpoints, s.Long = true, s.Long+time.Second
	case 5:
		s.AtMostOnce, s.Attempts = true, 1
	case 6: // outlives faults
		s.Tasks = min(s.Tasks, 4)
		s.Short, s.Long = s.Short+2*time.Second, s.Long+5*time.Second
	}
	return s
}

// killable tells whether a task of the step may die by a signal once more.
func (s Step) killable(kills int) bool {
	return !s.AtMostOnce && (s.Doomed() || kills < min(spare, s.attempts()-s.Fails-1))
}

// names lists the kinds of a schedule's faults.
func (s *schedule) names() string {
	var all []string
	for _, in := range s.faults {
		name := in.kind.name
		if in.state == pending {
			name = "(" + name + ")"
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
