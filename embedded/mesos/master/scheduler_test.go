package master

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master/calls"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

func TestSubscriptionBegins(t *testing.T) {
	for _, json := range []bool{false, true} {
		t.Run(fmt.Sprintf("json=%v", json), func(t *testing.T) {
			m := startMaster(t, testConfig())
			a := addAgent(t, m, "host1")
			s, err := mesostest.Open(t.Context(), m.URL(), mesostest.Framework("x"), mesostest.Options{JSON: json})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			any := func(*scheduler.Event) bool { return true }
			sub := s.Await(t, "SUBSCRIBED", any)
			if sub.GetSubscribed().GetHeartbeatIntervalSeconds() != 15 || sub.Subscribed.MasterInfo.ID != m.ID() {
				t.Errorf("first event: %v", sub)
			}
			if ev := s.Await(t, "HEARTBEAT", any); ev.Type != scheduler.Event_HEARTBEAT {
				t.Errorf("second event: %v", ev)
			}
			ev := s.Await(t, "OFFERS", any)
			if ev.Type != scheduler.Event_OFFERS || len(ev.Offers.Offers) != 1 {
				t.Fatalf("third event: %v", ev)
			}
			offer := ev.Offers.Offers[0]
			if offer.AgentID != a.id() || offer.AllocationInfo.GetRole() != "x" || offer.Hostname != "host1" || offer.URL.GetPath() != "/slave(1)" {
				t.Errorf("offer: %v", offer)
			}
			for _, r := range offer.Resources {
				if r.AllocationInfo.GetRole() != "x" || r.Role != nil || len(r.Reservations) > 0 {
					t.Errorf("resource in the format of RESERVATION_REFINEMENT: %v", r)
				}
			}
			if got, want := mesos.Resources(offer.Resources).String(), "cpus:4;mem:1024;ports:[31000-31009]"; got != want {
				t.Errorf("offered %s, want %s", got, want)
			}
		})
	}
}

// A framework without the newer capabilities sees neither allocation info nor
// the newer resource format.
func TestOfferForOldFramework(t *testing.T) {
	m := startMaster(t, testConfig())
	addAgent(t, m, "host1")
	s := mesostest.Subscribe(t, m.URL(), &mesos.FrameworkInfo{User: "u", Name: "old"}, mesostest.Options{})
	offer := s.AwaitOffer(t)
	if offer.AllocationInfo != nil || offer.Resources[0].AllocationInfo != nil || offer.Resources[0].GetRole() != "*" || offer.Resources[0].Role == nil {
		t.Errorf("offer: %v", offer)
	}
}

func TestSubscriptionRefused(t *testing.T) {
	m := startMaster(t, testConfig())
	multi := mesostest.Framework("a", "b")
	with := func(change func(*mesos.FrameworkInfo)) *mesos.FrameworkInfo {
		info := *multi
		change(&info)
		return &info
	}
	for name, info := range map[string]*mesos.FrameworkInfo{
		"role with MULTI_ROLE":     with(func(i *mesos.FrameworkInfo) { i.Role = ptr("a") }),
		"roles without MULTI_ROLE": with(func(i *mesos.FrameworkInfo) { i.Capabilities = nil }),
		"duplicate role":           with(func(i *mesos.FrameworkInfo) { i.Roles = []string{"a", "a"} }),
		"invalid role":             with(func(i *mesos.FrameworkInfo) { i.Roles = []string{"a b"} }),
		"slash in the ID":          with(func(i *mesos.FrameworkInfo) { i.ID = &mesos.FrameworkID{Value: "a/b"} }),
		"endless failover timeout": with(func(i *mesos.FrameworkInfo) { i.FailoverTimeout = ptr(1e20) }),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := mesostest.Open(t.Context(), m.URL(), info, mesostest.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			s.Await(t, "ERROR", mesostest.Type(scheduler.Event_ERROR))
			s.Ended(t)
		})
	}
}

func TestFailover(t *testing.T) {
	m := startMaster(t, testConfig())
	addAgent(t, m, "host1")
	info := mesostest.Framework()
	first := mesostest.Subscribe(t, m.URL(), info, mesostest.Options{})
	first.AwaitOffer(t)
	second := mesostest.Subscribe(t, m.URL(), info, mesostest.Options{})
	ev := first.Await(t, "ERROR", mesostest.Type(scheduler.Event_ERROR))
	if ev.Error.Message != "Framework failed over" {
		t.Errorf("got %q", ev.Error.Message)
	}
	first.Ended(t)
	if second.FrameworkID != first.FrameworkID {
		t.Errorf("ID changed from %s to %s", first.FrameworkID, second.FrameworkID)
	}
	second.AwaitOffer(t)
}

