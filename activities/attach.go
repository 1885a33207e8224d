package activities

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// attach takes an activity over from Temporal (rule 7 of the hand-off): first
// the result objects, then what Mesos knows of the tasks that the details name,
// and only then new tasks for what is left.
func (e *entry) attach(in api.LaunchInput, details api.Details, token []byte, tries int32) {
	if e.orphan { // the last attempt was given up, this one is wanted
		e.orphan = false
	}
	e.adoptDetails(details)
	e.token, e.lapsed = token, false
	e.between = false
	if e.in == nil {
		e.in = newInput(in)
		e.prefix = api.StepPrefix(in.App, in.Run, in.Step)
		e.attempt, e.total = in.Attempt, partitionsOf(&in)
	}
	e.changed()
	if in.Range != nil {
		e.attachRange(tries > 1 || details.Total > 0 || len(e.packs) > 0)
		return
	}
	// Nothing was launched before the first heartbeat: a first try without
	// details starts from nothing.
	if tries > 1 || details.Total > 0 || len(e.packs) > 0 {
		if err := e.loadResults(); err != nil {
			e.log().Warn("cannot look for results; trying again", "error", err)
			e.later(e.h.cfg.RetryPause, func() { e.attach(in, details, token, tries) })
			return
		}
	}
	e.bindPacks()
	e.submitRest()
	e.advance()
}

// adoptDetails makes packs of the tasks that the details name and this leader
// does not know yet.
func (e *entry) adoptDetails(d api.Details) {
	if d.Range != nil {
		e.adoptRange(*d.Range, d.Total)
	}
	for first, generation := range d.Generations {
		e.use(first, generation)
	}
	e.adoptLosses(d)
	if e.prefix == "" {
		e.prefix, e.attempt, e.total, e.token = d.Prefix, d.Attempt, d.Total, d.Token
	}
	for _, t := range d.Tasks {
		p := &pack{
			first: t.First, generation: t.Generation, attempt: max(t.Attempt, d.Attempt),
			phase: phaseAttaching, state: mesos.State(t.State), logs: t.Log,
		}
		if e.ranged != nil {
			if !e.adoptMembers(p, t) {
				continue
			}
		} else if t.Generation < e.generations.of(t.First) || e.holds(t.First) || e.finished(t.First) {
			continue
		}
		e.use(t.First, t.Generation)
		if t.Agent >= 0 && t.Agent < len(d.Agents) {
			p.agent = d.Agents[t.Agent]
		}
		if t.UnreachableSince != nil {
			p.unreachable = *t.UnreachableSince
		}
		if t.Held != nil {
			p.phase, p.state, p.held = phaseHeld, heldState, t.Held
		}
		e.packs = append(e.packs, p)
	}
}

// holds tells whether a pack begins with a partition. Details may be older than
// what this leader has done since.
func (e *entry) holds(first int) bool {
	return slices.ContainsFunc(e.packs, func(p *pack) bool { return p.first == first })
}

// bindPacks drops adopted packs whose results are all there, and asks Mesos about
// the ones that nobody has heard of yet.
func (e *entry) bindPacks() {
	for _, p := range slices.Clone(e.packs) {
		if p.phase == phaseEnded {
			continue
		}
		if len(e.unfinished(p)) == 0 && (e.ranged == nil || p.phase == phaseHeld) {
			e.drop(p) // that of a Range ends by itself soon
			continue
		}
		if p.phase == phaseHeld {
			continue
		}
		e.h.fw.Describe(e.taskID(p), e.in.Owner, e.resources())
		if p.phase == phasePlaced && !p.unreachable.IsZero() {
			e.awaitAgent(p) // how long, the input tells
		}
	}
	e.askMesos()
}

// askMesos reconciles the tasks that nobody has heard of yet. Some were written
// ahead and never launched: of those, Mesos says nothing by itself.
func (e *entry) askMesos() {
	var unknown []mesos.TaskRef
	for _, p := range e.packs {
		if p.phase == phaseAttaching {
			unknown = append(unknown, mesos.TaskRef{TaskID: e.taskID(p), AgentID: p.agent.ID})
		}
	}
	if len(unknown) > 0 {
		e.h.fw.Reconcile(unknown...)
	}
}

// partition finds a partition of a plain step in the input; nil if it is not there.
func (e *entry) partition(index int) *partitionInput {
	i, ok := slices.BinarySearchFunc(e.in.Partitions, index, func(p partitionInput, index int) int {
		return cmp.Compare(p.Index, index)
	})
	if !ok {
		return nil
	}
	return &e.in.Partitions[i]
}

// submitRest makes packs of the partitions that have neither result nor pack.
func (e *entry) submitRest() {
	held := make(map[int]bool, len(e.packs))
	for _, p := range e.packs {
		held[p.first] = true
	}
	for _, part := range e.in.Partitions {
		if held[part.Index] || e.finished(part.Index) {
			continue
		}
		p := &pack{first: part.Index, attempt: e.attempt, phase: phaseFenced}
		if e.cancelled { // while storage was asked
			e.settleKilled(p)
			continue
		}
		e.packs = append(e.packs, p)
	}
	e.passFence()
}

