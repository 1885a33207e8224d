package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/starter"
)

// curve is the group that tells how a value changes with the number of something.
const curve = "curve"

// line is one of the curves.
type line struct {
	of    string // what there are more and more of
	title string // of the plot
	unit  string // of the value "y"
	more  bool   // that more of it is better
	sizes []int
	most  func(Sizes) int // no point beyond it is measured; nil: all are
	at    func(ctx context.Context, j job, n int) (Sample, error)
}

var curves = []line{
	{
		"partitions", "partitions per second, over partitions of a step", "/s", true, []int{100, 1000, 10_000, 100_000},
		func(s Sizes) int { return 10 * s.Partitions },
		func(ctx context.Context, j job, n int) (Sample, error) {
			s, err := measurePartitions(ctx, j, n)
			return s.as("rate"), err
		},
	},
	{
		"flows", "steps per second, over flows of 5 steps at once", "/s", true, []int{1, 10, 100, 1000},
		func(s Sizes) int { return s.Flows },
		func(ctx context.Context, j job, n int) (Sample, error) {
			j.Flows = n
			s, err := measureFlows(ctx, j)
			return s.as("rate"), err
		},
	},
	{
		"agents", "partitions per second, over agents that share this machine", "/s", true, []int{1, 2, 4, 8},
		nil,
		func(ctx context.Context, j job, n int) (Sample, error) {
			s, err := measurePartitionsOn(ctx, j, j.Partitions, func(c *platform.Config) {
				c.Mesos.Agents = make([]mesos.AgentConfig, n)
			})
			return s.as("rate"), err
		},
	},
	{
		"apps", "seconds of one step of each app, over apps at once", "s", false, []int{1, 4, 16},
		nil, measureApps,
	},
	{
		"placement", "CPU seconds of one pass, over agents with ten tasks waiting for each", "s", false, []int{100, 1000, 10_000},
		nil,
		func(ctx context.Context, _ job, n int) (Sample, error) {
			got, err := goBench(ctx, "mesos/placement", "^BenchmarkPassOver$/^"+strconv.Itoa(n)+"$")
			return Sample{"y": got["cpu-ns/op"] / 1e9}, err
		},
	},
}

// as is the sample of a curve whose value is one of this sample's.
func (s Sample) as(key string) Sample { return Sample{"y": s[key]} }

func (l line) side(n int) string { return curve + ": " + count(n) + " " + l.of }

func curveFigures() (list []figure) {
	for i := range curves {
		l := &curves[i]
		for _, n := range l.sizes {
			list = append(list, figure{
				group: curve, Name: l.of + ": " + count(n), Unit: l.unit, ours: value{l.side(n), "y"}, More: l.more, line: l, at: n,
			})
		}
	}
	return list
}

// measureApps has apps run one step each, at the same time. An executor is one app's.
func measureApps(ctx context.Context, j job, n int) (Sample, error) {
	return onPlatform(ctx, j, func(b *bed) (Sample, error) {
		apps := make([]*starter.App, n)
		for i := range apps {
			var err error
			if apps[i], err = b.load("app"+strconv.Itoa(i), inARow(1, "run: ["+noop+"]")); err != nil {
				return nil, err
			}
		}
		begin := time.Now()
		err := crowdOf(ctx, n, func(ctx context.Context, i int) (func(context.Context) error, error) {
			s, err := b.start(ctx, apps[i], i, nil)
			return func(ctx context.Context) error { return b.await(ctx, s) }, err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", plural(n, "app"), err)
		}
		return Sample{"y": time.Since(begin).Seconds()}, nil
	})
}
