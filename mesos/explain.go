package mesos

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/baas-batch/baas/mesos/placement"
)

// MaxExplain bounds what Explain says, in bytes: it goes into heartbeat details.
const MaxExplain = 300

// Explain says in one line where a task is, or why it waits: at most MaxExplain
// bytes, and the same words for the same situation. Times are UTC.
func (f *Framework) Explain(taskID string) string {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	return clip(f.explain(taskID, now), MaxExplain)
}

func (f *Framework) explain(taskID string, now time.Time) string {
	if r := f.table.tasks[taskID]; r != nil {
		return f.whereabouts(r, now)
	}
	w := f.queue.tasks[taskID]
	if w == nil {
		return "not known to the framework"
	}
	q := &question{f: f, w: w, now: now}
	q.look()
	for _, ground := range grounds {
		if why := ground(q); why != "" {
			return why
		}
	}
	return "waits for an offer"
}

func (f *Framework) whereabouts(r *record, now time.Time) string {
	at := cmp.Or(r.agentID, "an agent that is not known")
	if a := f.table.agents[r.agentID]; a != nil {
		at = a.name()
	}
	if r.state == placing {
		return "is being placed on " + at
	}
	text := fmt.Sprintf("%s on %s since %s", r.state, at, clock(r.since, now))
	if f.kills.open[r.id] != nil {
		text += "; it is being killed"
	}
	return text
}

// question is one task in the queue and what the framework knows that matters to it.
type question struct {
	f   *Framework
	w   *waiting
	now time.Time

	open       []*agentRecord        // that may be offered
	agents     int                   // how many that are
	fitting    int                   // of these, large enough
	barred     map[*agentRecord]bool // of these, excluded by constraints
	exclusions []string              // what each constraint excludes, as text
	unsaid     int                   // of these, whose total the master has not told
	most       placement.Vector      // the largest capacity of an agent, for each resource
	free       placement.Vector      // the most that one has free
	large      []*agentRecord        // large enough, by name
	closed     []*agentRecord        // would be, but are not offered
	usable     []*agentRecord        // of large, those that nothing but others' work keeps from it
	spare      placement.Vector      // the most that a usable one has free
	room       bool                  // a usable one has all of it free
	shunned    []*agentRecord        // of large, those that are avoided
	leaving    []*agentRecord        // of large, those where the executor is on its way out
}

// grounds are the reasons for which a task may wait, the most telling first: the
// first that holds is given.
var grounds = []func(*question) string{
	(*question).notSubscribed,
	(*question).roleRefused,
	(*question).noGPUs,
	(*question).tooLarge,
	(*question).ruledOut,
	(*question).tooEarly,
	(*question).roleAwaited,
	(*question).overQuota,
	(*question).maintained,
	(*question).noOffers,
	(*question).avoids,
	(*question).executorLeaves,
	(*question).busy,
}

// look goes through the agents.
func (q *question) look() {
	need := q.w.whole()
	for _, a := range q.f.table.agents {
		if a.closed != "" {
			if need.Fits(a.largest.Max(a.total)) && q.w.rules.admits(a) {
				q.closed = append(q.closed, a)
			}
			continue
		}
		capacity := a.capacity()
		if capacity == (placement.Vector{}) {
			continue // known by a task or a loss only
		}
		q.agents++
		if a.surveyed.IsZero() {
			q.unsaid++
		}
		q.open = append(q.open, a)
	}
	q.rule()
	for _, a := range q.open {
		capacity, free := a.capacity(), a.freeAt(q.now)
		q.most, q.free = q.most.Max(capacity), q.free.Max(free)
		if !need.Fits(capacity) {
			continue
		}
		q.fitting++
		if q.barred[a] {
			continue
		}
		q.large = append(q.large, a)
		x := a.executors[q.w.executor.id]
		switch {
		case q.f.table.avoided[a.ID] != nil, slices.Contains(q.w.AvoidAgents, a.ID):
			q.shunned = append(q.shunned, a)
		case x != nil && x.state() == placement.Leaving:
			q.leaving = append(q.leaving, a)
		default:
			q.usable = append(q.usable, a)
			q.spare = q.spare.Max(free)
			q.room = q.room || need.Fits(free)
		}
	}
	for _, list := range [][]*agentRecord{q.large, q.closed, q.usable, q.shunned, q.leaving} {
		slices.SortFunc(list, func(a, b *agentRecord) int {
			return cmp.Or(cmp.Compare(a.name(), b.name()), cmp.Compare(a.ID, b.ID))
		})
	}
}

