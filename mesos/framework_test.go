package mesos

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

func launches(c *scheduler.Call) []mesos.TaskInfo {
	var out []mesos.TaskInfo
	for _, op := range c.GetAccept().GetOperations() {
		out = append(out, op.GetLaunch().GetTaskInfos()...)
	}
	return out
}

func TestOneAcceptPerAgent(t *testing.T) {
	r, m, s := connect(t, func(c *Config) { c.Timings.Gather = 100 * time.Millisecond })
	r.Submit(testTask("t1", 1, 100), testTask("t2", 1, 100), testTask("t3", 1, 100))
	s.send(offersEvent(testOffer("o1", "a1", 1.6, 200), testOffer("o2", "a1", 1.6, 200)))

	c := m.want(scheduler.Call_ACCEPT)
	if n := len(c.Accept.OfferIDs); n != 2 {
		t.Errorf("ACCEPT names %d offers, want both of the agent", n)
	}
	infos := launches(c)
	if got := taskIDs(infos); got != "[t1 t2 t3]" {
		t.Fatalf("launched %s", got)
	}
	if c.Accept.Filters.GetRefuseSeconds() != 0 {
		t.Errorf("the unused rest is refused for %v s", c.Accept.Filters.GetRefuseSeconds())
	}
	first := infos[0]
	if string(first.Data) != "data of t1" || first.AgentID.Value != "a1" {
		t.Errorf("task is %v", first)
	}
	for i := range infos {
		if !infos[i].Executor.Equal(first.Executor) {
			t.Errorf("the executors of t1 and %s differ", infos[i].TaskID.Value)
		}
	}
	for _, res := range slices.Concat(first.Resources, first.Executor.Resources) {
		if res.GetAllocationInfo().GetRole() != "*" || res.Role != nil {
			t.Errorf("resource %v is not in the form that MULTI_ROLE and RESERVATION_REFINEMENT ask for", res)
		}
	}
	p := get(t, r.handler.placements, "Placed")
	if len(p.Tasks) != 3 || !p.NewExecutor || p.Executor != first.Executor.ExecutorID.Value ||
		p.Agent != (Agent{ID: "a1", Hostname: "a1.example", Endpoint: "10.0.0.1:5051"}) {
		t.Errorf("placement is %+v", p)
	}
	if row, _ := r.Task("t1"); row.State != Staging || row.Hostname != "a1.example" || row.Owner != "billing" {
		t.Errorf("table says %+v", row)
	}
}

func TestPlacedWithErrorIsNotLaunched(t *testing.T) {
	r, m, s := connect(t, nil)
	r.handler.placed = func(_ context.Context, p Placement) []Launch {
		out := launchAll(p)
		for i, task := range p.Tasks {
			if strings.HasPrefix(task.ID, "no") {
				out[i].Err = errors.New("the activity is gone")
			}
		}
		return out
	}
	r.Submit(testTask("no1", 1, 100))
	s.send(offersEvent(testOffer("o1", "a1", 4, 400)))
	c := m.want(scheduler.Call_DECLINE)
	if c.Decline.Filters.GetRefuseSeconds() != 0 {
		t.Errorf("declined for %v s: the offer was good", c.Decline.Filters.GetRefuseSeconds())
	}
	r.Submit(testTask("no2", 1, 100), testTask("yes", 1, 100))
	s.send(offersEvent(testOffer("o2", "a1", 4, 400)))
	if got := taskIDs(launches(m.want(scheduler.Call_ACCEPT))); got != "[yes]" {
		t.Errorf("launched %s", got)
	}
	if rows := r.Tasks(); len(rows) != 1 || len(r.Waiting()) != 0 {
		t.Errorf("table %v, queue %v: what was refused is to be forgotten", rows, r.Waiting())
	}
	none(t, r.handler.updates, "update")
}

