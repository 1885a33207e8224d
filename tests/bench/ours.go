package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/catalog"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/starter"
)

// noop is the command of every task that is to do nothing, also the floors'.
const noop = "/bin/true"

// taskCPUs is what a no-op task asks for.
const taskCPUs = 0.1

// parallelism is how many such tasks an agent with this machine's CPUs runs beside one
// another, an executor with 0.1 CPUs of its own among them.
func parallelism() int {
	return int((float64(runtime.NumCPU())-0.1)/taskCPUs + 1e-6)
}

// bed is a platform that has all its parts in this process, as `baas up` has them.
type bed struct {
	job
	platform *platform.Platform
	runs     *starter.Client
	number   int // of runs: each is an instance of its own
}

// onPlatform starts a platform, measures and stops it.
func onPlatform(ctx context.Context, j job, measure func(*bed) (Sample, error)) (s Sample, err error) {
	return onPlatformWith(ctx, j, func(*platform.Config) {}, measure)
}

// onPlatformWith is onPlatform with other settings.
func onPlatformWith(ctx context.Context, j job, change func(*platform.Config), measure func(*bed) (Sample, error)) (s Sample, err error) {
	cfg := platform.Config{
		Dir: filepath.Join(j.Dir, "data"), NoUI: true, Executor: j.Executor,
		Logger:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Scheduler: j.profileExecutor,
	}
	change(&cfg)
	p, err := platform.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		err = errors.Join(err, p.Stop(stopping, false))
	}()
	if !cfg.NoWorker {
		if err := p.AwaitLeader(ctx); err != nil {
			return nil, err
		}
	}
	return measure(&bed{job: j, platform: p, runs: starter.New(starter.Config{
		Temporal: p.Client, Store: p.Store, Catalog: catalog.Catalog{}, ReadLive: mesos.ReadFile,
	})})
}

// load makes an app of a flow file's steps.
func (b *bed) load(name, steps string) (*starter.App, error) {
	dir := filepath.Join(b.Dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "flow.yaml")
	text := "name: " + name + "\n" +
		"params: {number: int, count: {type: int, default: 1}, ledger: {type: string, default: ''}}\n" +
		"defaults: {resources: {cpus: " + strconv.FormatFloat(taskCPUs, 'g', -1, 64) + ", mem: 16MB}}\n" +
		"steps:\n" + steps
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return starter.Load(file, nil)
}

// inARow is the steps of a flow of which each needs the one before.
func inARow(n int, settings ...string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  s%d:\n", i)
		if i > 0 {
			fmt.Fprintf(&b, "    needs: [s%d]\n", i-1)
		}
		for _, line := range settings {
			b.WriteString("    " + line + "\n")
		}
	}
	return b.String()
}

// start starts a run, as an instance of its own: no other run has its number.
func (b *bed) start(ctx context.Context, app *starter.App, number int, params map[string]string) (starter.Started, error) {
	args := map[string]string{"number": strconv.Itoa(number)}
	maps.Copy(args, params)
	return b.runs.Start(ctx, starter.StartOptions{App: app, Args: args})
}

// await waits until a run has ended, and expects that it has succeeded.
func (b *bed) await(ctx context.Context, s starter.Started) error {
	var result api.RunResult
	if err := b.platform.Client.GetWorkflow(ctx, s.Instance, s.FirstID).Get(ctx, &result); err != nil {
		return fmt.Errorf("run %s: %w", s.Run, err)
	}
	if result.Status != api.StatusSucceeded {
		return fmt.Errorf("run %s: %s", s.Run, result.Status)
	}
	return nil
}

// run runs an app, and gives the time from the call that starts it to its result.
func (b *bed) run(ctx context.Context, app *starter.App, params map[string]string) (starter.Started, time.Duration, error) {
	b.number++
	begin := time.Now()
	s, err := b.start(ctx, app, b.number, params)
	if err == nil {
		err = b.await(ctx, s)
	}
	return s, time.Since(begin), err
}

const (
	stepsInARow = 20
	rows        = 5 // of one process, after one that warms up; their median counts
)

func measureSteps(ctx context.Context, j job) (Sample, error) {
	return onPlatform(ctx, j, func(b *bed) (Sample, error) {
		app, err := b.load("steps", inARow(stepsInARow, "run: ["+noop+"]"))
		if err != nil {
			return nil, err
		}
		if _, _, err := b.run(ctx, app, nil); err != nil {
			return nil, err
		}
		return b.profiled("steps", func() (Sample, error) {
			var times []float64
			for range rows {
				_, took, err := b.run(ctx, app, nil)
				if err != nil {
					return nil, err
				}
				times = append(times, took.Seconds())
			}
			return Sample{"time": spread(times).Median}, nil
		})
	})
}

func measurePartitions(ctx context.Context, j job, n int) (Sample, error) {
	return measurePartitionsOn(ctx, j, n, func(*platform.Config) {})
}

func measurePartitionsOn(ctx context.Context, j job, n int, change func(*platform.Config)) (Sample, error) {
	return onPlatformWith(ctx, j, change, func(b *bed) (Sample, error) {
		app, err := b.load("partitions", "  work:\n"+
			"    for_each: {from: 1, to: '${{ params.count }}'}\n    run: ["+noop+"]\n")
		if err != nil {
			return nil, err
		}
		if _, _, err := b.run(ctx, app, map[string]string{"count": strconv.Itoa(parallelism())}); err != nil {
			return nil, err
		}
		watched := watchMemory()
		s, err := b.profiled("partitions-"+strconv.Itoa(n), func() (Sample, error) {
			started, took, err := b.run(ctx, app, map[string]string{"count": strconv.Itoa(n)})
			if err != nil {
				return nil, err
			}
			events, err := b.events(ctx, started)
			return Sample{"rate": float64(n) / took.Seconds(), "events": events}, err
		})
		peaks, failed := watched()
		if err := errors.Join(err, failed); err != nil {
			return nil, err
		}
		s["peak"], s["heap"] = peaks.process, peaks.heap
		return s, nil
	})
}

const flowSteps = 5

// starters is how many start flows, or workflows, at the same time.
const starters = 32

func measureFlows(ctx context.Context, j job) (Sample, error) {
	return onPlatform(ctx, j, func(b *bed) (Sample, error) {
		app, err := b.load("flows", inARow(flowSteps, "run: ["+noop+"]"))
		if err != nil {
			return nil, err
		}
		if _, _, err := b.run(ctx, app, nil); err != nil {
			return nil, err
		}
		return b.profiled("flows", func() (Sample, error) {
			begin := time.Now()
			err := crowdOf(ctx, j.Flows, func(ctx context.Context, i int) (func(context.Context) error, error) {
				s, err := b.start(ctx, app, b.number+1+i, nil)
				return func(ctx context.Context) error { return b.await(ctx, s) }, err
			})
			return Sample{"rate": float64(j.Flows*flowSteps) / time.Since(begin).Seconds()}, err
		})
	})
}

// crowdOf starts n things, as many at a time as there are starters, and then waits for
// each in turn: to wait for one costs little while others are not done.
func crowdOf(ctx context.Context, n int, start func(context.Context, int) (wait func(context.Context) error, err error)) error {
	waits := make([]func(context.Context) error, n)
	group, starting := errgroup.WithContext(ctx)
	group.SetLimit(starters)
	for i := range n {
		group.Go(func() (err error) {
			waits[i], err = start(starting, i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, wait := range waits {
		if err := wait(ctx); err != nil {
			return err
		}
	}
	return nil
}
