package activities

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
)

// mergeDone writes the manifest when all partitions have ended, beside the entry's
// events, and tells whether it stands.
func (e *entry) mergeDone() bool {
	r := e.ranged
	if r == nil || r.result != nil {
		return true
	}
	if r.merging || !r.loaded || e.retired {
		return false
	}
	r.merging = true
	m := &merger{
		h: e.h, prefix: e.prefix, activity: e.key.ActivityID, first: r.first, count: len(r.parts), own: slices.Clone(r.results),
		sums: api.RangeResult{Tasks: r.launched}, gaveUp: r.gaveUp, reason: cmp.Or(e.reason, "killed"), parts: slices.Clone(r.parts),
	}
	if e.in != nil {
		m.outputs, m.most = e.in.Outputs, e.in.Range.MaxOutputs
	}
	e.h.start(func() {
		select {
		case e.h.scans <- struct{}{}:
			defer func() { <-e.h.scans }()
		case <-e.h.ctx.Done():
			return
		}
		err := m.run()
		e.post(func() { e.merged(m, err) })
	})
	return false
}

// merged takes the manifest. Partitions whose results are not where their executors
// said that they are run again.
func (e *entry) merged(m *merger, err error) {
	r := e.ranged
	var absent *absentError
	switch {
	case errors.As(err, &absent):
		e.log().Error("results that an executor has told of are not in storage", "partitions", len(absent.partitions))
		r.absent++
		for _, i := range absent.partitions {
			if r.absent > e.h.cfg.MaxLosses || e.cancelled || e.in == nil || e.in.AtMostOnce {
				r.results = append(r.results, decided(i, tasklet.Platform, "its executor said that its result is in storage, and it is not"))
			} else {
				r.set(i, partWaits)
			}
		}
	case err != nil:
		e.log().Warn("cannot write a manifest; trying again", "error", err)
		e.later(e.h.cfg.RetryPause, func() { r.merging = false; e.advance() })
		return
	default:
		r.result = &m.sums
	}
	r.merging = false
	e.advance()
}

// merger makes one manifest of what lies in segments. Which of several results of a
// partition counts does not depend on who led when: the success of the lowest
// generation, else what a leader has decided, else the last attempt.
type merger struct {
	h                *Handoff
	prefix, activity string
	first, count     int
	own              []tasklet.Result // that are in no segment
	outputs          []tasklet.Output
	most             int // bytes of output values
	parts            []part
	gaveUp           bool
	reason           string // of the end of those that were never run

	list  []segment
	chose []choice
	held  []byte // results as JSON, as far as there is room
	sums  api.RangeResult
}

// choice is the result of one partition that counts so far.
type choice struct {
	segment int32 // in list; -1 for one of own, -2 for none of them
	line    int32
	weight  int8
	attempt int32
	offset  int32 // in held; -1 if it is not there
	size    int32
}

// maxHeld bounds the results that are kept in memory while a manifest is made, in
// bytes. What has no room is read again.
const maxHeld = 32 << 20

// absentError names partitions without a result.
type absentError struct{ partitions []int }

func (err *absentError) Error() string {
	return fmt.Sprintf("%d partitions have no result in storage", len(err.partitions))
}

func (m *merger) run() error {
	ctx, cancel := context.WithTimeout(m.h.ctx, scanTimeout)
	defer cancel()
	m.chose = make([]choice, m.count)
	for i := range m.chose {
		m.chose[i].segment = -2
	}
	var err error
	if m.list, err = listSegments(ctx, m.h.cfg.Store, m.prefix, m.activity, ""); err != nil {
		return err
	}
	for at, r := range m.own {
		raw, err := json.Marshal(r)
		if err != nil {
			return err
		}
		m.consider(-1, at, 0, r, raw)
	}
	if err := m.h.scan(ctx, m.list, func(s, line int, r tasklet.Result, raw []byte) error {
		if s := m.list[s]; s.generation > 0 && r.Partition >= m.first && r.Partition < m.first+m.count {
			m.sums.Usage.Add(r.Usage)
		}
		m.consider(s, line, m.list[s].generation, r, raw)
		return nil
	}); err != nil {
		return err
	}
	var absent []int
	for i, c := range m.chose {
		switch {
		case m.parts[i].state == partKilled && c.weight != succeeded && c.weight != decidedFirst && c.weight != killedItself:
			m.chose[i] = choice{segment: -2, offset: -1} // it was to be tried again, or never ran
		case c.segment == -2:
			absent = append(absent, m.first+i)
		}
	}
	if len(absent) > 0 {
		return &absentError{absent}
	}
	return m.write(ctx)
}