func (q *question) notSubscribed() string { return q.f.trouble(q.now) }

// Trouble says in one line why there is no subscription, "" while there is: at most
// MaxExplain bytes. Times are UTC.
func (f *Framework) Trouble() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return clip(f.trouble(time.Now()), MaxExplain)
}

// trouble is Trouble in full. f.mu is held.
func (f *Framework) trouble(now time.Time) string {
	if f.session != nil {
		return ""
	}
	what, why := "no connection to a Mesos master since", "connecting"
	if f.link.settled.IsZero() {
		what = "no Mesos master found yet, tried since"
	}
	if f.link.err != nil {
		why = f.link.err.Error()
	}
	return fmt.Sprintf("%s %s: %s", what, clock(f.link.since, now), why)
}

func (q *question) noGPUs() string {
	if q.w.need[placement.GPUs] == 0 || q.f.cfg.GPUs || q.most[placement.GPUs] > 0 {
		return ""
	}
	return "it asks for GPUs, and this framework is not set up to be offered any"
}

// tooLarge: the task fits nowhere, however long it waits.
func (q *question) tooLarge() string {
	var parts []string
	if q.agents > 0 && q.fitting == 0 {
		parts = append(parts, q.shortage())
	}
	if q.fitting == 0 {
		parts = append(parts, q.wouldDo()...)
	}
	return strings.Join(parts, "; ")
}

// wouldDo names an agent that is not offered.
func (q *question) wouldDo() []string {
	if len(q.closed) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s would do, but is %s", q.closed[0].name(), q.closed[0].closed)}
}

func (q *question) shortage() string {
	whole := q.w.whole()
	for i := range whole {
		if whole[i] <= q.most[i] {
			continue
		}
		need, has := withUnit(i, q.w.need[i]), amount(i, q.most[i])
		if q.w.need[i] <= q.most[i] {
			need += " besides the " + amount(i, whole[i]-q.w.need[i]) + " of an executor"
		}
		if q.unsaid > 0 {
			return fmt.Sprintf("no agent with %s has been seen: the most that one has offered is %s", need, has)
		}
		return fmt.Sprintf("no agent with %s: the largest has %s in all, %s free", need, has, amount(i, q.free[i]))
	}
	var parts []string
	for i, v := range whole {
		if v > 0 {
			parts = append(parts, withUnit(i, v))
		}
	}
	return fmt.Sprintf("no agent has %s together, though each alone can be had", strings.Join(parts, " and "))
}

// tooEarly keeps what may pass in a moment from being said.
func (q *question) tooEarly() string {
	if q.now.Sub(q.w.Submitted) < q.f.cfg.Timings.Puzzle {
		return "waits for an offer"
	}
	return ""
}

func (q *question) noOffers() string {
	l := q.f.link
	if !l.lastOffer.Before(l.since) {
		return ""
	}
	text := "no offers at all since " + clock(l.since, q.now) + ", when the framework subscribed"
	if q.agents > 0 {
		text += fmt.Sprintf("; the master knows of %s", agents(q.agents))
	}
	return text
}

// avoids: every agent that is large enough has lost tasks.
func (q *question) avoids() string {
	if len(q.large) == 0 || len(q.shunned) < len(q.large) {
		return ""
	}
	var each []string
	for _, a := range q.shunned[:min(2, len(q.shunned))] {
		each = append(each, q.whyAvoided(a))
	}
	if more := len(q.shunned) - len(each); more > 0 {
		each = append(each, fmt.Sprintf("and %s more", thousands(more)))
	}
	which := "the only agent that is large enough is avoided"
	if len(q.large) > 1 {
		which = fmt.Sprintf("all %s that are large enough are avoided", agents(len(q.large)))
	}
	return which + ": " + strings.Join(each, "; ")
}

func (q *question) whyAvoided(a *agentRecord) string {
	if q.f.table.avoided[a.ID] == nil {
		return a.name() + " has lost this task before"
	}
	return fmt.Sprintf("%s until %s after %s (%s)", a.name(), clock(a.blame.until, q.now),
		counted(a.blame.losses, "loss", "losses"), clip(a.blame.reason, 80))
}

func (q *question) executorLeaves() string {
	if len(q.leaving) == 0 || len(q.usable) > 0 {
		return ""
	}
	return fmt.Sprintf("its executor on %s is being shut down; a new one starts when that has ended", q.leaving[0].name())
}

