package executor

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
)

// BenchmarkPartitions runs partitions that do nothing through an executor process,
// in packs side by side, and BenchmarkForks starts as many bare processes.
// BAAS_TEST_PROFILE takes the executor's CPU profile.
func BenchmarkPartitions(b *testing.B) {
	for _, c := range noops() {
		for _, packs := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("%s/%d", c.name, packs), func(b *testing.B) {
				r := newRig(b, setup{tune: productive, env: []string{"GOGC=40", testProfile + "=" + os.Getenv(testProfile)}})
				bundle := r.bundle(tarGz(entry{name: "app.yaml"}, entry{name: "lib/x"}, entry{name: "run.sh"}))
				first := c.pack(r, 50, bundle) // what happens once
				r.launch(first)
				r.ended(first)
				var jobs []*tasklet.Launch
				for i := range packs {
					jobs = append(jobs, c.pack(r, (b.N+i)/packs, bundle))
				}
				own, children := r.cpu()
				b.ResetTimer()
				for _, l := range jobs {
					r.launch(l)
				}
				for _, l := range jobs {
					r.ended(l)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "partitions/s")
				b.ReportMetric(r.peak(), "MB")
				ownThen, childrenThen := r.cpu()
				b.ReportMetric((ownThen-own).Seconds()*1e6/float64(b.N), "own-µs/op")
				b.ReportMetric((childrenThen-children).Seconds()*1e6/float64(b.N), "children-µs/op")
			})
		}
	}
}

func BenchmarkForks(b *testing.B) {
	for _, c := range noops() {
		for _, workers := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("%s/%d", c.name, workers), func(b *testing.B) {
				var wg sync.WaitGroup
				for w := range workers {
					wg.Go(func() {
						for i := w; i < b.N; i += workers {
							if err := c.fork(); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "processes/s")
			})
		}
	}
}

// noop is a command that does nothing.
type noop struct {
	name  string
	args  []string
	shell string
}

func noops() []noop {
	return []noop{{name: "args", args: []string{"/bin/true"}}, {name: "shell", shell: "true"}}
}

func (c noop) fork() error {
	path, args := "/bin/sh", []string{"/bin/sh", "-c", c.shell}
	if c.shell == "" {
		path, args = c.args[0], c.args
	}
	pid, err := syscall.ForkExec(path, args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		return err
	}
	_, err = syscall.Wait4(pid, nil, 0, nil)
	return err
}

// productive has the paces of production.
func productive(t *Tuning) { *t = DefaultTuning() }

func (c noop) pack(r *rig, n int, bundle tasklet.Source) *tasklet.Launch {
	l := r.pack(c.shell, max(n, 1))
	l.Args, l.Bundle = c.args, &bundle
	return l
}

// cpu is the CPU time of the executor, and of the children that it has reaped.
func (r *rig) cpu() (own, children time.Duration) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.cmd.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	ticks := func(field int) time.Duration { // numbered as in proc(5)
		n, err := strconv.Atoi(f[field-3])
		if err != nil {
			r.t.Fatal(err)
		}
		return time.Duration(n) * time.Second / clockTick
	}
	return ticks(14) + ticks(15), ticks(16) + ticks(17)
}

// peak is the most memory that the executor has used, in MiB.
func (r *rig) peak() float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	var kb float64
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		r.t.Fatal(err)
	}
	return kb / 1024
}

func (r *rig) ended(l *tasklet.Launch) {
	r.t.Helper()
	if end := r.agent.end(l.TaskID); end.GetState() != mesos.TASK_FINISHED {
		r.t.Fatalf("%s: %s", end.GetState(), end.GetMessage())
	}
}
