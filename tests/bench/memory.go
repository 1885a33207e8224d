package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/baas-batch/baas/starter"
)

// measureLeader has the benchmarks of memory_test.go measure: 10,000 tasks, each of an
// activity of its own, on a cluster without processes.
func measureLeader(ctx context.Context, _ job) (Sample, error) {
	got, err := goBench(ctx, "tests/bench", "^BenchmarkLeader(Waiting|Running)$/^10000$")
	if err != nil {
		return nil, err
	}
	s := Sample{}
	for key, unit := range map[string]string{"waiting": "wait-B/task", "running": "run-B/task"} {
		v, ok := got[unit]
		if !ok {
			return nil, fmt.Errorf("the benchmark reports no %s", unit)
		}
		s[key] = v / 1000
	}
	return s, nil
}

// goBench runs Go benchmarks of a package of this module once each, and gives what
// they report, by unit.
func goBench(ctx context.Context, pkg, name string) (map[string]float64, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", name, "-benchtime", "1x", "-benchmem", module+pkg)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test -bench %s: %w\n%s", name, err, tail(out))
	}
	got := benchmarked(string(out))
	if len(got) == 0 {
		return nil, fmt.Errorf("go test -bench %s %s: no benchmark has run", name, pkg)
	}
	return got, nil
}

// benchmarked reads lines as `BenchmarkName 1 12 ns/op 3.5 B/task`, the format of
// https://go.dev/design/14313-benchmark-format.
func benchmarked(out string) map[string]float64 {
	got := make(map[string]float64)
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		for i := 2; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				got[fields[i+1]] = v
			}
		}
	}
	return got
}

const (
	sleepers   = 100
	settleTime = 2 * time.Second // for an executor to be done with what it did
	looks      = 5               // at an executor's memory, of which the median counts
)

// measureExecutor gives the memory of a real executor (PSS, see proc_pid_smaps(5)),
// without a task after it has had some, and with tasks that sleep. The tasks' own
// processes are not counted: what they need is theirs.
func measureExecutor(ctx context.Context, j job) (Sample, error) {
	return onPlatform(ctx, j, func(b *bed) (Sample, error) {
		ledger, err := b.ledger("ledger")
		if err != nil {
			return nil, err
		}
		var steps strings.Builder
		for i := range sleepers {
			fmt.Fprintf(&steps, "  s%d: {run: 'echo >>\"$BAAS_INPUT_LEDGER\"; exec sleep 600', "+
				"with: {ledger: '${{ params.ledger }}'}, resources: {cpus: 0.01}}\n", i)
		}
		asleep, err := b.load("asleep", steps.String())
		if err != nil {
			return nil, err
		}
		quick, err := b.load("quick", inARow(flowSteps, "run: ["+noop+"]", "resources: {cpus: 0.01}"))
		if err != nil {
			return nil, err
		}
		if _, _, err := b.run(ctx, quick, nil); err != nil {
			return nil, err
		}
		idle, err := b.executorMemory(ctx)
		if err != nil {
			return nil, err
		}
		full, err := b.whileAsleep(ctx, asleep, ledger)
		if err != nil {
			return nil, err
		}
		return Sample{"idle": idle * 1024 / mb, "task": (full - idle) / sleepers * 1.024}, nil
	})
}

// whileAsleep gives the executor's memory, in KiB, while all sleepers sleep.
func (b *bed) whileAsleep(ctx context.Context, app *starter.App, ledger string) (full float64, err error) {
	b.number++
	s, err := b.start(ctx, app, b.number, map[string]string{"ledger": ledger})
	if err != nil {
		return 0, err
	}
	for {
		text, err := os.ReadFile(ledger)
		if err != nil {
			return 0, err
		}
		if bytes.Count(text, []byte("\n")) == sleepers {
			break
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return 0, fmt.Errorf("%d of %d tasks run: %w", len(text), sleepers, err)
		}
	}
	if full, err = b.executorMemory(ctx); err != nil {
		return 0, err
	}
	return full, b.runs.Kill(ctx, s.Run, "measured", "bench")
}

// executorMemory gives the median of some looks, in KiB.
func (b *bed) executorMemory(ctx context.Context) (float64, error) {
	if err := pause(ctx, settleTime); err != nil {
		return 0, err
	}
	var list []float64
	for range looks {
		pid, err := executorOf(filepath.Join(b.Dir, "data"))
		if err != nil {
			return 0, err
		}
		pss, err := kilobytes(filepath.Join("/proc", pid, "smaps_rollup"), "Pss:")
		if err != nil {
			return 0, err
		}
		list = append(list, pss)
		if err := pause(ctx, settleTime/looks); err != nil {
			return 0, err
		}
	}
	return spread(list).Median, nil
}

// executorOf finds the one executor whose sandbox is below a directory.
func executorOf(dir string) (pid string, err error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return "", err
	}
	for _, p := range processes {
		program, err := os.Readlink(filepath.Join(p, "exe"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue // gone, a thread of the kernel, or another user's
		}
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(program, dir) || filepath.Base(program) != "baas-executor" {
			continue
		}
		if pid != "" {
			return "", fmt.Errorf("there are executors %s and %s", pid, filepath.Base(p))
		}
		pid = filepath.Base(p)
	}
	if pid == "" {
		return "", errors.New("there is no executor")
	}
	return pid, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
