package activities

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

// ready tells whether results can be judged: what lies in storage is known, and the
// input, which says what is tried again, or that nothing is.
func (r *ranged) ready(e *entry) bool { return r.loaded && (e.in != nil || e.cancelled) }

// postpone keeps an update until it can be judged. Agents repeat it until it is
// acknowledged, also to whoever leads then.
func (r *ranged) postpone(e *entry, id tasklet.TaskID, u mesos.Update) bool {
	if r.ready(e) || u.State.Live() {
		return false
	}
	r.postponed = append(r.postponed, func() { e.update(id, u) })
	return true
}

// load reads what lies in storage, beside the entry's events.
func (e *entry) load() {
	r := e.ranged
	if r.loading || r.loaded {
		return
	}
	r.loading = true
	prefix, activity := e.prefix, e.key.ActivityID
	e.h.start(func() {
		select {
		case e.h.scans <- struct{}{}:
			defer func() { <-e.h.scans }()
		case <-e.h.ctx.Done():
			return
		}
		f, err := e.h.look(prefix, activity)
		e.post(func() { e.looked(f, err) })
	})
}

func (e *entry) looked(f found, err error) {
	r := e.ranged
	r.loading = false
	if e.orphan || e.retired {
		return
	}
	switch {
	case err != nil:
		e.log().Warn("cannot look for results; trying again", "error", err)
		e.later(e.h.cfg.RetryPause, e.load)
		return
	case e.in == nil && !e.cancelled:
		return // the next attempt looks again
	}
	r.loaded = true
	e.use(0, f.highest)
	// What counts most first: whoever succeeded, then the word of a leader, then
	// the failures in their order.
	slices.SortStableFunc(f.results, func(a, b heardResult) int {
		return compare(a.weight(), b.weight(), a.result.Attempt, b.result.Attempt, a.generation, b.generation)
	})
	packs := make(map[int]*pack, len(e.packs))
	for _, p := range e.packs {
		packs[p.generation] = p
		p.heard = f.segments[p.generation]
	}
	for _, one := range f.results {
		e.retake(packs[one.generation], one)
	}
	e.resume()
}

func (h heardResult) weight() int {
	switch {
	case h.result.Outcome == tasklet.Succeeded:
		return 0
	case h.generation == 0:
		return 1
	}
	return 2
}

// resume goes on when storage and the input are known.
func (e *entry) resume() {
	r := e.ranged
	if !r.ready(e) {
		return
	}
	if e.in != nil {
		e.bindPacks()
	}
	for i := range r.parts {
		if p := &r.parts[i]; p.killing && (p.state == partWaits || p.state == partPauses) {
			e.killed(r.first + i)
		}
	}
	e.orders()
	postponed := r.postponed
	r.postponed = nil
	for _, again := range postponed {
		again()
	}
	if e.cancelled {
		e.settleWaiting()
	}
	e.checkFailed()
	e.passFence()
	e.advance()
}

// takeOf takes the results of a task: those of a Range are of p, which is nil for
// one that was given up before.
func (e *entry) takeOf(p *pack, id tasklet.TaskID, results []tasklet.Result) {
	if e.ranged == nil {
		e.takeAll(id.First, results)
		return
	}
	e.takeRange(p, id.Generation, results)
}

func (e *entry) takeRange(p *pack, generation int, results []tasklet.Result) {
	for _, r := range results {
		if p != nil {
			r.Attempt = p.attempt
		}
		e.take(p, heardResult{generation, r}, time.Now())
	}
	e.checkFailed()
}

// retake takes a result that storage had before this leader came. Its backoff runs
// since it ended, as far as the clocks agree.
func (e *entry) retake(p *pack, one heardResult) {
	since := one.result.Ended
	if now := time.Now(); since.After(now) || since.IsZero() {
		since = now
	}
	e.take(p, one, since)
}

