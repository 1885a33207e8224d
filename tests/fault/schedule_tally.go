package fault

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// plan hands out the seeds of schedules, and keeps count. Its methods may be called
// from any goroutine.
type plan struct {
	most, least int           // how many schedules; at least so many, however long that takes
	bound       time.Duration // after which no more than least are begun; 0: no bound

	mu         sync.Mutex
	next       uint64
	begun      int
	started    time.Time
	done       int
	tasks      int
	once       int // steps that run at most once
	givenUp    int // of these, as nobody could tell whether their tasks had run
	unfetched  int // runs that failed for want of the executor's binary
	kinds      map[string]*kindCount
	violations []string // with their seed
}

type kindCount struct{ injected, blows int }

func newPlan(base uint64, most, least int, bound time.Duration) *plan {
	return &plan{next: base, most: most, least: least, bound: bound, started: time.Now(), kinds: map[string]*kindCount{}}
}

// seed gives the seed of the next schedule; false when there is to be none.
func (p *plan) seed() (uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	late := p.bound > 0 && time.Since(p.started) > p.bound
	if p.begun >= p.most || late && p.begun >= p.least {
		return 0, false
	}
	p.begun++
	p.next++
	return p.next - 1, true
}

// more tells whether seed would give one.
func (p *plan) more() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	late := p.bound > 0 && time.Since(p.started) > p.bound
	return p.begun < p.least || p.begun < p.most && !late
}

// add counts a schedule that has been played.
func (p *plan) add(s *schedule, givenUp, unfetched int, violations []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	for _, f := range s.flows {
		p.tasks += f.Tasks()
		for _, step := range f.Steps {
			if step.AtMostOnce {
				p.once++
			}
		}
	}
	p.givenUp += givenUp
	p.unfetched += unfetched
	for _, in := range s.faults {
		if in.state == pending {
			continue
		}
		c := p.kinds[in.kind.name]
		if c == nil {
			c = &kindCount{}
			p.kinds[in.kind.name] = c
		}
		c.injected++
		c.blows += in.blows()
	}
	for _, v := range violations {
		p.violations = append(p.violations, fmt.Sprintf("BAAS_SEED=%d: %s", s.seed, v))
	}
}

// injected counts faults, and the kinds of them.
func (p *plan) injected() (faults, kinds int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.kinds {
		faults += c.injected
	}
	return faults, len(p.kinds)
}

func (p *plan) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%d schedules of %d tasks in %s, %d violations", p.done, p.tasks, time.Since(p.started).Round(time.Second), len(p.violations))
	fmt.Fprintf(&b, "\n%d steps that run at most once, %d of them given up; %d runs failed for want of the executor's binary",
		p.once, p.givenUp, p.unfetched)
	fmt.Fprintf(&b, "\n%-40s %8s %8s", "fault", "injected", "blows")
	for _, name := range slices.Sorted(maps.Keys(p.kinds)) {
		fmt.Fprintf(&b, "\n%-40s %8d %8d", name, p.kinds[name].injected, p.kinds[name].blows)
	}
	for _, v := range p.violations {
		b.WriteString("\n" + v)
	}
	return b.String()
}
