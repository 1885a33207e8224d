package activities

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

// before fails unless line a stands before line b in the journal.
func (r *rig) before(a, b string) {
	r.Helper()
	lines := r.all()
	i, j := slices.Index(lines, a), slices.Index(lines, b)
	if i < 0 || j < 0 || i > j {
		r.Fatalf("%q must come before %q:\n%v", a, b, lines)
	}
}

func TestPlainStep(t *testing.T) {
	r := newRig(t)
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	launch := r.offer(0, 1)
	if launch.Err != nil {
		t.Fatal(launch.Err)
	}
	r.until("beat 0.1=PLACING") // written ahead: Placed has only now returned
	var l tasklet.Launch
	if err := json.Unmarshal(launch.Data, &l); err != nil || l.TaskID != r.id(0, 1) || len(l.Partitions) != 1 {
		t.Fatalf("launch data: %v %+v", err, l)
	}
	if l.Partitions[0].Outputs["report"].URL == "" || l.Result.URL == "" {
		t.Errorf("targets without URL: %+v", l)
	}
	r.update(0, 1, mesos.Running)
	r.until("ack 0.1 RUNNING")
	r.update(0, 1, mesos.Finished, withResults(ok(0)))
	r.until("ack 0.1 FINISHED")
	r.before("complete 7", "ack 0.1 FINISHED")
	if r.result.Results[0].Outcome != tasklet.Succeeded {
		t.Errorf("result %+v", r.result)
	}
}

// The user's failure is a result; it is not placed again.
func TestFailureIsAResult(t *testing.T) {
	r := newRig(t)
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.update(0, 1, mesos.FailedState, withResults(tasklet.Result{Outcome: tasklet.Failed, ExitCode: 3}))
	r.until("ack 0.1 FAILED")
	if got := r.result.Results[0]; got.Outcome != tasklet.Failed || got.ExitCode != 3 {
		t.Errorf("result %+v", got)
	}
	r.never("submit 0.2")
}

func TestNothingIsLaunchedWithoutWriteAhead(t *testing.T) {
	for name, refusal := range map[string]error{"unreachable": errors.New("connection refused"), "backoff": notFound} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.deliver(input(0), api.Details{}, 1)
			r.until("submit 0.1")
			r.set(func() { r.beatErr, r.state = refusal, enumspb.PENDING_ACTIVITY_STATE_SCHEDULED })
			if launch := r.offer(0, 1); launch.Err == nil {
				t.Fatal("launched")
			}
			r.set(func() { r.beatErr = nil })
			r.until("submit 0.2") // an ID is never used twice
		})
	}
	t.Run("not leading", func(t *testing.T) {
		r := newRig(t)
		r.deliver(input(0), api.Details{}, 1)
		r.until("submit 0.1")
		r.set(func() { r.leading = false })
		if launch := r.offer(0, 1); launch.Err == nil {
			t.Fatal("launched")
		}
		if slices.ContainsFunc(r.all(), func(l string) bool { return strings.HasPrefix(l, "beat") }) {
			t.Errorf("a heartbeat went out: %v", r.all())
		}
	})
}

func TestCompletionThatFailsIsRepeatedBeforeTheAcknowledgement(t *testing.T) {
	r := newRig(t)
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.set(func() { r.completeErr = errors.New("unavailable") })
	r.update(0, 1, mesos.Finished, withResults(ok(0)))
	r.until("complete 7 refused")
	r.never("ack 0.1 FINISHED")
	r.set(func() { r.completeErr = nil })
	r.until("ack 0.1 FINISHED")
	r.before("complete 7", "ack 0.1 FINISHED")
}

// A leader died between completion and acknowledgement: the update comes again.
func TestRepeatedEndOfACompletedActivity(t *testing.T) {
	r := newRig(t)
	r.set(func() { r.pending = false })
	r.update(0, 1, mesos.Finished, withResults(ok(0)))
	r.until("ack 0.1 FINISHED")
	r.never("submit 0.2")
}

func TestPlatformLosses(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxLosses = 2 })
	r.deliver(input(0), api.Details{}, 1)
	for generation := 1; generation <= 3; generation++ {
		r.until("submit 0." + string(rune('0'+generation)))
		r.offer(0, generation)
		r.update(0, generation, mesos.FailedState, func(u *mesos.Update) {
			u.Source, u.Reason, u.Message = "AGENT", "EXECUTOR_TERMINATED", "Executor terminated"
		})
	}
	r.until("complete 7")
	got := r.result.Results[0]
	if got.Outcome != tasklet.Platform || !strings.Contains(got.Reason, "placed 3 times") {
		t.Errorf("result %+v", got)
	}
}

