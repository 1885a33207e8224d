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
)

// history is a random life of one app: runs start, are given outputs of others, end in
// all ways, and are swept meanwhile.
type history struct {
	t     *testing.T
	dice  *rand.Rand
	store *hookedStore
	open  *openRuns
	now   time.Time
	rules flow.Retention

	count   int
	last    map[int]*pastRun // of an instance
	runs    map[string]*pastRun
	swept   int
	cut     int
	raced   int // starts during a sweep
	refused int // starts that were given what is swept
	log     []string
}

type pastRun struct {
	id, instance string
	number       int // of the instance
	status       api.Status
	started      time.Time
	ended        time.Time
	given        []*pastRun // whose objects its parameters name
	late         bool       // it started when a sweep had asked for the last time, or did not see it listed
	recorded     bool
}

const app = "app"

func (h *history) say(format string, args ...any) {
	h.log = append(h.log, h.now.Format("02 15:04 ")+fmt.Sprintf(format, args...))
}

// start begins a run. It is open first, maybe before listings show it, and then looks
// at the records of those that it is given objects of, as Prepare does. If their sweep
// has begun, it fails.
func (h *history) start(late bool) {
	n := h.dice.IntN(4)
	inst := instance(app, n)
	if open, _ := h.open.Open(h.t.Context(), inst); open != "" {
		return
	}
	h.count++
	r := &pastRun{id: runName(app, n, h.count), instance: inst, number: n, status: api.StatusRunning, started: h.now, late: late}
	if other := h.any(); other != nil && other.status == api.StatusSucceeded && h.dice.IntN(3) > 0 && h.there(other) {
		r.given = append(r.given, other)
	}
	h.runs[r.id], h.last[n] = r, r
	h.open.begin(Live{Run: r.id, Instance: inst, Needs: ids(r.given)}, late)
	write(h.t, h.store.Store, objects(app, r.id)...)
	h.say("start %s given %v", r.id, ids(r.given))
	if len(r.given) == 0 {
		return
	}
	key := fmt.Sprintf("%q", objects(app, r.given[0].id)[2])
	if err := CheckGiven(h.t.Context(), h.store.Store, app, []byte(key)); errors.Is(err, ErrSwept) {
		r.given = nil // it has read nothing of it
		h.refused++
		h.finish(r, api.StatusFailed, true)
	} else if err != nil {
		h.t.Fatal(err)
	}
}

// there tells whether anybody can name an output of a run: nobody can once it is gone.
func (h *history) there(r *pastRun) bool {
	return len(keys(h.t, h.store, api.RunPrefix(app, r.id))) > 0
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
	h.finish(r, []api.Status{api.StatusSucceeded, api.StatusFailed, api.StatusKilled}[h.dice.IntN(3)], h.dice.IntN(8) > 0)
}

func (h *history) finish(r *pastRun, status api.Status, recorded bool) {
	r.status, r.ended, r.recorded = status, h.now, recorded
	if !recorded {
		r.status = api.StatusFailed
	} else if err := put(h.t.Context(), h.store.Store, app, api.RunRecord{
		Run: r.id, Instance: r.instance, Status: r.status, Started: r.started, Ended: h.now,
		Needs: ids(r.given), Retention: &h.rules,
	}); err != nil {
		h.t.Fatal(err)
	}
	h.open.mu.Lock()
	delete(h.open.live, r.instance)
	delete(h.open.late, r.instance)
	h.open.mu.Unlock()
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
		if h.dice.IntN(4) == 0 {
			busy = true
			before := h.count
			h.start(h.dice.IntN(2) == 0)
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

// check fails if a run that is open, or can be restarted, lacks anything. Only what a
// run was given whose start no listing showed to the sweep under way may be gone.
func (h *history) check() {
	for _, r := range h.runs {
		latest := h.last[r.number] == r
		restartable := latest && r.recorded && r.status != api.StatusSucceeded && h.now.Before(r.ended.Add(h.rules.FailedFor()))
		if r.status != api.StatusRunning && !restartable {
			continue
		}
		needed := []*pastRun{r}
		if !r.late {
			needed = append(needed, r.given...)
		}
		for _, one := range needed {
			if !whole(h.t, h.store, app, one.id) {
				h.t.Fatalf("%s (%s) lacks objects of %s\n%s", r.id, r.status, one.id, strings.Join(h.log, "\n"))
			}
		}
	}
}

func TestWhateverHappensNoRunLacksWhatItNeeds(t *testing.T) {
	var swept, cut, raced, refused int
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
				h.start(false)
			case 2, 3:
				h.end()
			case 4:
				h.now = h.now.Add(time.Duration(h.dice.IntN(60)) * time.Hour)
			case 5:
				h.sweep()
			}
			h.check()
		}
		swept, cut, raced, refused = swept+h.swept, cut+h.cut, raced+h.raced, refused+h.refused
		if h.rules.Runs == 0 {
			h.settles()
		}
	}
	if swept < 150 || cut < 50 || raced < 50 || refused < 5 {
		t.Errorf("%d runs were swept, %d sweeps cut, %d runs started during one, %d were given what is swept: too few to show anything", swept, cut, raced, refused)
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
	if left := keys(h.t, h.store, api.RunsPrefix); len(left) > 0 {
		h.t.Errorf("with rules %s, these are left for ever: %v\n%s", h.rules, left, strings.Join(h.log, "\n"))
	}
}
