package retention

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/storage"
)

// history is a random life of one app: runs start, restart one another, are given
// outputs of others, end in all ways, and are swept meanwhile.
type history struct {
	t     *testing.T
	dice  *rand.Rand
	store *hookedStore
	open  *openRuns
	now   time.Time
	rules flow.Retention

	count int
	last  map[int]*pastRun // of an instance
	runs  map[string]*pastRun
	swept int
	cut   int
	raced int // restarts during a sweep
	log   []string
}

type pastRun struct {
	id, instance string
	number       int // of the instance
	status       api.Status
	started      time.Time
	ended        time.Time
	uses         []*pastRun // whose objects it reads or hands on
	given        []*pastRun // those that its parameters name
	recorded     bool
}

const app = "app"

func (h *history) say(format string, args ...any) {
	h.log = append(h.log, h.now.Format("02 15:04 ")+fmt.Sprintf(format, args...))
}

// start begins a run. One whose instance failed last goes on from there, if the
// record says that nothing has gone.
func (h *history) start(given bool) {
	n := h.dice.IntN(4)
	inst := instance(app, n)
	if open, _ := h.open.Open(h.t.Context(), inst); open != "" {
		return
	}
	h.count++
	r := &pastRun{id: runName(app, n, h.count), instance: inst, number: n, status: api.StatusRunning, started: h.now}
	h.runs[r.id] = r
	if other := h.any(); given && other != nil && other.status == api.StatusSucceeded && h.usable(other) {
		r.given = append(r.given, other)
	}
	if before := h.last[n]; before != nil && before.status != api.StatusSucceeded {
		r.given = append(r.given, before.given...) // a restart has the parameters of the run before
	}
	r.uses = slices.DeleteFunc(slices.Clone(r.given), func(g *pastRun) bool { return !h.usable(g) })
	live := Live{Run: r.id, Instance: inst, Needs: ids(r.given)}
	// It is open first, and looks at the records then.
	h.open.begin(live, len(live.Needs) == 0 && h.dice.IntN(2) == 0)
	if before := h.last[n]; before != nil && before.status != api.StatusSucceeded && h.usable(before) {
		r.uses = append(r.uses, before)
		r.uses = append(r.uses, before.uses...)
	}
	h.last[n] = r
	write(h.t, h.store.Store, objects(app, r.id)...)
	h.say("start %s uses %v", r.id, ids(r.uses))
}

// usable is what a restart does: a run whose sweep has begun is no more.
func (h *history) usable(r *pastRun) bool {
	for _, one := range append([]*pastRun{r}, r.uses...) {
		rec, err := (&Sweeper{Store: h.store.Store}).load(h.t.Context(), app, one.id)
		switch {
		case errors.Is(err, storage.ErrNotExist): // it has not been seen, or is gone
			if len(keys(h.t, h.store, api.RunPrefix(app, one.id))) == 0 {
				return false
			}
		case err != nil:
			h.t.Fatal(err)
		case rec.Sweep != api.SweepNone:
			return false
		}
	}
	return true
}

func ids(runs []*pastRun) []string {
	var list []string
	for _, r := range runs {
		list = append(list, r.id)
	}
	return list
}

