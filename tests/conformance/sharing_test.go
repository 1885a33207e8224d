package conformance

import (
	"net/http"
	"testing"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/maintenance"
	"github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

// roleBelow is a role of this test alone.
func roleBelow(name string) string {
	if target.role == api.DefaultRole {
		return "conformance/" + name
	}
	return target.role + "/" + name
}

// updateRoles changes the roles of a subscribed framework. mesos-go takes the
// answer, 200 without Content-Type, for an error; what has come of the call shows in
// the offers.
func updateRoles(t *testing.T, s *mesostest.Session, info *api.FrameworkInfo, suppressed []string, roles ...string) {
	t.Helper()
	next := *info
	next.ID, next.Roles = &api.FrameworkID{Value: s.FrameworkID}, roles
	_ = s.Call(t.Context(), calls.UpdateFramework(next, func(c *scheduler.Call_UpdateFramework) { c.SuppressedRoles = suppressed }))
}

func roleOf(o api.Offer) string { return o.GetAllocationInfo().GetRole() }

// A framework takes a role more while it runs; its tasks in another one live on, and
// a role that is suppressed is not offered anything.
func TestRolesChangeWhileRunning(t *testing.T) {
	info := framework(t)
	s := subscribe(t, info)
	launch(t, s, "t1")
	other := roleBelow("other")
	updateRoles(t, s, info, []string{target.role}, target.role, other)
	offer := awaitOfferWith(t, s, "an offer to role "+other, func(o api.Offer) bool { return roleOf(o) == other && roomy(o) })
	for _, r := range offer.Resources {
		if r.GetAllocationInfo().GetRole() != other {
			t.Errorf("resource %v", r)
		}
	}
	s.Must(t, calls.Kill("t1", ""))
	s.Acknowledge(t, s.AwaitStatus(t, "t1", api.TASK_KILLED))
}

// A role with a limit is never offered more than that.
func TestQuotaLimit(t *testing.T) {
	role := roleBelow("limited")
	mesostest.Operate(t, target.url, target.options, mesostest.Quota(role, 0.5))
	t.Cleanup(func() { mesostest.Operate(t, target.url, target.options, mesostest.Quota(role, 0)) })
	info := framework(t)
	info.Roles = []string{role}
	s := subscribe(t, info)
	cpus := func(o api.Offer) (sum float64) {
		for _, r := range o.Resources {
			if r.Name == "cpus" {
				sum += r.GetScalar().GetValue()
			}
		}
		return sum
	}
	offer := awaitOfferWith(t, s, "an offer with CPUs", func(o api.Offer) bool { return cpus(o) > 0 })
	if have := cpus(offer); have > 0.5 {
		t.Errorf("offered %v CPUs, the limit is 0.5", have)
	}
	resp, err := mesostest.Operator(t.Context(), target.url, target.options, &master.Call{Type: master.Call_GET_QUOTA})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, c := range resp.GetQuota.Status.Configs {
		found = found || c.Role == role && c.Limits["cpus"].Value == 0.5
	}
	if !found {
		t.Errorf("quota %v", resp.GetQuota.Status.Configs)
	}
}

// A drained agent kills its tasks, says why, and is not offered before it is
// reactivated.
func TestDrainedAgent(t *testing.T) {
	s := subscribe(t, framework(t))
	offer := awaitOffer(t, s)
	s.Accept(t, []api.OfferID{offer.ID}, task(t, "t1", offer, "run"))
	s.Acknowledge(t, s.AwaitStatus(t, "t1", api.TASK_RUNNING))
	mesostest.Operate(t, target.url, target.options, mesostest.Drain(offer.AgentID))
	reactivate := func() (int, string) {
		return mesostest.TryOperate(t, target.url, target.options, mesostest.Reactivate(offer.AgentID))
	}
	back := false
	t.Cleanup(func() {
		for deadline := time.Now().Add(mesostest.Patience); !back && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			code, _ := reactivate()
			back = code == http.StatusOK
		}
	})
	killed := s.AwaitStatus(t, "t1", api.TASK_KILLED)
	if killed.Reason == nil || killed.GetReason() != api.REASON_AGENT_DRAINING || len(killed.UUID) == 0 {
		t.Errorf("KILLED: %v", killed)
	}
	if code, said := reactivate(); code == http.StatusOK {
		t.Errorf("reactivated while draining: %s", said)
	}
	s.Acknowledge(t, killed)
	for deadline := time.Now().Add(mesostest.Patience); !back; time.Sleep(50 * time.Millisecond) {
		code, said := reactivate()
		if back = code == http.StatusOK; !back && time.Now().After(deadline) {
			t.Fatalf("the agent is not drained: %d %s", code, said)
		}
	}
	s.Must(t, calls.Revive())
	offerOf(t, s, offer.AgentID)
}

// Offers of a machine that is to be maintained say when, and whoever has tasks there
// is asked to leave.
func TestMaintenanceWindow(t *testing.T) {
	s := subscribe(t, framework(t))
	agent := launch(t, s, "t1").AgentID
	before, err := mesostest.Operator(t.Context(), target.url, target.options, &master.Call{Type: master.Call_GET_MAINTENANCE_SCHEDULE})
	if err != nil {
		t.Fatal(err)
	}
	set := func(schedule maintenance.Schedule) {
		mesostest.Operate(t, target.url, target.options, &master.Call{
			Type:                      master.Call_UPDATE_MAINTENANCE_SCHEDULE,
			UpdateMaintenanceSchedule: &master.Call_UpdateMaintenanceSchedule{Schedule: schedule},
		})
	}
	t.Cleanup(func() { set(before.GetMaintenanceSchedule.Schedule) })
	offer := offerOf(t, s, agent)
	address := offer.GetURL().GetAddress()
	start := api.TimeInfo{Nanoseconds: time.Now().Add(time.Hour).UnixNano()}
	host, ip := offer.Hostname, address.GetIP()
	set(maintenance.Schedule{Windows: []maintenance.Window{{
		MachineIDs: []api.MachineID{{Hostname: &host, IP: &ip}}, Unavailability: api.Unavailability{Start: start},
	}}})
	inverse := s.Await(t, "INVERSE_OFFERS", mesostest.Type(scheduler.Event_INVERSE_OFFERS)).InverseOffers.InverseOffers[0]
	if inverse.Unavailability.Start != start || inverse.AgentID.GetValue() != agent.Value {
		t.Errorf("inverse offer %v", inverse)
	}
	s.Must(t, calls.DeclineInverseOffers(inverse.OfferID))
	next := awaitOfferWith(t, s, "an offer that tells of the window", func(o api.Offer) bool { return o.Unavailability != nil })
	if next.Unavailability.Start != start {
		t.Errorf("unavailability %v", next.Unavailability)
	}
	s.Must(t, calls.Kill("t1", ""))
	s.Acknowledge(t, s.AwaitStatus(t, "t1", api.TASK_KILLED))
}
