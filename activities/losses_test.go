package activities

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

// lose lets a pack be placed on an agent of its own, seen running or not, and die
// with its executor. It gives the task as it was submitted.
func (r *rig) lose(first, generation int, agent string, running bool, how ...func(*mesos.Update)) mesos.Task {
	r.Helper()
	r.until(fmt.Sprintf("submit %d.%d", first, generation))
	task := r.submitted(first, generation)
	launch := r.h.Placed(r.Context(), mesos.Placement{
		Agent: mesos.Agent{ID: agent, Hostname: "host-" + agent}, Executor: "x1", Tasks: []mesos.Task{task},
	})[0]
	if launch.Err != nil {
		r.Fatal(launch.Err)
	}
	there := func(u *mesos.Update) { u.AgentID = agent }
	if running {
		r.update(first, generation, mesos.Running, there)
	}
	if len(how) == 0 {
		how = append(how, executorTerminated)
	}
	r.update(first, generation, mesos.FailedState, append(how, there)...)
	return task
}

func (r *rig) submitted(first, generation int) mesos.Task {
	r.Helper()
	r.mu2.Lock()
	defer r.mu2.Unlock()
	task, ok := r.tasks[r.id(first, generation)]
	if !ok {
		r.Fatalf("%d.%d was not submitted", first, generation)
	}
	return task
}

// A task that takes its executors down is found out by being placed alone, and
// stopped with a reason that names the places.
func TestTaskThatTakesExecutorsDown(t *testing.T) {
	r := newRig(t)
	r.deliver(input(0), api.Details{}, 1)
	if task := r.lose(0, 1, "a1", true); task.Executor.Isolation != "" {
		t.Error("isolated before anything happened")
	}
	for generation := 2; generation <= 4; generation++ {
		task := r.lose(0, generation, fmt.Sprintf("a%d", generation), true)
		if task.Executor.Isolation == "" || len(task.AvoidAgents) != generation-1 {
			t.Errorf("placement %d: %+v", generation, task)
		}
	}
	r.until("complete 7")
	r.never("submit 0.5")
	got := r.result.Results[0]
	if got.Outcome != tasklet.Platform {
		t.Errorf("outcome %s", got.Outcome)
	}
	for _, want := range []string{"takes its executor down", "4 times", "3 of them", "host-a1, host-a2, host-a3, host-a4"} {
		if !strings.Contains(got.Reason, want) {
			t.Errorf("%q is not in: %s", want, got.Reason)
		}
	}
	// The agents of its first deaths are charged; then it is the task's guilt.
	for agent, times := range map[string]int{"a1": 1, "a2": 1, "a3": 0, "a4": 0} {
		if n := r.count("blame " + agent + ": EXECUTOR_TERMINATED"); n != times {
			t.Errorf("%s is blamed %d times", agent, n)
		}
	}
}

// Its neighbours die with it once, run alone, and are free.
func TestNeighboursAreNotCharged(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxCrashes = 1 })
	r.deliver(input(0, 1), api.Details{}, 1)
	r.lose(0, 1, "a1", true)
	r.lose(1, 1, "a1", true)
	r.lose(0, 2, "a2", true) // the guilty one, alone
	r.until("submit 1.2")
	r.offer(1, 2)
	r.update(1, 2, mesos.Finished, withResults(ok(1)))
	r.until("complete 7")
	if got := r.result.Results; got[0].Outcome != tasklet.Platform || got[1].Outcome != tasklet.Succeeded {
		t.Errorf("results %+v", got)
	}
}

// A task that only waited in the executor is no suspect the first time; it may
// have been quicker than its first update, so the second time it is.
func TestTaskThatWasNotSeenRunning(t *testing.T) {
	r := newRig(t)
	r.deliver(input(0), api.Details{}, 1)
	for generation, isolated := range []bool{false, false, true} {
		if task := r.lose(0, generation+1, "a1", false); (task.Executor.Isolation != "") != isolated {
			t.Errorf("placement %d: isolation %q", generation+1, task.Executor.Isolation)
		}
	}
}