// What a result weighs against others of its partition.
const (
	killedItself int8 = iota + 1
	failedItself
	decidedFirst // by a leader
	succeeded
)

// consider keeps a result if it counts more than the one so far.
func (m *merger) consider(s, line, generation int, r tasklet.Result, raw []byte) {
	i := r.Partition - m.first
	if i < 0 || i >= m.count || generation > 0 && r.Outcome == tasklet.Platform {
		return
	}
	c := choice{
		segment: int32(s), line: int32(line), attempt: int32(max(r.Attempt, 1)), offset: -1,
	}
	switch {
	case r.Outcome == tasklet.Succeeded:
		c.weight = succeeded
	case generation == 0:
		c.weight = decidedFirst
	case r.Outcome != tasklet.Killed:
		c.weight = failedItself
	default:
		c.weight = killedItself
	}
	old := &m.chose[i]
	if old.segment != -2 && !m.better(c, generation, *old) {
		return
	}
	if c.size = int32(len(raw)); old.offset >= 0 && old.segment != -2 && c.size <= old.size {
		c.offset = old.offset // in its place
		copy(m.held[c.offset:], raw)
	} else if len(m.held)+len(raw) <= maxHeld {
		c.offset = int32(len(m.held))
		m.held = append(m.held, raw...)
	}
	*old = c
}

func (m *merger) better(c choice, generation int, old choice) bool {
	before := 0 // generation of what is there
	if old.segment >= 0 {
		before = m.list[old.segment].generation
	}
	attempts := [2]int{int(old.attempt), int(c.attempt)} // the highest counts
	if c.weight == succeeded {
		attempts = [2]int{}
	}
	return compare(int(old.weight), int(c.weight), attempts[0], attempts[1], generation, before) < 0
}

// write streams the manifest. Its key is its own: a former leader that is late must
// not replace what the activity's result refers to.
func (m *merger) write(ctx context.Context) error {
	key := api.ManifestKey(m.prefix, m.activity, m.first, time.Now().UnixNano())
	outputs := m.newOutputs()
	reader, writer := io.Pipe()
	var size int64
	go func() {
		w := lines.NewWriter(writer, 0)
		err := m.each(ctx, func(raw json.RawMessage) error {
			var r tasklet.Result
			if err := json.Unmarshal(raw, &r); err != nil {
				return err
			}
			m.sum(r)
			outputs.add(r)
			return w.Add(raw)
		})
		if err == nil {
			size, err = w.Close()
		}
		writer.CloseWithError(err)
	}()
	info, err := m.h.cfg.Store.Put(ctx, key, reader, storage.PutOptions{})
	_ = reader.CloseWithError(errors.New("not stored"))
	if err != nil {
		return err
	}
	if info.Size != size {
		return fmt.Errorf("manifest %s: %d bytes of %d stored", key, info.Size, size)
	}
	m.sums.Manifest = tasklet.LinesRef{Key: key, Size: size, N: m.count}
	m.sums.Outputs = outputs.lists
	return nil
}

