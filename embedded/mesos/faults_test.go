package mesos_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/link"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

// first lets a fault happen once, to the first message that matches. Faults are
// asked one at a time.
type first[M any] struct {
	match func(M) bool
	hits  int
	seen  chan M // buffered: what matched, also later ones
}

func newFirst[M any](match func(M) bool) *first[M] {
	return &first[M]{match: match, seen: make(chan M, 1000)}
}

func (f *first[M]) hit(m M) bool {
	if !f.match(m) {
		return false
	}
	f.hits++
	f.seen <- m
	return f.hits == 1
}

func updateTo(state api.TaskState) func(link.StatusUpdate) bool {
	return func(u link.StatusUpdate) bool { return u.Status.GetState() == state }
}

func eventTo(state api.TaskState) func(*scheduler.Event) bool {
	return func(ev *scheduler.Event) bool {
		return ev.GetUpdate().GetStatus().State != nil && ev.Update.Status.GetState() == state
	}
}

func callOf(kind scheduler.Call_Type) func(*scheduler.Call) bool {
	return func(c *scheduler.Call) bool { return c.Type == kind }
}

func subscribe(t *testing.T, cfg mesos.Config) (*mesos.Cluster, *mesostest.Session) {
	t.Helper()
	c := start(t, cfg)
	return c, mesostest.Subscribe(t, c.MasterURL(), framework(t), mesostest.Options{})
}

// An update that is lost on either leg comes again, since nobody has
// acknowledged it.
func TestUpdateIsDropped(t *testing.T) {
	for _, leg := range []string{"agent to master", "master to scheduler"} {
		t.Run(leg, func(t *testing.T) {
			cfg := testConfig(t, 1)
			updates, events := newFirst(updateTo(api.TASK_FINISHED)), newFirst(eventTo(api.TASK_FINISHED))
			cfg.Faults.Update = func(u link.StatusUpdate) link.Fate {
				return link.Fate{Drop: updates.hit(u) && leg == "agent to master"}
			}
			cfg.Faults.Event = func(_ api.FrameworkID, ev *scheduler.Event) link.Fate {
				return link.Fate{Drop: events.hit(ev) && leg == "master to scheduler"}
			}
			_, s := subscribe(t, cfg)
			finish(t, s, launch(t, s, "t1").AgentID, "t1")
			if n := len(updates.seen); n < 2 {
				t.Errorf("the agent has sent FINISHED %d times", n)
			}
		})
	}
}

func TestUpdateIsDoubled(t *testing.T) {
	cfg := testConfig(t, 1)
	cfg.Faults.Update = func(u link.StatusUpdate) link.Fate {
		return link.Fate{Copies: 1}
	}
	cfg.Faults.Event = func(_ api.FrameworkID, ev *scheduler.Event) link.Fate {
		if eventTo(api.TASK_RUNNING)(ev) {
			return link.Fate{Copies: 1}
		}
		return link.Fate{}
	}
	_, s := subscribe(t, cfg)
	offer := s.AwaitOffer(t)
	s.Accept(t, []api.OfferID{offer.ID}, task(t, "t1", offer, "run"))
	var uuids [][]byte
	for range 4 {
		uuids = append(uuids, s.AwaitStatus(t, "t1", api.TASK_RUNNING).UUID)
	}
	if slices.ContainsFunc(uuids, func(u []byte) bool { return string(u) != string(uuids[0]) }) {
		t.Errorf("one update came with the uuids %x", uuids)
	}
	s.Must(t, calls.Acknowledge(offer.AgentID.Value, "t1", uuids[0]))
	s.Must(t, calls.Acknowledge(offer.AgentID.Value, "t1", uuids[0]))
	finish(t, s, offer.AgentID, "t1")
}

