package conformance

import (
	"bytes"
	"testing"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

func TestTaskFinishes(t *testing.T) {
	s := subscribe(t, framework(t))
	offer := awaitOffer(t, s)
	s.Accept(t, []api.OfferID{offer.ID}, task(t, "t1", offer, "finish"))
	running := s.AwaitStatus(t, "t1", api.TASK_RUNNING)
	if running.GetSource() != api.SOURCE_EXECUTOR || running.AgentID.GetValue() != offer.AgentID.Value ||
		running.ExecutorID.GetValue() != "executor" || running.GetTimestamp() == 0 {
		t.Errorf("RUNNING: %v", running)
	}
	s.Acknowledge(t, running)
	s.Acknowledge(t, s.AwaitStatus(t, "t1", api.TASK_FINISHED))
	rest := offerOf(t, s, offer.AgentID)
	if len(rest.ExecutorIDs) != 1 || rest.ExecutorIDs[0].Value != "executor" {
		t.Errorf("executors in the next offer: %v", rest.ExecutorIDs)
	}
}

// What is not acknowledged comes again with its uuid, and later updates wait.
func TestUpdateIsSentAgain(t *testing.T) {
	s := subscribe(t, framework(t))
	offer := awaitOffer(t, s)
	s.Accept(t, []api.OfferID{offer.ID}, task(t, "t1", offer, "finish"))
	first := s.AwaitStatus(t, "t1", api.TASK_RUNNING)
	start := time.Now()
	second := s.AwaitStatus(t, "t1", api.TASK_RUNNING)
	within(t, "the same update", time.Since(start), 8*time.Second, 15*time.Second)
	if !bytes.Equal(first.UUID, second.UUID) {
		t.Errorf("uuid %x, then %x", first.UUID, second.UUID)
	}
	if s.Pending(mesostest.Update("t1", api.TASK_FINISHED)) > 0 {
		t.Error("FINISHED came before RUNNING was acknowledged")
	}
	s.Acknowledge(t, second)
	s.Acknowledge(t, s.AwaitStatus(t, "t1", api.TASK_FINISHED))
}

func TestKill(t *testing.T) {
	s := subscribe(t, framework(t))
	launch(t, s, "t1")
	s.Must(t, calls.Kill("t1", ""))
	s.Acknowledge(t, s.AwaitStatus(t, "t1", api.TASK_KILLED))
	s.Must(t, calls.Kill("never seen", ""))
	if st := s.AwaitStatus(t, "never seen", api.TASK_UNKNOWN); st.UUID != nil || st.GetSource() != api.SOURCE_MASTER {
		t.Errorf("%v", st)
	}
}

func TestMessages(t *testing.T) {
	s := subscribe(t, framework(t))
	at := launch(t, s, "t1").AgentID
	for _, text := range []string{"one", "two", "three"} {
		s.Must(t, calls.Message(at.Value, "executor", []byte(text)))
	}
	for _, text := range []string{"one", "two", "three"} {
		m := s.Await(t, "MESSAGE", mesostest.Type(scheduler.Event_MESSAGE)).Message
		if string(m.Data) != text || m.ExecutorID.Value != "executor" || m.AgentID != at {
			t.Errorf("got %v, want %q", m, text)
		}
	}
}

func TestReconciliation(t *testing.T) {
	s := subscribe(t, framework(t))
	at := launch(t, s, "running").AgentID
	offer := offerOf(t, s, at)
	s.Accept(t, []api.OfferID{offer.ID}, task(t, "done", offer, "finish"))
	s.Acknowledge(t, s.AwaitStatus(t, "done", api.TASK_RUNNING))
	s.Acknowledge(t, s.AwaitStatus(t, "done", api.TASK_FINISHED))

	s.Must(t, calls.Reconcile())
	st := s.AwaitStatus(t, "running", api.TASK_RUNNING)
	if st.UUID != nil || st.GetReason() != api.REASON_RECONCILIATION || st.GetSource() != api.SOURCE_MASTER ||
		st.AgentID.GetValue() != at.Value || st.Data != nil {
		t.Errorf("implicit: %v", st)
	}
	s.Must(t, calls.Reconcile(calls.ReconcileTasks(map[string]string{"running": "", "done": "", "never": "", "here": at.Value})))
	for id, want := range map[string]api.TaskState{
		"running": api.TASK_RUNNING, "done": api.TASK_UNKNOWN, "never": api.TASK_UNKNOWN, "here": api.TASK_GONE,
	} {
		if st := s.AwaitStatus(t, id, want); st.UUID != nil || st.GetReason() != api.REASON_RECONCILIATION {
			t.Errorf("explicit: %v", st)
		}
	}
	if n := s.Pending(mesostest.AnyUpdate("done")); n > 0 {
		t.Error("implicit reconciliation told of a finished task")
	}
}

func TestInvalidTasks(t *testing.T) {
	s := subscribe(t, framework(t))
	at := launch(t, s, "known").AgentID
	for _, c := range []struct {
		name   string
		change func(*api.TaskInfo)
	}{
		{"duplicate ID", func(ti *api.TaskInfo) { ti.TaskID.Value = "known" }},
		{"slash in the ID", func(ti *api.TaskInfo) { ti.TaskID.Value = "a/b" }},
		{"other agent", func(ti *api.TaskInfo) { ti.AgentID.Value = "other" }},
		{"no resources", func(ti *api.TaskInfo) { ti.Resources = nil }},
		{"too many cpus", func(ti *api.TaskInfo) { ti.Resources[0] = mesostest.Scalar("cpus", 10000) }},
		{"negative cpus", func(ti *api.TaskInfo) { ti.Resources[0] = mesostest.Scalar("cpus", -1) }},
		{"resource not offered", func(ti *api.TaskInfo) { ti.Resources[0] = mesostest.Scalar("unicorns", 1) }},
		{"neither executor nor command", func(ti *api.TaskInfo) { ti.Executor = nil }},
		{"executor and command", func(ti *api.TaskInfo) { ti.Command = ti.Executor.Command }},
		{"known executor, other variable", func(ti *api.TaskInfo) {
			ti.Executor.Command.Environment.Variables[0].Value = new(string)
		}},
		{"known executor, other arguments", func(ti *api.TaskInfo) { ti.Executor.Command.Arguments = nil }},
		{"known executor, other data", func(ti *api.TaskInfo) { ti.Executor.Data = []byte("x") }},
		{"known executor, other name", func(ti *api.TaskInfo) { ti.Executor.Name = &ti.Name }},
		{"known executor, other resources", func(ti *api.TaskInfo) {
			ti.Executor.Resources = []api.Resource{mesostest.Scalar("cpus", 0.2), mesostest.Scalar("mem", 32)}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			offer := offerOf(t, s, at)
			bad := task(t, "bad", offer, "finish")
			c.change(&bad)
			s.Accept(t, []api.OfferID{offer.ID}, bad)
			st := s.AwaitStatus(t, bad.TaskID.Value, api.TASK_ERROR)
			if st.GetReason() != api.REASON_TASK_INVALID || st.UUID != nil || st.GetSource() != api.SOURCE_MASTER || st.GetMessage() == "" {
				t.Errorf("%v", st)
			}
		})
	}
	s.Must(t, calls.Kill("known", ""))
	s.AwaitStatus(t, "known", api.TASK_KILLED) // none of that has touched it
}

// Other labels or another grace period do not make another executor.
func TestExecutorIsReused(t *testing.T) {
	s := subscribe(t, framework(t))
	at := launch(t, s, "t1").AgentID
	offer := offerOf(t, s, at)
	next := task(t, "t2", offer, "finish")
	next.Executor.Labels = &api.Labels{Labels: []api.Label{{Key: "k"}}}
	next.Executor.ShutdownGracePeriod = &api.DurationInfo{Nanoseconds: int64(time.Second)}
	s.Accept(t, []api.OfferID{offer.ID}, next)
	s.AwaitStatus(t, "t2", api.TASK_RUNNING)
}

func TestInvalidOffers(t *testing.T) {
	s := subscribe(t, framework(t))
	offer := awaitOffer(t, s)
	s.Must(t, calls.Decline(offer.ID).With(calls.RefuseSeconds(0)))
	s.Accept(t, []api.OfferID{offer.ID}, task(t, "t1", offer, "finish"))
	st := s.AwaitStatus(t, "t1", api.TASK_DROPPED)
	if st.GetReason() != api.REASON_INVALID_OFFERS || st.UUID != nil || st.GetSource() != api.SOURCE_MASTER {
		t.Errorf("%v", st)
	}
}

func TestInvalidTaskGroup(t *testing.T) {
	s := subscribe(t, framework(t))
	offer := awaitOffer(t, s)
	ti := task(t, "t1", offer, "finish")
	executor := *ti.Executor // a group needs a DEFAULT executor, and this one is CUSTOM without being known
	ti.Executor, ti.Resources = nil, []api.Resource{mesostest.Scalar("cpus", 10000)}
	s.Must(t, calls.Accept(calls.OfferOperations{calls.OpLaunchGroup(executor, ti)}.WithOffers(offer.ID)))
	if st := s.AwaitStatus(t, "t1", api.TASK_ERROR); st.GetReason() != api.REASON_TASK_GROUP_INVALID {
		t.Errorf("%v", st)
	}
}

func TestUnknownUser(t *testing.T) {
	s := subscribe(t, framework(t))
	offer := awaitOffer(t, s)
	ti := task(t, "t1", offer, "finish")
	ti.Executor.Command.User = new(string)
	*ti.Executor.Command.User = "no-such-user"
	s.Accept(t, []api.OfferID{offer.ID}, ti)
	st := s.AwaitStatus(t, "t1", api.TASK_DROPPED)
	if st.GetReason() != api.REASON_EXECUTOR_TERMINATED || len(st.UUID) != 16 || st.GetSource() != api.SOURCE_AGENT {
		t.Errorf("%v", st)
	}
	s.Acknowledge(t, st)
	// The executor that never was gives its resources back.
	if f := s.Await(t, "FAILURE", mesostest.Type(scheduler.Event_FAILURE)).Failure; f.GetExecutorID().GetValue() != "executor" {
		t.Errorf("%v", f)
	}
}

func TestExecutorDies(t *testing.T) {
	s := subscribe(t, framework(t))
	at := launch(t, s, "t1").AgentID
	s.Must(t, calls.Message(at.Value, "executor", []byte("die")))
	st := s.AwaitStatus(t, "t1", api.TASK_FAILED)
	if st.GetReason() != api.REASON_EXECUTOR_TERMINATED || st.GetSource() != api.SOURCE_AGENT || len(st.UUID) != 16 {
		t.Errorf("%v", st)
	}
	s.Acknowledge(t, st)
	f := s.Await(t, "FAILURE", mesostest.Type(scheduler.Event_FAILURE)).Failure
	if f.GetExecutorID().GetValue() != "executor" || f.GetAgentID().GetValue() != at.Value || f.Status == nil {
		t.Errorf("%v", f)
	}
	// The ID may be used again.
	offer := offerOf(t, s, at)
	for len(offer.ExecutorIDs) > 0 {
		s.Must(t, calls.Decline(offer.ID).With(calls.RefuseSeconds(0)))
		offer = offerOf(t, s, at)
	}
	s.Accept(t, []api.OfferID{offer.ID}, task(t, "t2", offer, "finish"))
	s.AwaitStatus(t, "t2", api.TASK_RUNNING)
}

func TestShutdownExecutor(t *testing.T) {
	s := subscribe(t, framework(t))
	at := launch(t, s, "t1").AgentID
	s.Must(t, calls.Kill("t1", at.Value))
	s.Acknowledge(t, s.AwaitStatus(t, "t1", api.TASK_KILLED))
	s.Must(t, calls.Shutdown("executor", at.Value))
	if f := s.Await(t, "FAILURE", mesostest.Type(scheduler.Event_FAILURE)).Failure; f.GetExecutorID().GetValue() != "executor" {
		t.Errorf("%v", f)
	}
}

// The executor's binary is fetched into the sandbox and started there.
func TestExecutorIsFetched(t *testing.T) {
	s := subscribe(t, framework(t))
	offer := awaitOffer(t, s)
	ti := task(t, "t1", offer, "finish")
	command, err := executorCommand(true)
	if err != nil {
		t.Fatal(err)
	}
	ti.Executor.Command = command
	s.Accept(t, []api.OfferID{offer.ID}, ti)
	s.Acknowledge(t, s.AwaitStatus(t, "t1", api.TASK_RUNNING))
	s.Acknowledge(t, s.AwaitStatus(t, "t1", api.TASK_FINISHED))
	if target.files.fetched.Load() == 0 {
		t.Error("nobody has fetched the executor")
	}
}

func TestExecutorCannotBeFetched(t *testing.T) {
	s := subscribe(t, framework(t))
	offer := awaitOffer(t, s)
	ti := task(t, "t1", offer, "finish")
	command, err := executorCommand(true)
	if err != nil {
		t.Fatal(err)
	}
	command.URIs[0].Value = target.files.url + "/missing"
	ti.Executor.Command = command
	s.Accept(t, []api.OfferID{offer.ID}, ti)
	st := s.AwaitStatus(t, "t1", api.TASK_FAILED)
	if st.GetReason() != api.REASON_CONTAINER_LAUNCH_FAILED || st.GetSource() != api.SOURCE_AGENT || len(st.UUID) != 16 {
		t.Errorf("%v", st)
	}
	s.Acknowledge(t, st)
	f := s.Await(t, "FAILURE", mesostest.Type(scheduler.Event_FAILURE)).Failure
	if f.GetExecutorID().GetValue() != "executor" || f.GetAgentID().GetValue() != offer.AgentID.Value {
		t.Errorf("%v", f)
	}
}
