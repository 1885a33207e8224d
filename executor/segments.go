package executor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
)

// segments commits what the partitions of a task leave in groups, see
// tasklet.Segments. Partitions go on while one group is on its way.
//
// A segment is told of when it is in storage. One that cannot be stored ends the
// task, and what is in it is in no other: those of an upload that failed may be there.
type segments struct {
	task  *task
	spec  tasklet.Segments
	ctx   context.Context // of uploads
	stop  context.CancelFunc
	asked *asked // the target of segment number; the task's goroutine alone touches it

	mu      sync.Mutex
	number  int      // of the next segment to be opened
	open    *segment // takes what comes; nil until there is something
	last    time.Time
	sending *sending // nil when no segment is on its way
	timer   *time.Timer
	ending  bool  // what is open goes along with the terminal update
	err     error // results that are lost
}

// sending is a segment on its way.
type sending struct {
	told         chan struct{} // closed when its update is in the outbox, or it is lost
	acknowledged chan struct{}
}

// asked is a target that the leader was asked for.
type asked struct {
	answered chan struct{}
	target   tasklet.Target
	err      error
}

func newSegments(t *task) *segments {
	s := &segments{task: t, spec: *t.launch.Segments, last: time.Now()}
	s.ctx, s.stop = context.WithCancel(t.uploads)
	return s
}

// put stores a small object and gives its place. Like add, room and finish it is for
// the task's own goroutine.
func (s *segments) put(body io.ReaderAt, size int64) (key string, offset int64, err error) {
	err = s.write(func(g *segment) error {
		n, err := copyBytes(io.NewOffsetWriter(&g.raw, g.size), io.NewSectionReader(body, 0, size))
		if err == nil && n < size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return &localError{err} // what is half there is overwritten
		}
		key, offset = g.target.Key, g.size
		g.size += size
		return nil
	})
	return key, offset, err
}

// add takes the result of the partition at a position, which began at a time. The
// last one waits for finish.
func (s *segments) add(position int, began time.Time, r tasklet.Result, last bool) {
	err := s.write(func(g *segment) error {
		if err := g.add(position, began, r); err != nil {
			return err
		}
		s.ending = s.ending || last
		s.schedule()
		return nil
	})
	if err != nil && s.lost() == nil {
		s.lose(err)
	}
}

// room waits while as much as makes a segment is left behind one that is on its way.
// It returns an error when results are lost.
func (s *segments) room(ctx context.Context) error {
	s.mu.Lock()
	var full *sending
	if s.open != nil && s.open.full(s.spec.Size) {
		full = s.sending
	}
	s.mu.Unlock()
	if full != nil {
		for _, step := range []chan struct{}{full.told, full.acknowledged} {
			select {
			case <-step:
			case <-ctx.Done():
			}
			if err := s.lost(); err != nil {
				return err
			}
		}
	}
	return s.lost()
}

func (s *segments) lost() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// finish stores what is left, and gives it for the terminal update; nil when there
// is nothing.
func (s *segments) finish() (*tasklet.Segment, error) {
	defer s.stop()
	s.mu.Lock()
	s.ending = true
	if s.timer != nil {
		s.timer.Stop()
	}
	before := s.sending
	s.mu.Unlock()
	if before != nil {
		<-before.told
	}
	s.mu.Lock()
	g, err := s.open, s.err
	s.open = nil
	s.mu.Unlock()
	if g == nil {
		return nil, err
	}
	if err != nil || g.count == 0 {
		return nil, errors.Join(err, g.close())
	}
	if err := s.store(g); err != nil {
		return nil, err
	}
	return &g.told, nil
}

// write hands the open segment to f. Nobody else opens one.
func (s *segments) write(f func(*segment) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil && s.err == nil {
		number := s.number
		s.mu.Unlock()
		g, err := s.begin(number)
		s.mu.Lock()
		if err != nil {
			return err
		}
		s.open = g
		s.number++
	}
	if s.err != nil {
		return s.err
	}
	return f(s.open)
}

// begin makes a segment. The targets that the leader has to be asked for are asked for
// one segment ahead.
func (s *segments) begin(number int) (*segment, error) {
	target, err := s.target(number)
	if err != nil {
		return nil, err
	}
	if number+1 >= len(s.spec.Targets) {
		s.asked = s.ask(number + 1)
	}
	return newSegment(s.task.x.box.spool, number, target, len(s.task.launch.Partitions)), nil
}

func (s *segments) target(number int) (tasklet.Target, error) {
	if number < len(s.spec.Targets) {
		return s.spec.Targets[number], nil
	}
	a := s.asked
	if a == nil {
		a = s.ask(number)
	}
	<-a.answered
	return a.target, a.err
}

