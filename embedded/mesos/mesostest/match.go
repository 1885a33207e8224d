package mesostest

import (
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/resources"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"
)

// Type matches events of a type.
func Type(want scheduler.Event_Type) func(*scheduler.Event) bool {
	return func(ev *scheduler.Event) bool { return ev.Type == want }
}

// Update matches a status update of a task to a state.
func Update(task string, state mesos.TaskState) func(*scheduler.Event) bool {
	return func(ev *scheduler.Event) bool {
		return ev.Type == scheduler.Event_UPDATE && ev.Update.Status.TaskID.Value == task && ev.Update.Status.GetState() == state
	}
}

// AnyUpdate matches every status update of a task.
func AnyUpdate(task string) func(*scheduler.Event) bool {
	return func(ev *scheduler.Event) bool {
		return ev.Type == scheduler.Event_UPDATE && ev.Update.Status.TaskID.Value == task
	}
}

// Subscribe opens a session that ends with the test and awaits SUBSCRIBED. The
// ID that the framework was given is set in info.
func Subscribe(t testing.TB, url string, info *mesos.FrameworkInfo, o Options) *Session {
	t.Helper()
	s, err := Open(t.Context(), url, info, o)
	if err != nil {
		t.Fatalf("SUBSCRIBE: %v", err)
	}
	t.Cleanup(s.Close)
	ev := s.Await(t, "SUBSCRIBED", Type(scheduler.Event_SUBSCRIBED))
	s.FrameworkID = ev.Subscribed.FrameworkID.Value
	info.ID = ev.Subscribed.FrameworkID
	return s
}

// AwaitStatus awaits a status update of a task to a state.
func (s *Session) AwaitStatus(t testing.TB, task string, state mesos.TaskState) mesos.TaskStatus {
	t.Helper()
	return s.Await(t, task+" "+state.String(), Update(task, state)).Update.Status
}

// AwaitOffer awaits an OFFERS event and returns its first offer.
func (s *Session) AwaitOffer(t testing.TB) mesos.Offer {
	t.Helper()
	return s.Await(t, "OFFERS", Type(scheduler.Event_OFFERS)).Offers.Offers[0]
}

// Accept launches tasks on offers; what is left comes back at once.
func (s *Session) Accept(t testing.TB, offers []mesos.OfferID, tasks ...mesos.TaskInfo) {
	t.Helper()
	call := calls.Accept(calls.OfferOperations{calls.OpLaunch(tasks...)}.WithOffers(offers...))
	s.Must(t, call.With(calls.RefuseSeconds(0)))
}

// Acknowledge acknowledges a status.
func (s *Session) Acknowledge(t testing.TB, st mesos.TaskStatus) {
	t.Helper()
	s.Must(t, calls.Acknowledge(st.AgentID.Value, st.TaskID.Value, st.UUID))
}

// Fit is how many tasks of the given cpus an offer takes beside one executor of
// Task; offers may be small parts of an agent.
func Fit(offer mesos.Offer, cpus float64) int {
	all, _ := resources.CPUs(offer.Resources...)
	return max(0, int((all-0.1)/cpus+1e-6))
}

// Scalar is a scalar resource.
func Scalar(name string, value float64) mesos.Resource {
	return mesos.Resource{Name: name, Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: value}}
}

// Task is a task for an offer with an executor of its own; the resources are
// those of the task, and the executor takes 0.1 cpus and 32 MB.
func Task(id string, offer mesos.Offer, executor string, cpus, mem float64) mesos.TaskInfo {
	return mesos.TaskInfo{
		Name: id, TaskID: mesos.TaskID{Value: id}, AgentID: offer.AgentID,
		Resources: []mesos.Resource{Scalar("cpus", cpus), Scalar("mem", mem)},
		Executor: &mesos.ExecutorInfo{
			Type: mesos.ExecutorInfo_CUSTOM, ExecutorID: mesos.ExecutorID{Value: executor},
			Command:   &mesos.CommandInfo{Value: ptr("exec ./executor")},
			Resources: []mesos.Resource{Scalar("cpus", 0.1), Scalar("mem", 32)},
		},
	}
}
