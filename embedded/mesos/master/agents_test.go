package master

import (
	"path/filepath"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master/calls"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

// running has a framework with one running task on one agent.
func running(t *testing.T, m *Master, info *mesos.FrameworkInfo) (*mesostest.Session, *fakeAgent, mesos.TaskInfo) {
	t.Helper()
	a := addAgent(t, m, "host1")
	s := mesostest.Subscribe(t, m.URL(), info, mesostest.Options{})
	task := launch(t, s, a, "t1")
	a.update(s.FrameworkID, task, mesos.TASK_RUNNING)
	s.Acknowledge(t, s.AwaitStatus(t, "t1", mesos.TASK_RUNNING))
	s.AwaitOffer(t)
	return s, a, task
}

// deafen stops the answers to pings, in the order of the master's own work.
func deafen(t *testing.T, m *Master, a *fakeAgent, deaf bool) {
	t.Helper()
	if err := m.call(t.Context(), func() { a.deaf = deaf }); err != nil {
		t.Fatal(err)
	}
}

func pingConfig() Config {
	cfg := testConfig()
	cfg.AgentPingTimeout, cfg.MaxAgentPingTimeouts = 10*time.Millisecond, 3
	return cfg
}

func TestUnreachableAgentReturns(t *testing.T) {
	m := startMaster(t, pingConfig())
	info := mesostest.Framework()
	s, a, task := running(t, m, info)
	deafen(t, m, a, true)

	lost := s.AwaitStatus(t, "t1", mesos.TASK_UNREACHABLE)
	if lost.GetReason() != mesos.REASON_AGENT_REMOVED || lost.UnreachableTime == nil || lost.UUID != nil || lost.ExecutorID.GetValue() != "e" {
		t.Errorf("unreachable: %v", lost)
	}
	s.Await(t, "RESCIND", mesostest.Type(scheduler.Event_RESCIND))
	if f := s.Await(t, "FAILURE", mesostest.Type(scheduler.Event_FAILURE)).Failure; f.GetAgentID().GetValue() != a.id().Value || f.ExecutorID != nil {
		t.Errorf("failure: %v", f)
	}
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"t1": a.id().Value})))
	if st := s.AwaitStatus(t, "t1", mesos.TASK_UNREACHABLE); st.UnreachableTime == nil || st.GetReason() != mesos.REASON_RECONCILIATION {
		t.Errorf("reconciled with agent: %v", st)
	}
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"t1": ""})))
	s.AwaitStatus(t, "t1", mesos.TASK_UNKNOWN)

	// Its updates are ignored until it has re-registered.
	a.update(s.FrameworkID, task, mesos.TASK_FAILED)
	deafen(t, m, a, false)
	m.Reregister(a, a.state(info, task))
	back := s.AwaitStatus(t, "t1", mesos.TASK_RUNNING)
	if back.GetReason() != mesos.REASON_AGENT_REREGISTERED || back.UUID != nil {
		t.Errorf("back: %v", back)
	}
	if n := s.Pending(mesostest.Update("t1", mesos.TASK_FAILED)); n > 0 {
		t.Error("an update of an unreachable agent was forwarded")
	}
	if got, want := mesos.Resources(s.AwaitOffer(t).Resources).String(), "cpus:2.9;mem:892;ports:[31000-31009]"; got != want {
		t.Errorf("offered %s, want %s", got, want)
	}
}

func TestUnreachableWithoutPartitionAware(t *testing.T) {
	m := startMaster(t, pingConfig())
	info := &mesos.FrameworkInfo{User: "u", Name: "old", FailoverTimeout: ptr(60.0)}
	s, a, _ := running(t, m, info)
	deafen(t, m, a, true)
	if st := s.AwaitStatus(t, "t1", mesos.TASK_LOST); st.GetReason() != mesos.REASON_AGENT_REMOVED {
		t.Errorf("%v", st)
	}
}

func TestUnregister(t *testing.T) {
	m := startMaster(t, testConfig())
	s, a, _ := running(t, m, mesostest.Framework())
	m.Unregister(a.id())
	if st := s.AwaitStatus(t, "t1", mesos.TASK_LOST); st.GetReason() != mesos.REASON_AGENT_REMOVED {
		t.Errorf("%v", st)
	}
	s.Await(t, "RESCIND", mesostest.Type(scheduler.Event_RESCIND))
	s.Await(t, "FAILURE", mesostest.Type(scheduler.Event_FAILURE))
}

