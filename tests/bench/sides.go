package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Sizes of what is measured.
type Sizes struct {
	Partitions int `json:"partitions"`
	Million    int `json:"million"` // partitions of the large step
	Flows      int `json:"flows"`
	Tasks      int `json:"tasks"` // with an executor each
	Kills      int `json:"kills"` // partitions of the step in which something is killed
}

// job is what a side is told.
type job struct {
	Sizes
	Side          string
	Run           int    // from 0 on
	Dir           string // of its own; gone afterwards
	Executor      string // binary of the platform
	Program       string // baas, beside it; only where it is needed
	SmallExecutor string // binary of the bare Mesos floor
	Profile       string // directory for profiles; empty: none
}

// Sample is what one side has measured in one run, by key.
type Sample map[string]float64

func (s Sample) String() string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(s)) {
		parts = append(parts, key+" "+number(s[key]))
	}
	return strings.Join(parts, ", ")
}

// sides are the measurements; each runs in a process of its own.
var sides = map[string]func(context.Context, job) (Sample, error){
	ourSteps:       measureSteps,
	bareSteps:      measureRow,
	ourPartitions:  func(ctx context.Context, j job) (Sample, error) { return measurePartitions(ctx, j, j.Partitions) },
	bareActivities: measureActivities,
	bareForks:      measureForks,
	bareExecutors:  measureExecutors,
	ourMillion:     func(ctx context.Context, j job) (Sample, error) { return measurePartitions(ctx, j, j.Million) },
	ourFlows:       measureFlows,
	bareFlows:      measureWorkflows,
	ourGap:         measureGap,
	bareGap:        measureActivityGap,
	leaderMemory:   measureLeader,
	executorMemory: measureExecutor,
	placementPass:  measurePlacement,
	ourStorage:     measureStorage,
	bareFiles:      measureFiles,
	sharedAgents:   measureSharing,
	killNothing:    measureNoKill,
	killLeader:     measureLeaderKill,
	killExecutor:   measureExecutorKill,
	killPlatform:   measurePlatformKill,
}

// measurement finds what a side measures.
func measurement(side string) (func(context.Context, job) (Sample, error), bool) {
	for _, l := range curves {
		for _, n := range l.sizes {
			if side == l.side(n) {
				return func(ctx context.Context, j job) (Sample, error) { return l.at(ctx, j, n) }, true
			}
		}
	}
	m, ok := sides[side]
	return m, ok
}

// envJob is in the environment of a process that is to measure one side.
const envJob = "BAAS_BENCH_JOB"

// stopTime is how long a side may take to stop what it has started.
const stopTime = time.Minute

// side has a process of its own measure a side.
func (b *bencher) side(ctx context.Context, name string, run int) (s Sample, err error) {
	j := b.job
	j.Side, j.Run = name, run
	if j.Dir, err = os.MkdirTemp(b.dir, "side-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(j.Dir)) }()
	if err := os.Chmod(j.Dir, 0o755); err != nil {
		return nil, err
	}
	if run > 0 {
		j.Profile = "" // the first run's will do
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), envJob+"="+string(raw))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	// Its standard input ends with this process, however that ends.
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, err
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, tail(said.Bytes()))
	}
	return s, json.Unmarshal(out.Bytes(), &s)
}

// tail is the end of what a process has said.
func tail(said []byte) []byte {
	const most = 4 << 10
	return said[max(0, len(said)-most):]
}

// serve measures one side in this process and writes the sample to standard output.
func serve(ctx context.Context, raw string) error {
	var j job
	if err := json.Unmarshal([]byte(raw), &j); err != nil {
		return err
	}
	// Processes that this one starts must not take it over.
	if err := os.Unsetenv(envJob); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	measure, ok := measurement(j.Side)
	if !ok {
		return fmt.Errorf("there is no side %q", j.Side)
	}
	s, err := measure(ctx, j)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// build builds the executors of both sides and, if it is needed, baas, as they are
// released: static. The platform's executors can write profiles only if they are wanted.
func (b *bencher) build(ctx context.Context) error {
	b.job.Executor = filepath.Join(b.dir, "baas-executor")
	b.job.SmallExecutor = filepath.Join(b.dir, "small-executor")
	programs := map[string]string{
		b.job.Executor:      "cmd/baas-executor",
		b.job.SmallExecutor: "tests/bench/executor",
	}
	if slices.ContainsFunc(b.figures, func(f figure) bool { return f.group == kill }) {
		b.job.Program = filepath.Join(b.dir, "baas")
		programs[b.job.Program] = "cmd/baas"
	}
	for output, pkg := range programs {
		args := []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", output}
		if b.job.Profile != "" {
			args = append(args, "-tags", "profile")
		}
		cmd := exec.CommandContext(ctx, "go", append(args, module+pkg)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", pkg, err, said)
		}
	}
	return nil
}

const module = "github.com/baas-batch/baas/"