// Losses that say nothing of the task never make a suspect.
func TestOtherLossesMakeNoSuspect(t *testing.T) {
	for name, u := range map[string]mesos.Update{
		"agent gone":     {State: mesos.GoneByOperator, Source: "MASTER", Reason: "SLAVE_REMOVED"},
		"never started":  {State: mesos.FailedState, Source: "AGENT", Reason: launchFailed},
		"dropped":        {State: mesos.Dropped, Source: "AGENT", Reason: "EXECUTOR_TERMINATED"},
		"agent drained":  {State: mesos.KilledState, Source: "AGENT", Reason: "SLAVE_DRAINING"},
		"executor quiet": {State: mesos.FailedState, Source: "AGENT", Reason: "EXECUTOR_REREGISTRATION_TIMEOUT"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.deliver(input(0), api.Details{}, 1)
			r.lose(0, 1, "a1", true, func(to *mesos.Update) { to.State, to.Source, to.Reason = u.State, u.Source, u.Reason })
			r.until("submit 0.2")
			if task := r.submitted(0, 2); task.Executor.Isolation != "" {
				t.Error("isolated")
			}
			blamed := r.count("blame a1: "+u.Reason) == 1
			if blamed != agentCaused(u) {
				t.Errorf("blamed %v", blamed)
			}
		})
	}
}

func TestBlame(t *testing.T) {
	dropped := func(source string) func(*mesos.Update) {
		return func(u *mesos.Update) { u.State, u.Source, u.Reason = mesos.Dropped, source, "INVALID_OFFERS" }
	}
	t.Run("not for the master's drops", func(t *testing.T) {
		r := newRig(t)
		r.deliver(input(0), api.Details{}, 1)
		r.lose(0, 1, "a1", false, dropped("MASTER"))
		r.until("submit 0.2")
		r.never("blame a1: INVALID_OFFERS")
		if task := r.submitted(0, 2); len(task.AvoidAgents) > 0 {
			t.Errorf("avoids %v", task.AvoidAgents)
		}
	})
	t.Run("not for an agent that does not answer", func(t *testing.T) {
		r := newRig(t)
		in := input(0)
		in.UnreachableTimeout = time.Millisecond
		r.deliver(in, api.Details{}, 1)
		r.until("submit 0.1")
		r.offer(0, 1)
		r.update(0, 1, mesos.Unreachable, fromMaster)
		r.until("submit 0.2")
		r.never("blame a1: ")
		if task := r.submitted(0, 2); !slices.Equal(task.AvoidAgents, []string{"a1"}) {
			t.Errorf("avoids %v", task.AvoidAgents)
		}
	})
	t.Run("not for an image that cannot be had", func(t *testing.T) {
		r := newRig(t)
		in := input(0)
		in.Image = "nobody/nothing"
		r.deliver(in, api.Details{}, 1)
		r.lose(0, 1, "a1", false, launchRefused)
		r.until("submit 0.2")
		r.never("blame a1: " + launchFailed)
	})
	t.Run("for what is lost before the input is there", func(t *testing.T) {
		r := newRig(t)
		details := held(1, mesos.Running, 0)
		r.set(func() { r.details = &details })
		r.update(0, 1, mesos.FailedState, executorTerminated)
		r.until("released: true")
		r.deliver(input(0), details, 2)
		r.until("reconcile 0.1 on a1")
		r.update(0, 1, mesos.Gone, fromMaster)
		r.until("blame a1: EXECUTOR_TERMINATED")
		r.until("submit 0.2")
		if task := r.submitted(0, 2); task.Executor.Isolation == "" {
			t.Error("what was running when its executor died is not isolated")
		}
	})
}

func launchRefused(u *mesos.Update) { u.Source, u.Reason = "AGENT", launchFailed }

// What Mesos cannot start is tried three times, also where other losses are borne
// more often.
func TestPatienceWithWhatCannotStart(t *testing.T) {
	for name, c := range map[string]struct {
		state   mesos.State
		how     func(*mesos.Update)
		outcome tasklet.Outcome
		words   string
	}{
		"container": {mesos.FailedState, launchRefused, tasklet.Platform, "could not be started 3 times"},
		"task":      {mesos.ErrorState, func(u *mesos.Update) { u.Source, u.UUID = "MASTER", nil }, tasklet.Invalid, "Mesos refused it 3 times"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.deliver(input(0), api.Details{}, 1)
			for generation := 1; generation <= 3; generation++ {
				r.lose(0, generation, "a1", false, func(u *mesos.Update) { u.State = c.state; c.how(u) })
			}
			r.until("complete 7")
			r.never("submit 0.4")
			if got := r.result.Results[0]; got.Outcome != c.outcome || !strings.Contains(got.Reason, c.words) {
				t.Errorf("result %+v", got)
			}
		})
	}
	t.Run("other losses do not count", func(t *testing.T) {
		r := newRig(t)
		r.deliver(input(0), api.Details{}, 1)
		for generation := range 3 {
			r.lose(0, generation+1, "a1", false)
		}
		for generation := 4; generation <= 6; generation++ {
			r.until(fmt.Sprintf("submit 0.%d", generation))
			r.lose(0, generation, "a1", false, launchRefused)
		}
		r.until("complete 7")
	})
}

