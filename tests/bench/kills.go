package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tests/harness"
)

// Half of the partitions of the step have run when something is killed with SIGKILL;
// each writes its number and its executor into a ledger. What had ended must not run
// again, and all must run: else the measurement fails.

// noted is a flow of one step whose partitions write into a ledger.
const noted = `  work:
    for_each: {from: 0, to: '${{ params.count - 1 }}'}
    with: {ledger: '${{ params.ledger }}'}
    run: 'echo "$BAAS_PARTITION $PPID" >>"$BAAS_INPUT_LEDGER"'
`

// measureNoKill gives the time without anything killed.
func measureNoKill(ctx context.Context, j job) (Sample, error) {
	return onPlatform(ctx, j, func(b *bed) (Sample, error) {
		return b.noted(ctx, func(starter.Started, *ledgerFile) error { return nil })
	})
}

// measureExecutorKill kills the executor. What it had under way, and what was not in
// storage yet, runs again, elsewhere.
func measureExecutorKill(ctx context.Context, j job) (Sample, error) {
	return onPlatform(ctx, j, func(b *bed) (Sample, error) {
		return b.noted(ctx, func(s starter.Started, l *ledgerFile) error {
			run, err := b.runs.Describe(ctx, s.Run)
			if err != nil {
				return err
			}
			segments, err := harness.SegmentsBefore(ctx, b.platform.Store, run, "work", time.Now())
			if err != nil {
				return err
			}
			if l.stored, err = harness.Done(ctx, b.platform.Store, segments); err != nil {
				return err
			}
			if len(l.stored) == 0 {
				return errors.New("no result was in storage when the executor was to be killed")
			}
			return syscall.Kill(l.executor, syscall.SIGKILL)
		})
	})
}

// measureLeaderKill has two workers in processes of their own, and kills the one that
// leads. The executor lives on.
func measureLeaderKill(ctx context.Context, j job) (Sample, error) {
	withoutWorker := func(c *platform.Config) { c.NoWorker = true }
	return onPlatformWith(ctx, j, withoutWorker, func(b *bed) (s Sample, err error) {
		workers := map[int]*exec.Cmd{}
		defer func() {
			for _, w := range workers {
				_ = w.Process.Signal(syscall.SIGTERM)
				_ = w.Wait()
			}
		}()
		for range 2 {
			w := exec.CommandContext(ctx, j.Program, "worker", "--quiet", "--lease", "5s", "--executor", j.Executor,
				"--address", b.platform.Temporal.Address(), "--mesos", b.platform.Cluster.MasterURL(), "--storage", "file://"+b.platform.StoreDir())
			w.Stderr = os.Stderr
			if err := w.Start(); err != nil {
				return nil, err
			}
			workers[w.Process.Pid] = w
		}
		return b.noted(ctx, func(starter.Started, *ledgerFile) error {
			name, _, err := harness.Leader(ctx, b.platform.Client)
			if err != nil {
				return err
			}
			pid, _ := strconv.Atoi(name[strings.LastIndexByte(name, '/')+1:])
			leader, ok := workers[pid]
			if !ok {
				return fmt.Errorf("%q leads, which is none of the workers", name)
			}
			delete(workers, pid)
			return errors.Join(leader.Process.Kill(), ended(leader))
		})
	})
}

// ended waits for a process that was killed.
func ended(c *exec.Cmd) error {
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) {
		return err
	}
	return nil
}

// noted runs the step, and calls kill in its middle.
func (b *bed) noted(ctx context.Context, kill func(starter.Started, *ledgerFile) error) (Sample, error) {
	app, err := b.load("noted", noted)
	if err != nil {
		return nil, err
	}
	warm, err := b.ledger("warm")
	if err != nil {
		return nil, err
	}
	if _, _, err := b.run(ctx, app, map[string]string{"count": "1", "ledger": warm}); err != nil {
		return nil, err
	}
	path, err := b.ledger("noted.ledger")
	if err != nil {
		return nil, err
	}
	l := &ledgerFile{path: path}
	begin := time.Now()
	started, err := b.start(ctx, app, b.number+1, map[string]string{"count": strconv.Itoa(b.Kills), "ledger": path})
	if err != nil {
		return nil, err
	}
	if err := l.reach(ctx, b.Kills/2); err != nil {
		return nil, err
	}
	if err := kill(started, l); err != nil {
		return nil, err
	}
	if err := b.await(ctx, started); err != nil {
		return nil, err
	}
	return l.sample(b.Kills, time.Since(begin))
}

