package workflows

import (
	"encoding/json"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

// maxGather bounds how long one attempt to gather results may take: they may be
// terabytes.
const maxGather = 24 * time.Hour

// gather has files made of the results of the step that this one reduces. Until they
// are there nothing of it is launched.
func (p *phase) gather(s *step) {
	other := p.byID[s.def.Reduce]
	s.begin(flow.Items{})
	s.gathering = true
	p.send("gather the results of "+s.def.Reduce, maxGather, api.ActivityGather, api.GatherInput{
		App:       p.plan.Flow.Name,
		Owner:     p.plan.Owner,
		Run:       p.id,
		Step:      s.def.ID,
		Manifests: other.manifests,
		Outputs:   other.def.Outputs,
	}, func(f workflow.Future) { p.gathered(s, f) })
}

func (p *phase) gathered(s *step, f workflow.Future) {
	s.gathering = false
	var result api.GatherResult
	err := f.Get(p.wait, &result)
	if want := len(flow.ReduceInputs(p.byID[s.def.Reduce].def.Outputs)); err == nil && len(result.Files) != want {
		err = fmt.Errorf("the platform answered with %d files of %d", len(result.Files), want)
	}
	switch {
	case p.stopping:
		p.finish(s, api.StatusKilled)
	case err != nil:
		p.fail(s, ": reduce: "+messageOf(err))
		p.finish(s, api.StatusFailed)
	default:
		s.gatheredFiles = result.Files
	}
}

// addGathered gives the step's one partition what reduce adds to its inputs.
func (s *step) addGathered(partition *api.LaunchPartition) error {
	if len(s.gatheredFiles) > 0 && partition.Inputs == nil {
		partition.Inputs = make(map[string]json.RawMessage, len(s.gatheredFiles))
	}
	for _, file := range s.gatheredFiles {
		raw, err := json.Marshal(file)
		if err != nil {
			return err
		}
		partition.Inputs[file.Name] = raw
	}
	return nil
}

// keepManifests keeps what a step that reduces this one will read.
func (s *step) keepManifests() {
	for i := range s.ranges.parts {
		s.manifests = append(s.manifests, s.ranges.parts[i].manifest)
	}
}

// awaited gives the manifests of a step that some step reduces which has not ended.
func (r *run) awaited(s *step) []tasklet.LinesRef {
	for _, other := range r.steps {
		if other.def.Reduce == s.def.ID && !other.state.Status.Final() {
			return s.manifests
		}
	}
	return nil
}