// blockedPlacement holds the framework between Placed and ACCEPT of one task.
func blockedPlacement(t *testing.T) (*rig, *scripted, *eventStream, chan struct{}) {
	r, m, s := connect(t, nil)
	release := make(chan struct{})
	t.Cleanup(func() {
		select {
		case <-release:
		default:
			close(release)
		}
	})
	r.handler.placed = func(_ context.Context, p Placement) []Launch {
		<-release
		return launchAll(p)
	}
	r.Submit(testTask("t1", 1, 100))
	s.send(offersEvent(testOffer("o1", "a1", 1, 100), testOffer("o2", "a1", 1, 100)))
	get(t, r.handler.placements, "Placed")
	return r, m, s, release
}

func TestRescindWhileWritingAhead(t *testing.T) {
	r, m, s, release := blockedPlacement(t)
	s.send(rescindEvent("o2"))
	eventually(t, "rescind", func() bool { return r.Metrics().Rescinds.Load() == 1 })
	close(release)
	u := get(t, r.handler.updates, "update")
	if u.TaskID != "t1" || u.State != Dropped || u.Source != FrameworkSource || u.UUID != nil || u.AgentID != "a1" {
		t.Errorf("update is %+v", u)
	}
	c := m.want(scheduler.Call_DECLINE)
	if len(c.Decline.OfferIDs) != 1 || c.Decline.OfferIDs[0].Value != "o1" {
		t.Errorf("declined %v, want what is left of the agent's offers", c.Decline.OfferIDs)
	}
	if len(r.Tasks())+len(r.Waiting()) != 0 {
		t.Errorf("table %v, queue %v", r.Tasks(), r.Waiting())
	}
}

func TestDisconnectWhileWritingAhead(t *testing.T) {
	r, m, s, release := blockedPlacement(t)
	close(s.over)
	eventually(t, "end of the subscription", func() bool { return strings.Contains(r.Explain("x"), "not known") && r.Send("a", "x", nil) != nil })
	close(release)
	if u := get(t, r.handler.updates, "update"); u.State != Dropped || u.Source != FrameworkSource {
		t.Errorf("update is %+v", u)
	}
	get(t, m.streams, "second SUBSCRIBE").send(subscribedEvent())
	m.want(scheduler.Call_RECONCILE)
	none(t, m.calls, "call")
}

func TestWithdrawAndKillBeforeLaunch(t *testing.T) {
	t.Run("withdraw from the queue", func(t *testing.T) {
		r, m, s := connect(t, nil)
		r.Submit(testTask("t1", 1, 100))
		if !r.Withdraw("t1") || r.Withdraw("t1") {
			t.Error("want true, then false")
		}
		s.send(offersEvent(testOffer("o1", "a1", 4, 400)))
		none(t, m.calls, "call")
	})
	t.Run("withdraw while writing ahead", func(t *testing.T) {
		r, m, _, release := blockedPlacement(t)
		if !r.Withdraw("t1") {
			t.Error("not withdrawn")
		}
		close(release)
		m.want(scheduler.Call_DECLINE)
		none(t, r.handler.updates, "update")
	})
	t.Run("withdraw after launch", func(t *testing.T) {
		r, m, _, release := blockedPlacement(t)
		close(release)
		m.want(scheduler.Call_ACCEPT)
		if r.Withdraw("t1") {
			t.Error("withdrawn, but launched")
		}
	})
	t.Run("kill in the queue", func(t *testing.T) {
		r, _, _ := connect(t, nil)
		r.Submit(testTask("t1", 1, 100))
		r.Kill(TaskRef{TaskID: "t1"}, time.Second)
		if u := get(t, r.handler.updates, "update"); u.State != KilledState || u.Source != FrameworkSource {
			t.Errorf("update is %+v", u)
		}
	})
	t.Run("kill while writing ahead", func(t *testing.T) {
		r, m, _, release := blockedPlacement(t)
		r.Kill(TaskRef{TaskID: "t1"}, time.Second)
		close(release)
		if u := get(t, r.handler.updates, "update"); u.State != KilledState || u.Source != FrameworkSource {
			t.Errorf("update is %+v", u)
		}
		m.want(scheduler.Call_DECLINE)
		none(t, m.calls, "call")
	})
}

