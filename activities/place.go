package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// maxLaunchData bounds TaskInfo.data, in bytes.
const maxLaunchData = 1 << 20

// placing is the state of a task before its ACCEPT.
const placing mesos.State = "PLACING"

// errNothingLeft says that no partition of a pack is to run any more.
var errNothingLeft = errors.New("no partition of it is to run")

// errWithdrawn answers for a task that is no longer to be launched.
var errWithdrawn = errors.New("not to be launched any more")

// Placed writes a placement ahead and answers with the launch data (rule 2).
func (h *Handoff) Placed(ctx context.Context, pl mesos.Placement) []mesos.Launch {
	type answer struct {
		index    []int
		launches []mesos.Launch
	}
	launches := make([]mesos.Launch, len(pl.Tasks))
	groups := make(map[tasklet.ActivityKey][]int)
	for i, t := range pl.Tasks {
		launches[i].Err = errWithdrawn
		if id, err := tasklet.ParseTaskID(t.ID); err == nil {
			groups[id.Activity()] = append(groups[id.Activity()], i)
		}
	}
	answers := make(chan answer, len(groups))
	waiting := 0
	for key, indexes := range groups {
		e := h.known(key)
		if e == nil {
			continue // completed or given up meanwhile
		}
		ids := make([]tasklet.TaskID, len(indexes))
		for n, i := range indexes {
			ids[n], _ = tasklet.ParseTaskID(pl.Tasks[i].ID)
		}
		if e.post(func() { answers <- answer{indexes, e.place(ids, pl)} }) {
			waiting++
		}
	}
	for ; waiting > 0; waiting-- {
		select {
		case a := <-answers:
			for n, i := range a.index {
				launches[i] = a.launches[n]
			}
		case <-ctx.Done():
			return refuse(launches, ctx.Err())
		case <-h.ctx.Done():
			return refuse(launches, h.ctx.Err())
		}
	}
	if !h.cfg.Leading() {
		// Cancelled: the framework reports the tasks as dropped, so that they are
		// placed again should the leadership be confirmed after all. What could not
		// be prepared is with its activity again already.
		for i := range launches {
			if launches[i].Err == nil {
				launches[i] = mesos.Launch{Err: context.Canceled}
			}
		}
	}
	return launches
}

func refuse(launches []mesos.Launch, err error) []mesos.Launch {
	for i := range launches {
		launches[i] = mesos.Launch{Err: err}
	}
	return launches
}

// place prepares the packs of one activity that were placed on one agent.
func (e *entry) place(ids []tasklet.TaskID, pl mesos.Placement) []mesos.Launch {
	launches := make([]mesos.Launch, len(ids))
	packs := make([]*pack, len(ids))
	var trouble error
	var ready []int
	for i, id := range ids {
		p := e.find(id.First, id.Generation)
		if p == nil || p.phase != phaseWaiting || e.in == nil || e.orphan || e.lapsed {
			launches[i].Err = errWithdrawn
			continue
		}
		if e.cancelled {
			launches[i].Err = errWithdrawn
			e.drop(p)
			e.settleKilled(p)
			continue
		}
		packs[i] = p
		p.ports = portsOf(pl, e.taskID(p))
		if launches[i].Err = trouble; trouble == nil {
			launches[i].Data, launches[i].Err = e.launchData(p)
			launches[i].Labels = map[string]string{"baas_run": e.in.Run, "baas_step": e.in.Step}
		}
		switch err := launches[i].Err; {
		case err == nil:
			ready = append(ready, i)
			p.phase, p.state = phasePlacing, placing
			p.agent = api.AgentDetail{ID: pl.Agent.ID, Host: pl.Agent.Hostname, Endpoint: pl.Agent.Endpoint}
			p.executor = pl.Executor
		case !inputsFault(err):
			trouble = err // the others would wait for storage as long
		}
	}
	var err error
	if len(ready) > 0 {
		err = e.writeAhead()
	}
	// As many as details have room for are launched: all that are refused together
	// would come back together.
	for errors.Is(err, errDetailsFull) && len(ready) > 1 {
		half := len(ready) / 2
		for _, i := range ready[half:] {
			launches[i].Err = err
			packs[i].phase, packs[i].state = phasePausing, ""
		}
		ready = ready[:half]
		err = e.writeAhead()
	}
	for i, p := range packs {
		if p == nil || e.find(p.first, p.generation) != p {
			launches[i] = mesos.Launch{Err: errWithdrawn} // the heartbeat told us to stop
			continue
		}
		if launches[i].Err == nil {
			launches[i].Err = err
		}
		if launches[i].Err == nil {
			p.phase, p.state = phasePlaced, mesos.Staging
			if e.ranged != nil {
				e.ranged.launched++
			}
			e.changed() // the details say PLACING
			continue
		}
		e.notLaunched(p, launches[i].Err)
	}
	e.advance()
	return launches
}

// portsOf gives the ports that a placement has for a task.
func portsOf(pl mesos.Placement, taskID string) []int {
	for i := range pl.Tasks {
		if pl.Tasks[i].ID == taskID {
			return pl.Tasks[i].Ports
		}
	}
	return nil
}

// writeAhead makes placements durable, if the details have room for them.
func (e *entry) writeAhead() error {
	details, whole := e.describe()
	if !whole {
		return errDetailsFull
	}
	return e.note(details)
}