// An agent whose process ends keeps its tasks, gets no offers, and is reconciled
// when it comes back.
func TestAgentProcessRestarts(t *testing.T) {
	m := startMaster(t, testConfig())
	info := mesostest.Framework()
	s, a, task := running(t, m, info)
	lost := mesostest.Task("t2", mesos.Offer{AgentID: a.id()}, "e2", 1, 100)
	s.Must(t, calls.Revive())
	if err := m.call(t.Context(), func() {
		for _, o := range m.offers {
			lostOffer := mesos.OfferID{Value: o.id}
			m.accept(m.frameworks[s.FrameworkID], calls.Accept(calls.OfferOperations{calls.OpLaunch(lost)}.WithOffers(lostOffer)).Accept)
		}
	}); err != nil {
		t.Fatal(err)
	}
	a.expect(t, "run t2")
	m.AgentExited(a.id())
	s.Must(t, calls.Kill("t1", ""))
	s.Must(t, calls.Acknowledge(a.id().Value, "t1", make([]byte, 16))) // dropped: nobody is there
	m.Reregister(a, a.state(info, task))
	a.expect(t, "reregistered 1") // t2 never arrived
	a.expect(t, "kill t1 0")
	a.expect(t, "framework test")
	if err := m.call(t.Context(), func() {
		if n := len(m.agents[a.id().Value].executors[s.FrameworkID]); n != 1 {
			t.Errorf("%d executors, want 1", n)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// Without checkpointing nothing of a framework outlives the agent's process.
func TestAgentProcessEndsWithoutCheckpoint(t *testing.T) {
	m := startMaster(t, testConfig())
	info := mesostest.Framework()
	info.Checkpoint = nil
	s, a, _ := running(t, m, info)
	m.AgentExited(a.id())
	if st := s.AwaitStatus(t, "t1", mesos.TASK_LOST); st.GetReason() != mesos.REASON_AGENT_DISCONNECTED {
		t.Errorf("%v", st)
	}
}

func TestAgentDoesNotComeBack(t *testing.T) {
	cfg := testConfig()
	cfg.AgentReregisterTimeout = 50 * time.Millisecond
	m := startMaster(t, cfg)
	s, a, _ := running(t, m, mesostest.Framework())
	m.AgentExited(a.id())
	s.AwaitStatus(t, "t1", mesos.TASK_UNREACHABLE)
}

func TestSecondAgentAtOneAddress(t *testing.T) {
	m := startMaster(t, testConfig())
	s, a, _ := running(t, m, mesostest.Framework())
	old := a.id()
	m.Register(a, a.info) // a repeated registration changes nothing
	a.expect(t, "registered")
	if a.id() != old {
		t.Error("a repeated registration gave a new ID")
	}
	b := addAgent(t, m, "host1")
	s.AwaitStatus(t, "t1", mesos.TASK_LOST)
	if b.id() == old {
		t.Error("another agent got the same ID")
	}
}

func TestMarkAgentGone(t *testing.T) {
	m := startMaster(t, testConfig())
	info := mesostest.Framework()
	s, a, task := running(t, m, info)
	gone := func(id mesos.AgentID, status int) {
		t.Helper()
		body := `{"type":"MARK_AGENT_GONE","mark_agent_gone":{"agent_id":{"value":"` + id.Value + `"}}}`
		if resp := post(t, m.URL()+"/api/v1", body, "Content-Type", mediaJSON); resp.StatusCode != status {
			t.Errorf("MARK_AGENT_GONE: %s, want %d", resp.Status, status)
		}
	}
	gone(mesos.AgentID{Value: "nobody"}, 404)
	gone(a.id(), 200)
	gone(a.id(), 200)
	a.expect(t, "shutdown: Agent has been marked gone")
	if st := s.AwaitStatus(t, "t1", mesos.TASK_GONE_BY_OPERATOR); st.GetReason() != mesos.REASON_AGENT_REMOVED_BY_OPERATOR {
		t.Errorf("%v", st)
	}
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"t1": a.id().Value})))
	s.AwaitStatus(t, "t1", mesos.TASK_GONE_BY_OPERATOR)
	m.Reregister(a, a.state(info, task))
	a.expect(t, "shutdown: Agent has been marked gone")
}

