package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/baas-batch/baas/embedded"
)

// bare is Temporal by itself, on the same server and disk as the platform's: a worker
// whose activities do nothing.
type bare struct {
	client client.Client
}

const bareQueue = "bare"

func onTemporal(ctx context.Context, j job, measure func(*bare) (Sample, error)) (s Sample, err error) {
	server, err := embedded.StartTemporal(ctx, embedded.TemporalConfig{DataDir: filepath.Join(j.Dir, "temporal"), NoUI: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	options := server.ClientOptions()
	options.Logger = sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	w := worker.New(c, bareQueue, worker.Options{
		MaxConcurrentActivityTaskPollers: 16, MaxConcurrentWorkflowTaskPollers: 16,
	})
	w.RegisterWorkflow(Row)
	w.RegisterWorkflow(Side)
	w.RegisterActivity(Nothing)
	if err := w.Start(); err != nil {
		return nil, err
	}
	defer w.Stop()
	return measure(&bare{c})
}

// Nothing is the activity that does nothing; it gives its beginning and its end, in
// nanoseconds since 1970.
func Nothing(context.Context) ([2]int64, error) {
	return [2]int64{time.Now().UnixNano(), time.Now().UnixNano()}, nil
}

func withOptions(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
}

// Row runs n activities in a row, and gives the times from each end to the next begin.
func Row(ctx workflow.Context, n int) (gaps []time.Duration, err error) {
	ctx = withOptions(ctx)
	var last int64
	for i := range n {
		var span [2]int64
		if err := workflow.ExecuteActivity(ctx, Nothing).Get(ctx, &span); err != nil {
			return nil, err
		}
		if i > 0 {
			gaps = append(gaps, time.Duration(span[0]-last))
		}
		last = span[1]
	}
	return gaps, nil
}

// Side runs n activities side by side.
func Side(ctx workflow.Context, n int) error {
	ctx = withOptions(ctx)
	futures := make([]workflow.Future, n)
	for i := range futures {
		futures[i] = workflow.ExecuteActivity(ctx, Nothing)
	}
	for _, f := range futures {
		if err := f.Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

func (b *bare) start(ctx context.Context, workflow any, n int) (client.WorkflowRun, error) {
	return b.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: bareQueue}, workflow, n)
}

func (b *bare) row(ctx context.Context, n int) (gaps []time.Duration, err error) {
	run, err := b.start(ctx, Row, n)
	if err != nil {
		return nil, err
	}
	return gaps, run.Get(ctx, &gaps)
}

func measureRow(ctx context.Context, j job) (Sample, error) {
	return onTemporal(ctx, j, func(b *bare) (Sample, error) {
		var times []float64
		for i := range 1 + rows {
			begin := time.Now()
			if _, err := b.row(ctx, stepsInARow); err != nil {
				return nil, err
			}
			if i > 0 {
				times = append(times, time.Since(begin).Seconds())
			}
		}
		return Sample{"time": spread(times).Median}, nil
	})
}

func measureActivityGap(ctx context.Context, j job) (Sample, error) {
	return onTemporal(ctx, j, func(b *bare) (Sample, error) {
		var times []float64
		for i := range 1 + rows {
			gaps, err := b.row(ctx, stepsInARow)
			if err != nil {
				return nil, err
			}
			for _, gap := range gaps {
				if i > 0 {
					times = append(times, milliseconds(gap))
				}
			}
		}
		return Sample{"p50": spread(times).Median}, nil
	})
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// perWorkflow is how many activities a workflow of the floor schedules at once:
// Temporal allows 2,000, and is fastest with far fewer.
const perWorkflow = 100

func measureActivities(ctx context.Context, j job) (Sample, error) {
	return onTemporal(ctx, j, func(b *bare) (Sample, error) {
		return b.crowd(ctx, Side, j.Partitions, perWorkflow)
	})
}

func measureWorkflows(ctx context.Context, j job) (Sample, error) {
	return onTemporal(ctx, j, func(b *bare) (Sample, error) {
		return b.crowd(ctx, Row, j.Flows*flowSteps, flowSteps)
	})
}

// crowd runs n activities in workflows of so many, all started at once, after one
// that warms up.
func (b *bare) crowd(ctx context.Context, workflow any, n, each int) (Sample, error) {
	start := func(ctx context.Context, i int) (func(context.Context) error, error) {
		run, err := b.start(ctx, workflow, min(each, n-i*each))
		return func(ctx context.Context) error { return run.Get(ctx, nil) }, err
	}
	if err := crowdOf(ctx, 1, start); err != nil {
		return nil, err
	}
	begin := time.Now()
	err := crowdOf(ctx, (n+each-1)/each, start)
	return Sample{"rate": float64(n) / time.Since(begin).Seconds()}, err
}
