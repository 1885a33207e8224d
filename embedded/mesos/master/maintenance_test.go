package master

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/allocator"
	"github.com/mesos/mesos-go/api/v1/lib/maintenance"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

func schedule(t *testing.T, m *Master, want int, windows ...maintenance.Window) {
	t.Helper()
	change(t, m, want, &mastercalls.Call{
		Type:                      mastercalls.Call_UPDATE_MAINTENANCE_SCHEDULE,
		UpdateMaintenanceSchedule: &mastercalls.Call_UpdateMaintenanceSchedule{Schedule: maintenance.Schedule{Windows: windows}},
	})
}

func inAnHour(hosts ...string) maintenance.Window {
	w := maintenance.Window{Unavailability: mesos.Unavailability{
		Start: mesos.TimeInfo{Nanoseconds: time.Now().Add(time.Hour).UnixNano()}, Duration: &mesos.DurationInfo{Nanoseconds: int64(time.Hour)},
	}}
	for _, host := range hosts {
		w.MachineIDs = append(w.MachineIDs, machineOf(host))
	}
	return w
}

func machineOf(host string) mesos.MachineID {
	return (&agent{info: mesos.AgentInfo{Hostname: host}}).machine()
}

func machines(kind mastercalls.Call_Type, hosts ...string) *mastercalls.Call {
	call := &mastercalls.Call{Type: kind}
	var ids []mesos.MachineID
	for _, host := range hosts {
		ids = append(ids, machineOf(host))
	}
	if kind == mastercalls.Call_START_MAINTENANCE {
		call.StartMaintenance = &mastercalls.Call_StartMaintenance{Machines: ids}
	} else {
		call.StopMaintenance = &mastercalls.Call_StopMaintenance{Machines: ids}
	}
	return call
}

func TestMaintenance(t *testing.T) {
	m := startMaster(t, testConfig())
	a := addAgent(t, m, "127.0.0.2")
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	task := launch(t, s, a, "t1")
	a.update(s.FrameworkID, task, mesos.TASK_RUNNING)
	s.AwaitStatus(t, "t1", mesos.TASK_RUNNING)

	window := inAnHour("127.0.0.2", "elsewhere")
	schedule(t, m, http.StatusOK, window)
	if offer := wholeOffer(t, m, s); offer.Unavailability.GetStart() != window.Unavailability.Start {
		t.Errorf("the offer says %v", offer.Unavailability)
	}
	inverse := func() mesos.InverseOffer {
		return s.Await(t, "INVERSE_OFFERS", mesostest.Type(scheduler.Event_INVERSE_OFFERS)).InverseOffers.InverseOffers[0]
	}
	ask := inverse()
	if ask.AgentID.GetValue() != a.id().Value || ask.Unavailability.Start != window.Unavailability.Start {
		t.Errorf("inverse offer %v", ask)
	}
	s.Must(t, calls.DeclineInverseOffers(ask.OfferID).With(calls.RefuseSeconds(20*time.Millisecond)))
	ask = inverse() // asked again when the filter has ended
	s.Must(t, calls.AcceptInverseOffers(ask.OfferID).With(calls.RefuseSeconds(time.Hour)))
	status := operate(t, m, &mastercalls.Call{Type: mastercalls.Call_GET_MAINTENANCE_STATUS}).GetMaintenanceStatus.Status
	if len(status.DrainingMachines) != 2 || len(status.DrainingMachines[0].Statuses) != 1 ||
		*status.DrainingMachines[0].Statuses[0].Status != allocator.InverseOfferStatus_ACCEPT {
		t.Errorf("status %v", status)
	}

	change(t, m, http.StatusBadRequest, machines(mastercalls.Call_START_MAINTENANCE, "127.0.0.3"))
	change(t, m, http.StatusBadRequest, machines(mastercalls.Call_STOP_MAINTENANCE, "127.0.0.2"))
	change(t, m, http.StatusOK, machines(mastercalls.Call_START_MAINTENANCE, "127.0.0.2"))
	a.expect(t, "shutdown: Operator initiated 'Machine DOWN'")
	s.AwaitStatus(t, "t1", mesos.TASK_LOST)
	schedule(t, m, http.StatusBadRequest) // it is down, so it cannot leave the schedule
	down := &fakeAgent{m: m, messages: make(chan string, 10), info: a.info}
	down.info.ID = nil
	m.Register(down, down.info)
	change(t, m, http.StatusOK, machines(mastercalls.Call_STOP_MAINTENANCE, "127.0.0.2"))
	if len(down.messages) > 0 {
		t.Error("an agent was let in while its machine was down")
	}
	m.Register(down, down.info)
	down.expect(t, "registered")
	got := operate(t, m, &mastercalls.Call{Type: mastercalls.Call_GET_MAINTENANCE_SCHEDULE}).GetMaintenanceSchedule.Schedule.Windows
	if len(got) != 1 || len(got[0].MachineIDs) != 1 || got[0].MachineIDs[0].GetHostname() != "elsewhere" {
		t.Errorf("schedule is %v", got)
	}
}

