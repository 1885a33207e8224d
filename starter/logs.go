package starter

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/storage"
)

// LogOptions select logs.
type LogOptions struct {
	Step      string // all steps if empty
	Partition int    // AllPartitions, or an index from 0
	// Follow goes on until the selected steps have ended.
	Follow bool
	Every  time.Duration // pause between two looks when following; 500 ms if 0
}

// AllPartitions selects every partition of a step.
const AllPartitions = -1

// LogChunk is a piece of the log of one attempt, in order.
type LogChunk struct {
	Step      string
	Partition int
	Attempt   int
	Data      []byte // valid until the next chunk
}

// ReadLive reads from a file in a sandbox, through the agent that holds it:
// mesos.ReadFile. The file may be missing (fs.ErrNotExist).
type ReadLive func(ctx context.Context, endpoint, path string, offset, length int64) ([]byte, error)

const chunkSize = 64 << 10

// Logs reads the logs of a run: of attempts that have ended from storage, of those
// that run from their agents, each byte once. Errors: ErrNotFound for a run, step
// or partition that is not there, ErrUnreachable. While following, an error of an
// agent is passed over: what it withholds comes from storage later.
func (c *Client) Logs(ctx context.Context, id string, o LogOptions) iter.Seq2[LogChunk, error] {
	o.Every = cmp.Or(o.Every, 500*time.Millisecond)
	return func(yield func(LogChunk, error) bool) {
		f := newFollower(o, c.Describe, c.store, c.readLive)
		f.yield = func(chunk LogChunk) error {
			if !yield(chunk, nil) {
				return errStopped
			}
			return nil
		}
		if err := f.run(ctx, id); err != nil && err != errStopped {
			yield(LogChunk{}, err)
		}
	}
}

// errStopped ends a follower whose consumer has had enough.
var errStopped = errors.New("the consumer stopped")

// follower carries the position in each log from look to look.
type follower struct {
	options  LogOptions
	describe func(ctx context.Context, id string) (Run, error)
	store    storage.Store
	readLive ReadLive
	yield    func(LogChunk) error
	logs     map[string]*logState // by key in storage, of finished and of live logs alike
	ended    map[string]bool      // steps that were read after their end
	read     map[string]bool      // segments that were read, by key
}

func newFollower(o LogOptions, describe func(context.Context, string) (Run, error), store storage.Store, readLive ReadLive) *follower {
	return &follower{
		options: o, describe: describe, store: store, readLive: readLive,
		logs: map[string]*logState{}, ended: map[string]bool{}, read: map[string]bool{},
	}
}

type logState struct {
	offset int64  // bytes given
	tail   []byte // the last of them, unless they are not known exactly
	done   bool   // given from storage to the end
}

// logID is one attempt's log.
type logID struct {
	key                            string
	step                           string
	partition, attempt, generation int
}

func (f *follower) run(ctx context.Context, id string) error {
	for {
		run, err := f.describe(ctx, id)
		if err != nil && (!f.options.Follow || !errors.Is(err, ErrUnreachable)) {
			return err
		}
		if err == nil {
			// The order matters: a step that had ended before the look has all its
			// logs in storage by then.
			ended, err := f.look(ctx, &run)
			if err != nil || ended || !f.options.Follow {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(f.options.Every):
		}
	}
}

// look gives everything new, and tells whether nothing more can come.
func (f *follower) look(ctx context.Context, run *Run) (ended bool, err error) {
	steps, err := f.selected(run)
	if err != nil {
		return false, err
	}
	ended = run.Status.Final()
	allSteps := len(steps) > 0
	for _, s := range steps {
		over := s.Status.Final() || run.Status.Final()
		allSteps = allSteps && over
		if f.ended[s.ID] || s.Started.IsZero() {
			continue
		}
		if err := f.archived(ctx, run, s.ID); err != nil {
			return false, err
		}
		if s.ForEach {
			if err := f.segments(ctx, api.StepPrefix(run.App, run.Run, s.ID), s.ID); err != nil {
				return false, err
			}
		}
		f.ended[s.ID] = over
	}
	if err := f.live(ctx, run); err != nil {
		return false, err
	}
	return ended || allSteps && f.options.Step != "", nil
}

func (f *follower) selected(run *Run) ([]api.StepState, error) {
	if f.options.Step == "" {
		return run.Steps, nil
	}
	if run.Incomplete != "" {
		return nil, fmt.Errorf("steps of run %s: %s: %w", run.Run, run.Incomplete, ErrUnreachable)
	}
	step, ok := run.Step(f.options.Step)
	switch {
	case !ok && len(run.Steps) == 0 && !run.Status.Final():
		return nil, nil // the flow is still being read
	case !ok:
		return nil, fmt.Errorf("step %q of run %s: %w%s", f.options.Step, run.Run, ErrNotFound, suggest(f.options.Step, run))
	case step.Partitions > 0 && f.options.Partition >= step.Partitions:
		return nil, fmt.Errorf("partition %d of step %q: %w: it has %d, from 0", f.options.Partition, step.ID, ErrNotFound, step.Partitions)
	}
	return []api.StepState{*step}, nil
}

func suggest(word string, run *Run) string {
	var names []string
	for _, s := range run.Steps {
		names = append(names, s.ID)
	}
	if name := flow.Suggest(word, names); name != "" {
		return fmt.Sprintf("; did you mean %q?", name)
	}
	return "; the run has " + strings.Join(names, ", ")
}

// archived gives what storage holds of a step.
func (f *follower) archived(ctx context.Context, run *Run, step string) error {
	prefix := api.StepPrefix(run.App, run.Run, step)
	listed := prefix + "logs/"
	if f.options.Partition >= 0 {
		listed = api.LogPrefix(prefix, f.options.Partition)
	}
	var found []logID
	for info, err := range storage.All(ctx, f.store, storage.ListOptions{Prefix: listed}) {
		if err != nil {
			return err
		}
		if id, ok := parseLogKey(prefix, step, info.Key); ok && !f.state(id).done {
			found = append(found, id)
		}
	}
	slices.SortFunc(found, func(a, b logID) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.attempt, b.attempt), cmp.Compare(a.generation, b.generation))
	})
	for _, id := range found {
		if err := f.fromStorage(ctx, id, place{key: id.key, size: -1}); err != nil {
			return err
		}
	}
	return nil
}

