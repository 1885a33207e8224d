package master

import (
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos/link"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

func TestTaskLife(t *testing.T) {
	m := startMaster(t, testConfig())
	a := addAgent(t, m, "host1")
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework("x"), mesostest.Options{})
	task := launch(t, s, a, "t1")
	if roleOf(task.Resources) != "x" || roleOf(task.Executor.Resources) != "x" || task.Executor.FrameworkID.Value != s.FrameworkID {
		t.Errorf("what the agent got lacks role or framework: %v", task)
	}
	rest := s.AwaitOffer(t)
	if got, want := mesos.Resources(rest.Resources).String(), "cpus:2.9;mem:892;ports:[31000-31009]"; got != want {
		t.Errorf("rest %s, want %s", got, want)
	}
	if len(rest.ExecutorIDs) != 1 || rest.ExecutorIDs[0].Value != "e" {
		t.Errorf("executors in the offer: %v", rest.ExecutorIDs)
	}

	a.update(s.FrameworkID, task, mesos.TASK_RUNNING)
	running := s.AwaitStatus(t, "t1", mesos.TASK_RUNNING)
	s.Acknowledge(t, running)
	a.expect(t, "ack t1")
	s.Must(t, calls.Message(a.id().Value, "e", []byte("hello")))
	a.expect(t, "message e hello")
	m.ExecutorMessage(a.id(), mesos.FrameworkID{Value: s.FrameworkID}, task.Executor.ExecutorID, []byte("back"))
	if msg := s.Await(t, "MESSAGE", mesostest.Type(scheduler.Event_MESSAGE)).Message; string(msg.Data) != "back" || msg.ExecutorID.Value != "e" {
		t.Errorf("message: %v", msg)
	}
	s.Must(t, calls.Kill("t1", "").With(func(c *scheduler.Call) {
		c.Kill.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: 7}}
	}))
	a.expect(t, "kill t1 7")

	// The terminal update frees the task's resources, its acknowledgement ends its life.
	a.update(s.FrameworkID, task, mesos.TASK_KILLED)
	killed := s.AwaitStatus(t, "t1", mesos.TASK_KILLED)
	if got, want := mesos.Resources(wholeOffer(t, m, s).Resources).String(), "cpus:3.9;mem:992;ports:[31000-31009]"; got != want {
		t.Errorf("with the task's resources: %s, want %s", got, want)
	}
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"t1": ""})))
	if st := s.AwaitStatus(t, "t1", mesos.TASK_KILLED); st.UUID != nil {
		t.Errorf("reconciled: %v", st)
	}
	s.Acknowledge(t, killed)
	a.expect(t, "ack t1")
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"t1": ""})))
	s.AwaitStatus(t, "t1", mesos.TASK_UNKNOWN)

	s.Must(t, calls.Shutdown("e", a.id().Value))
	a.expect(t, "shutdown executor e")
	m.ExecutorExited(a.id(), mesos.FrameworkID{Value: s.FrameworkID}, task.Executor.ExecutorID, 9)
	f := s.Await(t, "FAILURE", mesostest.Type(scheduler.Event_FAILURE)).Failure
	if f.GetExecutorID().GetValue() != "e" || f.GetStatus() != 9 || f.GetAgentID().GetValue() != a.id().Value {
		t.Errorf("failure: %v", f)
	}
}

// Latest frees resources before the older updates are acknowledged.
func TestLatestStateFreesResources(t *testing.T) {
	m := startMaster(t, testConfig())
	a := addAgent(t, m, "host1")
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	task := launch(t, s, a, "t1")
	s.AwaitOffer(t)
	st := a.update(s.FrameworkID, task, mesos.TASK_RUNNING)
	m.Update(link.StatusUpdate{
		Framework: mesos.FrameworkID{Value: s.FrameworkID}, Agent: a.id(), Status: st, Latest: mesos.TASK_FINISHED,
	})
	offer := s.AwaitOffer(t)
	if got, want := mesos.Resources(offer.Resources).String(), "cpus:1;mem:100"; got != want {
		t.Errorf("offered %s, want %s", got, want)
	}
	s.Must(t, calls.Reconcile())
	s.AwaitStatus(t, "t1", mesos.TASK_RUNNING) // what was last sent on
}