// The master that is asked for a framework with a changed principal refuses it;
// a changed user or checkpoint is silently kept as it was.
func TestFailoverWithChangedInfo(t *testing.T) {
	m := startMaster(t, testConfig())
	info := mesostest.Framework()
	mesostest.Subscribe(t, m.URL(), info, mesostest.Options{})
	changed := *info
	changed.User, changed.Name = "other", "renamed"
	s := mesostest.Subscribe(t, m.URL(), &changed, mesostest.Options{})
	resp, err := mesostest.Operator(t.Context(), m.URL(), mesostest.Options{}, mastercalls.GetFrameworks())
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.GetFrameworks.Frameworks[0].FrameworkInfo; got.User != info.User || got.Name != "renamed" {
		t.Errorf("user %q, name %q", got.User, got.Name)
	}
	changed.Principal = ptr("p")
	refused, err := mesostest.Open(t.Context(), m.URL(), &changed, mesostest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Close()
	refused.Await(t, "ERROR", mesostest.Type(scheduler.Event_ERROR))
	s.Must(t, calls.Reconcile()) // the old subscription stands
}

func TestFailoverTimeoutRemovesFramework(t *testing.T) {
	m := startMaster(t, testConfig())
	a := addAgent(t, m, "host1")
	info := mesostest.Framework()
	info.FailoverTimeout = nil
	s := mesostest.Subscribe(t, m.URL(), info, mesostest.Options{})
	launch(t, s, a, "t1")
	s.Close()
	a.expect(t, "shutdown framework")
	again, err := mesostest.Open(t.Context(), m.URL(), info, mesostest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	ev := again.Await(t, "ERROR", mesostest.Type(scheduler.Event_ERROR))
	if ev.Error.Message != "Framework has been removed" {
		t.Errorf("got %q", ev.Error.Message)
	}
	again.Ended(t)
	resp, err := mesostest.Operator(t.Context(), m.URL(), mesostest.Options{}, mastercalls.GetTasks())
	if err != nil {
		t.Fatal(err)
	}
	if n := resp.GetTasks.CompletedTasks; len(n) != 1 || n[0].GetState() != mesos.TASK_KILLED {
		t.Errorf("completed tasks: %v", n)
	}
}

// Within the failover timeout the framework keeps its ID and its tasks.
func TestReconnectInTime(t *testing.T) {
	m := startMaster(t, testConfig())
	a := addAgent(t, m, "host1")
	info := mesostest.Framework()
	s := mesostest.Subscribe(t, m.URL(), info, mesostest.Options{})
	launch(t, s, a, "t1")
	s.Close()
	s = mesostest.Subscribe(t, m.URL(), info, mesostest.Options{})
	s.AwaitOffer(t)
	s.Must(t, calls.Reconcile())
	if st := s.AwaitStatus(t, "t1", mesos.TASK_STAGING); st.UUID != nil || st.GetReason() != mesos.REASON_RECONCILIATION || st.GetSource() != mesos.SOURCE_MASTER {
		t.Errorf("implicit reconciliation: %v", st)
	}
}

func TestTeardown(t *testing.T) {
	m := startMaster(t, testConfig())
	a := addAgent(t, m, "host1")
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	s.Must(t, &scheduler.Call{Type: scheduler.Call_TEARDOWN})
	a.expect(t, "shutdown framework")
	s.Ended(t)
	if err := s.Call(t.Context(), calls.Reconcile()); err == nil {
		t.Error("a call of a removed framework was accepted")
	}
}

func TestSuppressAndRevive(t *testing.T) {
	m := startMaster(t, testConfig())
	addAgent(t, m, "host1")
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework("a", "b"), mesostest.Options{})
	offer := s.AwaitOffer(t)
	other := "a"
	if offer.AllocationInfo.GetRole() == "a" {
		other = "b"
	}
	// The role that refused for long gets nothing, so the other one must.
	s.Must(t, calls.Decline(offer.ID).With(calls.RefuseSeconds(time.Hour)))
	offer = s.AwaitOffer(t)
	if got := offer.AllocationInfo.GetRole(); got != other {
		t.Fatalf("offered to role %s, want %s", got, other)
	}
	s.Must(t, calls.SuppressWith([]string{other}))
	s.Must(t, calls.Decline(offer.ID).With(calls.RefuseSeconds(0)))
	awaitCycles(t, m, 3)
	if n := s.Pending(mesostest.Type(scheduler.Event_OFFERS)); n > 0 {
		t.Fatalf("%d offers although all is suppressed or filtered", n)
	}
	s.Must(t, calls.SuppressWith([]string{"no such role"})) // void
	s.Must(t, calls.ReviveWith([]string{other}))
	if got := s.AwaitOffer(t).AllocationInfo.GetRole(); got != other {
		t.Errorf("offered to role %s, want %s", got, other)
	}
}

// awaitCycles waits until the allocator has run n times over changed state.
func awaitCycles(t *testing.T, m *Master, n int) {
	t.Helper()
	for range n {
		if err := m.call(t.Context(), func() { m.dirty = true; m.allocate() }); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDeclineFilters(t *testing.T) {
	m := startMaster(t, testConfig())
	addAgent(t, m, "host1")
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	offer := s.AwaitOffer(t)
	start := time.Now()
	s.Must(t, calls.Decline(offer.ID).With(calls.RefuseSeconds(300*time.Millisecond)))
	offer = s.AwaitOffer(t)
	if d := time.Since(start); d < 300*time.Millisecond {
		t.Errorf("offered again after %s", d)
	}
	if refusal(nil) != 5*time.Second || refusal(&mesos.Filters{RefuseSeconds: ptr(-1.0)}) != 5*time.Second ||
		refusal(&mesos.Filters{RefuseSeconds: ptr(1e12)}) != 365*24*time.Hour {
		t.Error("refusal times are not those of mesos.proto")
	}
	s.Must(t, calls.Decline(offer.ID)) // 5 s
	awaitCycles(t, m, 3)
	if n := s.Pending(mesostest.Type(scheduler.Event_OFFERS)); n > 0 {
		t.Errorf("%d offers in spite of the default filter", n)
	}
}

// Two frameworks with the same wishes share the agents.
func TestFairOffers(t *testing.T) {
	m := startMaster(t, testConfig())
	one := mesostest.Subscribe(t, m.URL(), mesostest.Framework("a"), mesostest.Options{})
	two := mesostest.Subscribe(t, m.URL(), mesostest.Framework("b"), mesostest.Options{})
	for i := range 4 {
		addAgent(t, m, fmt.Sprintf("host%d", i))
	}
	for _, s := range []*mesostest.Session{one, two} {
		n := len(s.Await(t, "OFFERS", mesostest.Type(scheduler.Event_OFFERS)).Offers.Offers)
		for n < 2 {
			n += len(s.Await(t, "OFFERS", mesostest.Type(scheduler.Event_OFFERS)).Offers.Offers)
		}
		if n != 2 {
			t.Errorf("%d offers of 4 for one of two equal frameworks", n)
		}
	}
}

func TestGPUAgentsOnlyForGPUFrameworks(t *testing.T) {
	m := startMaster(t, testConfig())
	plainFramework := mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	a := addAgent(t, m, "plain")
	plainFramework.AwaitOffer(t)
	gpu := &fakeAgent{m: m, messages: make(chan string, 100), info: a.info}
	gpu.info.ID, gpu.info.Hostname = nil, "gpu"
	gpu.info.Resources = append(slices.Clone(a.info.Resources), mesostest.Scalar("gpus", 1))
	m.Register(gpu, gpu.info)
	gpu.expect(t, "registered")
	awaitCycles(t, m, 2)
	if n := plainFramework.Pending(mesostest.Type(scheduler.Event_OFFERS)); n > 0 {
		t.Error("a GPU agent was offered to a framework without GPU_RESOURCES")
	}
	info := mesostest.Framework()
	info.Capabilities = append(info.Capabilities, mesos.FrameworkInfo_Capability{Type: mesos.FrameworkInfo_Capability_GPU_RESOURCES})
	s := mesostest.Subscribe(t, m.URL(), info, mesostest.Options{})
	if got := s.AwaitOffer(t).Hostname; got != "gpu" {
		t.Errorf("offered %s", got)
	}
}

// A client that leaves before its SUBSCRIBE is carried out does not stay connected.
func TestClientLeavesWhileSubscribing(t *testing.T) {
	m := startMaster(t, testConfig())
	blocked, release := make(chan struct{}), make(chan struct{})
	m.box.post(func() { close(blocked); <-release })
	<-blocked
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		info := mesostest.Framework()
		info.FailoverTimeout = nil
		_, err := mesostest.Open(ctx, m.URL(), info, mesostest.Options{})
		ended <- err
	}()
	for queued := 0; queued == 0; runtime.Gosched() {
		m.box.mu.Lock()
		queued = len(m.box.queue)
		m.box.mu.Unlock()
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the client saw %v", err)
	}
	close(release)
	eventually(t, m, "the framework is removed", func() bool { return len(m.frameworks) == 0 && len(m.completed.all()) == 1 })
}

// A subscriber that does not read is cut off, and the master goes on.
func TestSlowSubscriberIsCut(t *testing.T) {
	cfg := testConfig()
	cfg.MaxStreamBacklog = 1 << 20
	m := startMaster(t, cfg)
	a := addAgent(t, m, "host1")
	slow := rawSubscribe(t, m, mesostest.Framework())
	id := mesos.FrameworkID{Value: slow.frameworkID}
	chunk := []byte(strings.Repeat("x", 256<<10))
	eventually(t, m, "the subscriber is cut", func() bool {
		m.ExecutorMessage(a.id(), id, mesos.ExecutorID{Value: "e"}, chunk)
		return m.frameworks[id.Value].stream == nil
	})
	slow.expectCut(t)
}
