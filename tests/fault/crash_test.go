package fault

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"

	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/agent"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tests/harness"
)

// crashRoles are those of this package's tests.
func crashRoles() map[string]harness.Role {
	roles := Roles()
	roles[CrashRole] = harness.WorkerRole(CrashHooks)
	return roles
}

// crashLease is shorter than Lease: each crash of a leader costs one.
const crashLease = 3 * time.Second

// crashWorld is a World whose workers can be crashed.
type crashWorld struct {
	*World
	control CrashControl
	ids     int            // of orders so far
	struck  map[string]int // points, by how often a worker died there
}

func newCrashWorld(t *testing.T) *crashWorld {
	t.Helper()
	control := CrashControl{harness.Dir(t)}
	return &crashWorld{control: control, struck: make(map[string]int), World: New(t, Config{
		Mesos: func(c *embeddedmesos.Config) {
			for i := range c.Agents { // room for five tasks
				c.Agents[i].Resources = []api.Resource{
					agent.Scalar("cpus", 1.1), agent.Scalar("mem", 2048), agent.Scalar("disk", 4096),
				}
			}
		},
		Worker: func(c *harness.WorkerConfig) {
			c.Lease = crashLease
			control.Equip(c)
		},
	})}
}

// rounds is how often each table is gone through, each time with other occurrences.
func rounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("BAAS_FAULT_ROUNDS")
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("BAAS_FAULT_ROUNDS=%s: want a number", text)
	}
	return n
}

// crash is one line of a table: a point, and what it takes to come there.
type crash struct {
	point  CrashPoint
	within int // which occurrence, at most
	when   moment
	// first is where the leader before must die, if that matters.
	first CrashPoint
}

func at(point CrashPoint, within int, when moment) crash {
	return crash{point: point, within: within, when: when}
}

// moment is when in a run a point comes up.
type moment int

const (
	beginning  moment = iota // when a run starts
	underWay                 // before the gate of the flow is opened
	takingOver               // a new leader comes there, after the death of another
	ending                   // after the gate
)

// chainLength is how many crashes befall one run: while the leader after the first
// takes over, it may die in its turn.
const chainLength = 6

// chains cuts a table, in random order, into what befalls one run after the other.
func (w *crashWorld) chains(table []crash) (all [][]crash) {
	table = slices.Clone(table)
	w.Rand.Shuffle(len(table), func(i, j int) { table[i], table[j] = table[j], table[i] })
	for chain := range slices.Chunk(table, chainLength) {
		slices.SortStableFunc(chain, func(a, b crash) int { return cmp.Compare(a.when, b.when) })
		all = append(all, chain)
	}
	return all
}

// scene is what happens in a chain.
type scene struct {
	w     *crashWorld
	flow  func() Flow
	stir  func(*Run) // does something to a run that has been started; may be nil
	shut  bool       // the gates stay so
	judge func(*Run)
	runs  []*Run
}

// begin begins another run, for which those before make room.
func (s *scene) begin(c crash) {
	s.w.Helper()
	s.open()
	r := s.w.Start(s.flow())
	s.runs = append(s.runs, r)
	if c.when == ending {
		r.Open()
	}
	if s.stir != nil {
		s.stir(r)
	}
}

// open lets the tasks of all runs through the gate.
func (s *scene) open() {
	if s.shut {
		return
	}
	for _, r := range s.runs {
		r.Open()
	}
}

// succeed has another leader take over, unless one does already.
func (s *scene) succeed() {
	s.w.Helper()
	s.runs[len(s.runs)-1].UnderWay(0, 3)
	if err := s.w.Leader().Kill(); err != nil && !errors.Is(err, harness.ErrNotRunning) {
		s.w.Fatal(err)
	}
}

// each goes through a table, each chain as a test of its own.
func (w *crashWorld) each(table []crash, s scene) {
	s.w = w
	outer := w.TB.(*testing.T)
	for range rounds(outer) {
		for _, chain := range w.chains(table) {
			var points []string
			for _, c := range chain {
				points = append(points, string(c.point))
			}
			outer.Run(strings.Join(points, ", "), func(t *testing.T) {
				w.TB = t
				t.Cleanup(func() { w.TB = outer })
				w.ready()
				s := s // each chain has runs of its own
				s.chain(chain)
			})
		}
	}
}