func TestUnreachableAgentIsMarkedGone(t *testing.T) {
	m := startMaster(t, pingConfig())
	s, a, _ := running(t, m, mesostest.Framework())
	deafen(t, m, a, true)
	s.AwaitStatus(t, "t1", mesos.TASK_UNREACHABLE)
	if err := m.call(t.Context(), func() {
		if err := m.markGone(a.id().Value); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	s.AwaitStatus(t, "t1", mesos.TASK_GONE_BY_OPERATOR)
}

func TestMarkedGoneWithoutPartitionAware(t *testing.T) {
	m := startMaster(t, testConfig())
	info := mesostest.Framework()
	info.Capabilities = info.Capabilities[:1] // MULTI_ROLE
	s, a, _ := running(t, m, info)
	if err := m.call(t.Context(), func() {
		if err := m.markGone(a.id().Value); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if st := s.AwaitStatus(t, "t1", mesos.TASK_LOST); st.GetReason() != mesos.REASON_AGENT_REMOVED {
		t.Errorf("%v", st)
	}
}

// Marked gone before it has re-registered with a new master, an agent stays
// among those that are waited for, also after their time.
func TestRecoveredAgentIsMarkedGone(t *testing.T) {
	cfg := testConfig()
	cfg.Registry = OpenRegistry("")
	m := startMaster(t, cfg)
	a := addAgent(t, m, "host1")
	m.Stop()
	cfg.AgentReregisterTimeout = 50 * time.Millisecond
	m = startMaster(t, cfg)
	var err error
	if failed := m.call(t.Context(), func() { err = m.markGone(a.id().Value); m.recoveredAgentsTimeout() }); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"t1": a.id().Value})))
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"t2": "another"})))
	s.AwaitStatus(t, "t2", mesos.TASK_UNKNOWN)
	if s.Pending(mesostest.AnyUpdate("t1")) > 0 {
		t.Error("a task of the agent was answered for")
	}
	a.m = m
	m.Reregister(a, a.state(&mesos.FrameworkInfo{ID: &mesos.FrameworkID{Value: "f"}}))
	a.expect(t, "shutdown: Agent has been marked gone")
}

// What a framework has refused of an agent does not outlive that agent, nor its
// attributes.
func TestFiltersEndWithAgent(t *testing.T) {
	for _, how := range []string{"removed", "attributes"} {
		t.Run(how, func(t *testing.T) {
			cfg := pingConfig()
			m := startMaster(t, cfg)
			a := addAgent(t, m, "host1")
			info := mesostest.Framework()
			s := mesostest.Subscribe(t, m.URL(), info, mesostest.Options{})
			s.Must(t, calls.Decline(s.AwaitOffer(t).ID).With(calls.RefuseSeconds(time.Hour)))
			eventually(t, m, "filter", func() bool { return len(m.frameworks[s.FrameworkID].filters) == 1 })
			switch how {
			case "removed":
				deafen(t, m, a, true)
				s.Await(t, "FAILURE", mesostest.Type(scheduler.Event_FAILURE))
				deafen(t, m, a, false)
			case "attributes":
				a.info.Attributes = []mesos.Attribute{{Name: "rack", Type: mesos.TEXT, Text: &mesos.Value_Text{Value: "1"}}}
			}
			m.Reregister(a, a.state(info))
			if offer := s.AwaitOffer(t); offer.AgentID != a.id() {
				t.Errorf("%v", offer)
			}
		})
	}
}

// A restarted master knows its agents but no task: it answers nothing until the
// agents have re-registered, and learns the framework from them.
func TestMasterRestart(t *testing.T) {
	cfg := testConfig()
	cfg.Registry = OpenRegistry(filepath.Join(t.TempDir(), "sub", "registry"))
	m := startMaster(t, cfg)
	info := mesostest.Framework()
	_, a, task := running(t, m, info)
	address := m.listener.Addr().String()
	id := m.ID()
	m.Stop()

	cfg.Address = address
	m = startMaster(t, cfg)
	a.m = m
	if m.ID() == id {
		t.Error("the master kept its ID")
	}
	s := mesostest.Subscribe(t, m.URL(), info, mesostest.Options{})
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"t1": a.id().Value, "t2": ""})))
	s.Must(t, calls.Kill("t1", ""))
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"t3": "never registered"})))
	s.AwaitStatus(t, "t3", mesos.TASK_UNKNOWN) // the answers come in order, so the others got none
	for _, id := range []string{"t1", "t2"} {
		if s.Pending(mesostest.AnyUpdate(id)) > 0 {
			t.Errorf("%s was answered before its agent re-registered", id)
		}
	}
	resp, err := mesostest.Operator(t.Context(), m.URL(), mesostest.Options{}, mastercalls.GetAgents())
	if err != nil {
		t.Fatal(err)
	}
	if r := resp.GetAgents.RecoveredAgents; len(r) != 1 || r[0].ID.Value != a.id().Value || r[0].Hostname != "host1" {
		t.Errorf("recovered agents: %v", r)
	}
	m.Reregister(a, a.state(info, task))
	a.expect(t, "reregistered 0")
	if got, want := mesos.Resources(s.AwaitOffer(t).Resources).String(), "cpus:2.9;mem:892;ports:[31000-31009]"; got != want {
		t.Errorf("offered %s, want %s", got, want)
	}
	s.Must(t, calls.Reconcile())
	s.AwaitStatus(t, "t1", mesos.TASK_RUNNING)
	if s.Pending(mesostest.AnyUpdate("t1")) > 0 {
		t.Error("a recovered task was announced")
	}
}

