package activities

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

func TestRangeToItsEnd(t *testing.T) {
	r := newRig(t)
	const n = 1000
	r.deliver(rangeInput(500, n), api.Details{}, 1)
	tasks := r.runAll(func(_ *running, i int) tasklet.Result { return well(i) })
	got := r.result.Range
	if got == nil || got.Succeeded != n || got.Failed+got.Killed+got.NotRun+got.Retries != 0 {
		t.Fatalf("result %+v", got)
	}
	if got.Tasks != tasks || got.Usage.CPUSeconds != n || got.Usage.PeakMemory != 1499 {
		t.Errorf("%d tasks (ran %d), usage %+v", got.Tasks, tasks, got.Usage)
	}
	if tasks < 5 || tasks > 60 {
		t.Errorf("%d tasks for %d partitions of 10 ms", tasks, n)
	}
	list := r.manifest()
	if len(list) != n || list[0].Partition != 500 || list[n-1].Outcome != tasklet.Succeeded {
		t.Errorf("manifest of %d from %d", len(list), list[0].Partition)
	}
	if sums := got.Outputs["sum"]; len(sums) != n || string(sums[1]) != "1002" {
		t.Errorf("%d inline outputs", len(sums))
	}
}

func TestRangeOutputsOverTheirBoundAreInTheManifestOnly(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, 50, func(in *api.LaunchInput) { in.Range.MaxOutputs = 100 }), api.Details{}, 1)
	r.runAll(func(_ *running, i int) tasklet.Result { return well(i) })
	if r.result.Range.Outputs != nil {
		t.Errorf("outputs %v", r.result.Range.Outputs)
	}
	if list := r.manifest(); string(list[49].Outputs["sum"]) != "98" {
		t.Errorf("manifest %v", list[49])
	}
}

// Items and what is common to all go with the launch data.
func TestRangeLaunchData(t *testing.T) {
	r := newRig(t)
	in := rangeInput(3, 2)
	in.Range.Template.Inputs = map[string]json.RawMessage{"month": json.RawMessage(`"may"`)}
	in.Range.Template.Env = map[string]string{"A": "1"}
	in.Env = map[string]string{"B": "2"}
	r.deliver(in, api.Details{}, 1)
	task := r.next()
	if len(task.Partitions) != 2 || task.Partitions[0].Index != 3 || string(task.Inputs["month"].Value) != `"may"` {
		t.Errorf("launch %+v", task.Launch)
	}
	if task.Env["A"] != "1" || task.Env["B"] != "2" || len(task.Segments.Targets) != segmentTargets || task.Result.Key != "" {
		t.Errorf("env %v, %d targets, result %q", task.Env, len(task.Segments.Targets), task.Result.Key)
	}
	if d := r.details.Tasks; len(d) != 1 || d[0].First != 3 || d[0].Count != 2 {
		t.Errorf("written ahead: %+v", d)
	}
	r.askFor(task, tasklet.Request{ID: "s", Role: tasklet.RoleSegment, File: 9, Partition: 3})
	r.until(`grant s error="" url=true`)
	if g, _ := r.answerTo("s"); g.Key != api.SegmentKey(stepPrefix, "7", 3, 1, 9) {
		t.Errorf("key %q", g.Key)
	}
	r.askFor(task, tasklet.Request{ID: "l", Role: tasklet.RoleLog, Partition: 4})
	r.until(`grant l error="" url=true`)
	if g, _ := r.answerTo("l"); g.Key != api.LogKey(stepPrefix, 4, 1, 1) {
		t.Errorf("key %q", g.Key)
	}
	r.askFor(task, tasklet.Request{ID: "x", Role: tasklet.RoleLog, Partition: 5})
	r.until(`grant x error="the task has no partition 5" url=false`)
}

func (r *rig) askFor(task *running, q tasklet.Request) {
	r.Helper()
	data, err := json.Marshal(tasklet.Report{TaskID: task.TaskID, Request: &q})
	if err != nil {
		r.Fatal(err)
	}
	r.h.Message(mesos.Message{AgentID: "a1", ExecutorID: "x1", Data: data})
}

func TestRangeRetriesOnePartitionAlone(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, 20, attempts(3, 5*time.Millisecond)), api.Details{}, 1)
	alone := 0
	r.runAll(func(task *running, i int) tasklet.Result {
		if i == 7 && task.Attempt < 3 {
			return badly(i)
		}
		if task.Attempt > 1 {
			alone += len(task.Partitions)
		}
		return well(i)
	})
	got := r.result.Range
	if got.Succeeded != 20 || got.Failed != 0 || got.Retries != 2 || alone != 1 {
		t.Errorf("result %+v, %d in the last attempt", got, alone)
	}
	if list := r.manifest(); list[7].Attempt != 3 || list[6].Attempt != 1 {
		t.Errorf("attempts %d and %d", list[7].Attempt, list[6].Attempt)
	}
	if got.Usage.CPUSeconds != 22 {
		t.Errorf("usage %+v is not that of all attempts", got.Usage)
	}
}

