package workflows

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
)

// maxFairnessKey is Temporal's limit, in bytes.
const maxFairnessKey = 64

// launchDue launches activities, one from each step in turn, until nothing is due or a
// bound is met: activities pending, or what one workflow task can carry. In that
// case a short timer brings the next turn.
func (p *phase) launchDue() {
	if p.stopping || p.pace != nil || len(p.steps) == 0 {
		return
	}
	bytes, partitions := 0, 0
	for idle := 0; idle < len(p.steps); {
		if len(p.launches) >= p.plan.Settings.MaxPending {
			return
		}
		if bytes >= maxTurnBytes || partitions >= maxTurnPartitions {
			p.pace = workflow.NewTimer(p.ctx, time.Millisecond)
			return
		}
		s := p.steps[p.turn]
		p.turn = (p.turn + 1) % len(p.steps)
		if !p.due(s) {
			idle++
			continue
		}
		idle = 0
		var size, n int
		if s.ranges != nil {
			size, n = p.launchRange(s), 1
		} else {
			size, n = p.launchBatch(s)
		}
		bytes += size
		partitions += n
	}
}

func (p *phase) due(s *step) bool {
	if s.ranges != nil {
		return s.rangeDue() && p.ranges < maxRanges
	}
	// A step whose partitions are launched one by one has few: it comes to its end.
	return s.due() && (!p.draining || s.def.ForEach != nil)
}

// launchBatch launches the next partitions of a step that has no ranges, cut where
// their inputs become too large for one activity or the environment changes. It gives
// the size of the inputs in bytes and the number of partitions.
func (p *phase) launchBatch(s *step) (size, n int) {
	attempt, candidates := s.candidates()
	in, scope := p.input(s, attempt), p.scope()
	for i, index := range candidates {
		partition, env, bytes, err := evaluate(s, index, scope)
		if err != nil {
			p.fail(s, s.place(index)+err.Error())
			s.halt()
			return size, n
		}
		if i == 0 {
			in.Env = env
		} else if size+bytes > maxRangeBytes || !maps.Equal(env, in.Env) {
			break
		}
		in.Partitions = append(in.Partitions, partition)
		size += bytes
	}
	n = len(in.Partitions)
	s.took(n)
	s.launched++
	partitions := slices.Clone(candidates[:n])
	p.launches = append(p.launches, &launch{
		step:       s,
		attempt:    attempt,
		partitions: partitions,
		future: workflow.ExecuteActivity(
			p.options(p.ctx, s, summary(s, attempt, partitions)), api.ActivityRunTasklets, in),
	})
	return size + len(in.Shell), n
}

// evaluate computes the inputs and environment of one partition.
func evaluate(s *step, index int, scope flow.Scope) (partition api.LaunchPartition, env map[string]string, bytes int, err error) {
	if s.def.ForEach != nil {
		scope.Item, scope.Index = s.items.At(index), index
	}
	partition.Index = index
	if partition.Inputs, env, bytes, err = s.def.Inputs(scope, maxPartitionBytes); err == nil {
		err = s.addGathered(&partition)
	}
	return partition, env, bytes, err
}

// input is what all partitions of an activity share.
func (p *phase) input(s *step, attempt int) api.LaunchInput {
	in := api.LaunchInput{
		App:                p.plan.Flow.Name,
		Owner:              p.plan.Owner,
		Run:                p.id,
		Step:               s.def.ID,
		Attempt:            attempt,
		Shell:              s.def.Shell,
		Args:               s.def.Args,
		Outputs:            s.def.Outputs,
		Secrets:            s.def.Secrets,
		Image:              p.plan.Image(s.def.Image),
		Isolation:          s.def.Isolation,
		User:               s.def.User,
		Fetch:              s.def.Fetch,
		Volumes:            s.def.Volumes,
		CPUs:               s.def.Resources.CPUs,
		Mem:                s.def.Resources.Mem,
		Disk:               s.def.Resources.Disk,
		GPUs:               int(math.Ceil(float64(s.def.Resources.GPUs))),
		Ports:              s.def.Resources.Ports,
		Network:            s.def.Resources.Network,
		Limits:             s.def.Limits,
		Constraints:        s.def.Constraints,
		Timeout:            time.Duration(s.def.Timeout),
		Grace:              time.Duration(s.def.Grace),
		Priority:           s.def.Priority,
		UnreachableTimeout: time.Duration(s.def.UnreachableTimeout),
		AtMostOnce:         s.def.AtMostOnce,
		Preemptible:        s.def.Preemptible,
		Many:               s.def.ForEach != nil,
	}
	for _, b := range s.def.With {
		if elem, ok := b.Type.Elem(); ok && (elem == flow.File || elem == flow.Directory) {
			in.FileLists = append(in.FileLists, b.Name)
		}
	}
	if s.def.Bundle {
		in.Bundle = p.plan.Bundle
	}
	return in
}

// options are those of one RunTasklets activity. Its ID is unique in the run, also
// beyond continue-as-new: result objects are found by it.
func (p *phase) options(ctx workflow.Context, s *step, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ActivityID:          fmt.Sprintf("%s-%d", s.def.ID, s.launched),
		TaskQueue:           p.plan.Settings.LaunchQueue,
		StartToCloseTimeout: forever,
		HeartbeatTimeout:    p.plan.Settings.HeartbeatTimeout,
		WaitForCancellation: true,
		// Only the platform's own trouble is an error of this activity.
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    time.Second,
			BackoffCoefficient: 2,
			MaximumInterval:    10 * time.Second,
		},
		Summary: summary,
		Priority: temporal.Priority{
			PriorityKey: clamp(s.def.Priority, 0, 5),
			FairnessKey: shorten(p.plan.Owner, maxFairnessKey),
		},
	})
}

// summary names an activity in the Temporal Web UI: "render #100–149, attempt 2".
func summary(s *step, attempt int, partitions []int) string {
	text := s.def.ID
	if s.def.ForEach != nil {
		text += " " + spans(partitions)
	}
	if attempt > 1 {
		text += fmt.Sprintf(", attempt %d", attempt)
	}
	return text
}

// maxSpans bounds a summary: Temporal takes some 400 bytes.
const maxSpans = 6

// spans writes ascending numbers as "#3, 7–9".
func spans(numbers []int) string {
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		if len(parts) == maxSpans {
			return "#" + strings.Join(parts, ", ") + fmt.Sprintf(" and %d more", len(numbers)-i)
		}
		part := strconv.Itoa(numbers[i])
		if j > i {
			part += "–" + strconv.Itoa(numbers[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return "#" + strings.Join(parts, ", ")
}
