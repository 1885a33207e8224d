package activities

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
)

// Gather is the activity api.ActivityGather: it makes files of all results of a step,
// each a stream through this worker. What no other attempt mends is a non-retryable
// error of type api.ErrorInvalidResults.
func (p *Preparer) Gather(ctx context.Context, in api.GatherInput) (api.GatherResult, error) {
	info := activity.GetInfo(ctx)
	ctx, stop := untilWorkerStops(ctx)
	defer stop()
	g := newGatherer(p.Store, in, int(info.Attempt))
	defer g.beat(ctx, tellEvery, func(at Gathering) { activity.RecordHeartbeat(ctx, at) })()
	files, err := g.run(ctx)
	if errors.Is(context.Cause(ctx), errWorkerStops) {
		err = errWorkerStops
	}
	return api.GatherResult{Files: files}, err
}

// Gathering is how far a Gather is, as its heartbeats say.
type Gathering struct {
	File       string `json:"file"` // that is being written
	Partitions int64  `json:"partitions"`
	Of         int64  `json:"of"`
}

// gatherer gathers the results of one step.
type gatherer struct {
	lister  // reads files and manifests
	in      api.GatherInput
	total   int
	attempt int
	file    atomic.Pointer[string]
	done    atomic.Int64
}

func newGatherer(store storage.Store, in api.GatherInput, attempt int) *gatherer {
	g := &gatherer{in: in, attempt: attempt}
	g.lister = lister{store: store, in: api.ListItemsInput{App: in.App, Owner: in.Owner}}
	for _, ref := range in.Manifests {
		g.total += ref.N
	}
	return g
}

// beat tells every so often how far it is, until stop.
func (g *gatherer) beat(ctx context.Context, pause time.Duration, tell func(Gathering)) (stop func()) {
	return Every(ctx, pause, func() {
		at := Gathering{Partitions: g.done.Load(), Of: int64(g.total)}
		if name := g.file.Load(); name != nil {
			at.File = *name
		}
		tell(at)
	})
}

// readAttempts is after how many attempts what is damaged, or not there, is taken for
// lost: a store may be late, and a connection may break.
const readAttempts = 5

// run writes one file after the other, so that only one is under way.
func (g *gatherer) run(ctx context.Context) ([]tasklet.FileRef, error) {
	files, err := g.files(ctx)
	var bad *resultsError
	if errors.As(err, &bad) || g.attempt >= readAttempts && lost(err) {
		err = temporal.NewNonRetryableApplicationError(err.Error(), api.ErrorInvalidResults, nil)
	}
	return files, err
}

func lost(err error) bool {
	return errors.Is(err, storage.ErrNotExist) || errors.Is(err, storage.ErrCorrupt) || errors.Is(err, lines.ErrFormat)
}