func (s *segments) ask(number int) *asked {
	a := &asked{answered: make(chan struct{})}
	go func() {
		defer close(a.answered)
		a.target, a.err = s.task.x.store.target(s.ctx, s.task.launch.TaskID, s.request(number))
	}()
	return a
}

func (s *segments) request(number int) tasklet.Request {
	return tasklet.Request{Partition: s.task.launch.Partitions[0].Index, Role: tasklet.RoleSegment, File: number}
}

// schedule sends the open segment when it is due, or looks again then. With mu held.
func (s *segments) schedule() {
	g := s.open
	if g == nil || g.count == 0 || s.sending != nil || s.ending || s.err != nil {
		return
	}
	if wait := s.spec.Every - time.Since(s.last); wait > 0 && !g.full(s.spec.Size) {
		if s.timer == nil {
			s.timer = time.AfterFunc(wait, s.look)
		} else {
			s.timer.Reset(wait)
		}
		return
	}
	s.open, s.last = nil, time.Now()
	way := &sending{make(chan struct{}), make(chan struct{})}
	s.sending = way
	go func() {
		defer close(way.told)
		if err := s.store(g); err != nil {
			s.lose(err)
			return
		}
		s.task.committed(&g.told, func() { go s.settle(way) })
	}()
}

func (s *segments) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schedule()
}

// settle makes way for the next segment.
func (s *segments) settle(way *sending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sending = nil
	s.schedule()
	close(way.acknowledged)
}

// lose notes that results cannot be stored.
func (s *segments) lose(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	s.task.x.log.Error("segment not stored", "task", s.task.launch.TaskID, "error", err)
}

// store completes a segment and uploads it.
func (s *segments) store(g *segment) error {
	defer g.close()
	select {
	case s.task.x.sealing <- struct{}{}:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	err := g.seal()
	<-s.task.x.sealing
	if err != nil {
		return &localError{err}
	}
	return s.task.x.store.upload(s.ctx, upload{
		taskID: s.task.launch.TaskID, target: g.target, body: &g.raw, size: g.told.Size, request: s.request(g.told.Number),
	})
}

// maxSealing bounds the segments that are completed at the same time, for the memory
// that compression takes.
const maxSealing = 2

// segment is one group of results.
type segment struct {
	target tasklet.Target
	raw    scratch // the object
	size   int64   // of raw, in bytes
	text   scratch // the results as JSON lines
	length int64   // of text, in bytes

	count  int // results
	failed int // bytes of told.Failed
	began  time.Time
	told   tasklet.Segment
}

func newSegment(spool string, number int, target tasklet.Target, partitions int) *segment {
	return &segment{
		target: target, raw: scratch{dir: spool}, text: scratch{dir: spool},
		told: tasklet.Segment{Number: number, Done: make([]byte, (partitions+7)/8)},
	}
}

func (g *segment) close() error { return errors.Join(g.raw.Close(), g.text.Close()) }

func (g *segment) full(size int64) bool { return g.size+g.length >= size }

// maxFailed bounds Segment.Failed as JSON, in bytes, so that the whole fits into
// tasklet.MaxStatusData.
const maxFailed = tasklet.MaxStatusData / 2

// add takes a result.
func (g *segment) add(position int, began time.Time, r tasklet.Result) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := g.text.WriteAt(append(line, '\n'), g.length); err != nil {
		return &localError{err}
	}
	g.length += int64(len(line)) + 1
	if g.count == 0 {
		g.began = began
	}
	g.count++
	told := &g.told
	told.Done[position/8] |= 1 << (position % 8)
	told.Seconds = time.Since(g.began).Seconds()
	told.Usage.Add(r.Usage)
	if r.Outcome != tasklet.Succeeded {
		if g.failed += len(line); g.failed > maxFailed {
			told.More = true
		} else {
			told.Failed = append(told.Failed, r)
		}
	}
	return nil
}

// seal writes the results behind the rest.
func (g *segment) seal() error {
	w := lines.NewWriter(io.NewOffsetWriter(&g.raw, g.size), g.size)
	text := bufio.NewReader(io.NewSectionReader(&g.text, 0, g.length))
	for range g.count {
		line, err := text.ReadBytes('\n')
		if err == nil {
			err = w.Add(json.RawMessage(line))
		}
		if err != nil {
			return fmt.Errorf("results of a segment: %w", err)
		}
	}
	var err error
	g.told.Size, err = w.Close()
	return err
}