func TestInvalidTasks(t *testing.T) {
	m := startMaster(t, testConfig())
	a := addAgent(t, m, "host1")
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework("x"), mesostest.Options{})
	launch(t, s, a, "known")
	for _, c := range []struct {
		name, says string
		change     func(*mesos.TaskInfo)
	}{
		{"duplicate ID", "duplicate", func(ti *mesos.TaskInfo) { ti.TaskID.Value = "known" }},
		{"slash in the ID", "invalid characters", func(ti *mesos.TaskInfo) { ti.TaskID.Value = "a/b" }},
		{"control character in the ID", "invalid characters", func(ti *mesos.TaskInfo) { ti.TaskID.Value = "a\nb" }},
		{"dots as the ID", "disallowed", func(ti *mesos.TaskInfo) { ti.TaskID.Value = ".." }},
		{"empty ID", "empty", func(ti *mesos.TaskInfo) { ti.TaskID.Value = "" }},
		{"long ID", "255", func(ti *mesos.TaskInfo) { ti.TaskID.Value = strings.Repeat("x", 256) }},
		{"other agent", "invalid agent", func(ti *mesos.TaskInfo) { ti.AgentID.Value = "other" }},
		{"no resources", "no resources", func(ti *mesos.TaskInfo) { ti.Resources = nil }},
		{"too many cpus", "more than available", func(ti *mesos.TaskInfo) { ti.Resources[0] = mesostest.Scalar("cpus", 100) }},
		{"unknown resource", "more than available", func(ti *mesos.TaskInfo) { ti.Resources[0] = mesostest.Scalar("unicorns", 1) }},
		{"one resource twice, too many in sum", "more than available", func(ti *mesos.TaskInfo) {
			ti.Resources = []mesos.Resource{mesostest.Scalar("cpus", 2), mesostest.Scalar("cpus", 2)}
		}},
		{"ports not offered", "more than available", func(ti *mesos.TaskInfo) {
			ti.Resources = append(ti.Resources, mesos.Resource{Name: "ports", Type: mesos.RANGES.Enum(),
				Ranges: &mesos.Value_Ranges{Range: []mesos.Value_Range{{Begin: 31005, End: 31010}}}})
		}},
		{"negative", "invalid resource", func(ti *mesos.TaskInfo) { ti.Resources[0] = mesostest.Scalar("cpus", -1) }},
		{"reserved", "not among those offered", func(ti *mesos.TaskInfo) { ti.Resources[0].Role = ptr("y") }},
		{"allocated to another role", "not among those offered", func(ti *mesos.TaskInfo) {
			ti.Resources[0].AllocationInfo = &mesos.Resource_AllocationInfo{Role: ptr("y")}
		}},
		{"neither executor nor command", "at least one", func(ti *mesos.TaskInfo) { ti.Executor = nil }},
		{"executor and command", "not both", func(ti *mesos.TaskInfo) { ti.Command = &mesos.CommandInfo{Value: ptr("true")} }},
		{"executor without command", "command", func(ti *mesos.TaskInfo) { ti.Executor.Command = nil }},
		{"default executor", "CUSTOM", func(ti *mesos.TaskInfo) { ti.Executor.Type = mesos.ExecutorInfo_DEFAULT }},
		{"executor of another framework", "FrameworkID", func(ti *mesos.TaskInfo) { ti.Executor.FrameworkID = &mesos.FrameworkID{Value: "y"} }},
		{"known executor, other arguments", "compatible", func(ti *mesos.TaskInfo) {
			ti.Executor.ExecutorID.Value = "e"
			ti.Executor.Command.Arguments = []string{"x"}
		}},
		{"known executor, other name", "compatible", func(ti *mesos.TaskInfo) { ti.Executor.ExecutorID.Value = "e"; ti.Executor.Name = ptr("x") }},
		{"known executor, other data", "compatible", func(ti *mesos.TaskInfo) { ti.Executor.ExecutorID.Value = "e"; ti.Executor.Data = []byte("x") }},
		{"known executor, other resources", "compatible", func(ti *mesos.TaskInfo) {
			ti.Executor.ExecutorID.Value = "e"
			ti.Executor.Resources = []mesos.Resource{mesostest.Scalar("cpus", 0.2), mesostest.Scalar("mem", 32)}
		}},
		{"limit below the request", "limit", func(ti *mesos.TaskInfo) { ti.Limits = map[string]mesos.Value_Scalar{"cpus": {Value: 0.1}} }},
		{"limit of the disk", "limits", func(ti *mesos.TaskInfo) { ti.Limits = map[string]mesos.Value_Scalar{"disk": {Value: 1}} }},
		{"variable without value", "variable", func(ti *mesos.TaskInfo) {
			ti.Executor.Command.Environment = &mesos.Environment{Variables: []mesos.Environment_Variable{{Name: "A"}}}
		}},
		{"negative grace", "grace", func(ti *mesos.TaskInfo) {
			ti.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: -1}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			offer := wholeOffer(t, m, s)
			bad, good := mesostest.Task("bad", offer, "other", 1, 10), mesostest.Task("good", offer, "good", 0.1, 1)
			c.change(&bad)
			whole := c.says == "invalid resource" // a malformed resource voids the operation
			tasks := []mesos.TaskInfo{bad, good}
			if whole {
				tasks = tasks[:1]
			}
			s.Accept(t, []mesos.OfferID{offer.ID}, tasks...)
			st := s.Await(t, "TASK_ERROR", func(ev *scheduler.Event) bool {
				return ev.Type == scheduler.Event_UPDATE && ev.Update.Status.GetState() == mesos.TASK_ERROR
			}).Update.Status
			if st.GetReason() != mesos.REASON_TASK_INVALID || st.UUID != nil || !strings.Contains(st.GetMessage(), c.says) || st.TaskID != bad.TaskID {
				t.Errorf("%v, want %q", st, c.says)
			}
			if whole {
				return
			}
			// The other task of the operation runs all the same.
			got := a.task(t)
			a.update(s.FrameworkID, got, mesos.TASK_FINISHED)
			s.Acknowledge(t, s.AwaitStatus(t, "good", mesos.TASK_FINISHED))
			m.ExecutorExited(a.id(), mesos.FrameworkID{Value: s.FrameworkID}, got.Executor.ExecutorID, 0)
		})
	}
}

