package main

import (
	"context"
	"os/exec"
	"time"

	"golang.org/x/sync/errgroup"
)

// measureForks runs the command of the partitions as often as there are partitions,
// as many at a time as the platform's agent does.
func measureForks(ctx context.Context, j job) (Sample, error) {
	begin := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelism())
	for range j.Partitions {
		group.Go(func() error { return exec.CommandContext(ctx, noop).Run() })
	}
	err := group.Wait()
	return Sample{"rate": float64(j.Partitions) / time.Since(begin).Seconds()}, err
}
