package main

import (
	"context"
	"fmt"
)

// measurePlacement has the benchmark of mesos/placement measure one pass over 10,000
// agents and 100,000 tasks, on a cluster with room for all and on one that is too
// small; the slower counts. The agents that the first one opens are compared with the
// least that any packing could do with: the tasks' needs of the scarcer resource.
func measurePlacement(ctx context.Context, _ job) (Sample, error) {
	s := Sample{}
	for _, cluster := range []string{"room_for_all", "too_many"} {
		got, err := goBench(ctx, "mesos/placement", "^BenchmarkPass$/^"+cluster+"$")
		if err != nil {
			return nil, err
		}
		used, took := got["%tasks/opened"], got["cpu-ns/op"]
		if used == 0 || took == 0 {
			return nil, fmt.Errorf("the benchmark of placement reports %v", got)
		}
		s["time"] = max(s["time"], took/1e9)
		if cluster == "room_for_all" {
			s["above"] = 100 * (100/used - 1)
		}
	}
	return s, nil
}
