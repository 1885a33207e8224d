package main

import (
	"context"

	"github.com/baas-batch/baas/tests/bench/sharing"
)

// measureSharing replays a trace of batch jobs on machines of each team's own and on
// shared ones; each run has another trace. The teams' machines are enough for all that
// they want to run at once, always and, in the second case, for 95 % of the time.
func measureSharing(_ context.Context, j job) (Sample, error) {
	s := Sample{}
	for name, part := range map[string]float64{"peak": 1, "95": 0.95} {
		r := sharing.Run(sharing.Config{Seed: uint64(j.Run + 1), Percentile: part})
		for side, of := range map[string]sharing.Side{"own": r.Static, "shared": r.Shared} {
			key := name + " " + side
			s[key+" cost"] = of.MachineHours
			s[key+" used"] = 100 * of.Utilisation
			s[key+" makespan"] = of.Makespan.Hours()
		}
	}
	return s, nil
}