// Unreachable and gone agents outlive a master, and recovered ones that do not
// come become unreachable.
func TestMasterRestartKeepsUnreachable(t *testing.T) {
	cfg := pingConfig()
	cfg.Registry = OpenRegistry(filepath.Join(t.TempDir(), "registry"))
	m := startMaster(t, cfg)
	lost, gone, absent := addAgent(t, m, "lost"), addAgent(t, m, "gone"), addAgent(t, m, "absent")
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	if err := m.call(t.Context(), func() {
		lost.deaf = true
		if err := m.markGone(gone.id().Value); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	s.Await(t, "FAILURE of the lost agent", func(ev *scheduler.Event) bool {
		return ev.Type == scheduler.Event_FAILURE && ev.Failure.AgentID.Value == lost.id().Value
	})
	m.Stop()
	cfg.AgentReregisterTimeout = 20 * time.Millisecond
	m = startMaster(t, cfg)
	s = mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	for want, a := range map[mesos.TaskState]*fakeAgent{
		mesos.TASK_UNREACHABLE: lost, mesos.TASK_GONE_BY_OPERATOR: gone,
	} {
		s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"t-" + a.info.Hostname: a.id().Value})))
		s.AwaitStatus(t, "t-"+a.info.Hostname, want)
	}
	eventually(t, m, "nobody is waited for", func() bool { return len(m.recoveredAgents) == 0 })
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"t": absent.id().Value})))
	s.AwaitStatus(t, "t", mesos.TASK_UNREACHABLE)
}

// A framework known only from its agents is recovered, with what it holds.
func TestFrameworkIsRecovered(t *testing.T) {
	m := startMaster(t, testConfig())
	a := addAgent(t, m, "host1")
	info := mesostest.Framework("x")
	info.ID = &mesos.FrameworkID{Value: "before"}
	task := mesostest.Task("t1", mesos.Offer{AgentID: a.id()}, "e", 1, 100)
	normalise(&task, "before", "x")
	m.Unregister(a.id())
	m.Reregister(a, a.state(info, task))
	a.expect(t, "reregistered 0")
	resp, err := mesostest.Operator(t.Context(), m.URL(), mesostest.Options{}, mastercalls.GetState())
	if err != nil {
		t.Fatal(err)
	}
	f := resp.GetState.GetFrameworks.Frameworks
	if len(f) != 1 || !f[0].Recovered || f[0].Connected || len(resp.GetState.GetTasks.Tasks) != 1 || len(resp.GetState.GetExecutors.Executors) != 1 {
		t.Fatalf("%v", resp.GetState)
	}
	if got := mesos.Resources(f[0].AllocatedResources).String(); got != "cpus:1.1;mem:132" {
		t.Errorf("allocated %s", got)
	}
	s := mesostest.Subscribe(t, m.URL(), info, mesostest.Options{})
	s.Must(t, calls.Reconcile())
	s.AwaitStatus(t, "t1", mesos.TASK_RUNNING)
}

// An agent brings back a framework that was removed meanwhile: it must end there.
func TestRemovedFrameworkOnReturningAgent(t *testing.T) {
	m := startMaster(t, pingConfig())
	info := mesostest.Framework()
	s, a, task := running(t, m, info)
	deafen(t, m, a, true)
	s.AwaitStatus(t, "t1", mesos.TASK_UNREACHABLE)
	s.Must(t, &scheduler.Call{Type: scheduler.Call_TEARDOWN})
	s.Ended(t)
	deafen(t, m, a, false)
	m.Reregister(a, a.state(info, task))
	a.expect(t, "shutdown framework")
	resp, err := mesostest.Operator(t.Context(), m.URL(), mesostest.Options{}, mastercalls.GetTasks())
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.GetTasks; len(got.Tasks) != 0 || len(got.CompletedTasks) != 1 {
		t.Errorf("%v", got)
	}
}
