package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
)

// heldRun has two held partitions of a step with many, and a held plain step.
func heldRun() starter.Run {
	run := exampleRun(api.StatusRunning)
	run.Steps = append(run.Steps, api.StepState{ID: "post", Status: api.StatusRunning, Partitions: 1, Active: 1})
	held := func(first int) api.TaskDetail {
		return api.TaskDetail{First: first, Count: 1, Generation: 1, State: "HELD",
			Held: &api.HeldDetail{Since: started.Add(time.Minute), Reason: "it was to run at most once and is lost: task GONE"}}
	}
	run.Activities = []starter.Activity{
		{ID: "render-1", Step: "render", Details: api.Details{Total: 2, Tasks: []api.TaskDetail{held(3), held(17)}, Agents: []api.AgentDetail{{ID: "a1", Host: "node1"}}}},
		{ID: "post-1", Step: "post", Details: api.Details{Total: 1, Tasks: []api.TaskDetail{held(0)}}},
	}
	return run
}

const choices = " --as never-ran|ran|failed --reason TEXT\n"

func TestStatusShowsWhatIsHeld(t *testing.T) {
	b := newBench(t)
	b.runs.describe = func(string) (starter.Run, error) { return heldRun(), nil }
	b.expect(ExitDone, "status", runID)
	out := b.stdout.String()
	for _, want := range []string{
		"render#17  HELD", "held for a person: it was to run at most once", "3 tasks held for a person",
		"  baas release " + runID + "/render#3" + choices, "  baas release " + runID + "/post" + choices,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

func TestExplainShowsWhatIsHeld(t *testing.T) {
	b := newBench(t)
	run := heldRun()
	held := map[string][]starter.HeldTask{}
	for _, h := range run.Held() {
		held[h.Step] = append(held[h.Step], h)
	}
	b.runs.explain = func(string, starter.ExplainOptions) (starter.Explanation, error) {
		return starter.Explanation{Run: runID, Status: api.StatusRunning, Started: started, Steps: []starter.StepExplanation{
			{StepState: run.Steps[1], Held: held["render"]}, {StepState: run.Steps[3], Held: held["post"]},
		}}, nil
	}
	b.expect(ExitDone, "explain", runID)
	out := b.stdout.String()
	for _, want := range []string{
		"    #17 held for a person since 06:01:00 (29m00s ago), was on node1:\n      it was to run at most once",
		"    held for a person since", "      baas release " + runID + "/render#17" + choices, "      baas release " + runID + "/post" + choices,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

// Who watches hears of each held task once.
func TestWatchTellsWhatIsHeld(t *testing.T) {
	b := newBench(t)
	end := exampleRun(api.StatusSucceeded)
	b.runs.watch = states(heldRun(), heldRun(), end)
	b.expect(ExitDone, "status", "--watch", runID)
	if out := b.stderr.String(); strings.Count(out, "baas release "+runID+"/render#3 --as") != 1 || strings.Count(out, "held for a person") != 3 {
		t.Errorf("told\n%s", out)
	}
}

func TestRelease(t *testing.T) {
	b := newBench(t)
	var asked []string
	b.runs.release = func(id string, o starter.ReleaseOptions) (api.Release, error) {
		asked = append(asked, fmt.Sprintf("%s %s %d %s %q %s", id, o.Step, o.Partition, o.As, o.Reason, o.By))
		return api.Release{ReleaseRequest: api.ReleaseRequest{As: o.As}}, nil
	}
	b.expect(ExitDone, "release", runID+"/render#17", "--as", "ran", "--reason", "booked")
	b.expect(ExitDone, "release", "--as", "never-ran", "--reason", "no entry", runID+"/post")
	if want := runID + ` render 17 ran "booked" ann|` + runID + ` post -1 never-ran "no entry" ann`; strings.Join(asked, "|") != want {
		t.Errorf("asked for\n%s\nwant\n%s", strings.Join(asked, "|"), want)
	}
	for _, want := range []string{"released " + runID + "/render#17 as ran: it counts as succeeded", "as never-ran: it is launched again"} {
		if !strings.Contains(b.stdout.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.stdout.String())
		}
	}
}

func TestReleaseMistakes(t *testing.T) {
	task := runID + "/post"
	for _, c := range []struct {
		args []string
		err  error
		code int
		want string
	}{
		{[]string{}, nil, ExitUsage, "takes one task: RUN/STEP"},
		{[]string{runID, "--as", "ran", "--reason", "x"}, nil, ExitUsage, "expected RUN/STEP or RUN/STEP#PARTITION"},
		{[]string{task, "--reason", "x"}, nil, ExitUsage, "expected never-ran, ran or failed"},
		{[]string{task, "--as", "done", "--reason", "x"}, nil, ExitUsage, "expected never-ran, ran or failed"},
		{[]string{task, "--as", "ran"}, nil, ExitUsage, "--reason is missing"},
		{[]string{task, "--as", "ran", "--reason", "x"}, &starter.NotHeldError{Task: "post", Why: "the step is running"}, ExitNotFound, "post is not held: the step is running"},
		{[]string{task, "--as", "ran", "--reason", "x"}, starter.ErrNotFound, ExitNotFound, "not found"},
		{[]string{task, "--as", "ran", "--reason", "x"}, &starter.EndedError{Run: runID, Status: api.StatusKilled}, ExitNotFound, "has ended already"},
		{[]string{task, "--as", "ran", "--reason", "x"}, errors.New("step post has the output receipt"), ExitFailed, "output receipt"},
		{[]string{task, "--as", "ran", "--reason", "x"}, &starter.UnreachableError{What: "the leader", Err: errors.New("the release is recorded")}, ExitUnreachable, "is recorded"},
	} {
		b := newBench(t)
		b.runs.release = func(string, starter.ReleaseOptions) (api.Release, error) { return api.Release{}, c.err }
		if code := b.run(append([]string{"release"}, c.args...)...); code != c.code || !strings.Contains(b.stderr.String(), c.want) {
			t.Errorf("%v: exit code %d, %s", c.args, code, b.stderr.String())
		}
	}
}
