package activities

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
)

// maxItem bounds one item as JSON, in bytes: it becomes the input of a partition.
const maxItem = 1 << 20

// ListItems is the activity api.ActivityListItems: it writes the items of a step
// down, as a stream. What a person must mend is a non-retryable error of type
// api.ErrorInvalidItems.
func (p *Preparer) ListItems(ctx context.Context, in api.ListItemsInput) (api.ListItemsResult, error) {
	info := activity.GetInfo(ctx)
	ctx, stop := untilWorkerStops(ctx)
	defer stop()
	l := &lister{store: p.Store, in: in, attempt: int(info.Attempt)}
	defer Every(ctx, tellEvery, func() { activity.RecordHeartbeat(ctx, l.listed.Load()) })()
	items, err := l.run(ctx)
	if errors.Is(context.Cause(ctx), errWorkerStops) {
		err = errWorkerStops
	}
	return api.ListItemsResult{Items: items}, err
}

// itemsError is a fault of the source.
type itemsError struct{ message string }

func (e *itemsError) Error() string { return e.message }

func badItems(format string, args ...any) error {
	return &itemsError{fmt.Sprintf(format, args...)}
}

// lister writes the items of one step.
type lister struct {
	store   storage.Store
	in      api.ListItemsInput
	attempt int
	listed  atomic.Int64 // items so far
}

// run lists the items, and tells what another attempt mends from what it does not.
func (l *lister) run(ctx context.Context) (tasklet.LinesRef, error) {
	items, err := l.list(ctx)
	if l.attempt >= readAttempts {
		switch {
		case errors.Is(err, storage.ErrNotExist):
			err = badItems("for_each: %s is not in storage any more: %v", l.source(), err)
		case lost(err):
			err = badItems("for_each: %s is damaged: %v", l.source(), err)
		}
	}
	var bad *itemsError
	if errors.As(err, &bad) {
		err = temporal.NewNonRetryableApplicationError(err.Error(), api.ErrorInvalidItems, nil)
	}
	return items, err
}

// source names what holds the items.
func (l *lister) source() string {
	for _, ref := range []*tasklet.FileRef{l.in.Lines, l.in.Values, l.in.Files} {
		if ref != nil {
			return ref.Name
		}
	}
	if l.in.Outputs != nil {
		return "a manifest of the output " + l.in.Outputs.Output
	}
	return "an object below " + l.in.Objects
}

func (l *lister) prefix() string { return api.StepPrefix(l.in.App, l.in.Run, l.in.Step) }

// list streams the source into one object.
func (l *lister) list(ctx context.Context) (tasklet.LinesRef, error) {
	ref := tasklet.LinesRef{Key: api.ItemsKey(l.prefix(), l.attempt)}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, w := io.Pipe()
	stored := make(chan error, 1)
	go func() {
		_, err := l.store.Put(ctx, ref.Key, r, storage.PutOptions{})
		r.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // else the writer would wait
		stored <- err
	}()
	out := lines.NewWriter(w, 0)
	err := l.write(ctx, out)
	if err == nil {
		ref.Size, err = out.Close()
	}
	ref.N = out.Len()
	if err != nil {
		cancel(err) // nothing half-done becomes visible
	}
	_ = w.CloseWithError(err)
	if putErr := <-stored; putErr != nil && (err == nil || errors.Is(err, io.ErrClosedPipe)) {
		err = putErr
	}
	return ref, err
}

// tellEvery is the pause between two heartbeats.
const tellEvery = time.Second

func (l *lister) write(ctx context.Context, out *lines.Writer) error {
	for item, err := range l.items(ctx) {
		if err != nil {
			return err
		}
		if out.Len() >= l.in.Max {
			return badItems("for_each: more than %d items, which is the most that a step may have", l.in.Max)
		}
		if err := out.Add(item); err != nil {
			return err
		}
		l.listed.Store(int64(out.Len()))
	}
	return nil
}

// items goes over the source.
func (l *lister) items(ctx context.Context) iter.Seq2[any, error] {
	in := l.in
	switch {
	case in.Lines != nil:
		return l.lines(ctx, *in.Lines, textItem)
	case in.Values != nil:
		return l.lines(ctx, *in.Values, valueItem)
	case in.Files != nil:
		return l.files(ctx, *in.Files)
	case in.Outputs != nil:
		return l.outputs(ctx, *in.Outputs)
	case in.Objects != "":
		return l.objects(ctx, in.Objects)
	}
	return func(yield func(any, error) bool) { yield(nil, badItems("for_each: it names no items")) }
}