// The next leader counts on, keeps away from the same agents, and knows the suspects.
func TestLossesSurviveTheLeader(t *testing.T) {
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("placed again: %v", running), func(t *testing.T) {
			first := newRig(t)
			first.deliver(input(0), api.Details{}, 1)
			first.lose(0, 1, "a1", true)
			first.lose(0, 2, "a2", true)
			first.until("submit 0.3")
			if running {
				first.offer(0, 3) // on a1
			}
			var details api.Details
			first.look(func(e *entry) { details = e.details() })

			next := newRig(t, func(c *Config) { c.MaxCrashes = 2 })
			next.deliver(input(0), details, 2)
			again := 4
			if running {
				next.until("reconcile 0.3 on a1")
				next.update(0, 3, mesos.FailedState, executorTerminated)
			} else {
				next.until("submit 0.4")
				task := next.submitted(0, 4)
				if task.Executor.Isolation == "" || !slices.Equal(task.AvoidAgents, []string{"a1", "a2"}) {
					t.Errorf("submitted as %+v", task)
				}
				next.lose(0, again, "a3", true)
			}
			next.until("complete 7")
			if got := next.result.Results[0]; !strings.Contains(got.Reason, "3 times (on host") {
				t.Errorf("result %+v", got)
			}
			if next.result.Replaced != 3 {
				t.Errorf("replaced %d", next.result.Replaced)
			}
		})
	}
}

func TestBackoffGrowsAcrossLeaders(t *testing.T) {
	var pauses []int
	r := newRig(t, func(c *Config) {
		c.Backoff = func(n int) time.Duration { pauses = append(pauses, n); return time.Millisecond }
	})
	details := api.Details{Prefix: stepPrefix, Total: 1, Attempt: 1, Generations: map[int]int{0: 6}, Losses: []api.LossDetail{{First: 0, Count: 5}}}
	r.deliver(input(0), details, 2)
	r.lose(0, 7, "a1", false)
	r.until("submit 0.8")
	if !slices.Equal(pauses, []int{6}) {
		t.Errorf("pauses after losses %v", pauses)
	}
}

func TestDefaultBackoff(t *testing.T) {
	var c Config
	c.setDefaults()
	for n, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 6: 32 * time.Second, 7: time.Minute, 100: time.Minute} {
		if got := c.Backoff(n); got != want {
			t.Errorf("after loss %d: %s", n, got)
		}
	}
}

// What people see (rules 2 and 9)

func TestDetailsShowSoonThatATaskRuns(t *testing.T) {
	r := newRig(t) // the regular heartbeat is far
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.until("beat 0.1=PLACING")
	r.until("beat 0.1=STAGING")
	r.update(0, 1, mesos.Running)
	r.until("beat 0.1=RUNNING")
}

func TestReasonsWhileAnAgentIsAway(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		once  bool
		words string
	}{
		"placed again": {false, "it is placed again at "},
		"at most once": {true, "at_most_once: it waits until the agent is back or marked as gone"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			in := input(0)
			in.AtMostOnce, in.UnreachableTimeout = c.once, 1000*24*time.Hour
			r.deliver(in, api.Details{}, 1)
			r.until("submit 0.1")
			r.offer(0, 1)
			r.update(0, 1, mesos.Unreachable, fromMaster, awaySince(since))
			text := r.reason()
			for _, want := range []string{"agent host does not answer since 2026-01-02T03:04:05Z", c.words} {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in: %s", want, text)
				}
			}
			r.update(0, 1, mesos.Running, fromMaster)
			if text := r.reason(); strings.Contains(text, "does not answer") {
				t.Errorf("still: %s", text)
			}
		})
	}
}

// What is lost of a step that runs at most once; see also hold_test.go.
func TestLossesOfAtMostOnce(t *testing.T) {
	t.Run("killed while its agent is away", func(t *testing.T) {
		r := newRig(t)
		in := input(0)
		in.AtMostOnce, in.UnreachableTimeout = true, time.Millisecond
		r.deliver(in, api.Details{}, 1)
		r.until("submit 0.1")
		r.offer(0, 1)
		r.update(0, 1, mesos.Unreachable, fromMaster)
		r.killAll()
		r.until("complete 7")
		if got := r.result.Results[0]; got.Outcome != tasklet.Killed || !strings.Contains(got.Reason, "may still run") {
			t.Errorf("result %+v", got)
		}
	})
	t.Run("what never ran is placed again", func(t *testing.T) {
		r := newRig(t)
		in := input(0)
		in.AtMostOnce = true
		r.deliver(in, api.Details{}, 1)
		r.lose(0, 1, "a1", false, func(u *mesos.Update) { u.State, u.Source, u.UUID = mesos.Dropped, "MASTER", nil })
		r.until("submit 0.2")
	})
}