// submit hands a pack to the framework under a new generation.
func (e *entry) submit(p *pack) {
	if e.cancelled || e.orphan || e.find(p.first, p.generation) != p {
		return
	}
	if e.ranged != nil && !e.trim(p) {
		return
	}
	p.generation = e.used(p.first) + 1
	e.use(p.first, p.generation)
	p.heard, p.over = 0, nil
	p.phase, p.state, p.noticed = phaseWaiting, "", false
	p.agent, p.executor, p.logs, p.unreachable = api.AgentDetail{}, "", "", time.Time{}
	l := e.losses[p.first]
	name := e.in.Step
	if e.ranged != nil && !e.in.AtMostOnce {
		name += fmt.Sprintf(" #%d…", p.first) // how many, its place decides
	} else if e.in.Many {
		name += fmt.Sprintf(" #%d", p.first)
	}
	e.h.fw.Submit(mesos.Task{
		ID:        e.taskID(p),
		Name:      name,
		Owner:     e.in.Owner,
		Priority:  -rankOf(&e.in.LaunchInput).priority, // 1 is the highest
		Resources: e.resources(), Limits: e.limits(), Constraints: e.constraints(),
		Executor: mesos.ExecutorSpec{Owner: e.in.Owner, Image: e.in.Image, Isolation: cmp.Or(l.isolation(), e.in.Isolation), URIs: uris(e.in.Fetch), Volumes: volumes(e.in.Volumes)},
		Grace:    e.in.Grace, AvoidAgents: l.avoid(), Submitted: time.Now(),
		Preemptible: e.in.Preemptible, Timeout: e.in.Timeout,
		Reads: e.reads(p),
	})
}

func (e *entry) resources() mesos.Resources {
	return mesos.Resources{
		CPUs: e.in.CPUs, Mem: e.in.Mem, Disk: e.in.Disk, GPUs: e.in.GPUs, Ports: e.in.Ports, Network: e.in.Network,
	}
}

// uris is what the agent fetches for a step's executor.
func uris(list []flow.Fetch) mesos.URIs {
	out := make([]mesos.URI, len(list))
	for i, f := range list {
		out[i] = mesos.URI{URI: f.URI, Name: f.Name, Cache: !f.NoCache, Executable: f.Executable}
	}
	return mesos.NewURIs(out...)
}

// volumes are what a step's container has of the agent.
func volumes(list []flow.Volume) mesos.Volumes {
	out := make([]mesos.Volume, len(list))
	for i, v := range list {
		out[i] = mesos.Volume(v)
	}
	return mesos.NewVolumes(out...)
}

func (e *entry) limits() mesos.Limits {
	if e.in.Limits == nil {
		return mesos.Limits{}
	}
	return mesos.Limits{CPUs: e.in.Limits.CPUs, Mem: e.in.Limits.Mem}
}

func (e *entry) constraints() []mesos.Constraint {
	var out []mesos.Constraint
	for _, c := range e.in.Constraints {
		out = append(out, mesos.Constraint(c))
	}
	return out
}

// loadResults takes all results of this activity that lie in storage, whichever
// placement wrote them.
func (e *entry) loadResults() error {
	ctx, cancel := e.h.call()
	defer cancel()
	prefix := api.ResultPrefix(e.prefix, e.key.ActivityID)
	for info, err := range storage.All(ctx, e.h.cfg.Store, storage.ListOptions{Prefix: prefix}) {
		if err != nil {
			return err
		}
		first, generation, ok := parseResultKey(strings.TrimPrefix(info.Key, prefix))
		if !ok {
			continue
		}
		e.use(first, generation)
		if e.finished(first) {
			continue
		}
		object, err := e.readResult(first, generation)
		if err != nil {
			return err
		}
		e.takeAll(first, object)
	}
	return nil
}

func parseResultKey(name string) (first, generation int, ok bool) {
	a, b, ok := strings.Cut(strings.TrimSuffix(name, ".json"), ".")
	if !ok {
		return 0, 0, false
	}
	first, err1 := strconv.Atoi(a)
	generation, err2 := strconv.Atoi(b)
	return first, generation, err1 == nil && err2 == nil
}

// maxResultObject bounds what is read of one result object, in bytes.
const maxResultObject = 32 << 20

// readResult reads a result object; storage.ErrNotExist when there is none.
func (e *entry) readResult(first, generation int) ([]tasklet.Result, error) {
	if e.prefix == "" {
		return nil, fmt.Errorf("where the results of %s lie is not known yet", e.key)
	}
	ctx, cancel := e.h.call()
	defer cancel()
	key := api.ResultKey(e.prefix, e.key.ActivityID, first, generation)
	var object tasklet.ResultObject
	if err := storage.GetJSON(ctx, e.h.cfg.Store, key, maxResultObject, &object); err != nil {
		return nil, err
	}
	return object.Results, nil
}

// takeAll keeps the results that count, of a task that begins with partition
// first. The platform's failures do not, nor kills that nobody asked for, nor what
// an executor says of partitions that it was not given.
func (e *entry) takeAll(first int, results []tasklet.Result) {
	for _, r := range results {
		switch {
		case e.finished(r.Partition), r.Partition != first:
		case r.Outcome == tasklet.Platform, r.Outcome == tasklet.Killed && !e.cancelled:
		default:
			e.settleAs(r)
		}
	}
}

// settleAs makes a result count that is final.
func (e *entry) settleAs(r tasklet.Result) {
	if e.ranged != nil {
		e.ranged.decide(r)
		return
	}
	put(&e.results, r.Partition, r)
}