// Held back until after its repetition, an update that has been acknowledged
// arrives once more, behind the one that followed it.
func TestUpdatesOutOfOrder(t *testing.T) {
	cfg := testConfig(t, 1)
	running := newFirst(eventTo(api.TASK_RUNNING))
	cfg.Faults.Event = func(_ api.FrameworkID, ev *scheduler.Event) link.Fate {
		if running.hit(ev) {
			return link.Fate{Delay: 1500 * time.Millisecond}
		}
		return link.Fate{}
	}
	_, s := subscribe(t, cfg)
	offer := s.AwaitOffer(t)
	s.Accept(t, []api.OfferID{offer.ID}, task(t, "t1", offer, "finish"))
	repeated := s.AwaitStatus(t, "t1", api.TASK_RUNNING)
	s.Acknowledge(t, repeated)
	s.Acknowledge(t, s.AwaitStatus(t, "t1", api.TASK_FINISHED))
	late := s.AwaitStatus(t, "t1", api.TASK_RUNNING)
	if string(late.UUID) != string(repeated.UUID) {
		t.Errorf("uuid %x, then %x", repeated.UUID, late.UUID)
	}
	s.Acknowledge(t, late) // harmless
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"t1": ""})))
	s.AwaitStatus(t, "t1", api.TASK_UNKNOWN)
}

// A framework message that is lost is lost: nobody learns of it.
func TestMessagesAreLost(t *testing.T) {
	cfg := testConfig(t, 1)
	lost := make(chan mesos.Message, 100)
	cfg.Faults.Message = func(m mesos.Message) link.Fate {
		if string(m.Data) == "down" && m.ToExecutor || string(m.Data) == "up" && !m.ToExecutor {
			lost <- m
			return link.Fate{Drop: true}
		}
		return link.Fate{}
	}
	_, s := subscribe(t, cfg)
	at := launch(t, s, "t1").AgentID
	for _, text := range []string{"down", "up", "both"} {
		s.Must(t, calls.Message(at.Value, "executor", []byte(text)))
	}
	if m := s.Await(t, "MESSAGE", mesostest.Type(scheduler.Event_MESSAGE)).Message; string(m.Data) != "both" {
		t.Errorf("%q came back", m.Data)
	}
	for _, toExecutor := range []bool{true, false} {
		if m := <-lost; m.ToExecutor != toExecutor || m.Executor.Value != "executor" || m.Framework.Value != s.FrameworkID {
			t.Errorf("lost %+v", m)
		}
	}
}

// A master answers ACCEPT and dies before it carries it out: nobody knows the task,
// and that is what its successor says once the agent is back.
func TestAcceptIsLost(t *testing.T) {
	cfg := testConfig(t, 1)
	cfg.Masters = 2
	accepts := newFirst(callOf(scheduler.Call_ACCEPT))
	cfg.Faults.Call = func(c *scheduler.Call) link.CallFate { return link.CallFate{Lose: accepts.hit(c)} }
	c := start(t, cfg)
	info := framework(t)
	s := mesostest.Subscribe(t, c.MasterURL(), info, mesostest.Options{})
	offer := s.AwaitOffer(t)
	s.Accept(t, []api.OfferID{offer.ID}, task(t, "t1", offer, "run"))
	if len(accepts.seen) != 1 {
		t.Fatal("no ACCEPT was lost")
	}
	if err := c.FailoverMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = mesostest.Subscribe(t, c.MasterURL(), info, mesostest.Options{})
	if err := c.AwaitAgents(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"t1": offer.AgentID.Value})))
	s.AwaitStatus(t, "t1", api.TASK_GONE)
	offer = s.AwaitOffer(t)
	s.Accept(t, []api.OfferID{offer.ID}, task(t, "t2", offer, "run"))
	s.AwaitStatus(t, "t2", api.TASK_RUNNING)
}

