package master

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"github.com/baas-batch/baas/embedded/mesos/link"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

// fakeAgent is an agent whose every message a test may look at or answer.
type fakeAgent struct {
	m        *Master
	info     mesos.AgentInfo
	deaf     bool // does not answer pings
	messages chan string
	tasks    chan mesos.TaskInfo
}

func (a *fakeAgent) note(format string, args ...any) {
	select {
	case a.messages <- fmt.Sprintf(format, args...):
	default:
	}
}

func (a *fakeAgent) Registered(id mesos.AgentID) { a.info.ID = &id; a.note("registered") }
func (a *fakeAgent) Reregistered(_ mesos.AgentID, reconcile []link.TaskRef) {
	a.note("reregistered %d", len(reconcile))
}
func (a *fakeAgent) Shutdown(reason string) { a.note("shutdown: %s", reason) }
func (a *fakeAgent) RunTask(_ mesos.FrameworkInfo, t mesos.TaskInfo, _ bool) {
	a.note("run %s", t.TaskID.Value)
	a.tasks <- t
}
func (a *fakeAgent) KillTask(_ mesos.FrameworkID, t mesos.TaskID, p *mesos.KillPolicy) {
	a.note("kill %s %d", t.Value, p.GetGracePeriod().GetNanoseconds())
}
func (a *fakeAgent) ShutdownExecutor(_ mesos.FrameworkID, e mesos.ExecutorID) {
	a.note("shutdown executor %s", e.Value)
}
func (a *fakeAgent) ShutdownFramework(mesos.FrameworkID)      { a.note("shutdown framework") }
func (a *fakeAgent) UpdateFramework(info mesos.FrameworkInfo) { a.note("framework %s", info.Name) }
func (a *fakeAgent) FrameworkMessage(_ mesos.FrameworkID, e mesos.ExecutorID, data []byte) {
	a.note("message %s %s", e.Value, data)
}
func (a *fakeAgent) Acknowledge(_ mesos.FrameworkID, t mesos.TaskID, _ []byte) {
	a.note("ack %s", t.Value)
}
func (a *fakeAgent) Drain(config *mesos.DrainConfig) { a.note("drain %v", config != nil) }
func (a *fakeAgent) Ping(bool) {
	if !a.deaf {
		a.m.Pong(*a.info.ID)
	}
}

// expect waits for a message to the agent, whatever comes before it.
func (a *fakeAgent) expect(t *testing.T, want string) {
	t.Helper()
	deadline := time.After(mesostest.Patience)
	var seen []string
	for {
		select {
		case got := <-a.messages:
			if got == want {
				return
			}
			seen = append(seen, got)
		case <-deadline:
			t.Fatalf("the agent has not been told %q, but %q", want, seen)
		}
	}
}

func (a *fakeAgent) id() mesos.AgentID { return *a.info.ID }

// update sends a status of a task and returns it.
func (a *fakeAgent) update(framework string, task mesos.TaskInfo, state mesos.TaskState) mesos.TaskStatus {
	id := uuid.New()
	s := mesos.TaskStatus{
		TaskID: task.TaskID, State: state.Enum(), UUID: id[:], AgentID: a.info.ID,
		Source: mesos.SOURCE_EXECUTOR.Enum(), ExecutorID: &task.Executor.ExecutorID,
	}
	a.m.Update(link.StatusUpdate{
		Framework: mesos.FrameworkID{Value: framework}, Agent: a.id(), Status: s, Latest: state,
	})
	return s
}

// state describes the agent for a re-registration with these tasks running.
func (a *fakeAgent) state(f *mesos.FrameworkInfo, tasks ...mesos.TaskInfo) link.AgentState {
	s := link.AgentState{Info: a.info, Frameworks: []mesos.FrameworkInfo{*f}}
	seen := map[string]bool{}
	for _, t := range tasks {
		s.Tasks = append(s.Tasks, mesos.Task{
			Name: t.Name, TaskID: t.TaskID, FrameworkID: *f.ID, AgentID: a.id(), ExecutorID: &t.Executor.ExecutorID,
			State: mesos.TASK_RUNNING.Enum(), Resources: t.Resources,
		})
		if !seen[t.Executor.ExecutorID.Value] {
			seen[t.Executor.ExecutorID.Value] = true
			s.Executors = append(s.Executors, link.ExecutorState{Framework: *f.ID, Info: *t.Executor})
		}
	}
	return s
}

// testConfig has short times; a test sets what it needs otherwise.
func testConfig() Config {
	return Config{AllocationInterval: 10 * time.Millisecond}
}

func startMaster(t *testing.T, cfg Config) *Master {
	t.Helper()
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	waitReady(t, m)
	return m
}

// waitReady waits for the end of recovery; the mailbox runs nothing before it.
func waitReady(t *testing.T, m *Master) {
	t.Helper()
	if err := m.call(t.Context(), func() {}); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until cond, run by the master's goroutine, holds.
func eventually(t *testing.T, m *Master, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(mesostest.Patience); ; {
		var holds bool
		if err := m.call(t.Context(), func() { holds = cond() }); err != nil {
			t.Fatal(err)
		}
		if holds {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in %s", what, mesostest.Patience)
		}
	}
}

// addAgent registers an agent with 4 cpus, 1024 MB and ports 31000-31009.
func addAgent(t *testing.T, m *Master, host string) *fakeAgent {
	t.Helper()
	a := &fakeAgent{
		m: m, messages: make(chan string, 1000), tasks: make(chan mesos.TaskInfo, 1000),
		info: mesos.AgentInfo{Hostname: host, Port: ptr(int32(5051)), Resources: []mesos.Resource{
			mesostest.Scalar("cpus", 4), mesostest.Scalar("mem", 1024),
			{Name: "ports", Type: mesos.RANGES.Enum(), Ranges: &mesos.Value_Ranges{Range: []mesos.Value_Range{{Begin: 31000, End: 31009}}}},
		}},
	}
	m.Register(a, a.info)
	a.expect(t, "registered")
	return a
}

// wholeOffer takes all offers back, so that everything that is free comes as one.
func wholeOffer(t *testing.T, m *Master, s *mesostest.Session) mesos.Offer {
	t.Helper()
	var id string
	eventually(t, m, "one offer", func() bool {
		for _, o := range m.offers {
			m.rescind(o)
		}
		m.allocate()
		for id = range m.offers {
		}
		return len(m.offers) == 1
	})
	ev := s.Await(t, "offer "+id, func(ev *scheduler.Event) bool {
		return ev.Type == scheduler.Event_OFFERS && ev.Offers.Offers[0].ID.Value == id
	})
	return ev.Offers.Offers[0]
}

// task waits for the next task that the agent is sent.
func (a *fakeAgent) task(t *testing.T) mesos.TaskInfo {
	t.Helper()
	select {
	case task := <-a.tasks:
		return task
	case <-time.After(mesostest.Patience):
		t.Fatal("the agent got no task")
		return mesos.TaskInfo{}
	}
}

// launch accepts the next offer with one task and waits until the agent has it.
func launch(t *testing.T, s *mesostest.Session, a *fakeAgent, id string) mesos.TaskInfo {
	t.Helper()
	offer := s.AwaitOffer(t)
	s.Accept(t, []mesos.OfferID{offer.ID}, mesostest.Task(id, offer, "e", 1, 100))
	return a.task(t)
}