func TestRangeBackoffIsKept(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, 1, attempts(2, time.Hour)), api.Details{}, 1)
	r.finish(r.next(), badly)
	r.until("ack 0.1 FAILED")
	r.never("submit 0.2")
	r.killAll()
	r.until("complete 7")
	if got := r.result.Range; got.Killed != 1 || got.Failed != 0 {
		t.Errorf("result %+v", got)
	}
}

func TestRangeFailures(t *testing.T) {
	t.Run("are counted and named", func(t *testing.T) {
		r := newRig(t)
		r.deliver(rangeInput(10, 30), api.Details{}, 1)
		r.runAll(func(_ *running, i int) tasklet.Result {
			if i%2 == 0 {
				return badly(i)
			}
			return well(i)
		})
		got := r.result.Range
		if got.Succeeded != 15 || got.Failed != 15 || len(got.Failures) != api.MaxFailures || got.Failures[1].Result.Partition != 12 {
			t.Errorf("result %+v", got)
		}
		if sums := got.Outputs["sum"]; len(sums) != 30 || string(sums[0]) != "null" || string(sums[1]) != "22" {
			t.Errorf("outputs %s", sums)
		}
	})
	t.Run("beyond the bound give the rest up", func(t *testing.T) {
		r := newRig(t)
		r.deliver(rangeInput(0, 500, func(in *api.LaunchInput) { in.Range.MaxFailed = 2 }), api.Details{}, 1)
		first, second := r.next(), r.next()
		r.tell(second, mesos.Running, nil)
		r.finish(first, badly) // 4 partitions
		r.until(fmt.Sprintf("kill %d.2", second.id.First))
		r.finish(second, func(int) tasklet.Result { return tasklet.Result{Outcome: tasklet.Killed} })
		r.until("complete 7")
		got := r.result.Range
		if got.Failed != 4 || got.NotRun != 496 || got.Killed != 0 {
			t.Errorf("result %+v", got)
		}
		r.manifest()
	})
}

func TestRangeNeverRunsTheSameTwiceAfterALoss(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, 4), api.Details{}, 1)
	task := r.next()
	r.tell(task, mesos.Running, r.storeSegment(task, task.results(well, 0, 2)))
	r.until("ack 0.1 RUNNING")
	r.storeSegment(task, task.results(well, 1)) // its update is never heard
	r.tell(task, mesos.FailedState, nil, executorTerminated)
	again := r.next()
	if len(again.Partitions) != 1 || again.Partitions[0].Index != 3 {
		t.Errorf("again %+v", again.Partitions)
	}
	r.finish(again, well)
	r.until("complete 7")
	if got := r.result.Range; got.Succeeded != 4 || got.Retries != 0 || r.result.Replaced != 1 {
		t.Errorf("result %+v, replaced %d", got, r.result.Replaced)
	}
}

func TestRangeSegmentsAreAcknowledgedAfterTheNote(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, 100), api.Details{}, 1)
	a, b := r.next(), r.next()
	r.set(func() { r.beatErr = errUnavailable })
	r.tell(a, mesos.Running, r.storeSegment(a, a.results(well, 0)))
	r.tell(b, mesos.Running, r.storeSegment(b, b.results(well, 0)))
	r.until("beat refused")
	r.never("ack 0.1 RUNNING")
	beats := len(r.all())
	r.set(func() { r.beatErr = nil })
	r.until("ack 0.1 RUNNING")
	r.until(fmt.Sprintf("ack %d.2 RUNNING", b.id.First))
	n := 0
	for _, line := range r.all()[beats:] {
		if len(line) >= 4 && line[:4] == "beat" && line != "beat refused" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d heartbeats for two segments: %v", n, r.all()[beats:])
	}
	if d := r.details; d.Done != 2 || d.Range == nil || len(d.Range.Bitmap) == 0 {
		t.Errorf("details %+v", d)
	}
}

func TestRangeDuplicateUpdates(t *testing.T) {
	r := newRig(t)
	r.deliver(rangeInput(0, 4, attempts(2, time.Hour)), api.Details{}, 1)
	task := r.next()
	s := r.storeSegment(task, append(task.results(badly, 0), task.results(well, 1)...))
	for range 3 {
		task.updates = 0
		r.tell(task, mesos.Running, s)
	}
	r.until("ack 0.1 RUNNING")
	r.look(func(e *entry) {
		if got := e.ranged.at(0).tries; got != 1 || len(e.ranged.due) != 1 {
			t.Errorf("%d tries, %d in backoff", got, len(e.ranged.due))
		}
	})
	last := r.storeSegment(task, task.results(well, 2, 3))
	for range 3 {
		task.updates = 5
		r.tell(task, mesos.FailedState, last)
	}
	r.until("ack 0.1 FAILED")
	r.look(func(e *entry) {
		if e.done() != 3 || e.ranged.n[partPauses] != 1 || len(e.packs) != 0 {
			t.Errorf("%d done, states %v, %d packs", e.done(), e.ranged.n, len(e.packs))
		}
	})
}

var errUnavailable = errors.New("unavailable")