// The connection ends instead of an answer: the call may or may not have been
// carried out.
func TestCallWithoutAnswer(t *testing.T) {
	for _, lose := range []bool{true, false} {
		t.Run(fmt.Sprintf("lose=%t", lose), func(t *testing.T) {
			cfg := testConfig(t, 1)
			kills := newFirst(callOf(scheduler.Call_KILL))
			cfg.Faults.Call = func(c *scheduler.Call) link.CallFate {
				hit := kills.hit(c)
				return link.CallFate{Cut: hit, Lose: hit && lose}
			}
			_, s := subscribe(t, cfg)
			launch(t, s, "t1")
			if err := s.Call(t.Context(), calls.Kill("t1", "")); err == nil {
				t.Error("the call was answered")
			}
			if lose {
				s.Must(t, calls.Reconcile())
				s.AwaitStatus(t, "t1", api.TASK_RUNNING)
				s.Must(t, calls.Kill("t1", ""))
			}
			s.AwaitStatus(t, "t1", api.TASK_KILLED)
		})
	}
}

// An acknowledgement that is lost is asked for again.
func TestAcknowledgementIsLost(t *testing.T) {
	cfg := testConfig(t, 1)
	acks := newFirst(callOf(scheduler.Call_ACKNOWLEDGE))
	cfg.Faults.Call = func(c *scheduler.Call) link.CallFate { return link.CallFate{Lose: acks.hit(c)} }
	_, s := subscribe(t, cfg)
	at := launch(t, s, "t1").AgentID // acknowledges RUNNING
	s.Acknowledge(t, s.AwaitStatus(t, "t1", api.TASK_RUNNING))
	finish(t, s, at, "t1")
}

// A call that is held back is overtaken.
func TestCallIsDelayed(t *testing.T) {
	cfg := testConfig(t, 1)
	const delay = 300 * time.Millisecond
	cfg.Faults.Call = func(c *scheduler.Call) (fate link.CallFate) {
		if c.Type == scheduler.Call_RECONCILE {
			fate.Delay = delay
		}
		return fate
	}
	_, s := subscribe(t, cfg)
	asked := time.Now()
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"t1": ""})))
	s.AwaitStatus(t, "t1", api.TASK_UNKNOWN)
	if d := time.Since(asked); d < delay {
		t.Errorf("answered after %s", d)
	}
}

// Whatever the messages suffer, every task ends once, and every message that was
// sent again says the same.
func TestFaultsAtRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0)) // Faults are asked one at a time
	cfg := testConfig(t, 2)
	var dropped, doubled, delayed int
	fate := func() (f link.Fate) {
		switch dice.IntN(6) {
		case 0:
			dropped++
			f.Drop = true
		case 1:
			doubled++
			f.Copies = 1 + dice.IntN(2)
		case 2:
			delayed++
			f.Delay = time.Duration(dice.IntN(300)) * time.Millisecond
		}
		return f
	}
	cfg.Faults.Update = func(link.StatusUpdate) link.Fate { return fate() }
	cfg.Faults.Event = func(_ api.FrameworkID, ev *scheduler.Event) link.Fate {
		if ev.Type == scheduler.Event_UPDATE {
			return fate()
		}
		return link.Fate{}
	}
	cfg.Faults.Call = func(c *scheduler.Call) link.CallFate {
		return link.CallFate{Lose: c.Type == scheduler.Call_ACKNOWLEDGE && dice.IntN(4) == 0}
	}
	c, s := subscribe(t, cfg)
	const n = 20
	launched := 0
	for launched < n {
		offer := s.AwaitOffer(t)
		var tasks []api.TaskInfo
		for ; len(tasks) < min(5, mesostest.Fit(offer, 0.1)) && launched < n; launched++ {
			tasks = append(tasks, task(t, fmt.Sprintf("t%d", launched), offer, "finish"))
		}
		s.Accept(t, []api.OfferID{offer.ID}, tasks...)
	}
	finished := map[string]string{} // uuid by task
	for len(finished) < n {
		st := s.Await(t, "a status update", mesostest.Type(scheduler.Event_UPDATE)).Update.Status
		id := st.TaskID.Value
		s.Acknowledge(t, st)
		switch uuid, known := finished[id]; {
		case st.GetState() == api.TASK_RUNNING:
		case st.GetState() != api.TASK_FINISHED, known && uuid != string(st.UUID):
			t.Fatalf("%s: %s %x, had %x", id, st.GetState(), st.UUID, uuid)
		default:
			finished[id] = string(st.UUID)
		}
	}
	c.Stop() // nobody counts any more
	if dropped == 0 || doubled == 0 || delayed == 0 {
		t.Errorf("%d dropped, %d doubled, %d delayed", dropped, doubled, delayed)
	}
}