func TestAcceptThatFails(t *testing.T) {
	t.Run("refused: not launched", func(t *testing.T) {
		r, m, s := connect(t, nil)
		m.answer = func(w http.ResponseWriter, c *scheduler.Call) bool {
			if c.Type != scheduler.Call_ACCEPT {
				return false
			}
			http.Error(w, "no", http.StatusBadRequest)
			return true
		}
		r.Submit(testTask("t1", 1, 100))
		s.send(offersEvent(testOffer("o1", "a1", 4, 400)))
		m.want(scheduler.Call_ACCEPT)
		if u := get(t, r.handler.updates, "update"); u.State != Dropped || u.Source != FrameworkSource {
			t.Errorf("update is %+v", u)
		}
	})
	t.Run("cut off: nobody knows", func(t *testing.T) {
		r, m, s := connect(t, nil)
		m.answer = func(w http.ResponseWriter, c *scheduler.Call) bool {
			if c.Type == scheduler.Call_ACCEPT {
				m.calls <- c
				panic(http.ErrAbortHandler)
			}
			return false
		}
		r.Submit(testTask("t1", 1, 100))
		s.send(offersEvent(testOffer("o1", "a1", 4, 400)))
		m.want(scheduler.Call_ACCEPT)
		// The offers are used up first, then the master is asked.
		if c := m.want(scheduler.Call_DECLINE); c.Decline.OfferIDs[0].Value != "o1" {
			t.Errorf("declined %v", c.Decline.OfferIDs)
		}
		c := m.want(scheduler.Call_RECONCILE)
		if ts := c.Reconcile.Tasks; len(ts) != 1 || ts[0].TaskID.Value != "t1" || ts[0].AgentID.GetValue() != "a1" {
			t.Errorf("asked for %v", c.Reconcile.Tasks)
		}
		none(t, r.handler.updates, "update")
		s.send(statusEvent("t1", "a1", "", mesos.TASK_GONE, ""))
		if u := get(t, r.handler.updates, "update"); u.State != Gone {
			t.Errorf("update is %+v", u)
		}
		if len(r.Tasks()) != 0 {
			t.Errorf("table has %v", r.Tasks())
		}
	})
}

func TestSuppressAndRevive(t *testing.T) {
	r, m, s := connect(t, func(c *Config) {
		c.Timings.OfferHold, c.Timings.Refuse, c.Timings.Revive = 20*time.Millisecond, 7*time.Second, 200*time.Millisecond
	})
	s.send(offersEvent(testOffer("o1", "a1", 4, 400)))
	if c := m.want(scheduler.Call_DECLINE); c.Decline.Filters.GetRefuseSeconds() != 7 {
		t.Errorf("declined for %v s", c.Decline.Filters.GetRefuseSeconds())
	}
	m.want(scheduler.Call_SUPPRESS)
	none(t, m.calls, "call while there is nothing to do")

	r.Submit(testTask("t1", 1, 100))
	m.want(scheduler.Call_REVIVE)
	none(t, m.calls, "second REVIVE for the same work")
	s.send(offersEvent(testOffer("o2", "small", 0.5, 10)))
	m.want(scheduler.Call_DECLINE)
	r.Submit(testTask("t2", 1, 100))
	m.want(scheduler.Call_REVIVE) // the filter may hide what the new task could use
}

func TestReviveIsRateLimited(t *testing.T) {
	f, err := New(testConfig("m"), newHandler(), leads)
	if err != nil {
		t.Fatal(err)
	}
	f.cfg.Timings.Revive = time.Second
	f.session = &session{f: f, sender: newSender(nil)}
	f.queue.add(waitingTask("t1", "billing"))
	for _, c := range []struct {
		at   time.Duration
		want int64 // REVIVE calls so far
	}{{0, 1}, {time.Millisecond, 1}, {999 * time.Millisecond, 1}, {time.Second, 2}} {
		f.role("*").joined, f.role("*").suppressed = true, true
		f.revive(epoch.Add(c.at))
		if got := f.Metrics().Revives.Load(); got != c.want {
			t.Errorf("%d REVIVE calls after %v, want %d", got, c.at, c.want)
		}
	}
}