// report tells how often workers died where.
func (w *crashWorld) report() {
	w.Helper()
	var text strings.Builder
	for _, point := range slices.Sorted(maps.Keys(w.struck)) {
		fmt.Fprintf(&text, "\n%3d × %s", w.struck[point], point)
	}
	w.Logf("workers died:%s", text.String())
}

// ready begins a chain: all workers live, one leads, none has an order.
func (w *crashWorld) ready() {
	w.Helper()
	w.do(w.control.Set(nil))
	w.revive()
	for _, v := range w.Workers {
		w.do(v.Await(nil))
	}
	w.Leader()
}

// revive starts the workers that are dead.
func (w *crashWorld) revive() {
	w.Helper()
	for _, v := range w.Workers {
		if !v.Running() {
			w.do(v.Launch())
		}
	}
}

// chain has one worker after the other die, and judges the runs that were under way.
func (s *scene) chain(chain []crash) {
	s.w.Helper()
	for _, c := range chain {
		if c.when == ending {
			s.open()
		}
		links := []crash{c}
		if c.first != "" {
			links = []crash{at(c.first, 1, underWay), c}
		}
		for _, c := range links {
			o := s.w.order(c)
			if len(s.runs) == 0 {
				s.more(c)
			}
			s.die(o, c)
			s.w.revive()
		}
	}
	s.open()
	for _, r := range s.runs {
		s.judge(r)
	}
}

// more does what brings a worker to a point.
func (s *scene) more(c crash) {
	s.w.Helper()
	s.begin(c)
	if c.when == takingOver {
		s.succeed()
		s.w.revive()
	}
}

// order has the first worker die that comes to a point, at one of its occurrences.
func (w *crashWorld) order(c crash) CrashOrder {
	w.Helper()
	w.ids++
	o := CrashOrder{ID: strconv.Itoa(w.ids), Point: c.point, Occurrence: 1 + w.Rand.IntN(c.within)}
	w.do(w.control.Set(&o))
	return o
}

const (
	crashPatience = 90 * time.Second // for a worker to come to a point
	crashPause    = 5 * time.Second  // without any task before another run is to bring it there
)

// die waits until a worker has died by an order. When the tasks have come to rest,
// more is done to bring one there.
func (s *scene) die(o CrashOrder, c crash) {
	w := s.w
	w.Helper()
	began := time.Now()
	entries, changed := 0, began
	for ; ; time.Sleep(5 * time.Millisecond) {
		name, pid, err := w.control.Struck(o.ID)
		w.do(err)
		if i := slices.IndexFunc(w.Workers, func(v *Worker) bool { return v.Name == name }); i >= 0 {
			if v := w.Workers[i]; v.PID() == pid { // else it lives again already
				<-v.Exited()
			}
			w.Logf("worker %s died %s, occurrence %d, after %s", name, o.Point, o.Occurrence, time.Since(began).Round(time.Millisecond))
			w.struck[string(o.Point)]++
			return
		}
		n := 0
		for _, r := range s.runs {
			n += len(r.Ledger())
		}
		switch now := time.Now(); {
		case n != entries:
			entries, changed = n, now
		case now.Sub(began) > crashPatience:
			w.Fatalf("no worker has come to %q %d times; they came to\n%s", o.Point, o.Occurrence, tally(w.control.Passed(o.ID)))
		case now.Sub(changed) > crashPause:
			s.more(c)
			changed = time.Now()
		}
	}
}

// tally counts lines.
func tally(lines string) string {
	counts := make(map[string]int)
	for line := range strings.Lines(lines) {
		counts[line]++
	}
	var b strings.Builder
	for _, line := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&b, "%4d %s", counts[line], line)
	}
	return b.String()
}

// judge verifies a run, and what Verify must leave open for other faults: no task
// is lost here, so one that runs at most once and has begun must have its result.
func (w *crashWorld) judge(r *Run) {
	w.Helper()
	w.Verify(r)
	history, err := r.History(w.Context())
	w.do(err)
	began := r.Ledger().Of(Began)
	for _, a := range history.Accepted {
		if a.Result.Outcome == tasklet.Platform &&
			slices.ContainsFunc(began, func(e Entry) bool { return e.Partition == a.Partition && e.Attempt == a.Attempt }) {
			w.Errorf("attempt %d of %s has run and was taken for lost: %s", a.Attempt, a.Partition, a.Result.Reason)
		}
	}
}

