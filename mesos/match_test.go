package mesos

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/mesos/placement"
)

// crowded has tasks of twenty owners and sixty kinds of needs wait, a third of them
// with inputs that executors hold.
func crowded(tb testing.TB, agents, tasks, contents int) *Framework {
	f, err := New(Config{Masters: []string{"m"}, FrameworkID: testFramework, User: "tester"}, newHandler(), leads)
	if err != nil {
		tb.Fatal(err)
	}
	f.session = &session{f: f, sender: newSender(nil)}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range agents {
		f.table.agent(fmt.Sprint("agent", i)).largest = size(32, 128)
	}
	for i := range tasks {
		kind, owner := rng.IntN(60), fmt.Sprint("owner", rng.IntN(20))
		t := Task{
			ID: fmt.Sprint("task", i), Owner: owner, Executor: ExecutorSpec{Owner: owner}, Submitted: epoch.Add(time.Duration(i)),
			Resources: Resources{CPUs: 0.25 * float64(1+kind%8), Mem: int64(1+kind) * 100 * mb},
		}
		if i%3 == 0 {
			t.Reads = []Content{{fmt.Sprint("sha", rng.IntN(contents)), mb}, {fmt.Sprint("sha", rng.IntN(contents)), mb}}
		}
		w, err := f.prepare(t, epoch)
		if err != nil {
			tb.Fatal(err)
		}
		f.queue.add(w)
	}
	for i := range contents {
		for range maxHolders {
			agent, owner := fmt.Sprint("agent", rng.IntN(agents)), fmt.Sprint("owner", rng.IntN(20))
			x, err := f.executors.of(ExecutorSpec{Owner: owner}, "")
			if err != nil {
				tb.Fatal(err)
			}
			f.table.agent(agent).executor(x.id, epoch).started = true
			f.holdings.add(fmt.Sprint("sha", i), holder{agent, x.id})
		}
	}
	return f
}

func offerOf(f *Framework, i int, free placement.Vector) {
	id := fmt.Sprint("agent", i)
	f.offers.add(&offer{id: mesos.OfferID{Value: "of " + id}, agent: Agent{ID: id}, role: "*", free: free, at: epoch})
}

// A match costs what is offered, however many tasks wait: nothing is made anew for
// each of them.
func TestMatchCostsWhatIsOffered(t *testing.T) {
	few, many := 0.0, 0.0
	for tasks, allocated := range map[int]*float64{500: &few, 5000: &many} {
		f := crowded(t, 100, tasks, 500)
		for i := range 10 {
			offerOf(f, i, size(0.1, 1))
		}
		var p placement.Placer
		*allocated = testing.AllocsPerRun(5, func() { f.matchOnce(&p, epoch) })
		if n := len(f.queue.tasks); n != tasks {
			t.Fatalf("%d of %d tasks wait", n, tasks)
		}
	}
	if many > few+10 {
		t.Errorf("%v allocations in a match while 500 tasks wait, %v while 5000 do", few, many)
	}
}

// BenchmarkMatch has 100,000 tasks wait while ten offers come with too little.
func BenchmarkMatch(b *testing.B) {
	f := crowded(b, 10_000, 100_000, maxHeld)
	for i := range 10 {
		offerOf(f, i, size(0.1, 1))
	}
	var p placement.Placer
	b.ReportAllocs()
	for b.Loop() {
		f.matchOnce(&p, epoch)
	}
	if len(f.queue.tasks) < 100_000 {
		b.Error("something was placed")
	}
}

// BenchmarkMatchAll has all agents offered to 100,000 tasks; what is placed is not
// taken off the queue, so that each match is the same.
func BenchmarkMatchAll(b *testing.B) {
	f := crowded(b, 10_000, 100_000, maxHeld)
	for i := range 10_000 {
		offerOf(f, i, size(8, 32))
	}
	var p placement.Placer
	placed := 0
	b.ReportAllocs()
	for b.Loop() {
		placed = len(p.Place(f.round(epoch)))
	}
	b.ReportMetric(float64(placed), "placed")
}