// measurePlatformKill kills `baas up`, and starts it again at once. The executor
// lives on.
func measurePlatformKill(ctx context.Context, j job) (s Sample, err error) {
	up := &upProcess{program: j.Program, data: filepath.Join(j.Dir, "data")}
	if err := up.start(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, up.stop()) }()
	b := &bed{job: j}
	if _, err := b.load("noted", noted); err != nil {
		return nil, err
	}
	run := func(args ...string) (string, error) {
		return up.baas(ctx, append([]string{"run", filepath.Join(j.Dir, "noted", "flow.yaml")}, args...)...)
	}
	warm, err := b.ledger("warm")
	if err != nil {
		return nil, err
	}
	if _, err := run("-p", "number=1", "-p", "count=1", "-p", "ledger="+warm); err != nil {
		return nil, err
	}
	path, err := b.ledger("noted.ledger")
	if err != nil {
		return nil, err
	}
	l := &ledgerFile{path: path}
	begin := time.Now()
	id, err := run("--detach", "-p", "number=2", "-p", "count="+strconv.Itoa(j.Kills), "-p", "ledger="+path)
	if err != nil {
		return nil, err
	}
	if err := l.reach(ctx, j.Kills/2); err != nil {
		return nil, err
	}
	if err := up.kill(); err != nil {
		return nil, err
	}
	if err := up.start(ctx); err != nil {
		return nil, err
	}
	if err := up.await(ctx, id); err != nil {
		return nil, err
	}
	return l.sample(j.Kills, time.Since(begin))
}

// ledgerFile is where partitions write.
type ledgerFile struct {
	path     string
	executor int          // process that half of them had
	stored   map[int]bool // whose results were in storage before; nil: all that had begun count
}

// reach waits until so many partitions have written.
func (l *ledgerFile) reach(ctx context.Context, n int) error {
	for {
		lines, err := l.lines()
		if err != nil {
			return err
		}
		if len(lines) >= n {
			l.executor = lines[0][1]
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// lines are the partitions that have written, and their executors.
func (l *ledgerFile) lines() (list [][2]int, err error) {
	f, err := os.Open(l.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var one [2]int
		if _, err := fmt.Sscan(lines.Text(), &one[0], &one[1]); err != nil {
			break // half a line is being written
		}
		list = append(list, one)
	}
	return list, nil
}

// sample checks that each of n partitions has run, and that none has run again that
// must not.
func (l *ledgerFile) sample(n int, took time.Duration) (Sample, error) {
	lines, err := l.lines()
	if err != nil {
		return nil, err
	}
	ran := make([]int, n)
	for _, one := range lines {
		ran[one[0]]++
	}
	again := 0
	for i, times := range ran {
		switch {
		case times == 0:
			return nil, fmt.Errorf("partition %d never ran", i)
		case times > 1 && (l.stored == nil || l.stored[i]):
			return nil, fmt.Errorf("partition %d ran %d times", i, times)
		case times > 1:
			again++
		}
	}
	return Sample{"time": took.Seconds(), "again": float64(again)}, nil
}

// upProcess is `baas up`.
type upProcess struct {
	program, data string
	cmd           *exec.Cmd
}

func (p *upProcess) start(ctx context.Context) error {
	p.cmd = exec.CommandContext(ctx, p.program, "up", "--data", p.data, "--port", "0", "--ui-port", "0")
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "BAAS is up.\n" {
		return errors.Join(fmt.Errorf("baas up said %q", line), err, p.kill())
	}
	return nil
}

func (p *upProcess) kill() error { return errors.Join(p.cmd.Process.Kill(), ended(p.cmd)) }

func (p *upProcess) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return ended(p.cmd)
}

// baas runs another command on that platform, and gives what it prints.
func (p *upProcess) baas(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, p.program, append(args, "--data", p.data)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("baas %s: %w\n%s", args[0], err, tail(said.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// await waits until a run has ended, and expects that it has succeeded.
func (p *upProcess) await(ctx context.Context, run string) error {
	for {
		text, err := p.baas(ctx, "status", run, "--output", "json")
		if err != nil {
			return err
		}
		var state api.RunState
		if err := json.Unmarshal([]byte(text), &state); err != nil {
			return err
		}
		if state.Status == api.StatusSucceeded {
			return nil
		}
		if state.Status.Final() {
			return fmt.Errorf("run %s: %s: %s", run, state.Status, state.Reason)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}
