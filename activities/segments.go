package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
)

// segment is one that lies in storage. Generation 0 has what leaders have decided.
type segment struct {
	key                       string
	size                      int64
	first, generation, number int
}

// listSegments gives the segments of an activity, or of one of its tasks, in the
// order of their tasks and numbers.
func listSegments(ctx context.Context, store storage.Store, prefix, activity, task string) (list []segment, err error) {
	for info, err := range storage.All(ctx, store, storage.ListOptions{Prefix: api.SegmentPrefix(prefix, activity) + task}) {
		if err != nil {
			return nil, err
		}
		if n, ok := api.ParseSegmentKey(prefix, info.Key); ok {
			list = append(list, segment{info.Key, info.Size, n.First, n.Generation, n.Number})
		}
	}
	slices.SortFunc(list, func(a, b segment) int {
		return compare(a.generation, b.generation, a.number, b.number, a.first, b.first)
	})
	return list, nil
}

// compare orders by pairs, the first pair that differs decides.
func compare(pairs ...int) int {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] != pairs[i+1] {
			if pairs[i] < pairs[i+1] {
				return -1
			}
			return 1
		}
	}
	return 0
}

// readSegment passes the results of a segment on, with their JSON, which is valid
// until the next one. What no executor of ours writes is passed over.
func readSegment(ctx context.Context, store storage.Store, s segment, to func(line int, r tasklet.Result, raw []byte) error) error {
	r, err := lines.Open(ctx, storage.Section(store, s.key), s.size)
	if err != nil {
		return err
	}
	line := -1
	for raw, err := range r.Values(ctx, 0, r.Len()) {
		line++
		var one tasklet.Result
		if err != nil {
			return err
		}
		if json.Unmarshal(raw, &one) != nil || one.Partition < s.first {
			continue
		}
		if err := to(line, one, raw); err != nil {
			return err
		}
	}
	return nil
}

// readers is how many segments of one Range are read side by side; maxScans how
// many Ranges.
const (
	readers  = 8
	maxScans = 2
)

// scan reads all segments, several at a time. Calls of to come one at a time. A
// segment that is damaged, or gone, has no results.
func (h *Handoff) scan(ctx context.Context, list []segment, to func(s int, line int, r tasklet.Result, raw []byte) error) error {
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		first error
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := make(chan int)
	for range min(readers, len(list)) {
		wg.Go(func() {
			for i := range next {
				err := readSegment(ctx, h.cfg.Store, list[i], func(line int, r tasklet.Result, raw []byte) error {
					mu.Lock()
					defer mu.Unlock()
					return to(i, line, r, raw)
				})
				if errors.Is(err, lines.ErrFormat) || errors.Is(err, storage.ErrNotExist) {
					h.cfg.Logger.Warn("a segment cannot be read", "segment", list[i].key, "error", err)
					err = nil
				}
				if err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
					cancel()
				}
			}
		})
	}
feed:
	for i := range list {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	if first == nil {
		first = ctx.Err()
	}
	return first
}

// heardResult is a result of some task: what a leader must know of it.
type heardResult struct {
	generation int
	result     tasklet.Result
}

// found is what a scan of a Range has brought.
type found struct {
	results  []heardResult
	segments map[int]int // by generation
	highest  int         // generation
}

// look reads what storage has of an activity with a Range.
func (h *Handoff) look(prefix, activity string) (f found, err error) {
	ctx, cancel := context.WithTimeout(h.ctx, scanTimeout)
	defer cancel()
	list, err := listSegments(ctx, h.cfg.Store, prefix, activity, "")
	if err != nil {
		return f, err
	}
	f.segments = make(map[int]int)
	for _, s := range list {
		f.highest = max(f.highest, s.generation)
		if s.number <= maxSegments { // those above are a leader's: the executor may store more
			f.segments[s.generation] = max(f.segments[s.generation], s.number+1)
		}
	}
	err = h.scan(ctx, list, func(s, _ int, r tasklet.Result, _ []byte) error {
		f.results = append(f.results, heardResult{list[s].generation, slim(r)})
		return nil
	})
	if err != nil {
		return f, err
	}
	released, err := h.lookReleased(ctx, prefix, activity)
	if err != nil {
		return f, err
	}
	for _, one := range released {
		if slices.ContainsFunc(f.results, func(r heardResult) bool {
			return r.generation == one.generation && r.result.Partition == one.result.Partition
		}) {
			continue
		}
		key := api.SegmentKey(prefix, activity, one.result.Partition, one.generation, maxSegments+1)
		if err := h.putSegment(ctx, key, []tasklet.Result{one.result}); err != nil {
			return f, err
		}
		f.results = append(f.results, one)
	}
	return f, nil
}

// scanTimeout bounds the reading of all segments of a Range.
const scanTimeout = 10 * time.Minute

// lookReleased reads what persons have said of tasks that were held. It comes to
// stand in segments, like all results.
func (h *Handoff) lookReleased(ctx context.Context, prefix, activity string) (list []heardResult, err error) {
	base := api.ResultPrefix(prefix, activity)
	for info, err := range storage.All(ctx, h.cfg.Store, storage.ListOptions{Prefix: base}) {
		if err != nil {
			return nil, err
		}
		first, generation, ok := parseResultKey(info.Key[len(base):])
		if !ok {
			continue
		}
		var o releasedObject
		if err := storage.GetJSON(ctx, h.cfg.Store, info.Key, maxResultObject, &o); err != nil {
			return nil, err
		}
		for _, r := range o.Results {
			if r.Partition == first && o.Release != nil {
				list = append(list, heardResult{generation, r})
			}
		}
	}
	return list, nil
}

