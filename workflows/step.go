package workflows

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

// step is one node while its run lasts. What it holds grows with its partitions'
// outputs and with those that wait for a retry, never with events.
type step struct {
	def   *flow.Step
	state api.StepState

	items   flow.Items
	size    int // partitions of one activity
	next    int // first partition that was never launched
	again   []batch
	delayed int // partitions that wait for their backoff
	// halted: no partition is launched any more; those in flight end.
	halted   bool
	launched int // activities so far; makes their IDs

	outputs   outputs
	ranges    *ranges            // of a step with for_each that runs in ranges; else nil
	manifests []tasklet.LinesRef // of a step that has run so, and succeeded
	carried   api.ContinuedStep  // from the history before

	gathering     bool              // what reduce adds is being gathered: nothing is launched
	gatheredFiles []tasklet.FileRef // each named after its input
}

// batch are partitions that are due for another attempt.
type batch struct {
	attempt    int
	partitions []int // ascending
}

func newStep(def *flow.Step, onExit bool) *step {
	return &step{
		def: def,
		state: api.StepState{
			ID:      def.ID,
			Needs:   def.Needs,
			OnExit:  onExit,
			ForEach: def.ForEach != nil,
			Status:  api.StatusWaiting,
		},
	}
}

// begin sets the number of partitions: the items of for_each, else one.
func (s *step) begin(items flow.Items) {
	s.items = items
	s.state.Status = api.StatusRunning
	s.state.Partitions = 1
	if s.def.ForEach != nil {
		s.state.Partitions = items.Len()
	}
	s.size = rangeSize(s.state.Partitions, s.def.Parallel)
	s.outputs = newOutputs(s.def.Outputs, s.state.Partitions)
}

// halt launches nothing more and forgets what waits.
func (s *step) halt() {
	s.halted, s.again, s.delayed = true, nil, 0
}

// room is how many more partitions may be in flight.
func (s *step) room() int {
	if s.def.Parallel <= 0 {
		return s.size
	}
	return min(s.size, s.def.Parallel-s.state.Active)
}

// due tells whether there is something to launch.
func (s *step) due() bool {
	return s.state.Status == api.StatusRunning && !s.halted && !s.gathering &&
		(len(s.again) > 0 || s.next < s.state.Partitions) && s.room() > 0
}

// candidates gives the partitions to launch next, retries first, and their attempt.
func (s *step) candidates() (attempt int, partitions []int) {
	n := s.room()
	if len(s.again) > 0 {
		b := s.again[0]
		return b.attempt, b.partitions[:min(n, len(b.partitions))]
	}
	last := min(s.next+n, s.state.Partitions)
	partitions = make([]int, 0, last-s.next)
	for i := s.next; i < last; i++ {
		partitions = append(partitions, i)
	}
	return 1, partitions
}

// took moves the first n candidates out of the queue.
func (s *step) took(n int) {
	s.state.Active += n
	if len(s.again) == 0 {
		s.next += n
		return
	}
	b := &s.again[0]
	b.partitions = b.partitions[n:]
	if len(b.partitions) == 0 {
		s.again = s.again[1:]
	}
}

// retry queues partitions for another attempt, joined with those that are due already.
func (s *step) retry(attempt int, partitions []int) {
	if s.halted {
		return
	}
	s.delayed -= len(partitions)
	for i := range s.again {
		if b := &s.again[i]; b.attempt == attempt {
			b.partitions = append(slices.Clone(b.partitions), partitions...)
			slices.Sort(b.partitions)
			return
		}
	}
	slices.Sort(partitions)
	s.again = append(s.again, batch{attempt, partitions})
}

// complete tells whether nothing of a running step is left to wait for.
func (s *step) complete() bool {
	if s.state.Status != api.StatusRunning || s.state.Active > 0 || s.gathering {
		return false
	}
	if r := s.ranges; r != nil {
		return !r.listing && (s.halted || r.next == len(r.parts))
	}
	return s.delayed == 0 && (s.halted || len(s.again) == 0 && s.next == s.state.Partitions)
}

// verdict is how a complete step ended.
func (s *step) verdict(runKilled bool) api.Status {
	switch {
	case s.ranges != nil && s.ranges.broken:
		return api.StatusFailed
	case s.state.Done == s.state.Partitions:
		return api.StatusSucceeded
	case runKilled && s.state.Done+s.state.Failed+s.state.Killed < s.state.Partitions:
		return api.StatusKilled
	case s.ranges != nil && s.state.Done >= s.ranges.minimum:
		return api.StatusSucceeded
	}
	return api.StatusFailed
}

// use adds what one attempt used.
func (s *step) use(u tasklet.Usage) {
	s.state.Usage.CPUSeconds += u.CPUSeconds
	s.state.Usage.WallTime += u.WallTime
	s.state.Usage.PeakMemory = max(s.state.Usage.PeakMemory, u.PeakMemory)
	s.state.Usage.Fetched += u.Fetched
	s.state.Usage.Cached += u.Cached
}

// place names a partition in a reason, after the step's name.
func (s *step) place(partition int) string {
	if s.def.ForEach == nil {
		return ": "
	}
	return fmt.Sprintf(", partition %d: ", partition)
}

// address names a partition as `baas logs` takes it.
func (s *step) address(run string, partition int) string {
	if s.def.ForEach == nil {
		return run + "/" + s.def.ID
	}
	return fmt.Sprintf("%s/%s#%d", run, s.def.ID, partition)
}

// result is what expressions see of an ended step.
func (s *step) result() (flow.StepResult, error) {
	result := flow.StepResult{ExitStatus: s.state.ExitStatus, Count: s.state.Partitions}
	switch s.state.Status {
	case api.StatusSucceeded:
		result.Status = flow.StatusSucceeded
	case api.StatusSkipped:
		result.Status = flow.StatusSkipped
	case api.StatusKilled:
		result.Status = flow.StatusKilled
	case api.StatusBlocked:
		result.Status = flow.StatusNotRun
	default:
		result.Status = flow.StatusFailed
	}
	for _, o := range s.def.Outputs {
		raw, ok := s.state.Outputs[o.Name]
		if !ok {
			continue
		}
		var value any
		if err := json.Unmarshal(raw, &value); err != nil {
			return result, fmt.Errorf("output %s: %w", o.Name, err)
		}
		if result.Outputs == nil {
			result.Outputs = map[string]any{}
		}
		result.Outputs[o.Name] = value
	}
	return result, nil
}
