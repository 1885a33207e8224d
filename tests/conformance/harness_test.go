package conformance

import (
	"context"
	"errors"
	"testing"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

// framework describes a framework that may run tasks here.
func framework(t *testing.T) *api.FrameworkInfo {
	t.Helper()
	info := mesostest.Framework(target.role)
	info.User, info.Name = target.user, "conformance: "+t.Name()
	if target.options.Principal != "" {
		info.Principal = &target.options.Principal
	}
	return info
}

// subscribe opens a session whose framework is torn down after the test.
func subscribe(t *testing.T, info *api.FrameworkInfo) *mesostest.Session {
	t.Helper()
	s := mesostest.Subscribe(t, target.url, info, target.options)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), mesostest.Patience)
		defer cancel()
		_ = s.Call(ctx, &scheduler.Call{Type: scheduler.Call_TEARDOWN}) // fails if the test has ended it
	})
	return s
}

// open subscribes where the test expects an ERROR event.
func open(t *testing.T, info *api.FrameworkInfo) *mesostest.Session {
	t.Helper()
	s, err := mesostest.Open(t.Context(), target.url, info, target.options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// awaitError wants an ERROR event and the end of the stream.
func awaitError(t *testing.T, s *mesostest.Session, message string) {
	t.Helper()
	ev := s.Await(t, "ERROR", mesostest.Type(scheduler.Event_ERROR))
	if message != "" && ev.Error.Message != message {
		t.Errorf("ERROR %q, want %q", ev.Error.Message, message)
	}
	s.Ended(t)
}

// What an agent must have free for a test.
const (
	roomCPUs = 1
	roomMem  = 512
)

// roomy tells whether tests can run on an offer.
func roomy(o api.Offer) bool {
	var cpus, mem float64
	for _, r := range o.Resources {
		if len(r.Reservations) > 0 || r.Revocable != nil || r.Disk != nil {
			continue
		}
		switch r.Name {
		case "cpus":
			cpus += r.GetScalar().GetValue()
		case "mem":
			mem += r.GetScalar().GetValue()
		}
	}
	return cpus >= roomCPUs && mem >= roomMem
}

// awaitOffer awaits an offer that tests can run on. All others are declined for
// the time of the test.
func awaitOffer(t *testing.T, s *mesostest.Session) api.Offer {
	t.Helper()
	return awaitOfferWith(t, s, "an offer with room", roomy)
}

// offerOf awaits an offer of one agent.
func offerOf(t *testing.T, s *mesostest.Session, id api.AgentID) api.Offer {
	t.Helper()
	return awaitOfferWith(t, s, "an offer of agent "+id.Value, func(o api.Offer) bool { return o.AgentID == id })
}

func awaitOfferWith(t *testing.T, s *mesostest.Session, what string, fits func(api.Offer) bool) api.Offer {
	t.Helper()
	for deadline := time.Now().Add(mesostest.Patience); ; {
		ev, err := s.AwaitFor(time.Until(deadline), mesostest.Type(scheduler.Event_OFFERS))
		if errors.Is(err, mesostest.ErrNoEvent) {
			t.Fatalf("not in %s: %s", mesostest.Patience, what)
		}
		if err != nil {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		var found *api.Offer
		var others []api.OfferID
		for _, o := range ev.Offers.Offers {
			if found == nil && fits(o) {
				found = &o
			} else {
				others = append(others, o.ID)
			}
		}
		if len(others) > 0 {
			s.Must(t, calls.Decline(others...).With(calls.RefuseSeconds(10*time.Minute)))
		}
		if found != nil {
			return *found
		}
	}
}

// task is a task for the executor that this test binary is; see mesostest.ExecutorCommand.
func task(t *testing.T, id string, offer api.Offer, data string) api.TaskInfo {
	t.Helper()
	ti := mesostest.Task(id, offer, "executor", 0.1, 32)
	command, err := executorCommand(target.cluster == nil)
	if err != nil {
		t.Fatal(err)
	}
	ti.Executor.Command, ti.Data = command, []byte(data)
	ti.Executor.Resources = []api.Resource{mesostest.Scalar("cpus", 0.1), mesostest.Scalar("mem", 128)}
	return ti
}

// launch runs a task until KILL and waits until it is acknowledged as running.
func launch(t *testing.T, s *mesostest.Session, id string) api.Offer {
	t.Helper()
	offer := awaitOffer(t, s)
	s.Accept(t, []api.OfferID{offer.ID}, task(t, id, offer, "run"))
	st := s.AwaitStatus(t, id, api.TASK_RUNNING)
	if len(st.UUID) != 16 {
		t.Errorf("an executor's update has the uuid %x", st.UUID)
	}
	s.Acknowledge(t, st)
	return offer
}

// within checks a time that should have passed.
func within(t *testing.T, what string, d, least, most time.Duration) {
	t.Helper()
	if d < least || d > most {
		t.Errorf("%s came after %s, want %s to %s", what, d.Round(time.Millisecond), least, most)
	}
}