// Labels and the grace period of a known executor are not compared, and the
// order of variables and URIs does not count.
func TestSameExecutor(t *testing.T) {
	info := func(vars ...string) *mesos.ExecutorInfo {
		e := mesostest.Task("t", mesos.Offer{}, "e", 1, 1).Executor
		e.Command.Environment = &mesos.Environment{}
		for _, v := range vars {
			e.Command.Environment.Variables = append(e.Command.Environment.Variables, mesos.Environment_Variable{Name: v, Value: ptr(v)})
			e.Command.URIs = append(e.Command.URIs, mesos.CommandInfo_URI{Value: v})
		}
		return e
	}
	a, b := info("A", "B"), info("B", "A")
	b.Labels = &mesos.Labels{Labels: []mesos.Label{{Key: "k"}}}
	b.ShutdownGracePeriod = &mesos.DurationInfo{Nanoseconds: 5}
	b.Command.Shell = ptr(true) // the default
	if !sameExecutor(a, b) {
		t.Error("taken for different")
	}
	if sameExecutor(a, info("A", "C")) || sameExecutor(a, info("A")) {
		t.Error("another environment taken for the same")
	}
}

func TestInvalidOffers(t *testing.T) {
	m := startMaster(t, testConfig())
	one := addAgent(t, m, "host1")
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	first := s.AwaitOffer(t)
	two := addAgent(t, m, "host2")
	second := s.AwaitOffer(t)
	refused := func(task string) {
		t.Helper()
		st := s.AwaitStatus(t, task, mesos.TASK_DROPPED)
		if st.GetReason() != mesos.REASON_INVALID_OFFERS || st.UUID != nil || st.GetSource() != mesos.SOURCE_MASTER {
			t.Errorf("%s: %v", task, st)
		}
	}
	s.Accept(t, []mesos.OfferID{first.ID, second.ID}, mesostest.Task("two agents", first, "e", 1, 1))
	refused("two agents")
	// Both offers are used up by that and come back as new ones.
	fresh := map[string]mesos.Offer{}
	for len(fresh) < 2 {
		for _, o := range s.Await(t, "OFFERS", mesostest.Type(scheduler.Event_OFFERS)).Offers.Offers {
			fresh[o.AgentID.Value] = o
		}
	}
	s.Accept(t, []mesos.OfferID{first.ID}, mesostest.Task("used", first, "e", 1, 1))
	refused("used")
	o := fresh[one.id().Value]
	twice := calls.Accept(calls.OfferOperations{calls.OpLaunch(mesostest.Task("twice", o, "e", 1, 1))}.WithOffers(o.ID))
	twice.Accept.OfferIDs = append(twice.Accept.OfferIDs, o.ID) // mesos-go drops duplicates by itself
	s.Must(t, twice)
	refused("twice")
	s.Must(t, calls.Accept(calls.OfferOperations{calls.OpLaunch(mesostest.Task("none", o, "e", 1, 1))}.WithOffers()))
	refused("none")
	other := mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	o = fresh[two.id().Value]
	other.Accept(t, []mesos.OfferID{o.ID}, mesostest.Task("stolen", o, "e", 1, 1))
	if st := other.AwaitStatus(t, "stolen", mesos.TASK_DROPPED); st.GetReason() != mesos.REASON_INVALID_OFFERS {
		t.Errorf("%v", st)
	}
	s.Accept(t, []mesos.OfferID{o.ID}, mesostest.Task("owner", o, "e", 1, 1))
	two.expect(t, "run owner")
}

