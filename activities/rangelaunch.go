package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/lines"
)

const (
	// packData is how many bytes of launch data a pack has at most, if it has more
	// than one partition.
	packData = 512 << 10
	// segmentTargets are signed with the launch; for more the executor asks.
	segmentTargets = 8
	maxSegments    = 1_000_000
	segmentEvery   = 2 * time.Second
	segmentSize    = 16 << 20
	// segmentRate is how many segments are to be stored in a second: where so many
	// tasks have a place that it would be more, each stores less often.
	segmentRate = 1000
)

// rangeData is the launch data of a pack. Here the inputs of its partitions are
// worked out: one whose inputs cannot be had fails by itself, and those for which
// there is no room wait for another pack.
func (e *entry) rangeData(s *signer, p *pack, l tasklet.Launch) ([]byte, error) {
	template := &e.in.Range.Template
	if len(template.Env) > 0 {
		l.Env = maps.Clone(l.Env)
		if l.Env == nil {
			l.Env = make(map[string]string)
		}
		maps.Copy(l.Env, template.Env)
	}
	l.Inputs = e.signInputs(s, template.Inputs)
	l.Segments = &tasklet.Segments{Every: every(e.h.backlog.now().Placed), Size: segmentSize}
	for n := range segmentTargets {
		l.Segments.Targets = append(l.Segments.Targets, s.target(api.SegmentKey(e.prefix, e.key.ActivityID, p.first, p.generation, n)))
	}
	if s.err != nil {
		return nil, s.err
	}
	data, err := e.fill(s, p, &l)
	if err != nil {
		return nil, err
	}
	return data, nil
}

// every is the least time between two segments of a task, while so many have a place.
func every(placed int) time.Duration {
	return max(segmentEvery, time.Duration(placed)*time.Second/segmentRate)
}

// fill adds the partitions that are to run, and makes the pack consist of these.
func (e *entry) fill(s *signer, p *pack, l *tasklet.Launch) ([]byte, error) {
	wanted := e.resize(p)
	restore := p.attempt > 1 || e.losses[p.first] != nil
	if restore {
		any, err := e.anyCheckpoint()
		if err != nil {
			return nil, err
		}
		restore = any
	}
	head, err := encode(s, *l)
	if err != nil {
		return nil, err
	}
	size, took, pieces, last := len(head), 0, 0, -1
	var invalid []tasklet.Result
	for _, i := range wanted {
		d, err := e.memberData(s, i)
		if err == nil && restore {
			d.Restore = s.restore(i)
			err = s.err
		}
		var one []byte
		if err == nil {
			one, err = json.Marshal(d)
		}
		if err == nil && size+len(one) > maxLaunchData-1024 && len(l.Partitions) == 0 {
			err = &launchTooLargeError{size + len(one)}
		}
		switch {
		case err == nil && size+len(one) > packData && len(l.Partitions) > 0:
		case err == nil && pieces == maxSpans && i != last+1:
		case err == nil:
			if pieces == 0 || i != last+1 {
				pieces++
			}
			last = i
			size += len(one) + 1
			l.Partitions = append(l.Partitions, d)
			took++
			continue
		case partitionsFault(err):
			s.err = nil
			took++
			r := decided(i, tasklet.Invalid, err.Error())
			r.Attempt = p.attempt
			invalid = append(invalid, r)
			continue
		default:
			return nil, err // all is done again later
		}
		break
	}
	for _, r := range invalid {
		e.ranged.decide(r)
	}
	for _, i := range wanted[took:] {
		e.ranged.set(i, partWaits)
	}
	if len(l.Partitions) == 0 {
		return nil, errNothingLeft
	}
	p.members, p.over = p.members[:0:0], nil
	for _, d := range l.Partitions {
		p.members = append(p.members, int32(d.Index))
	}
	return encode(s, *l)
}

// partitionFault is an error that only says that one partition cannot run.
type partitionFault struct{ error }

func (f partitionFault) Unwrap() error { return f.error }

func partitionsFault(err error) bool {
	var one partitionFault
	return errors.As(err, &one) || inputsFault(err) || errors.Is(err, storage.ErrInvalidKey)
}