// each gives the results that count, in the order of their partitions.
func (m *merger) each(ctx context.Context, to func(json.RawMessage) error) error {
	open := -1
	var reader *lines.Reader
	for i, c := range m.chose {
		if c.segment == -2 {
			one := decided(m.first+i, tasklet.Killed, m.reason)
			one.Attempt = int(m.parts[i].tries)
			raw, err := json.Marshal(one)
			if err = errors.Join(err, to(raw)); err != nil {
				return err
			}
			continue
		}
		if c.offset >= 0 {
			if err := to(m.held[c.offset : c.offset+c.size]); err != nil {
				return err
			}
			continue
		}
		if c.segment < 0 {
			raw, err := json.Marshal(m.own[c.line])
			if err = errors.Join(err, to(raw)); err != nil {
				return err
			}
			continue
		}
		s := m.list[c.segment]
		if open != int(c.segment) {
			var err error
			if reader, err = lines.Open(ctx, storage.Section(m.h.cfg.Store, s.key), s.size); err != nil {
				return err
			}
			open = int(c.segment)
		}
		for raw, err := range reader.Values(ctx, int(c.line), int(c.line)+1) {
			if err == nil {
				err = to(raw)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// sum adds one partition to the sums.
func (m *merger) sum(r tasklet.Result) {
	m.sums.Retries += max(0, r.Attempt-1)
	switch state := finalState(r.Outcome); {
	case state == partDone:
		m.sums.Succeeded++
	case state == partFailed:
		m.sums.Failed++
		if len(m.sums.Failures) < api.MaxFailures {
			attempt := r.Attempt
			r.Outputs, r.Reason = nil, cut(r.Reason, maxFailureReason)
			m.sums.Failures = append(m.sums.Failures, api.Failure{Attempt: attempt, Result: r})
		}
	case m.gaveUp && !m.parts[r.Partition-m.first].killing:
		m.sums.NotRun++
	default:
		m.sums.Killed++
	}
}

// maxFailureReason bounds the reasons in RangeResult.Failures, in bytes.
const maxFailureReason = 2 << 10

// outputLists are the inline outputs, as long as there is room for them.
type outputLists struct {
	lists map[string][]json.RawMessage
	names []string
	room  int
}

func (m *merger) newOutputs() *outputLists {
	o := &outputLists{lists: make(map[string][]json.RawMessage), room: m.most}
	for _, out := range m.outputs {
		o.names = append(o.names, out.Name)
	}
	return o
}

func (o *outputLists) add(r tasklet.Result) {
	if o.lists == nil {
		return
	}
	for _, name := range o.names {
		value := json.RawMessage("null")
		if v := r.Outputs[name]; r.Outcome == tasklet.Succeeded && len(v) > 0 {
			value = bytes.Clone(v)
		}
		if o.room -= len(value) + 1; o.room < 0 {
			o.lists = nil
			return
		}
		o.lists[name] = append(o.lists[name], value)
	}
}

// invalidRange says that no partition of a Range can run. It has a manifest like any
// other, unless not even its keys can be made of the input.
func (h *Handoff) invalidRange(a Attempt, cause error) (api.LaunchResult, error) {
	in := a.Input
	m := &merger{
		h: h, prefix: api.StepPrefix(in.App, in.Run, in.Step), activity: a.Key.ActivityID, first: in.Range.First, count: in.Range.Count,
		outputs: in.Outputs, most: in.Range.MaxOutputs,
	}
	if m.first < 0 || m.count < 0 || m.count > maxRange || storage.CheckKey(api.ManifestKey(m.prefix, m.activity, m.first, 0)) != nil {
		return api.LaunchResult{Range: &api.RangeResult{Failed: max(0, m.count), Failures: []api.Failure{
			{Attempt: 1, Result: decided(max(0, m.first), tasklet.Invalid, cause.Error())},
		}}}, nil
	}
	m.parts = make([]part, m.count)
	for i := range m.count {
		m.own = append(m.own, decided(m.first+i, tasklet.Invalid, cause.Error()))
	}
	if err := m.run(); err != nil {
		return api.LaunchResult{}, err // tried again
	}
	return api.LaunchResult{Range: &m.sums}, nil
}