func TestAcknowledge(t *testing.T) {
	r, m, s := connect(t, nil)
	s.send(
		statusEvent("t1", "a1", "x", mesos.TASK_RUNNING, "u1"),
		statusEvent("t1", "a1", "x", mesos.TASK_RUNNING, ""),
		statusEvent("t1", "a1", "x", mesos.TASK_FINISHED, "u2"),
		statusEvent("t1", "a1", "x", mesos.TASK_FINISHED, "u2"),
	)
	var updates []Update
	for range 4 {
		updates = append(updates, get(t, r.handler.updates, "update"))
	}
	none(t, m.calls, "acknowledgement that nobody asked for")
	if len(r.Tasks()) != 1 {
		t.Errorf("table has %v before the acknowledgement", r.Tasks())
	}
	for _, u := range updates[:3] {
		r.Acknowledge(u)
	}
	for _, want := range []string{"u1", "u2"} {
		if c := m.want(scheduler.Call_ACKNOWLEDGE); string(c.Acknowledge.UUID) != want || c.Acknowledge.AgentID.Value != "a1" {
			t.Errorf("acknowledged %v, want %s", c.Acknowledge, want)
		}
	}
	none(t, m.calls, "acknowledgement of an update without UUID")
	if len(r.Tasks()) != 0 {
		t.Errorf("table has %v after the acknowledgement", r.Tasks())
	}
}

func TestStrangeUpdates(t *testing.T) {
	r, _, s := connect(t, nil)
	strange := statusEvent("t1", "a1", "x", mesos.TaskState(99), "u1")
	strange.Update.Status.Reason = mesos.TaskStatus_Reason(999).Enum()
	s.send(
		strange,
		&scheduler.Event{Type: scheduler.Event_Type(77)},
		&scheduler.Event{Type: scheduler.Event_UPDATE_OPERATION_STATUS},
		statusEvent("t2", "a1", "x", mesos.TASK_RUNNING, "u2"),
	)
	u := get(t, r.handler.updates, "update")
	if !u.State.Live() || u.State != "99" || u.Reason != "999" {
		t.Errorf("update is %+v; an unknown state must not count as an end", u)
	}
	// mesos-go answers COMMAND_EXECUTOR_FAILED for an unset reason.
	if u := get(t, r.handler.updates, "update"); u.Reason != "" || u.Source != "EXECUTOR" {
		t.Errorf("update is %+v", u)
	}
}

// The handler may call the framework back, and its methods run one at a time.
func TestHandlerMayCallBack(t *testing.T) {
	h := newHandler()
	m := newScripted(t)
	r := start(t, testConfig(m.url), h, leads)
	var inside, most atomic.Int32
	h.onUpdate = func(u Update) {
		most.Store(max(most.Load(), inside.Add(1)))
		defer inside.Add(-1)
		r.Acknowledge(u)
		r.Kill(TaskRef{TaskID: u.TaskID}, 0)
		r.Forget(u.TaskID)
		r.Submit(testTask("next-"+u.TaskID, 1, 100))
		r.Kill(TaskRef{TaskID: "next-" + u.TaskID}, 0)
		_, _ = r.Tasks(), r.Explain(u.TaskID)
		if strings.HasPrefix(u.TaskID, "next-") {
			r.Withdraw("next-" + u.TaskID)
		}
	}
	s := get(t, m.streams, "SUBSCRIBE")
	s.send(subscribedEvent())
	for _, id := range []string{"a", "b", "c", "d"} {
		s.send(statusEvent(id, "a1", "x", mesos.TASK_FINISHED, "u"+id))
	}
	for range 8 {
		get(t, h.updates, "update")
	}
	if most.Load() != 1 {
		t.Errorf("%d handler calls at the same time", most.Load())
	}
}