func TestRescindedPlacementCostsNothing(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxLosses = 1; c.Backoff = func(int) time.Duration { return time.Hour } })
	r.deliver(input(0), api.Details{}, 1)
	for _, next := range []string{"submit 0.2", "submit 0.3", "submit 0.4"} {
		generation := int(next[len(next)-1]-'0') - 1
		r.until("submit 0." + string(rune('0'+generation)))
		r.offer(0, generation)
		r.update(0, generation, mesos.Dropped, func(u *mesos.Update) { u.Source, u.UUID = "FRAMEWORK", nil })
		r.until(next)
	}
}

func TestUnreachable(t *testing.T) {
	t.Run("placed again after the time-out, the old one killed when it returns", func(t *testing.T) {
		r := newRig(t)
		in := input(0)
		in.UnreachableTimeout = time.Millisecond
		r.deliver(in, api.Details{}, 1)
		r.until("submit 0.1")
		r.offer(0, 1)
		r.update(0, 1, mesos.Unreachable, fromMaster)
		r.until("submit 0.2")
		r.offer(0, 2)
		r.update(0, 1, mesos.Running, fromMaster)
		r.until("kill 0.1")
		r.never("kill 0.2")
	})
	t.Run("at most once waits", func(t *testing.T) {
		r := newRig(t)
		in := input(0)
		in.UnreachableTimeout, in.AtMostOnce = 0, true
		r.deliver(in, api.Details{}, 1)
		r.until("submit 0.1")
		r.offer(0, 1)
		r.update(0, 1, mesos.Unreachable, fromMaster)
		r.never("submit 0.2")
		r.update(0, 1, mesos.Finished, withResults(ok(0)))
		r.until("complete 7")
	})
	t.Run("returns in time", func(t *testing.T) {
		r := newRig(t)
		r.deliver(input(0), api.Details{}, 1)
		r.until("submit 0.1")
		r.offer(0, 1)
		r.update(0, 1, mesos.Unreachable, fromMaster)
		r.update(0, 1, mesos.Running, fromMaster)
		r.settle()
		if d := r.h.entry(r.key).details(); d.Tasks[0].UnreachableSince != nil {
			t.Error("still counts as unreachable")
		}
	})
}

