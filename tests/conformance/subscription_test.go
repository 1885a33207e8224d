package conformance

import (
	"testing"
	"time"

	"github.com/google/uuid"
	api "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli/apierrors"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master/calls"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

func TestSubscriptionBegins(t *testing.T) {
	for name, json := range map[string]bool{"protobuf": false, "JSON": true} {
		t.Run(name, func(t *testing.T) {
			o := target.options
			o.JSON = json
			s, err := mesostest.Open(t.Context(), target.url, framework(t), o)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			first := s.Await(t, "any event", func(*scheduler.Event) bool { return true })
			sub := first.GetSubscribed()
			if sub == nil || sub.FrameworkID.GetValue() == "" || sub.GetHeartbeatIntervalSeconds() != 15 || sub.MasterInfo.GetID() == "" {
				t.Fatalf("first event: %v", first)
			}
			s.FrameworkID = sub.FrameworkID.Value
			second := s.Await(t, "any event", func(*scheduler.Event) bool { return true })
			if second.Type != scheduler.Event_HEARTBEAT {
				t.Errorf("second event: %v", second)
			}
			offer := s.AwaitOffer(t)
			if offer.FrameworkID.Value != s.FrameworkID || offer.AllocationInfo.GetRole() != "*" || offer.URL == nil || len(offer.Resources) == 0 {
				t.Errorf("offer: %v", offer)
			}
			s.Must(t, &scheduler.Call{Type: scheduler.Call_TEARDOWN})
		})
	}
}

func TestFailover(t *testing.T) {
	info := framework(t)
	first := subscribe(t, info)
	first.AwaitOffer(t)
	second := subscribe(t, info)
	if second.FrameworkID != first.FrameworkID {
		t.Errorf("the ID changed from %s to %s", first.FrameworkID, second.FrameworkID)
	}
	awaitError(t, first, "Framework failed over")
	second.AwaitOffer(t)
}

func TestReconnectInTime(t *testing.T) {
	info := framework(t)
	s := subscribe(t, info)
	launch(t, s, "t1")
	s.Close()
	s = subscribe(t, info)
	s.AwaitOffer(t)
	s.Must(t, calls.Reconcile())
	s.AwaitStatus(t, "t1", api.TASK_RUNNING)
}

func TestTeardownIsFinal(t *testing.T) {
	info := framework(t)
	s := subscribe(t, info)
	launch(t, s, "t1")
	s.Must(t, &scheduler.Call{Type: scheduler.Call_TEARDOWN})
	awaitError(t, open(t, info), "Framework has been removed")
}

func TestDisconnectWithoutFailoverTimeoutIsFinal(t *testing.T) {
	info := framework(t)
	info.FailoverTimeout = nil
	s := subscribe(t, info)
	s.AwaitOffer(t)
	s.Close()
	// The master learns of the end of a connection in its own time.
	for deadline := time.Now().Add(mesostest.Patience); ; {
		resp, err := mesostest.Operator(t.Context(), target.url, target.options, mastercalls.GetFrameworks())
		if err != nil {
			t.Fatal(err)
		}
		gone := false
		for _, f := range resp.GetFrameworks.CompletedFrameworks {
			gone = gone || f.FrameworkInfo.ID.Value == s.FrameworkID
		}
		if gone {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the framework is still known")
		}
	}
	awaitError(t, open(t, info), "Framework has been removed")
}

func TestOwnFrameworkID(t *testing.T) {
	info := framework(t)
	info.ID = &api.FrameworkID{Value: uuid.NewString()}
	want := info.ID.Value
	s := subscribe(t, info)
	if s.FrameworkID != want {
		t.Errorf("got the ID %s, asked for %s", s.FrameworkID, want)
	}
	s.AwaitOffer(t)
}

func TestSenselessFrameworkInfo(t *testing.T) {
	for name, change := range map[string]func(*api.FrameworkInfo){
		"role with MULTI_ROLE":     func(i *api.FrameworkInfo) { i.Role = new(string) },
		"roles without MULTI_ROLE": func(i *api.FrameworkInfo) { i.Capabilities = nil },
		"duplicate role":           func(i *api.FrameworkInfo) { i.Roles = []string{"a", "a"} },
		"role with a space":        func(i *api.FrameworkInfo) { i.Roles = []string{"a b"} },
		"role with a dash first":   func(i *api.FrameworkInfo) { i.Roles = []string{"-a"} },
	} {
		t.Run(name, func(t *testing.T) {
			info := framework(t)
			change(info)
			awaitError(t, open(t, info), "")
		})
	}
}

func TestDeclineAndRevive(t *testing.T) {
	s := subscribe(t, framework(t))
	offer := s.AwaitOffer(t)
	start := time.Now()
	s.Must(t, calls.Decline(offer.ID).With(calls.RefuseSeconds(0)))
	offer = offerOf(t, s, offer.AgentID)
	within(t, "an offer after refuse_seconds 0", time.Since(start), 0, 3*time.Second)

	start = time.Now()
	s.Must(t, calls.Decline(offer.ID))
	offer = offerOf(t, s, offer.AgentID)
	within(t, "an offer after a plain DECLINE", time.Since(start), 4500*time.Millisecond, 8*time.Second)

	s.Must(t, calls.Decline(offer.ID).With(calls.RefuseSeconds(time.Hour)))
	s.Must(t, calls.Suppress())
	start = time.Now()
	s.Must(t, calls.Revive())
	offerOf(t, s, offer.AgentID)
	within(t, "an offer after REVIVE", time.Since(start), 0, 3*time.Second)
}

func TestOperatorAPI(t *testing.T) {
	for _, json := range []bool{false, true} {
		o := target.options
		o.JSON = json
		s := subscribe(t, framework(t))
		id := launch(t, s, "t1").AgentID
		if resp, err := mesostest.Operator(t.Context(), target.url, o, mastercalls.GetHealth()); err != nil || !resp.GetHealth.Healthy {
			t.Errorf("GET_HEALTH: %v %v", resp, err)
		}
		if resp, err := mesostest.Operator(t.Context(), target.url, o, mastercalls.GetVersion()); err != nil || resp.GetVersion.VersionInfo.Version == "" {
			t.Errorf("GET_VERSION: %v %v", resp, err)
		}
		if resp, err := mesostest.Operator(t.Context(), target.url, o, mastercalls.GetMaster()); err != nil || resp.GetMaster.MasterInfo.GetAddress().GetPort() == 0 {
			t.Errorf("GET_MASTER: %v %v", resp, err)
		}
		state, err := mesostest.Operator(t.Context(), target.url, o, mastercalls.GetState())
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, f := range state.GetState.GetFrameworks.Frameworks {
			found["framework"] = found["framework"] || (f.FrameworkInfo.ID.Value == s.FrameworkID && f.Connected && f.Active)
		}
		for _, a := range state.GetState.GetAgents.Agents {
			found["agent"] = found["agent"] || (a.AgentInfo.ID.Value == id.Value && a.Active)
		}
		for _, ti := range state.GetState.GetTasks.Tasks {
			found["task"] = found["task"] || (ti.FrameworkID.Value == s.FrameworkID && ti.TaskID.Value == "t1" && ti.GetState() == api.TASK_RUNNING)
		}
		for _, e := range state.GetState.GetExecutors.Executors {
			found["executor"] = found["executor"] || (e.ExecutorInfo.FrameworkID.GetValue() == s.FrameworkID && e.AgentID == id)
		}
		if len(found) != 4 || !found["framework"] || !found["agent"] || !found["task"] || !found["executor"] {
			t.Errorf("GET_STATE shows %v", found)
		}
		s.Must(t, &scheduler.Call{Type: scheduler.Call_TEARDOWN})
	}
}

func TestCallOfUnknownFramework(t *testing.T) {
	s := subscribe(t, framework(t))
	known := s.FrameworkID
	s.FrameworkID = "nobody"
	if err := s.Call(t.Context(), calls.Revive()); !apierrors.CodeMalformedRequest.Matches(err) {
		t.Errorf("%v", err)
	}
	s.FrameworkID = known
}