// place is where a stored log lies: a part of an object, or all of it (size -1).
type place struct {
	key          string
	offset, size int64
}

// open reads a log from one of its bytes on.
func (f *follower) open(ctx context.Context, p place, from int64) (io.ReadCloser, error) {
	size := p.size
	if size >= 0 {
		size = max(0, size-from)
	}
	object, _, err := f.store.Get(ctx, p.key, p.offset+from, size)
	return object, err
}

func (f *follower) state(id logID) *logState {
	s := f.logs[id.key]
	if s == nil {
		s = &logState{}
		f.logs[id.key] = s
	}
	return s
}

// fromStorage gives the rest of a log that is complete. A log over its limit lost
// its middle when it ended: what was given live is then no longer its beginning.
func (f *follower) fromStorage(ctx context.Context, id logID, p place) error {
	s := f.state(id)
	object, err := f.open(ctx, p, s.offset-int64(len(s.tail)))
	if errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer object.Close()
	known := make([]byte, len(s.tail))
	if _, err := io.ReadFull(object, known); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	if !bytes.Equal(known, s.tail) {
		return f.afterCut(ctx, id, p)
	}
	return f.copy(id, object)
}

// afterCut gives a log's end, from the mark that stands for its middle on.
func (f *follower) afterCut(ctx context.Context, id logID, p place) error {
	object, err := f.open(ctx, p, 0)
	if err != nil {
		return err
	}
	defer object.Close()
	mark := []byte("\n[... ")
	var kept []byte
	buffer := make([]byte, chunkSize)
	for {
		n, err := object.Read(buffer)
		kept = append(kept, buffer[:n]...)
		if i := bytes.Index(kept, mark); i >= 0 {
			return f.copy(id, io.MultiReader(bytes.NewReader(kept[i:]), object))
		}
		kept = kept[max(0, len(kept)-len(mark)):]
		if err == io.EOF {
			f.state(id).done = true
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (f *follower) copy(id logID, r io.Reader) error {
	err := f.pass(id, r)
	if err == nil {
		f.state(id).done = true
	}
	return err
}

// pass gives what r holds to its end.
func (f *follower) pass(id logID, r io.Reader) error {
	buffer := make([]byte, chunkSize)
	for {
		n, err := r.Read(buffer)
		if n > 0 {
			if err := f.give(id, buffer[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (f *follower) give(id logID, data []byte) error {
	return f.yield(LogChunk{Step: id.step, Partition: id.partition, Attempt: id.attempt, Data: data})
}

// parseLogKey reads what api.LogKey wrote.
func parseLogKey(prefix, step, key string) (logID, bool) {
	rest, ok := strings.CutPrefix(key, prefix+"logs/")
	if !ok {
		return logID{}, false
	}
	id := logID{key: key, step: step}
	partition, name, ok := strings.Cut(rest, "/")
	if !ok {
		return id, false
	}
	parts := strings.Split(name, ".")
	if len(parts) != 3 || parts[2] != "log" {
		return id, false
	}
	for _, number := range []struct {
		text string
		into *int
	}{{partition, &id.partition}, {parts[0], &id.attempt}, {parts[1], &id.generation}} {
		n, err := strconv.Atoi(number.text)
		if err != nil || n < 0 {
			return logID{}, false
		}
		*number.into = n
	}
	return id, true
}