// The agent is killed at every message between it and the master in turn: at a
// task's updates on their way out, and at the calls that lead to what it is told.
// What was launched ends all the same.
func TestAgentIsKilledAtAnyMessage(t *testing.T) {
	for _, at := range []struct {
		name   string
		update func(link.StatusUpdate) bool
		call   func(*scheduler.Call) bool
	}{
		{name: "ACCEPT", call: callOf(scheduler.Call_ACCEPT)},
		{name: "RUNNING", update: updateTo(api.TASK_RUNNING)},
		{name: "ACKNOWLEDGE", call: callOf(scheduler.Call_ACKNOWLEDGE)},
		{name: "MESSAGE", call: callOf(scheduler.Call_MESSAGE)},
		{name: "FINISHED", update: updateTo(api.TASK_FINISHED)},
	} {
		t.Run(at.name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, 1)
			struck := make(chan struct{}, 1)
			strike := func(hit bool) {
				if hit {
					struck <- struct{}{}
				}
			}
			if at.update != nil {
				f := newFirst(at.update)
				cfg.Faults.Update = func(u link.StatusUpdate) link.Fate { strike(f.hit(u)); return link.Fate{} }
			} else {
				f := newFirst(at.call)
				cfg.Faults.Call = func(c *scheduler.Call) link.CallFate { strike(f.hit(c)); return link.CallFate{} }
			}
			c, s := subscribe(t, cfg)
			agentID := c.Agents()[0].ID
			restarted := make(chan error, 1)
			go func() {
				select {
				case <-struck:
					restarted <- errors.Join(c.KillAgent(agentID), c.RestartAgent(agentID), c.AwaitAgents(t.Context()))
				case <-time.After(mesostest.Patience):
					restarted <- errors.New("the agent was never killed")
				}
			}()
			t.Logf("the task ended %s", endOf(t, s, "t1", restarted))
		})
	}
}

// endOf launches a task that runs until it is told to finish, and tells it so,
// again and again, since messages get lost with an agent. It answers the state in
// which the task ends: FINISHED, unless the agent died before it had the task.
// The agent must be back by then.
func endOf(t *testing.T, s *mesostest.Session, id string, back <-chan error) api.TaskState {
	t.Helper()
	offer := s.AwaitOffer(t)
	s.Accept(t, []api.OfferID{offer.ID}, task(t, id, offer, "run"))
	end, running := api.TASK_STAGING, false
	for end == api.TASK_STAGING || back != nil {
		select {
		case err := <-back:
			if err != nil {
				t.Fatal(err)
			}
			back = nil
		default:
		}
		ev, err := s.AwaitFor(time.Second, mesostest.AnyUpdate(id))
		if errors.Is(err, mesostest.ErrNoEvent) {
			if running {
				s.Must(t, calls.Message(offer.AgentID.Value, "executor", []byte("finish "+id)))
			}
			s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{id: offer.AgentID.Value})))
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		st := ev.Update.Status
		if st.UUID != nil {
			s.Acknowledge(t, st)
		}
		switch st.GetState() {
		case api.TASK_RUNNING:
			if running = true; st.UUID != nil {
				s.Must(t, calls.Message(offer.AgentID.Value, "executor", []byte("finish "+id)))
			}
		case api.TASK_FINISHED, api.TASK_DROPPED, api.TASK_GONE:
			if end == api.TASK_STAGING { // else it answers what was asked before
				end = st.GetState()
			}
		case api.TASK_STAGING:
		default:
			t.Fatalf("%s: %s %s", id, st.GetState(), st.GetMessage())
		}
	}
	return end
}
