package activities

import (
	"slices"
	"testing"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

func TestNextAttempt(t *testing.T) {
	details := api.Details{
		Prefix: "runs/app/app-1-00000001/work/", Total: 1, Attempt: 1,
		Agents: []api.AgentDetail{{ID: "a1", Host: "host"}},
		Tasks:  []api.TaskDetail{{First: 0, Count: 1, Generation: 1, State: "RUNNING"}},
	}
	t.Run("result in storage", func(t *testing.T) {
		r := newRig(t)
		r.storeResult(0, 1, ok(0))
		r.deliver(input(0), details, 2)
		r.until("complete 7")
		r.never("submit 0.1")
		r.never("submit 0.2")
	})
	t.Run("still running", func(t *testing.T) {
		r := newRig(t)
		r.deliver(input(0), details, 2)
		r.until("reconcile 0.1 on a1")
		r.update(0, 1, mesos.Running, fromMaster)
		r.settle()
		r.never("submit 0.2")
		r.update(0, 1, mesos.Finished, withResults(ok(0)))
		r.until("complete 7")
	})
	t.Run("gone", func(t *testing.T) {
		r := newRig(t)
		r.deliver(input(0), details, 2)
		r.until("reconcile 0.1 on a1")
		r.update(0, 1, mesos.Gone, fromMaster)
		r.until("submit 0.2")
		if got := r.tasks[r.id(0, 2)].AvoidAgents; !slices.Equal(got, []string{"a1"}) {
			t.Errorf("avoids %v", got)
		}
	})
	t.Run("gone, its result came late", func(t *testing.T) {
		r := newRig(t)
		r.deliver(input(0), details, 2)
		r.until("reconcile 0.1 on a1")
		r.storeResult(0, 1, ok(0))
		r.update(0, 1, mesos.Unknown, fromMaster)
		r.until("complete 7")
		r.never("submit 0.2")
	})
	t.Run("at most once", func(t *testing.T) {
		r := newRig(t)
		in := input(0)
		in.AtMostOnce = true
		r.deliver(in, details, 2)
		r.until("reconcile 0.1 on a1")
		r.update(0, 1, mesos.Unknown, fromMaster)
		r.isHeld(0, 1)
		r.never("submit 0.2")
	})
	t.Run("died before the first heartbeat", func(t *testing.T) {
		r := newRig(t)
		r.deliver(input(0), api.Details{}, 2)
		r.until("submit 0.1")
	})
}

// A new leader hears of a running task from Mesos before Temporal hands the
// activity over: it keeps it alive and completes it.
func TestAdoption(t *testing.T) {
	r := newRig(t)
	r.set(func() {
		r.details = &api.Details{
			Prefix: "runs/app/app-1-00000001/work/", Total: 1, Attempt: 1,
			Agents: []api.AgentDetail{{ID: "a1"}},
			Tasks:  []api.TaskDetail{{First: 0, Count: 1, Generation: 1, State: "RUNNING"}},
		}
	})
	r.update(0, 1, mesos.Running, fromMaster)
	r.settle()
	if e := r.h.entry(r.key); e.nextBeat.Load() == 0 {
		t.Error("no heartbeat is planned for an adopted task")
	}
	r.storeResult(0, 1, ok(0))
	r.update(0, 1, mesos.Finished, fromMaster) // reconciled: without data
	r.until("complete 7")
	if got := r.result.Results; len(got) != 1 || got[0].Outcome != tasklet.Succeeded {
		t.Errorf("results %+v", got)
	}
}

func TestAdoptedAndLostWaitsForItsInput(t *testing.T) {
	r := newRig(t)
	r.set(func() {
		r.details = &api.Details{Prefix: "runs/app/app-1-00000001/work/", Total: 1,
			Agents: []api.AgentDetail{{ID: "a1"}}, Tasks: []api.TaskDetail{{First: 0, Count: 1, Generation: 1}}}
	})
	r.update(0, 1, mesos.FailedState, func(u *mesos.Update) { u.Source, u.Reason = "AGENT", "EXECUTOR_TERMINATED" })
	r.until("ack 0.1 FAILED")
	r.never("complete 7")
	if e := r.h.entry(r.key); e.nextBeat.Load() != 0 {
		t.Error("heartbeats go on: Temporal would never hand the activity over")
	}
	r.deliver(input(0), *r.details, 2)
	r.until("reconcile 0.1 on a1")
	r.update(0, 1, mesos.Gone, fromMaster)
	r.until("submit 0.2")
}

func TestTakeOver(t *testing.T) {
	details := api.Details{Prefix: "runs/app/app-1-00000001/work/", Total: 2, Token: []byte("old")}
	t.Run("what waits is asked for at once", func(t *testing.T) {
		r := newRig(t)
		r.set(func() { r.details = &details })
		if err := r.h.TakeOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.until("released: true")
		r.deliver(input(0, 1), details, 2)
		r.until("submit 0.1")
	})
	t.Run("what runs is kept alive", func(t *testing.T) {
		r := newRig(t)
		running := details
		running.Total = 1
		running.Agents = []api.AgentDetail{{ID: "a1"}}
		running.Tasks = []api.TaskDetail{{First: 0, Count: 1, Generation: 1, State: "RUNNING"}}
		r.set(func() { r.details = &running })
		if err := r.h.TakeOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.never("released: true")
		if r.h.entry(r.key).nextBeat.Load() == 0 {
			t.Error("no heartbeat is planned")
		}
	})
	t.Run("what was written ahead and never launched is asked about", func(t *testing.T) {
		r := newRig(t)
		ahead := details
		ahead.Total = 1
		ahead.Agents = []api.AgentDetail{{ID: "a1"}}
		ahead.Tasks = []api.TaskDetail{{First: 0, Count: 1, Generation: 1, State: "PLACING"}}
		r.set(func() { r.details = &ahead })
		if err := r.h.TakeOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.until("reconcile 0.1 on a1")
		r.update(0, 1, mesos.Gone, fromMaster)
		r.until("released: true")
		r.deliver(input(0), ahead, 2)
		r.until("reconcile 0.1 on a1")
		r.update(0, 1, mesos.Gone, fromMaster)
		r.until("submit 0.2")
	})
	t.Run("another framework's is left alone", func(t *testing.T) {
		r := newRig(t)
		foreign := details
		foreign.Framework = "other"
		r.set(func() { r.details = &foreign })
		if err := r.h.TakeOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.never("released: true")
	})
}

func TestReleaseGivesBackOnlyWhatMesosDoesNotHold(t *testing.T) {
	r := newRig(t)
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.h.Release(t.Context())
	r.until("released: true")

	r = newRig(t)
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.h.Release(t.Context())
	r.never("released: true")
}

func TestSlotsFollowTheBacklog(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxWaiting = 1 })
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.settle()
	if r.h.Slots().TryReserveSlot(nil) != nil {
		t.Error("a slot beyond the backlog")
	}
	r.offer(0, 1)
	r.update(0, 1, mesos.Finished, withResults(ok(0)))
	if _, err := r.h.Slots().ReserveSlot(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