// mixed is a flow in which most points come up before its gate.
func mixed() Flow {
	return Flow{Name: "mixed", Unreachable: Unreachable, Steps: []Step{
		{Name: "seed", Tasks: 1, Long: 20 * time.Millisecond},
		{Name: "work", Tasks: 8, Needs: []string{"seed"}, Short: 20 * time.Millisecond, Long: 400 * time.Millisecond, Gated: 4, Attempts: 2},
		{Name: "flaky", Tasks: 3, Needs: []string{"seed"}, Long: 100 * time.Millisecond, Fails: 1, Attempts: 3},
		{Name: "save", Tasks: 1, Needs: []string{"seed"}, Long: 400 * time.Millisecond, Fails: 1, Checkpoints: true, Attempts: 3},
		{Name: "once", Tasks: 4, Needs: []string{"seed"}, Short: 20 * time.Millisecond, Long: 200 * time.Millisecond, Gated: 2, AtMostOnce: true},
		{Name: "last", Tasks: 2, Needs: []string{"work", "flaky", "save"}, Long: 50 * time.Millisecond, Attempts: 2},
	}}
}

// both is a point before and one after the same thing.
func both(first, second, subject string, within int, when moment) []crash {
	return []crash{at(CrashPoint(first+" "+subject), within, when), at(CrashPoint(second+" "+subject), within, when)}
}

func call(subject string, within int, when moment) []crash {
	return both("before", "after", subject, within, when)
}

func event(subject string, within int, when moment) []crash {
	return both("read", "handled", subject, within, when)
}

// crashes are the points of a run, about in the order of the hand-off.
var crashes = slices.Concat(
	[]crash{at("taken Prepare", 1, beginning)},
	call("read of bundle", 1, beginning),
	call("result of Prepare", 1, beginning),
	call("order of tasks", 2, beginning),
	[]crash{at("taken RunTasklets", 8, underWay)},
	call("list of earlier runs", 1, beginning),
	call("REVIVE", 1, beginning),
	event("OFFERS", 3, underWay),
	call("signature for result", 6, underWay),
	call("list of checkpoints", 2, underWay),
	call("write-ahead", 6, underWay),
	call("ACCEPT", 3, underWay),
	event("UPDATE of a start", 3, underWay),
	call("ACKNOWLEDGE of a start", 3, underWay),
	call("heartbeat", 5, underWay),
	event("UPDATE of an end", 6, underWay),
	call("completion", 6, underWay),
	call("ACKNOWLEDGE of an end", 6, underWay),
	call("DECLINE", 1, underWay),
	call("SUPPRESS", 1, underWay),
	call("lease", 4, underWay),

	[]crash{at("taken LeadFramework", 1, takingOver)},
	call("SUBSCRIBE", 1, takingOver),
	event("SUBSCRIBED", 1, takingOver),
	call("list of runs", 1, takingOver),
	call("description", 1, takingOver),
	call("RECONCILE", 1, takingOver),
	call("RECONCILE of tasks", 1, takingOver),
	event("UPDATE as an answer", 3, takingOver),
	call("list of results", 3, takingOver),
	call("hand-back", 1, takingOver),
	[]crash{
		{point: "before read of result", within: 1, when: takingOver, first: "before completion"},
		{point: "after read of result", within: 1, when: takingOver, first: "read UPDATE of an end"},
	},

	call("completion", 12, ending),
	[]crash{at("taken SaveInstance", 1, ending)},
	call("write of instance", 1, ending),
	call("result of SaveInstance", 1, ending),
	call("end of the run", 1, ending),
)

// A worker, mostly the leader, dies at each point of the hand-off in turn, and the
// one that follows it too.
func TestCrash(t *testing.T) {
	t.Parallel()
	const lanes = 2
	for lane := range lanes {
		t.Run(fmt.Sprintf("lane %d", lane), func(t *testing.T) {
			t.Parallel()
			var table []crash
			for i := lane; i < len(crashes); i += lanes {
				table = append(table, crashes[i])
			}
			w := newCrashWorld(t)
			w.each(table, scene{flow: mixed, judge: w.judge})
			w.oneFramework(1)
			w.report()
		})
	}
}