// The first placement ends well after all, while its successor waits.
func TestOldPlacementEndsWell(t *testing.T) {
	r := newRig(t)
	in := input(0)
	in.UnreachableTimeout = time.Millisecond
	r.deliver(in, api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.update(0, 1, mesos.Unreachable, fromMaster)
	r.until("submit 0.2")
	r.update(0, 1, mesos.Finished, withResults(ok(0)))
	r.until("complete 7")
	r.until("withdraw 0.2")
	r.until("ack 0.1 FINISHED")
	r.before("complete 7", "ack 0.1 FINISHED")
}

func TestKill(t *testing.T) {
	kill := func(r *rig) {
		if err := r.h.KillTasks(t.Context(), api.KillInput{WorkflowID: r.key.WorkflowID, RunID: r.key.RunID, Reason: "on request"}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("waiting", func(t *testing.T) {
		r := newRig(t)
		r.deliver(input(0), api.Details{}, 1)
		r.until("submit 0.1")
		kill(r)
		r.until("complete 7")
		if got := r.result.Results[0]; got.Outcome != tasklet.Killed || got.Reason != "on request" {
			t.Errorf("result %+v", got)
		}
	})
	t.Run("running", func(t *testing.T) {
		r := newRig(t)
		r.deliver(input(0), api.Details{}, 1)
		r.until("submit 0.1")
		r.offer(0, 1)
		r.update(0, 1, mesos.Running)
		kill(r)
		r.until("kill 0.1")
		r.never("complete 7")
		r.update(0, 1, mesos.KilledState, withResults(tasklet.Result{Outcome: tasklet.Killed}))
		r.until("ack 0.1 KILLED")
	})
	t.Run("cancel heard by heartbeat", func(t *testing.T) {
		r := newRig(t)
		r.deliver(input(0), api.Details{}, 1)
		r.until("submit 0.1")
		r.offer(0, 1)
		r.set(func() { r.beatErr, r.state = notFound, enumspb.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED })
		e := r.h.entry(r.key)
		e.post(e.heartbeat)
		r.until("kill 0.1")
	})
}

// NotFound by itself kills nothing; a closed workflow does.
func TestHeartbeatNotFound(t *testing.T) {
	r := newRig(t)
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.update(0, 1, mesos.Running)
	r.set(func() { r.beatErr, r.state = notFound, enumspb.PENDING_ACTIVITY_STATE_SCHEDULED })
	e := r.h.entry(r.key)
	e.post(e.heartbeat)
	r.never("kill 0.1")
	r.set(func() { r.status = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED })
	e.post(e.heartbeat)
	r.until("kill 0.1")
	// Its end is nobody's; the agent may forget it.
	r.update(0, 1, mesos.KilledState)
	r.until("ack 0.1 KILLED")
}

func TestRange(t *testing.T) {
	r := newRig(t)
	r.deliver(input(4, 5, 9), api.Details{}, 1)
	for _, i := range []int{4, 5, 9} {
		r.until("submit " + string(rune('0'+i)) + ".1")
		r.offer(i, 1)
	}
	r.update(9, 1, mesos.Finished, withResults(ok(9)))
	r.until("ack 9.1 FINISHED")
	r.before("beat 4.1=STAGING 5.1=STAGING", "ack 9.1 FINISHED") // noted first
	r.update(5, 1, mesos.FailedState, func(u *mesos.Update) { u.Source, u.Reason = "AGENT", "EXECUTOR_TERMINATED" })
	r.until("submit 5.2")
	r.update(4, 1, mesos.Finished, withResults(ok(4)))
	r.offer(5, 2)
	r.update(5, 2, mesos.Finished, withResults(ok(5)))
	r.until("complete 7")
	var order []int
	for _, one := range r.result.Results {
		order = append(order, one.Partition)
	}
	if !slices.Equal(order, []int{4, 5, 9}) || r.result.Replaced != 1 {
		t.Errorf("results %v, replaced %d", order, r.result.Replaced)
	}
}

func TestRequests(t *testing.T) {
	r := newRig(t)
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	ask := func(id, agent string, q tasklet.Request) {
		q.ID = id
		data, err := json.Marshal(tasklet.Report{TaskID: r.id(0, 1), Request: &q})
		if err != nil {
			t.Fatal(err)
		}
		r.h.Message(mesos.Message{AgentID: agent, ExecutorID: "x1", Data: data})
	}
	ask("a", "a2", tasklet.Request{Role: tasklet.RoleResult})
	r.never(`grant a error="" url=true`)
	ask("b", "a1", tasklet.Request{Role: tasklet.RoleResult})
	r.until(`grant b error="" url=true`)
	ask("c", "a1", tasklet.Request{Role: tasklet.RoleOutput, Name: "../../../other/x"})
	r.until(`grant c error="no output \"../../../other/x\"" url=false`)
	ask("d", "a1", tasklet.Request{Role: tasklet.RoleLog, Partition: 1})
	r.until(`grant d error="the task has no partition 1" url=false`)
	ask("e", "a1", tasklet.Request{Role: tasklet.RoleInput, Name: "x"})
	r.until(`grant e error="the task has no such input" url=false`)
}

func TestForeignFilesAreRefused(t *testing.T) {
	r := newRig(t)
	in := input(0)
	ref, err := json.Marshal(tasklet.NewFileRef("runs/other-app/r/s/outputs/0/x", 1, "", "x"))
	if err != nil {
		t.Fatal(err)
	}
	in.Partitions[0].Inputs = map[string]json.RawMessage{"stolen": ref}
	r.deliver(in, api.Details{}, 1)
	r.until("submit 0.1")
	if launch := r.offer(0, 1); launch.Err == nil {
		t.Fatal("launched")
	}
	r.until("complete 7")
	if got := r.result.Results[0]; got.Outcome != tasklet.Invalid {
		t.Errorf("result %+v", got)
	}
}

// An empty list of files is a directory too, not the text "[]".
func TestEmptyListOfFiles(t *testing.T) {
	r := newRig(t)
	in := input(0)
	in.FileLists = []string{"parts"}
	in.Partitions[0].Inputs = map[string]json.RawMessage{"parts": json.RawMessage("[]"), "list": json.RawMessage("[]")}
	r.deliver(in, api.Details{}, 1)
	r.until("submit 0.1")
	var l tasklet.Launch
	if err := json.Unmarshal(r.offer(0, 1).Data, &l); err != nil {
		t.Fatal(err)
	}
	if got := l.Partitions[0].Inputs; !got["parts"].List || got["list"].List {
		t.Errorf("inputs %+v", got)
	}
}

func TestBoundedResult(t *testing.T) {
	big, err := json.Marshal(strings.Repeat("x", 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	r := bound(api.LaunchResult{Results: []tasklet.Result{
		{Partition: 0, Outcome: tasklet.Succeeded},
		{Partition: 1, Outcome: tasklet.Succeeded, Outputs: map[string]json.RawMessage{"x": big}},
		{Partition: 2, Outcome: tasklet.Succeeded, Outputs: map[string]json.RawMessage{"x": big}},
	}})
	failed := 0
	for _, one := range r.Results {
		if one.Outcome == tasklet.Failed {
			failed++
		}
	}
	if failed != 1 || jsonSize(r) > maxResult {
		t.Errorf("%d failed, %d bytes", failed, jsonSize(r))
	}
}