func (g *gatherer) files(ctx context.Context) (files []tasklet.FileRef, err error) {
	for _, name := range flow.ReduceInputs(g.in.Outputs) {
		write := func(ctx context.Context, w io.Writer) error { return g.content(ctx, w, name) }
		if name == flow.ReduceResults {
			write = g.results
		}
		g.done.Store(0)
		g.file.Store(&name)
		file, err := g.put(ctx, name, write)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// resultsError is a fault of the results that no other attempt mends.
type resultsError struct{ message string }

func (e *resultsError) Error() string { return e.message }

func badResults(format string, args ...any) error {
	return &resultsError{fmt.Sprintf(format, args...)}
}

// put stores what write writes, under the name of an input.
func (g *gatherer) put(ctx context.Context, name string, write func(context.Context, io.Writer) error) (tasklet.FileRef, error) {
	key := api.GatherKey(api.StepPrefix(g.in.App, g.in.Run, g.in.Step), g.attempt, name)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	written := make(chan error, 1)
	content := piped(func(w io.Writer) error {
		buffered := bufio.NewWriterSize(w, 64<<10)
		err := write(ctx, buffered)
		if err == nil {
			err = buffered.Flush()
		}
		written <- err
		return err
	})
	hashed, digest := storage.HashReader(content)
	_, err := g.store.Put(ctx, key, hashed, storage.PutOptions{})
	if err != nil {
		cancel()
	}
	_ = content.Close() // frees the writer
	switch cause := <-written; {
	case cause == nil:
	case err == nil, !errors.Is(cause, io.ErrClosedPipe) && !errors.Is(cause, context.Canceled):
		err = cause // the store's is only that it could not read
	}
	return tasklet.NewFileRef(key, digest.Size(), digest.SHA256(), name), err
}

// partitions goes over the results of all partitions, in order.
func (g *gatherer) partitions(ctx context.Context) iter.Seq2[tasklet.Result, error] {
	return func(yield func(tasklet.Result, error) bool) {
		next := 0
		for _, ref := range g.in.Manifests {
			if err := g.mayRead(ref.Key); err != nil {
				yield(tasklet.Result{}, err)
				return
			}
			last := next + ref.N
			for raw, err := range g.values(ctx, ref) {
				var one tasklet.Result
				if err == nil {
					one, err = g.result(raw, ref, next, last)
				}
				if !yield(one, err) || err != nil {
					return
				}
				next++
			}
			if next != last {
				yield(tasklet.Result{}, badResults("manifest %s ends before partition %d", ref.Key, next))
				return
			}
		}
	}
}

func (g *gatherer) result(raw json.RawMessage, ref tasklet.LinesRef, next, last int) (one tasklet.Result, err error) {
	switch err := json.Unmarshal(raw, &one); {
	case err != nil:
		return one, badResults("manifest %s: partition %d: %v", ref.Key, next, err)
	case next == last:
		return one, badResults("manifest %s has more than %d partitions", ref.Key, ref.N)
	case one.Partition != next:
		return one, badResults("manifest %s: partition %d is where %d should be", ref.Key, one.Partition, next)
	}
	if one.Outcome != tasklet.Succeeded {
		one.Outputs = nil
	}
	return one, nil
}

func (g *gatherer) mayRead(key string) error {
	if err := mayRead(g.in.App, g.in.Owner, key); err != nil {
		return badResults("%v", err)
	}
	return nil
}

// line is what a reducing step reads of one partition.
type line struct {
	Partition int             `json:"partition"`
	Outcome   tasklet.Outcome `json:"outcome"`
	Outputs   map[string]any  `json:"outputs,omitempty"`
}

// place says which bytes of a gathered file are one partition's; named is a file that
// is not gathered.
type place struct {
	Offset int64 `json:"offset"`
	Size   int64 `json:"size"`
}

type named struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// results writes a line for each partition. The places of its files follow from their
// sizes.
func (g *gatherer) results(ctx context.Context, w io.Writer) error {
	offsets := make(map[string]int64, len(g.in.Outputs))
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for one, err := range g.partitions(ctx) {
		if err != nil {
			return err
		}
		l := line{Partition: one.Partition, Outcome: one.Outcome}
		for _, o := range g.in.Outputs {
			value, err := described(one, o, offsets)
			if err != nil {
				return err
			}
			if value == nil {
				continue
			}
			if l.Outputs == nil {
				l.Outputs = make(map[string]any, len(g.in.Outputs))
			}
			l.Outputs[o.Name] = value
		}
		if err := encoder.Encode(l); err != nil {
			return err
		}
		g.done.Add(1)
	}
	return nil
}

// described gives an output as the line has it; nil when there is none. It moves the
// offset of a file that is gathered.
func described(one tasklet.Result, o tasklet.Output, offsets map[string]int64) (any, error) {
	raw := one.Outputs[o.Name]
	if isNothing(raw) {
		return nil, nil
	}
	switch o.Type {
	case tasklet.TypeFile:
		ref, err := fileOf(one, o.Name)
		if err != nil {
			return nil, err
		}
		at := place{Offset: offsets[o.Name], Size: ref.Size}
		offsets[o.Name] += ref.Size
		return at, nil
	case tasklet.TypeDirectory:
		var ref tasklet.FileRef
		err := refFault(one, o.Name, json.Unmarshal(raw, &ref))
		return named{ref.Name, ref.Bytes}, err
	case tasklet.TypeFiles:
		var refs []tasklet.FileRef
		err := refFault(one, o.Name, json.Unmarshal(raw, &refs))
		list := make([]named, len(refs))
		for i, ref := range refs {
			list[i] = named{ref.Name, ref.Size}
		}
		return list, err
	}
	return raw, nil
}

func isNothing(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func refFault(one tasklet.Result, output string, err error) error {
	if err != nil {
		return badResults("partition %d: output %s: %v", one.Partition, output, err)
	}
	return nil
}

// fileOf reads an output of type file.
func fileOf(one tasklet.Result, output string) (ref tasklet.FileRef, err error) {
	err = json.Unmarshal(one.Outputs[output], &ref)
	if err == nil && (ref.Tag != tasklet.FileRefTag || ref.IsDirectory() || ref.SHA256 == "" ||
		ref.Size < 0 || ref.Offset < 0 || ref.Size > math.MaxInt64-ref.Offset) {
		err = errors.New("it is no reference to a file")
	}
	return ref, refFault(one, output, err)
}
