package conformance

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	api "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli/apierrors"
	"github.com/mesos/mesos-go/api/v1/lib/master"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master/calls"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

func TestSubscriptionBegins(t *testing.T) {
	s, err := mesostest.Open(t.Context(), target.url, framework(t), target.options)
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
	subscribed := time.Now()
	s.Await(t, "HEARTBEAT", mesostest.Type(scheduler.Event_HEARTBEAT))
	within(t, "the first HEARTBEAT", time.Since(subscribed), 0, 5*time.Second)
	offer := awaitOffer(t, s)
	if offer.FrameworkID.Value != s.FrameworkID || offer.AllocationInfo.GetRole() != target.role || offer.URL == nil || len(offer.Resources) == 0 {
		t.Errorf("offer: %v", offer)
	}
	s.Must(t, &scheduler.Call{Type: scheduler.Call_TEARDOWN})
}

func TestSubscriptionBeginsInJSON(t *testing.T) {
	s := rawSubscribe(t)
	sub := s.next(t)
	id := sub.text("subscribed", "framework_id", "value")
	if sub.text("type") != "SUBSCRIBED" || id == "" || s.id == "" || sub.number("subscribed", "heartbeat_interval_seconds") != 15 ||
		sub.text("subscribed", "master_info", "id") == "" {
		t.Fatalf("first event: %v", sub)
	}
	s.await(t, "HEARTBEAT")
	offers := s.await(t, "OFFERS").list("offers", "offers")
	if len(offers) == 0 {
		t.Fatal("OFFERS without offers")
	}
	for _, o := range offers {
		if o.text("framework_id", "value") != id || o.text("allocation_info", "role") != target.role || o.text("id", "value") == "" ||
			o.text("agent_id", "value") == "" || len(o.list("resources")) == 0 || o.text("url", "scheme") == "" {
			t.Errorf("offer: %v", o)
		}
	}
	resp := request(t, http.MethodPost, "/api/v1/scheduler", `{"type":"TEARDOWN","framework_id":{"value":"`+id+`"}}`,
		map[string]string{"Content-Type": mediaJSON, "Mesos-Stream-Id": s.id})
	if resp.StatusCode != http.StatusAccepted {
		t.Errorf("TEARDOWN: %s", resp.Status)
	}
}

func TestFailover(t *testing.T) {
	info := framework(t)
	first := subscribe(t, info)
	awaitOffer(t, first)
	second := subscribe(t, info)
	if second.FrameworkID != first.FrameworkID {
		t.Errorf("the ID changed from %s to %s", first.FrameworkID, second.FrameworkID)
	}
	awaitError(t, first, "Framework failed over")
	awaitOffer(t, second)
}

func TestReconnectInTime(t *testing.T) {
	info := framework(t)
	s := subscribe(t, info)
	launch(t, s, "t1")
	s.Close()
	s = subscribe(t, info)
	awaitOffer(t, s)
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
	awaitOffer(t, s)
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
		time.Sleep(50 * time.Millisecond) // the master is another's
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
	awaitOffer(t, s)
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
	offer := awaitOffer(t, s)
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
	s := subscribe(t, framework(t))
	id := launch(t, s, "t1").AgentID
	ask := func(call *master.Call) *master.Response {
		t.Helper()
		resp, err := mesostest.Operator(t.Context(), target.url, target.options, call)
		if err != nil {
			t.Fatalf("%s: %v", call.Type, err)
		}
		return resp
	}
	if resp := ask(mastercalls.GetHealth()); !resp.GetHealth.Healthy {
		t.Errorf("GET_HEALTH: %v", resp)
	}
	if resp := ask(mastercalls.GetVersion()); resp.GetVersion.VersionInfo.Version == "" {
		t.Errorf("GET_VERSION: %v", resp)
	}
	if resp := ask(mastercalls.GetMaster()); resp.GetMaster.MasterInfo.GetAddress().GetPort() == 0 {
		t.Errorf("GET_MASTER: %v", resp)
	}
	state := ask(mastercalls.GetState()).GetState
	found := map[string]bool{}
	for _, f := range state.GetFrameworks.Frameworks {
		found["framework"] = found["framework"] || (f.FrameworkInfo.ID.Value == s.FrameworkID && f.Connected && f.Active)
	}
	for _, a := range state.GetAgents.Agents {
		found["agent"] = found["agent"] || (a.AgentInfo.ID.Value == id.Value && a.Active)
	}
	for _, ti := range state.GetTasks.Tasks {
		found["task"] = found["task"] || (ti.FrameworkID.Value == s.FrameworkID && ti.TaskID.Value == "t1" && ti.GetState() == api.TASK_RUNNING)
	}
	for _, e := range state.GetExecutors.Executors {
		found["executor"] = found["executor"] || (e.ExecutorInfo.FrameworkID.GetValue() == s.FrameworkID && e.AgentID == id)
	}
	for _, part := range []string{"framework", "agent", "task", "executor"} {
		if !found[part] {
			t.Errorf("GET_STATE does not show the %s", part)
		}
	}
}

func TestOperatorAPIInJSON(t *testing.T) {
	s := subscribe(t, framework(t))
	at := launch(t, s, "t1").AgentID
	ask := func(call string) node {
		t.Helper()
		resp := request(t, http.MethodPost, "/api/v1", `{"type":"`+call+`"}`, map[string]string{"Content-Type": mediaJSON, "Accept": mediaJSON})
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %v", call, resp.Status, err)
		}
		answer := parse(t, body)
		if answer.text("type") != call {
			t.Errorf("%s was answered with %s", call, answer.text("type"))
		}
		return answer.at(strings.ToLower(call))
	}
	if !ask("GET_HEALTH").truth("healthy") {
		t.Error("GET_HEALTH: not healthy")
	}
	if ask("GET_VERSION").text("version_info", "version") == "" {
		t.Error("GET_VERSION without version")
	}
	if m := ask("GET_MASTER"); m.text("master_info", "id") == "" || m.number("master_info", "port") == 0 || m.number("elected_time") == 0 {
		t.Errorf("GET_MASTER: %v", m)
	}
	has := func(list []node, want map[string]string) bool {
		return slices.ContainsFunc(list, func(n node) bool {
			for path, value := range want {
				if n.text(strings.Split(path, ".")...) != value {
					return false
				}
			}
			return true
		})
	}
	state := ask("GET_STATE")
	if !has(state.list("get_frameworks", "frameworks"), map[string]string{"framework_info.id.value": s.FrameworkID}) {
		t.Error("GET_STATE does not show the framework")
	}
	if !has(ask("GET_AGENTS").list("agents"), map[string]string{"agent_info.id.value": at.Value}) {
		t.Error("GET_AGENTS does not show the agent")
	}
	task := map[string]string{"framework_id.value": s.FrameworkID, "task_id.value": "t1", "state": "TASK_RUNNING", "agent_id.value": at.Value}
	if !has(ask("GET_TASKS").list("tasks"), task) {
		t.Error("GET_TASKS does not show the task")
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
