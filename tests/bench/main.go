// Command bench measures the platform against floors that the same run measures: bare
// Temporal, bare Mesos, bare fork and exec, plain files and HTTP. Each figure is a
// ratio, so that it says the same on any machine; docs/benchmarks.md tells what each is.
//
// Each side of a ratio runs in a process and on a directory of its own: none inherits
// the heap, the goroutines or the database of another, and all have Go's default garbage
// collector. In each run the sides alternate (ours, floor, ours, floor …), so that a
// machine that slows down slows both.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if job := os.Getenv(envJob); job != "" {
		if err := serve(ctx, job); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := program().RunContext(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func program() *cli.App {
	return &cli.App{
		Name:            "bench",
		Usage:           "measure the platform against what it is built on",
		HideHelpCommand: true,
		ArgsUsage:       " ",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "only", Usage: "measure `NAME` alone, of: " + strings.Join(groups(), ", ")},
			&cli.BoolFlag{Name: "full", Usage: "measure also: " + strings.Join(extras, ", ")},
			&cli.IntFlag{Name: "runs", Value: 5, Usage: "measure `N` times"},
			&cli.IntFlag{Name: "size", Value: 10_000, Usage: "partitions of a step; the curve goes up to ten times as many"},
			&cli.IntFlag{Name: "million", Value: 1_000_000, Usage: "partitions of the large step"},
			&cli.IntFlag{Name: "flows", Value: 1000, Usage: "flows that are started at once"},
			&cli.IntFlag{Name: "tasks", Value: 200, Usage: "tasks with an executor each"},
			&cli.IntFlag{Name: "kills", Value: 100_000, Usage: "partitions of the step in which something is killed"},
			&cli.StringFlag{Name: "dir", Usage: "`DIRECTORY` on the disk to measure on", DefaultText: "the system's for temporary files"},
			&cli.StringFlag{Name: "json", Usage: "write all that was measured to `FILE`"},
			&cli.StringFlag{Name: "plot", Usage: "draw it into `FILE` (SVG)"},
			&cli.StringFlag{Name: "profile", Usage: "write profiles of our side into `DIRECTORY`"},
		},
		Action: bench,
	}
}

func bench(c *cli.Context) error {
	if c.Args().Present() {
		return fmt.Errorf("unexpected argument %q", c.Args().First())
	}
	for _, name := range []string{"runs", "size", "million", "flows", "tasks", "kills"} {
		if c.Int(name) < 1 {
			return fmt.Errorf("--%s must be at least 1", name)
		}
	}
	sizes := Sizes{c.Int("size"), c.Int("million"), c.Int("flows"), c.Int("tasks"), c.Int("kills")}
	chosen, err := choose(c.StringSlice("only"), c.Bool("full"), sizes)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(c.String("dir"), "baas-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // tasks are other users
		return err
	}
	b := &bencher{
		figures: chosen, runs: c.Int("runs"), dir: dir, progress: newProgress(os.Stderr),
		job: job{Sizes: sizes},
	}
	if name := c.String("profile"); name != "" {
		if b.job.Profile, err = filepath.Abs(name); err != nil {
			return err
		}
		if err := os.MkdirAll(b.job.Profile, 0o755); err != nil {
			return err
		}
	}
	report, err := b.measure(c.Context)
	if err != nil {
		return err
	}
	return write(c, report)
}

func write(c *cli.Context, r *Report) error {
	err := r.table(c.App.Writer)
	if name := c.String("json"); name != "" {
		err = errors.Join(err, writeJSON(name, r))
	}
	if name := c.String("plot"); name != "" {
		err = errors.Join(err, os.WriteFile(name, plotted(r), 0o644))
	}
	return err
}

// choose gives the figures of the named groups; without names all but the extras.
func choose(only []string, full bool, sizes Sizes) (chosen []figure, err error) {
	for _, name := range only {
		if !slices.Contains(groups(), name) {
			return nil, fmt.Errorf("--only %s: there is %s", name, strings.Join(groups(), ", "))
		}
	}
	for _, f := range figures {
		if f.line != nil && f.line.most != nil && f.at > f.line.most(sizes) {
			continue
		}
		if slices.Contains(only, f.group) || len(only) == 0 && (full || !slices.Contains(extras, f.group)) {
			chosen = append(chosen, f)
		}
	}
	return chosen, nil
}

// bencher measures figures.
type bencher struct {
	figures  []figure
	runs     int
	dir      string
	job      job // what all sides are told
	progress *progress
}

func (b *bencher) measure(ctx context.Context) (*Report, error) {
	b.progress.say("building the executors")
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	r := newReport(b.runs, b.job.Sizes)
	samples := make(map[string][]Sample) // by side
	for run := range b.runs {
		for _, name := range sidesOf(b.figures) {
			b.progress.say("run %d of %d: %s", run+1, b.runs, name)
			begin := time.Now()
			s, err := b.side(ctx, name, run)
			if ctx.Err() != nil {
				b.progress.end()
				return nil, ctx.Err()
			}
			if err != nil {
				b.progress.end()
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			samples[name] = append(samples[name], s)
			b.progress.done("run %d of %d: %s: %s in %s", run+1, b.runs, name, s, time.Since(begin).Round(100*time.Millisecond))
		}
	}
	b.progress.end()
	for _, f := range b.figures {
		r.add(f, samples)
	}
	r.Ended = time.Now()
	return r, nil
}