// Several offers of one agent are taken together.
func TestMergedOffers(t *testing.T) {
	m := startMaster(t, testConfig())
	a := addAgent(t, m, "host1")
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	task := launch(t, s, a, "t1")
	rest := s.AwaitOffer(t)
	a.update(s.FrameworkID, task, mesos.TASK_FINISHED)
	freed := s.AwaitOffer(t)
	s.Accept(t, []mesos.OfferID{rest.ID, freed.ID}, mesostest.Task("t2", rest, "e", 3.9, 992))
	a.expect(t, "run t2")
}

func TestUnsupportedOperations(t *testing.T) {
	m := startMaster(t, testConfig())
	addAgent(t, m, "host1")
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	offer := s.AwaitOffer(t)
	task := mesostest.Task("grouped", offer, "e", 1, 1)
	executor := *task.Executor
	task.Executor = nil
	reserve := calls.OpReserve(mesostest.Scalar("cpus", 1))
	reserve.ID = &mesos.OperationID{Value: "op"}
	s.Must(t, calls.Accept(calls.OfferOperations{calls.OpLaunchGroup(executor, task), reserve}.WithOffers(offer.ID)))
	if st := s.AwaitStatus(t, "grouped", mesos.TASK_ERROR); st.GetReason() != mesos.REASON_TASK_GROUP_INVALID {
		t.Errorf("%v", st)
	}
	ev := s.Await(t, "UPDATE_OPERATION_STATUS", mesostest.Type(scheduler.Event_UPDATE_OPERATION_STATUS))
	if st := ev.UpdateOperationStatus.Status; st.State != mesos.OPERATION_ERROR || st.OperationID.GetValue() != "op" {
		t.Errorf("%v", st)
	}
}

func TestExplicitReconciliation(t *testing.T) {
	m := startMaster(t, testConfig())
	a := addAgent(t, m, "host1")
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	old := mesostest.Subscribe(t, m.URL(), &mesos.FrameworkInfo{User: "u", Name: "old"}, mesostest.Options{})
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"nowhere": "", "here": a.id().Value, "there": "no such agent"})))
	for task, want := range map[string]mesos.TaskState{"nowhere": mesos.TASK_UNKNOWN, "here": mesos.TASK_GONE, "there": mesos.TASK_UNKNOWN} {
		st := s.AwaitStatus(t, task, want)
		if st.GetReason() != mesos.REASON_RECONCILIATION || st.UUID != nil {
			t.Errorf("%s: %v", task, st)
		}
	}
	s.Must(t, calls.Kill("nowhere", ""))
	s.AwaitStatus(t, "nowhere", mesos.TASK_UNKNOWN)
	old.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"nowhere": ""})))
	old.AwaitStatus(t, "nowhere", mesos.TASK_LOST)
}

func TestOfferTimeout(t *testing.T) {
	cfg := testConfig()
	cfg.OfferTimeout = 20 * time.Millisecond
	m := startMaster(t, cfg)
	addAgent(t, m, "host1")
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	offer := s.AwaitOffer(t)
	ev := s.Await(t, "RESCIND", mesostest.Type(scheduler.Event_RESCIND))
	if ev.Rescind.OfferID != offer.ID {
		t.Errorf("rescinded %v", ev.Rescind)
	}
	s.AwaitOffer(t)
}