// memberData is what one partition has of its own.
func (e *entry) memberData(s *signer, i int) (d tasklet.Partition, err error) {
	item, err := e.item(i)
	if err != nil {
		return d, err
	}
	inputs, env, err := e.in.Range.Template.Eval(item, i)
	if err != nil {
		return d, partitionFault{err}
	}
	d = tasklet.Partition{Index: i, Env: env, Inputs: e.signInputs(s, inputs)}
	return d, s.err
}

func (e *entry) signInputs(s *signer, inputs map[string]json.RawMessage) map[string]tasklet.Input {
	if len(inputs) == 0 {
		return nil
	}
	signed := make(map[string]tasklet.Input, len(inputs))
	for name, value := range inputs {
		signed[name] = s.input(value, slices.Contains(e.in.FileLists, name))
	}
	return signed
}

// inputOf gives one input of a partition.
func (e *entry) inputOf(partition int, name string) (json.RawMessage, error) {
	if e.ranged == nil {
		part := e.partition(partition)
		if part == nil {
			return nil, errNoPartition(partition)
		}
		return part.get(name), nil
	}
	if value, ok := e.in.Range.Template.Inputs[name]; ok {
		return value, nil
	}
	item, err := e.item(partition)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotNow, err)
	}
	inputs, _, err := e.in.Range.Template.Eval(item, partition)
	return inputs[name], err
}

// itemCache holds some items that lie in storage, and the index of their object.
type itemCache struct {
	reader *lines.Reader
	first  int
	list   []json.RawMessage
}

const (
	itemsAhead    = 4096      // items that are read at once
	maxItemsAhead = 256 << 10 // bytes of them
)

// item gives the item of a partition as JSON.
func (e *entry) item(i int) (json.RawMessage, error) {
	items := &e.in.Range.Items
	switch {
	case items.Object != nil:
		return e.storedItem(*items.Object, i)
	case items.List != nil:
		return items.List[i-e.in.Range.First], nil
	}
	return json.Marshal(items.From + int64(i))
}

func (e *entry) storedItem(ref tasklet.LinesRef, i int) (json.RawMessage, error) {
	c := &e.ranged.items
	if i >= c.first && i-c.first < len(c.list) {
		return c.list[i-c.first], nil
	}
	ctx, cancel := e.h.call()
	defer cancel()
	err := e.readItems(ctx, ref, i)
	if errors.Is(err, lines.ErrFormat) || errors.Is(err, storage.ErrNotExist) {
		return nil, partitionFault{fmt.Errorf("its item cannot be read: %w", err)}
	}
	if err != nil {
		return nil, err
	}
	return c.list[0], nil
}

// readItems keeps the items from partition i on.
func (e *entry) readItems(ctx context.Context, ref tasklet.LinesRef, i int) (err error) {
	c := &e.ranged.items
	if c.reader == nil {
		if c.reader, err = lines.Open(ctx, storage.Section(e.h.cfg.Store, ref.Key), ref.Size); err != nil {
			return err
		}
	}
	c.first, c.list = i, nil
	size := 0
	for raw, err := range c.reader.Values(ctx, i, min(i+itemsAhead, e.in.Range.First+e.in.Range.Count)) {
		if err != nil {
			if len(c.list) > 0 {
				return nil
			}
			return err
		}
		c.list = append(c.list, slices.Clone(raw))
		if size += len(raw); size > maxItemsAhead {
			break
		}
	}
	if len(c.list) == 0 {
		return fmt.Errorf("%w: item %d is not there", lines.ErrFormat, i)
	}
	return nil
}

// anyCheckpoint tells whether any partition of the step has one: most steps have
// none, and then no partition is looked for.
func (e *entry) anyCheckpoint() (bool, error) {
	ctx, cancel := e.h.call()
	defer cancel()
	page, err := e.h.cfg.Store.List(ctx, storage.ListOptions{Prefix: api.CheckpointsPrefix(e.prefix), Limit: 1})
	return len(page.Items) > 0, err
}