// busy: there are agents for it, and others' work is on them or goes first.
func (q *question) busy() string {
	var text string
	switch l := q.f.link; {
	case q.agents == 0:
		text = "no agent is known; last offer at " + clock(l.lastOffer, q.now)
	case q.room:
		text = fmt.Sprintf("its turn has not come (%s large enough)", q.counts())
	default:
		text = fmt.Sprintf("busy: %s (%s large enough)", q.lacks(), q.counts())
	}
	if len(q.exclusions) > 0 {
		text += "; " + strings.Join(q.exclusions, ", ")
	}
	if n := len(q.shunned); n > 0 {
		text += fmt.Sprintf("; %s avoided after losses", agents(n))
	}
	if l := q.f.link.lastOffer; q.now.Sub(l) > 2*q.f.offerMemory() {
		text += "; no offer since " + clock(l, q.now)
	}
	if turn := q.turn(); turn != "" {
		text += "; " + turn
	}
	return text
}

// counts says how many of how many agents.
func (q *question) counts() string {
	switch {
	case q.agents == 1:
		return "the only agent is"
	case len(q.usable) == q.agents:
		return fmt.Sprintf("all %s are", agents(q.agents))
	case len(q.usable) == 1:
		return fmt.Sprintf("1 of %s is", agents(q.agents))
	}
	return fmt.Sprintf("%s of %s are", thousands(len(q.usable)), agents(q.agents))
}

// lacks names the first resource of which no usable agent has enough free.
func (q *question) lacks() string {
	whole := q.w.whole()
	for i := range whole {
		if whole[i] > q.spare[i] {
			return fmt.Sprintf("it needs %s, the most free on one is %s", withUnit(i, whole[i]), amount(i, q.spare[i]))
		}
	}
	return "none has all that it needs free at once"
}

// turn says who is served before the task: those of higher priority, then owners
// that hold less of the cluster, then its owner's older tasks.
func (q *question) turn() string {
	var higher, poorer int
	total := q.f.table.total()
	mine := q.f.table.held[q.w.Owner].Share(total)
	for r, n := range q.f.queue.ranks {
		switch {
		case r.priority > q.w.Priority:
			higher += n
		case r.priority == q.w.Priority && r.owner != q.w.Owner && q.f.table.held[r.owner].Share(total) < mine:
			poorer += n
		}
	}
	var parts []string
	if higher > 0 {
		parts = append(parts, thousands(higher)+" of higher priority")
	}
	if poorer > 0 {
		parts = append(parts, fmt.Sprintf("%s of owners that hold less (owner %s has %.0f%% of the cluster)",
			thousands(poorer), clip(q.w.Owner, 30), 100*mine))
	}
	if n := q.f.queue.before(q.w); n > 0 {
		parts = append(parts, thousands(n)+" older of owner "+clip(q.w.Owner, 30))
	}
	if len(parts) == 0 {
		return ""
	}
	return "tasks before it: " + strings.Join(parts, ", ")
}

// clock is a moment for people: the time, and the day if it is not the same.
func clock(t, now time.Time) string {
	t = t.UTC()
	if t.Format(time.DateOnly) != now.UTC().Format(time.DateOnly) {
		return t.Format("2006-01-02 15:04:05 UTC")
	}
	return t.Format("15:04:05 UTC")
}

func agents(n int) string { return counted(n, "agent", "agents") }

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}

// thousands writes 4120 as 4,120.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// withUnit is an amount that names its resource: "64 GB of memory".
func withUnit(dimension int, v int64) string {
	what := map[int]string{placement.Mem: " of memory", placement.Disk: " of disk", placement.Network: " of network"}[dimension]
	return amount(dimension, v) + what
}

func amount(dimension int, v int64) string {
	n := float64(v) / 1000
	switch dimension {
	case placement.CPUs:
		return plural(n, "CPU")
	case placement.GPUs:
		return plural(n, "GPU")
	case placement.Ports:
		return plural(n, "port")
	case placement.Network:
		return round(n) + " Mbit/s"
	}
	// Mesos counts in 2^20 bytes, flow files mostly in 10^6.
	if n *= mb / 1e6; n >= 999.5 {
		return round(n/1000) + " GB"
	}
	return round(n) + " MB"
}

// round gives about three digits, without zeros at the end.
func round(n float64) string {
	decimals := 0
	switch {
	case n < 9.995:
		decimals = 2
	case n < 99.95:
		decimals = 1
	}
	text := strconv.FormatFloat(n, 'f', decimals, 64)
	if decimals > 0 {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

func plural(n float64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%g %ss", n, what)
}

// clip shortens a text to so many bytes, in one line and whole characters.
func clip(s string, most int) string {
	s = strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "?")
	const dots = "…"
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-len(dots)], "") + dots
}
