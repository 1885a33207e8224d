package starter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/baas-batch/baas/api"
)

// live gives what the agents hold of tasks that run.
func (f *follower) live(ctx context.Context, run *Run) error {
	if f.readLive == nil {
		return nil
	}
	for _, a := range run.Activities {
		if f.options.Step != "" && a.Step != f.options.Step {
			continue
		}
		for _, t := range a.Details.Tasks {
			if t.Agent < 0 || t.Agent >= len(a.Details.Agents) {
				continue
			}
			err := f.liveTask(ctx, a, t, a.Details.Agents[t.Agent])
			if t.Held != nil && errors.Is(err, ErrUnreachable) {
				continue // its agent may be gone for good
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *follower) liveTask(ctx context.Context, a Activity, t api.TaskDetail, agent api.AgentDetail) error {
	if agent.Endpoint == "" || agent.Sandbox == "" || t.Log == "" {
		return nil // not started yet
	}
	attempt := cmp.Or(t.Attempt, a.Details.Attempt)
	first, last := t.First, t.Last()
	switch p := f.options.Partition; {
	case p >= 0 && !t.Holds(p):
		return nil
	case p >= 0:
		first, last = p, p
	case t.Count > maxLive:
		return nil // which of them runs is not known; their logs come from storage
	}
	for partition := first; partition <= last; partition++ {
		if !t.Holds(partition) {
			continue
		}
		id := logID{
			key:  api.LogKey(a.Details.Prefix, partition, attempt, t.Generation),
			step: a.Step, partition: partition, attempt: attempt, generation: t.Generation,
		}
		if f.state(id).done {
			continue
		}
		file := path.Join(agent.Sandbox, strings.Replace(t.Log, "%d", strconv.Itoa(partition), 1))
		if err := f.liveLog(ctx, id, agent.Endpoint, file); err != nil {
			return err
		}
	}
	return nil
}

// liveLog gives what is new in one file.
func (f *follower) liveLog(ctx context.Context, id logID, endpoint, file string) error {
	s := f.state(id)
	for blurred := 0; blurred < maxBlurred; {
		data, err := f.readLive(ctx, endpoint, file, s.offset, chunkSize)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			return nil // not begun yet, or swept after it was stored
		case err != nil && f.options.Follow:
			return nil
		case err != nil:
			return &UnreachableError{What: fmt.Sprintf("the log of step %s at agent", id.step), Address: endpoint, Err: err}
		}
		text, n, exact := wholeRunes(data)
		if n == 0 {
			return nil
		}
		s.offset += int64(n)
		s.remember(text, exact)
		if !exact {
			blurred++
		}
		if err := f.give(id, text); err != nil {
			return err
		}
	}
	return nil
}

// maxLive bounds the partitions of one task whose logs are looked for on its agent.
const maxLive = 4

// maxBlurred bounds the single bytes that one look takes from a log that is no
// text: each costs a request.
const maxBlurred = 100

const replacement = string(utf8.RuneError)

// wholeRunes tells which bytes of a log an agent's answer stands for. Agents give
// logs as JSON text, in which each byte that is no UTF-8 has become U+FFFD: an
// answer is exact up to the first one. n counts bytes of the file. What may be the
// beginning of a character that is still being written is left for the next read.
func wholeRunes(data []byte) (text []byte, n int, exact bool) {
	i := strings.Index(string(data), replacement)
	switch {
	case i < 0:
		return data, len(data), true
	case i > 0:
		return data[:i], i, true
	case strings.Trim(string(data), replacement) == "" && len(data) < utf8.UTFMax*len(replacement):
		return nil, 0, true
	}
	return data[:len(replacement)], 1, false
}

const tailLength = 64

// remember keeps the end of what was given, to find the place again in storage.
func (s *logState) remember(text []byte, exact bool) {
	if !exact {
		s.tail = nil
		return
	}
	s.tail = append(s.tail, text...)
	s.tail = append([]byte(nil), s.tail[max(0, len(s.tail)-tailLength):]...)
}