// lines goes over the lines of a file.
func (l *lister) lines(ctx context.Context, ref tasklet.FileRef, item func(line []byte) (any, error)) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		file, err := l.open(ctx, ref)
		if err != nil {
			yield(nil, err)
			return
		}
		defer file.Close()
		scanner := bufio.NewScanner(file)
		scanner.Buffer(make([]byte, 64<<10), maxItem)
		for n := 1; scanner.Scan(); n++ {
			value, err := item(scanner.Bytes())
			if err != nil {
				yield(nil, badItems("for_each: line %d of %s: %v", n, ref.Name, err))
				return
			}
			if value != nil && !yield(value, nil) {
				return
			}
		}
		switch err := scanner.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			yield(nil, badItems("for_each: %s has a line of over %d bytes", ref.Name, maxItem))
		case err != nil:
			yield(nil, err)
		}
	}
}

// textItem is a line as it stands; an empty one is an item too.
func textItem(line []byte) (any, error) {
	if !utf8.Valid(line) {
		return nil, errors.New("it is not UTF-8")
	}
	return string(line), nil
}

// valueItem is a line of JSON; an empty one is none.
func valueItem(line []byte) (any, error) {
	if line = bytes.TrimSpace(line); len(line) == 0 {
		return nil, nil
	}
	if !utf8.Valid(line) || !json.Valid(line) {
		return nil, errors.New("it is not a JSON value")
	}
	return json.RawMessage(line), nil
}

// open reads a file to its end, and fails there if it is not what the reference says.
func (l *lister) open(ctx context.Context, ref tasklet.FileRef) (io.ReadCloser, error) {
	if err := mayRead(l.in.App, l.in.Owner, ref.Key); err != nil {
		return nil, badItems("for_each: %v", err)
	}
	content := storage.Content{Key: ref.Key, Offset: ref.Offset, Size: ref.Size, SHA256: ref.SHA256}
	if ref.SHA256 == "" { // an object that no run has written
		r, _, err := storage.GetParallel(ctx, l.store, ref.Key, ref.Offset, ref.Size, storage.Parallel{})
		return r, err
	}
	if ref.IsPacked() {
		return piped(func(w io.Writer) error { return l.copyPacked(ctx, w, ref) }), nil
	}
	return piped(func(w io.Writer) error { return storage.CopyVerified(ctx, w, l.store, content) }), nil
}

// piped turns what writes into what can be read. Closing it ends the writer.
func piped(write func(io.Writer) error) io.ReadCloser {
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(write(w)) }()
	return r
}

// objects goes over what the owner has put into the store.
func (l *lister) objects(ctx context.Context, prefix string) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		base := api.DataPrefix(l.in.Owner)
		if err := storage.CheckKey(base + strings.TrimSuffix(prefix, "/")); err != nil {
			yield(nil, badItems("for_each: objects %q: %v", prefix, err))
			return
		}
		for info, err := range storage.All(ctx, l.store, storage.ListOptions{Prefix: base + prefix}) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(tasklet.NewFileRef(info.Key, info.Size, "", path.Base(info.Key)), nil) {
				return
			}
		}
	}
}

// outputs goes over an output of an earlier step, in the order of its partitions.
func (l *lister) outputs(ctx context.Context, many flow.Many) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		for _, ref := range many.Manifests {
			for one, err := range lines.As[tasklet.Result](l.values(ctx, ref)) {
				if err != nil {
					yield(nil, err)
					return
				}
				// A partition that gives none (it failed, or left it out) makes no item.
				if value := one.Outputs[many.Output]; value != nil && !yield(value, nil) {
					return
				}
			}
		}
	}
}

func (l *lister) values(ctx context.Context, ref tasklet.LinesRef) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		err := mayRead(l.in.App, l.in.Owner, ref.Key)
		if err != nil {
			yield(nil, badItems("for_each: %v", err))
			return
		}
		r, err := lines.Open(ctx, storage.Section(l.store, ref.Key), ref.Size)
		if err != nil {
			yield(nil, fmt.Errorf("manifest %s: %w", ref.Key, err))
			return
		}
		r.Values(ctx, 0, r.Len())(yield)
	}
}

// mayRead tells whether runs of an app may read a key: files given as parameters,
// bundles, what runs of the same app have written, and what the owner has put there.
func mayRead(app, owner, key string) error {
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	for _, prefix := range []string{"files/", "bundles/", api.AppPrefix(app), api.DataPrefix(owner)} {
		if strings.HasPrefix(key, prefix) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s", errForeignFile, key)
}