func TestMessages(t *testing.T) {
	r, m, s := connect(t, nil)
	if err := r.Send("a1", "x", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if c := m.want(scheduler.Call_MESSAGE); string(c.Message.Data) != "hello" || c.Message.AgentID.Value != "a1" || c.Message.ExecutorID.Value != "x" {
		t.Errorf("message is %v", c.Message)
	}
	s.send(&scheduler.Event{Type: scheduler.Event_MESSAGE, Message: &scheduler.Event_Message{
		AgentID: mesos.AgentID{Value: "a1"}, ExecutorID: mesos.ExecutorID{Value: "x"}, Data: []byte("hi")}})
	if got := get(t, r.handler.messages, "message"); got.AgentID != "a1" || got.ExecutorID != "x" || string(got.Data) != "hi" {
		t.Errorf("message is %+v", got)
	}
	s.send(failureEvent("a1", ""))
	if got := get(t, r.handler.lost, "AgentLost"); got != "a1" {
		t.Errorf("lost %s", got)
	}
	r.stop()
	get(t, r.result, "end of Run")
	if err := r.Send("a1", "x", nil); !errors.Is(err, ErrNotSubscribed) {
		t.Errorf("Send after the end: %v", err)
	}
}

func TestExplain(t *testing.T) {
	r, m, s := connect(t, func(c *Config) { c.Timings.Puzzle = 1 })
	expect := func(task, part string) {
		t.Helper()
		if got := r.Explain(task); !strings.Contains(got, part) {
			t.Errorf("Explain(%s) = %q, want it to say %q", task, got, part)
		}
	}
	expect("t0", "not known")
	r.Submit(testTask("big", 1, 64<<10))
	expect("big", "no offers at all since")
	s.send(offersEvent(testOffer("o1", "a1", 8, 32<<10)))
	eventually(t, "offer", func() bool { return len(r.Agents()) == 1 })
	expect("big", "no agent with 68.7 GB of memory has been seen: the most that one has offered is 34.4 GB")
	r.Submit(testTask("t1", 6, 1024))
	m.want(scheduler.Call_ACCEPT)
	expect("t1", "STAGING on a1.example since")
	s.send(offersEvent(testOffer("o2", "a1", 1.9, 30<<10)))
	eventually(t, "offer", func() bool { return r.Metrics().Offers.Load() == 2 })
	r.Submit(testTask("t2", 4, 1024))
	expect("t2", "busy: it needs 4.1 CPUs, the most free on one is 1.9 CPUs (the only agent is large enough)")
	avoids := testTask("t3", 4, 1024)
	avoids.AvoidAgents = []string{"a1"}
	r.Submit(avoids)
	expect("t3", "the only agent that is large enough is avoided: a1.example has lost this task before")
	close(s.over)
	get(t, r.handler.disconnected, "Disconnected")
	expect("t2", "no connection to a Mesos master since")
}

func TestAvoidedAgents(t *testing.T) {
	r, m, s := connect(t, func(c *Config) { c.Timings.AvoidPatience = time.Hour })
	// Two agents are known; only the avoided one has room.
	s.send(offersEvent(testOffer("o1", "bad", 4, 400), testOffer("o2", "good", 4, 400)))
	eventually(t, "offers", func() bool { return len(r.Agents()) == 2 })
	s.send(rescindEvent("o2"))
	eventually(t, "rescind", func() bool { return r.Metrics().Rescinds.Load() == 1 })
	task := testTask("t1", 1, 100)
	task.AvoidAgents = []string{"bad"}
	r.Submit(task)
	none(t, m.calls, "launch on the avoided agent")
	s.send(offersEvent(testOffer("o3", "good", 4, 400)))
	if got := launches(m.want(scheduler.Call_ACCEPT))[0].AgentID.Value; got != "good" {
		t.Errorf("launched on %s", got)
	}
	// There is no other agent that could ever take it.
	task = testTask("t2", 3, 350)
	task.AvoidAgents = []string{"bad", "good"}
	r.Submit(task)
	if got := launches(m.want(scheduler.Call_ACCEPT))[0].AgentID.Value; got != "bad" {
		t.Errorf("launched on %s", got)
	}
}