func (h *history) any() *pastRun {
	names := make([]string, 0, len(h.runs))
	for name := range h.runs {
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return h.runs[names[h.dice.IntN(len(names))]]
}

// end ends an open run; a terminated one leaves no record.
func (h *history) end() {
	r := h.any()
	if r == nil || r.status != api.StatusRunning {
		return
	}
	r.status = []api.Status{api.StatusSucceeded, api.StatusFailed, api.StatusKilled}[h.dice.IntN(3)]
	r.ended = h.now
	if r.recorded = h.dice.IntN(8) > 0; !r.recorded {
		r.status = api.StatusFailed
	} else if err := put(h.t.Context(), h.store.Store, app, api.RunRecord{
		Run: r.id, Instance: r.instance, Status: r.status, Started: r.started, Ended: h.now,
		Needs: ids(r.uses), Retention: &h.rules,
	}); err != nil {
		h.t.Fatal(err)
	}
	delete(h.open.live, r.instance)
	delete(h.open.late, r.instance)
	h.say("end %s %s recorded %v", r.id, r.status, r.recorded)
}

// sweep sweeps, is cut in some cases, and has runs start in between.
func (h *history) sweep() {
	cutAt, busy := h.dice.IntN(20), false
	h.store.hook = func(what, key string) error {
		if busy || strings.HasSuffix(key, "run.json") && what == "delete" {
			return nil
		}
		if cutAt--; cutAt == 0 {
			h.cut++
			return errCut
		}
		if h.dice.IntN(6) == 0 {
			busy = true
			before := h.count
			h.start(false)
			h.raced += h.count - before
			busy = false
		}
		return nil
	}
	s := &Sweeper{Store: serial{h.store, new(sync.Mutex)}, Runs: h.open, Now: func() time.Time { return h.now }}
	s.Each = func(i Item) { h.swept++; h.say("swept %s: %s", i.Run, i.Reason) }
	if _, err := s.App(h.t.Context(), app); err != nil && !errors.Is(err, errCut) {
		h.t.Fatalf("%v\n%s", err, strings.Join(h.log, "\n"))
	}
	h.store.hook = nil
	clear(h.open.late) // by the next night, listings show what starts now
}

// check fails if a run that is open, or can be restarted, lacks anything.
func (h *history) check() {
	for _, r := range h.runs {
		latest := h.last[r.number] == r
		restartable := latest && r.recorded && r.status != api.StatusSucceeded && h.now.Before(r.ended.Add(h.rules.FailedFor()))
		if r.status != api.StatusRunning && !restartable {
			continue
		}
		for _, needed := range append([]*pastRun{r}, r.uses...) {
			if !whole(h.t, h.store, app, needed.id) {
				h.t.Fatalf("%s (%s) lacks objects of %s\n%s", r.id, r.status, needed.id, strings.Join(h.log, "\n"))
			}
		}
	}
}

func TestWhateverHappensNoRunLacksWhatItNeeds(t *testing.T) {
	var swept, cut, raced int
	for seed := range uint64(150) {
		h := &history{
			t: t, dice: rand.New(rand.NewPCG(seed, 1)), store: &hookedStore{Store: &memory{content: map[string][]byte{}}}, open: newOpenRuns(), now: midnight,
			last: map[int]*pastRun{}, runs: map[string]*pastRun{},
		}
		h.rules = flow.Retention{Outputs: flow.Duration(2 * day), Failed: flow.Duration(4 * day)}
		if seed%3 == 0 {
			h.rules.Runs = 1
		}
		for range 60 {
			h.now = h.now.Add(time.Second)
			switch h.dice.IntN(6) {
			case 0, 1:
				h.start(h.dice.IntN(3) == 0)
			case 2, 3:
				h.end()
			case 4:
				h.now = h.now.Add(time.Duration(h.dice.IntN(60)) * time.Hour)
			case 5:
				h.sweep()
			}
			h.check()
		}
		swept, cut, raced = swept+h.swept, cut+h.cut, raced+h.raced
		if h.rules.Runs == 0 {
			h.settles()
		}
	}
	if swept < 150 || cut < 50 || raced < 50 {
		t.Errorf("%d runs were swept, %d sweeps cut, %d runs started during one: too few to show anything", swept, cut, raced)
	}
}

// settles ends all runs, and sees that everything goes in the end.
func (h *history) settles() {
	clear(h.open.live)
	s := &Sweeper{Store: h.store, Runs: h.open, Rules: h.rules, Now: func() time.Time { return h.now }}
	for range 3 { // what has no record is seen by the first, and may be older than what it keeps
		if _, err := s.App(context.Background(), app); err != nil {
			h.t.Fatal(err)
		}
		h.now = h.now.Add(100 * day)
	}
	if left := keys(h.t, h.store, ""); len(left) > 0 {
		h.t.Errorf("with rules %s, these are left for ever: %v\n%s", h.rules, left, strings.Join(h.log, "\n"))
	}
}