// take makes one result count: an attempt that failed is tried again, and whatever
// is final stays so, but for a success that is heard of later. A task that was given
// up, or that was lost to the eyes of this leader, has p nil: it says nothing of a
// partition that another task has now, unless it did it well.
func (e *entry) take(p *pack, one heardResult, since time.Time) {
	r, res := e.ranged, one.result
	if !r.has(res.Partition) {
		return
	}
	part := r.at(res.Partition)
	tries := max(res.Attempt, 1)
	switch {
	case res.Outcome == tasklet.Succeeded:
		if part.state != partDone && (!part.state.final() || part.state == partFailed) {
			r.forget(res.Partition)
			e.finish(p, res.Partition, partDone)
			return
		}
	case part.state.final():
	case one.generation == 0:
		e.finish(p, res.Partition, finalState(res.Outcome))
		return
	case res.Outcome == tasklet.Platform, res.Outcome == tasklet.Killed && !e.cancelled && !part.killing:
		return // it runs again
	case part.state == partTaken && (p == nil || !p.has(res.Partition)), tries <= int(part.tries):
	case part.state == partTaken && p.attempt != tries, e.in == nil && !e.cancelled:
	case res.Outcome == tasklet.Killed:
		e.finish(p, res.Partition, partKilled)
		return
	default:
		part.tries = uint16(min(tries, 1<<16-2))
		wait, again := time.Duration(0), false
		if e.in != nil {
			wait, again = e.in.Range.Retry.Again(tries, res)
		}
		switch {
		case !again:
			e.finish(p, res.Partition, partFailed)
			return
		case e.cancelled || part.killing:
			e.killed(res.Partition)
		default:
			r.pause(res.Partition, since.Add(wait))
			r.failedLast(tries, res)
		}
	}
	p.mark(res.Partition)
}

// finish gives a partition its last state.
func (e *entry) finish(p *pack, partition int, s partState) {
	e.ranged.set(partition, s)
	p.mark(partition)
}

// mark notes that the pack is done with a partition; p may be nil.
func (p *pack) mark(partition int) {
	if p == nil {
		return
	}
	if at := p.position(partition); at >= 0 {
		p.over.set(at)
	}
}

// forget drops what this leader has decided of a partition that was done after all.
func (r *ranged) forget(partition int) {
	r.results = slices.DeleteFunc(r.results, func(one tasklet.Result) bool { return one.Partition == partition })
}

// checkFailed gives the rest up when too many partitions have failed.
func (e *entry) checkFailed() {
	if e.in == nil || e.cancelled || !e.ranged.loaded {
		return
	}
	if most := e.in.Range.MaxFailed; most >= 0 && e.ranged.n[partFailed] > most {
		e.cancelled, e.ranged.gaveUp = true, true
		e.reason = "given up: too many partitions of the step have failed"
		e.end(0)
	}
}

// settleWaiting ends the partitions that no pack has, when all is to end.
func (e *entry) settleWaiting() {
	r := e.ranged
	if r == nil || !e.cancelled {
		return
	}
	if !r.loaded {
		e.load() // some of them may have been done
		return
	}
	for i := range r.parts { // their results are made with the manifest
		if s := r.parts[i].state; s == partWaits || s == partPauses {
			r.set(r.first+i, partKilled)
		}
	}
}

// killed ends a partition that does not run.
func (e *entry) killed(partition int) {
	one := decided(partition, tasklet.Killed, cmp.Or(e.reason, e.ranged.reason, "killed"))
	one.Attempt = int(e.ranged.at(partition).tries)
	e.ranged.decide(one)
}

// undecided tells whether results wait to be stored that only this leader gives.
func (e *entry) undecided() bool { return e.ranged != nil && len(e.ranged.results) > 0 }

// flush stores them. What is left when all is done goes into the manifest only.
func (e *entry) flush() error {
	if !e.undecided() || e.cancelled || e.done() >= e.total {
		return nil
	}
	if !e.h.cfg.Leading() {
		return errNotLeader
	}
	ctx, cancel := e.h.call()
	defer cancel()
	// A key of its own, so that a former leader that is late changes nothing.
	key := api.SegmentKey(e.prefix, e.key.ActivityID, 0, 0, int(time.Now().UnixNano()))
	if err := e.h.putSegment(ctx, key, e.ranged.results); err != nil {
		return err
	}
	e.ranged.results = nil
	return nil
}

// notePause is the least time between two heartbeats that only note results.
const notePause = time.Second

// noteSoon has results noted, many at a time: executors wait for it.
func (e *entry) noteSoon() {
	if e.noting {
		return
	}
	pause := min(notePause, e.h.cfg.HeartbeatTimeout/6)
	e.noting = true
	e.later(max(0, time.Until(e.notedAt.Add(pause))), func() {
		e.noting = false
		if e.orphan || e.lapsed || len(e.acks) == 0 && !e.undecided() {
			return
		}
		if err := errors.Join(e.flush(), e.beat()); err != nil {
			e.log().Debug("results are not noted yet", "error", err)
			e.noting = true
			e.later(e.h.cfg.RetryPause, func() { e.noting = false; e.noteSoon() })
		}
	})
}