// slim keeps of a result what decides about another attempt.
func slim(r tasklet.Result) tasklet.Result {
	return tasklet.Result{
		Partition: r.Partition, Attempt: r.Attempt, Outcome: r.Outcome, ExitCode: r.ExitCode, Signal: r.Signal, Ended: r.Ended,
	}
}

// segmentsOf finds the results of a task that has ended: in its last update if all
// before it were heard, else in storage. storage.ErrNotExist when some partition has
// none, and p is not nil.
func (e *entry) segmentsOf(p *pack, id tasklet.TaskID, data tasklet.StatusData) (results []tasklet.Result, stored bool, err error) {
	if p != nil && data.Segment != nil && data.Segment.Number == p.heard && !data.Segment.More {
		e.timed(data.Segment)
		results = p.told(data.Segment)
	} else {
		results, err = e.readTask(id, p)
		if err != nil {
			return nil, false, err
		}
	}
	if p == nil {
		return results, true, nil
	}
	have := make(map[int]bool, len(results))
	for _, r := range results {
		have[r.Partition] = true
	}
	if slices.ContainsFunc(e.unfinished(p), func(i int) bool { return !have[i] }) {
		err = storage.ErrNotExist
	}
	return results, true, err
}

// keep stores results of a pack that its executor cannot store any more.
func (e *entry) keep(p *pack, told []tasklet.Result) (results []tasklet.Result, err error) {
	for _, r := range told {
		if p.has(r.Partition) {
			r.Attempt = p.attempt
			results = append(results, r)
		}
	}
	if len(results) == 0 {
		return nil, nil
	}
	if !e.h.cfg.Leading() {
		return nil, errNotLeader
	}
	ctx, cancel := e.h.call()
	defer cancel()
	key := api.SegmentKey(e.prefix, e.key.ActivityID, p.first, p.generation, maxSegments+1)
	return results, e.h.putSegment(ctx, key, results)
}

// told gives what an update says of a stored segment. An executor may say what it
// will: the pack's own partitions alone count.
func (p *pack) told(s *tasklet.Segment) (results []tasklet.Result) {
	failed := make(map[int]bool, len(s.Failed))
	for _, r := range s.Failed {
		if at := p.position(r.Partition); at >= 0 && bitmap(s.Done).has(at) && r.Outcome != tasklet.Succeeded {
			failed[at] = true
			r.Attempt = p.attempt
			results = append(results, r)
		}
	}
	for at := range p.count() {
		if bitmap(s.Done).has(at) && !failed[at] {
			results = append(results, tasklet.Result{Partition: p.partition(at), Attempt: p.attempt, Outcome: tasklet.Succeeded})
		}
	}
	return results
}

func (p *pack) partition(at int) int {
	if p.members == nil {
		return p.first
	}
	return int(p.members[at])
}

// readTask reads the segments of one task that were not heard of.
func (e *entry) readTask(id tasklet.TaskID, p *pack) (results []tasklet.Result, err error) {
	ctx, cancel := e.h.call()
	defer cancel()
	list, err := listSegments(ctx, e.h.cfg.Store, e.prefix, e.key.ActivityID, fmt.Sprintf("%d.%d.", id.First, id.Generation))
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		if p != nil && s.number < p.heard {
			continue
		}
		err := readSegment(ctx, e.h.cfg.Store, s, func(_ int, r tasklet.Result, _ []byte) error {
			if e.ranged.has(r.Partition) && (p == nil || p.has(r.Partition)) {
				results = append(results, r)
			}
			return nil
		})
		switch {
		case errors.Is(err, lines.ErrFormat), errors.Is(err, storage.ErrNotExist):
			e.log().Warn("a segment cannot be read", "segment", s.key, "error", err)
		case err != nil:
			return nil, err
		}
	}
	return results, nil
}

// segment takes the results of a segment that a running task has stored. The update
// is acknowledged when they are noted; only then its executor stores another one.
func (e *entry) segment(p *pack, u mesos.Update, s *tasklet.Segment) {
	r := e.ranged
	switch {
	case !r.ready(e): // the reading to come, or that of the next segment, finds it
	case s.Number < p.heard: // told again
	case s.Number == p.heard && !s.More:
		e.timed(s)
		e.takeRange(p, p.generation, p.told(s))
		p.heard++
	default:
		results, err := e.readTask(e.id(p.first, p.generation), p)
		if err != nil {
			e.log().Warn("cannot read a segment; trying again", "task", u.TaskID, "error", err)
			e.stillThen(p, func() { e.segment(p, u, s) })
			return
		}
		e.timed(s)
		e.takeRange(p, p.generation, results)
		p.heard = s.Number + 1
	}
	e.acknowledge(u, true)
	e.advance()
}

// timed notes how long partitions take.
func (e *entry) timed(s *tasklet.Segment) {
	n := 0
	for i := range len(s.Done) * 8 {
		if bitmap(s.Done).has(i) {
			n++
		}
	}
	if e.ranged.pace != nil {
		e.ranged.pace.add(s.Seconds, min(n, maxPack))
	}
}

// putSegment stores results as executors do.
func (h *Handoff) putSegment(ctx context.Context, key string, results []tasklet.Result) error {
	var object bytes.Buffer
	w := lines.NewWriter(&object, 0)
	for _, r := range results {
		if err := w.Add(r); err != nil {
			return err
		}
	}
	if _, err := w.Close(); err != nil {
		return err
	}
	_, err := storage.PutBytes(ctx, h.cfg.Store, key, object.Bytes())
	return err
}