func TestMaintenanceScheduleIsChecked(t *testing.T) {
	m := startMaster(t, testConfig())
	for name, windows := range map[string][]maintenance.Window{
		"no machines":   {inAnHour()},
		"no name":       {{MachineIDs: []mesos.MachineID{{}}, Unavailability: inAnHour("a").Unavailability}},
		"one twice":     {inAnHour("a"), inAnHour("a")},
		"negative time": {{MachineIDs: []mesos.MachineID{machineOf("a")}, Unavailability: mesos.Unavailability{Duration: &mesos.DurationInfo{Nanoseconds: -1}}}},
	} {
		t.Run(name, func(t *testing.T) { schedule(t, m, http.StatusBadRequest, windows...) })
	}
}

func drain(id mesos.AgentID, gone bool) *mastercalls.Call {
	return &mastercalls.Call{Type: mastercalls.Call_DRAIN_AGENT, DrainAgent: &mastercalls.Call_DrainAgent{AgentID: id, MarkGone: ptr(gone)}}
}

func agentCall(kind mastercalls.Call_Type, id mesos.AgentID) *mastercalls.Call {
	if kind == mastercalls.Call_DEACTIVATE_AGENT {
		return &mastercalls.Call{Type: kind, DeactivateAgent: &mastercalls.Call_DeactivateAgent{AgentID: id}}
	}
	return &mastercalls.Call{Type: kind, ReactivateAgent: &mastercalls.Call_ReactivateAgent{AgentID: id}}
}

// An agent is drained over a change of the master and used again afterwards.
func TestDrain(t *testing.T) {
	cfg := testConfig()
	cfg.Registry = OpenRegistry(filepath.Join(t.TempDir(), "registry.json"))
	m := startMaster(t, cfg)
	a := addAgent(t, m, "a")
	info := mesostest.Framework()
	s := mesostest.Subscribe(t, m.URL(), info, mesostest.Options{})
	task := launch(t, s, a, "t1")
	a.update(s.FrameworkID, task, mesos.TASK_RUNNING)
	s.AwaitStatus(t, "t1", mesos.TASK_RUNNING)
	s.AwaitOffer(t)

	change(t, m, http.StatusNotFound, drain(mesos.AgentID{Value: "nobody"}, false))
	change(t, m, http.StatusOK, drain(a.id(), false))
	s.Await(t, "RESCIND", mesostest.Type(scheduler.Event_RESCIND))
	a.expect(t, "drain true")
	offered(t, m, "*", 1.1) // the task and its executor; the rest is not offered
	state := func() *mastercalls.Response_GetAgents_Agent {
		return &operate(t, m, &mastercalls.Call{Type: mastercalls.Call_GET_AGENTS}).GetAgents.Agents[0]
	}
	if got := state(); got.Active || !got.GetDeactivated() || got.DrainInfo.GetState() != mesos.DrainState_DRAINING {
		t.Errorf("agent %v", got)
	}
	change(t, m, http.StatusBadRequest, agentCall(mastercalls.Call_REACTIVATE_AGENT, a.id()))

	s.Close()
	m.Stop()
	m = startMaster(t, cfg)
	a.m = m
	info.ID = &mesos.FrameworkID{Value: s.FrameworkID}
	s = mesostest.Subscribe(t, m.URL(), info, mesostest.Options{})
	task.Resources = allocatedTo(task.Resources, "*")
	m.Reregister(a, a.state(info, task))
	a.expect(t, "drain true")
	killed := a.update(s.FrameworkID, task, mesos.TASK_KILLED)
	s.AwaitStatus(t, "t1", mesos.TASK_KILLED)
	if got := state(); got.DrainInfo.GetState() != mesos.DrainState_DRAINING {
		t.Errorf("drained before the task's end was acknowledged: %v", got)
	}
	s.Acknowledge(t, killed)
	eventually(t, m, "drained", func() bool { return m.agents[a.id().Value].drainInfo().State == mesos.DrainState_DRAINED })
	change(t, m, http.StatusOK, agentCall(mastercalls.Call_REACTIVATE_AGENT, a.id()))
	a.expect(t, "drain false")
	s.AwaitOffer(t)
	change(t, m, http.StatusBadRequest, agentCall(mastercalls.Call_REACTIVATE_AGENT, a.id()))

	change(t, m, http.StatusOK, agentCall(mastercalls.Call_DEACTIVATE_AGENT, a.id()))
	s.Await(t, "RESCIND", mesostest.Type(scheduler.Event_RESCIND))
	if got := state(); !got.GetDeactivated() || got.DrainInfo != nil {
		t.Errorf("agent %v", got)
	}
}

func TestDrainForGood(t *testing.T) {
	m := startMaster(t, testConfig())
	a := addAgent(t, m, "a")
	change(t, m, http.StatusOK, drain(a.id(), true))
	a.expect(t, "shutdown: Agent has been marked gone")
	eventually(t, m, "gone", func() bool { _, gone := m.gone[a.id().Value]; return gone && len(m.agents) == 0 })
}