// notLaunched puts a pack back that could not be prepared.
func (e *entry) notLaunched(p *pack, err error) {
	switch {
	case e.cancelled:
		e.drop(p)
		e.settleKilled(p)
	case errors.Is(err, errNothingLeft):
		e.drop(p)
	case inputsFault(err):
		e.drop(p)
		e.settleRest(p, tasklet.Invalid, err.Error())
	default:
		p.phase, p.state = phasePausing, ""
		if e.ranged != nil && errors.Is(err, errDetailsFull) {
			e.tooWide(p)
		}
		e.log().Warn("cannot launch yet; trying again", "task", e.taskID(p), "error", err)
		e.lost = err.Error()
		e.later(e.h.cfg.RetryPause, func() { e.submit(p) })
	}
}

// inputsFault tells whether the launch data can never be made.
func inputsFault(err error) bool {
	var tooLarge *launchTooLargeError
	return errors.As(err, &tooLarge) || errors.Is(err, errForeignFile) || errors.Is(err, errNothingLeft)
}

type launchTooLargeError struct{ size int }

func (err *launchTooLargeError) Error() string {
	return fmt.Sprintf("the inputs come to %d KiB of launch data, at most %d KiB are possible; pass them as files",
		err.size>>10, maxLaunchData>>10)
}

// launchData is what the executor gets.
func (e *entry) launchData(p *pack) ([]byte, error) {
	s := e.signer(e.in.Timeout)
	l := e.launch(s, p)
	if e.ranged != nil {
		return e.rangeData(s, p, l)
	}
	part := e.partition(p.first)
	if part == nil {
		return nil, errNothingLeft
	}
	l.Partitions = []tasklet.Partition{e.partitionData(s, p, part)}
	l.Result = s.target(api.ResultKey(e.prefix, e.key.ActivityID, p.first, p.generation))
	return encode(s, l)
}

// encode gives launch data as the executor reads it.
func encode(s *signer, l tasklet.Launch) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	data, err := json.Marshal(l)
	if err == nil && len(data) > maxLaunchData {
		err = &launchTooLargeError{len(data)}
	}
	return data, err
}

// launch is what all partitions of a task have in common.
func (e *entry) launch(s *signer, p *pack) tasklet.Launch {
	in := e.in
	l := tasklet.Launch{
		Version: tasklet.WireVersion,
		TaskID:  e.taskID(p),
		Owner:   in.Owner, App: in.App, Run: in.Run, Step: in.Step, Attempt: p.attempt,
		Shell: in.Shell, Args: in.Args, Env: in.Env, Outputs: in.Outputs,
		Limits: tasklet.Limits{Memory: in.Mem, Disk: in.Disk, Timeout: in.Timeout, Grace: in.Grace},
		Ports:  p.ports,
	}
	if in.Limits != nil && in.Limits.Mem > 0 {
		l.Limits.Memory = in.Limits.Mem
	}
	l.User, l.Fetched = in.User, len(in.Fetch) > 0
	for _, one := range in.Secrets {
		l.Secrets = append(l.Secrets, tasklet.Secret{Name: one.Name, File: one.File})
	}
	if in.Bundle != nil {
		l.Bundle = s.source(*in.Bundle)
	}
	return l
}

func (e *entry) partitionData(s *signer, p *pack, part *partitionInput) tasklet.Partition {
	d := tasklet.Partition{
		Index:      part.Index,
		Inputs:     make(map[string]tasklet.Input, len(part.Inputs)),
		Log:        s.target(api.LogKey(e.prefix, part.Index, p.attempt, p.generation)),
		Checkpoint: s.target(api.CheckpointKey(e.prefix, part.Index, p.attempt, p.generation)),
		Outputs:    make(map[string]tasklet.Target),
	}
	for _, in := range part.Inputs {
		d.Inputs[in.name] = s.input(in.value, slices.Contains(e.in.FileLists, in.name))
	}
	for _, out := range e.in.Outputs {
		if out.Type.IsFile() {
			d.Outputs[out.Name] = s.target(api.OutputKey(e.prefix, part.Index, p.attempt, p.generation, out.Name))
		}
	}
	if p.attempt > 1 || p.generation > 1 {
		d.Restore = s.restore(part.Index)
	}
	return d
}

// restore finds the newest checkpoint of a partition, from whichever attempt.
func (s *signer) restore(partition int) *tasklet.Source {
	if s.err != nil {
		return nil
	}
	newest, err := s.e.checkpoint(partition)
	if err != nil || newest == nil {
		s.err = err
		return nil
	}
	return s.source(tasklet.NewFileRef(newest.Key, newest.Size, "", "checkpoint"))
}

// checkpoint finds the newest one; nil when there is none.
func (e *entry) checkpoint(partition int) (newest *storage.Info, err error) {
	ctx, cancel := e.h.call()
	defer cancel()
	for info, err := range storage.All(ctx, e.h.cfg.Store, storage.ListOptions{Prefix: api.CheckpointPrefix(e.prefix, partition)}) {
		if err != nil {
			return nil, err
		}
		newest = &info // keys sort by age
	}
	return newest, nil
}

// fileRefs reads an input value as a file or a list of files.
func fileRefs(value json.RawMessage) (refs []tasklet.FileRef, list, ok bool) {
	var one tasklet.FileRef
	if json.Unmarshal(value, &one) == nil && one.Tag == tasklet.FileRefTag {
		return []tasklet.FileRef{one}, false, true
	}
	var many []tasklet.FileRef
	if json.Unmarshal(value, &many) != nil || len(many) == 0 {
		return nil, false, false
	}
	if slices.ContainsFunc(many, func(r tasklet.FileRef) bool { return r.Tag != tasklet.FileRefTag }) {
		return nil, false, false
	}
	return many, true, true
}
