package master

import (
	"net/http"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/maintenance"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master"
)

// serveOperator takes one call of the v1 operator API.
func (m *Master) serveOperator(w http.ResponseWriter, r *http.Request, _ string) error {
	call := &mastercalls.Call{}
	if err := decode(r, call); err != nil {
		return err
	}
	if _, known := mastercalls.Call_Type_name[int32(call.Type)]; !known {
		return badRequest("Failed to validate master::Call: Expecting 'type' to be present")
	}
	media, err := answerType(r)
	if err != nil {
		return err
	}
	var answer *mastercalls.Response
	var refused error
	if err := m.call(r.Context(), func() { answer, refused = m.operate(call) }); err != nil {
		return err
	}
	if refused != nil {
		return refused
	}
	if answer == nil || answer.Type == mastercalls.Response_UNKNOWN {
		return nil // 200 without a body
	}
	return writeMessage(w, media, answer)
}

// operate carries an operator's call out; a nil response means an empty 200.
func (m *Master) operate(call *mastercalls.Call) (*mastercalls.Response, error) {
	resp := &mastercalls.Response{}
	switch call.Type {
	case mastercalls.Call_GET_HEALTH:
		resp.Type = mastercalls.Response_GET_HEALTH
		resp.GetHealth = &mastercalls.Response_GetHealth{Healthy: true}
	case mastercalls.Call_GET_VERSION:
		resp.Type = mastercalls.Response_GET_VERSION
		resp.GetVersion = &mastercalls.Response_GetVersion{VersionInfo: mesos.VersionInfo{Version: Version}}
	case mastercalls.Call_GET_MASTER:
		info := m.info
		_, elected := m.leadership.get()
		resp.Type = mastercalls.Response_GET_MASTER
		resp.GetMaster = &mastercalls.Response_GetMaster{
			MasterInfo: &info, StartTime: ptr(seconds(m.started)), ElectedTime: ptr(seconds(elected)),
		}
	case mastercalls.Call_GET_STATE:
		resp.Type = mastercalls.Response_GET_STATE
		resp.GetState = &mastercalls.Response_GetState{
			GetTasks: m.getTasks(), GetExecutors: m.getExecutors(),
			GetFrameworks: m.getFrameworks(), GetAgents: m.getAgents(),
		}
	case mastercalls.Call_GET_FRAMEWORKS:
		resp.Type = mastercalls.Response_GET_FRAMEWORKS
		resp.GetFrameworks = m.getFrameworks()
	case mastercalls.Call_GET_TASKS:
		resp.Type = mastercalls.Response_GET_TASKS
		resp.GetTasks = m.getTasks()
	case mastercalls.Call_GET_AGENTS:
		resp.Type = mastercalls.Response_GET_AGENTS
		resp.GetAgents = m.getAgents()
	case mastercalls.Call_GET_EXECUTORS:
		resp.Type = mastercalls.Response_GET_EXECUTORS
		resp.GetExecutors = m.getExecutors()
	case mastercalls.Call_GET_ROLES:
		resp.Type = mastercalls.Response_GET_ROLES
		resp.GetRoles = m.getRoles()
	case mastercalls.Call_GET_WEIGHTS:
		resp.Type = mastercalls.Response_GET_WEIGHTS
		resp.GetWeights = &mastercalls.Response_GetWeights{WeightInfos: slices.Clone(m.registry.content.Weights)}
	case mastercalls.Call_GET_QUOTA:
		resp.Type = mastercalls.Response_GET_QUOTA
		resp.GetQuota = m.getQuota()
	case mastercalls.Call_GET_MAINTENANCE_SCHEDULE:
		resp.Type = mastercalls.Response_GET_MAINTENANCE_SCHEDULE
		resp.GetMaintenanceSchedule = &mastercalls.Response_GetMaintenanceSchedule{
			Schedule: maintenance.Schedule{Windows: slices.Clone(m.registry.content.Schedule)},
		}
	case mastercalls.Call_GET_MAINTENANCE_STATUS:
		resp.Type = mastercalls.Response_GET_MAINTENANCE_STATUS
		resp.GetMaintenanceStatus = m.maintenanceStatus()
	case mastercalls.Call_GET_OPERATIONS:
		resp.Type = mastercalls.Response_GET_OPERATIONS
		resp.GetOperations = &mastercalls.Response_GetOperations{}
	default:
		return nil, m.change(call)
	}
	return resp, nil
}

// change carries out a call that changes something; it has no answer but 200.
func (m *Master) change(call *mastercalls.Call) error {
	expect := func(name string) error {
		return badRequest("Failed to validate master::Call: Expecting '%s' to be present", name)
	}
	switch call.Type {
	case mastercalls.Call_MARK_AGENT_GONE:
		if call.MarkAgentGone == nil {
			return expect("mark_agent_gone")
		}
		return m.markGone(call.MarkAgentGone.AgentID.Value)
	case mastercalls.Call_TEARDOWN:
		if call.Teardown == nil {
			return expect("teardown")
		}
		f := m.frameworks[call.Teardown.FrameworkID.Value]
		if f == nil {
			return badRequest("No framework found with specified ID")
		}
		m.removeFramework(f)
		return nil
	case mastercalls.Call_UPDATE_QUOTA:
		if call.UpdateQuota == nil {
			return expect("update_quota")
		}
		return m.updateQuota(call.UpdateQuota)
	case mastercalls.Call_SET_QUOTA:
		if call.SetQuota == nil {
			return expect("set_quota")
		}
		return m.setQuota(call.SetQuota.QuotaRequest)
	case mastercalls.Call_REMOVE_QUOTA:
		if call.RemoveQuota == nil {
			return expect("remove_quota")
		}
		return m.removeQuota(call.RemoveQuota.Role)
	case mastercalls.Call_UPDATE_WEIGHTS:
		if call.UpdateWeights == nil {
			return expect("update_weights")
		}
		return m.updateWeights(call.UpdateWeights.WeightInfos)
	case mastercalls.Call_UPDATE_MAINTENANCE_SCHEDULE:
		if call.UpdateMaintenanceSchedule == nil {
			return expect("update_maintenance_schedule")
		}
		return m.updateSchedule(call.UpdateMaintenanceSchedule.Schedule)
	case mastercalls.Call_START_MAINTENANCE:
		if call.StartMaintenance == nil {
			return expect("start_maintenance")
		}
		return m.startMaintenance(call.StartMaintenance.Machines)
	case mastercalls.Call_STOP_MAINTENANCE:
		if call.StopMaintenance == nil {
			return expect("stop_maintenance")
		}
		return m.stopMaintenance(call.StopMaintenance.Machines)
	case mastercalls.Call_DRAIN_AGENT:
		if call.DrainAgent == nil {
			return expect("drain_agent")
		}
		return m.drainAgent(call.DrainAgent)
	case mastercalls.Call_DEACTIVATE_AGENT:
		if call.DeactivateAgent == nil {
			return expect("deactivate_agent")
		}
		return m.closeAgent(call.DeactivateAgent.AgentID.Value, nil)
	case mastercalls.Call_REACTIVATE_AGENT:
		if call.ReactivateAgent == nil {
			return expect("reactivate_agent")
		}
		return m.reactivateAgent(call.ReactivateAgent.AgentID.Value)
	}
	return httpErrorf(http.StatusNotImplemented, "%s is not supported by this master", call.Type)
}

func (m *Master) getTasks() *mastercalls.Response_GetTasks {
	out := &mastercalls.Response_GetTasks{}
	add := func(to *[]mesos.Task, t *task) {
		c := t.Task
		c.Statuses = slices.Clone(t.Statuses) // the slice is written to later on
		*to = append(*to, c)
	}
	for _, f := range m.allFrameworks() {
		for _, t := range f.tasks {
			add(&out.Tasks, t)
		}
		for _, t := range f.unreachable.all() {
			add(&out.UnreachableTasks, t)
		}
		for _, t := range f.completed.all() {
			add(&out.CompletedTasks, t)
		}
	}
	return out
}

// allFrameworks are those known and those removed.
func (m *Master) allFrameworks() []*framework {
	out := m.completed.all()
	for _, f := range m.frameworks {
		out = append(out, f)
	}
	return out
}

func (m *Master) getFrameworks() *mastercalls.Response_GetFrameworks {
	out := &mastercalls.Response_GetFrameworks{}
	for _, f := range m.frameworks {
		out.Frameworks = append(out.Frameworks, f.model())
	}
	for _, f := range m.completed.all() {
		out.CompletedFrameworks = append(out.CompletedFrameworks, f.model())
	}
	return out
}

func (f *framework) model() mastercalls.Response_GetFrameworks_Framework {
	out := mastercalls.Response_GetFrameworks_Framework{
		FrameworkInfo:    f.info,
		Active:           f.stream != nil,
		Connected:        f.stream != nil,
		Recovered:        f.recovered,
		RegisteredTime:   optionalTime(f.registeredAt),
		ReregisteredTime: optionalTime(f.reregisteredAt),
		UnregisteredTime: optionalTime(f.unregisteredAt),
	}
	for role, held := range f.allocated {
		used, offered := held.clone(), newBag()
		for _, o := range f.offers {
			if o.role == role {
				offered.add(o.resources)
			}
		}
		used.sub(offered)
		out.AllocatedResources = append(out.AllocatedResources, used.resources(role, true)...)
		out.OfferedResources = append(out.OfferedResources, offered.resources(role, true)...)
	}
	for _, o := range f.offers {
		out.Offers = append(out.Offers, o.message)
	}
	return out
}

func optionalTime(t time.Time) *mesos.TimeInfo {
	if t.IsZero() {
		return nil
	}
	return ptr(timeInfo(t))
}

func (m *Master) getAgents() *mastercalls.Response_GetAgents {
	out := &mastercalls.Response_GetAgents{}
	for _, a := range m.agents {
		var drainStart *mesos.TimeInfo
		if a.drainInfo() != nil {
			drainStart = &a.closedAs.Since
		}
		out.Agents = append(out.Agents, mastercalls.Response_GetAgents_Agent{
			AgentInfo:   a.info,
			Active:      a.active && !a.closed(),
			Deactivated: ptr(a.closed()),
			DrainInfo:   a.drainInfo(),

			EstimatedDrainStartTime: drainStart,

			Version:            Version,
			PID:                ptr("slave(1)@" + a.address()),
			RegisteredTime:     optionalTime(a.registeredAt),
			ReregisteredTime:   optionalTime(a.reregisteredAt),
			TotalResources:     a.total.resources("", true),
			AllocatedResources: a.used.resources("", true),
			OfferedResources:   a.offered.resources("", true),
			Capabilities: []mesos.AgentInfo_Capability{
				{Type: mesos.AgentInfo_Capability_MULTI_ROLE},
				{Type: mesos.AgentInfo_Capability_HIERARCHICAL_ROLE},
				{Type: mesos.AgentInfo_Capability_RESERVATION_REFINEMENT},
				{Type: mesos.AgentInfo_Capability_TASK_RESOURCE_LIMITS},
				{Type: mesos.AgentInfo_Capability_AGENT_DRAINING},
			},
		})
	}
	for _, info := range m.recoveredAgents {
		out.RecoveredAgents = append(out.RecoveredAgents, info)
	}
	return out
}

func (m *Master) getExecutors() *mastercalls.Response_GetExecutors {
	out := &mastercalls.Response_GetExecutors{}
	for _, a := range m.agents {
		for _, executors := range a.executors {
			for _, e := range executors {
				out.Executors = append(out.Executors, mastercalls.Response_GetExecutors_Executor{
					ExecutorInfo: e.info, AgentID: mesos.AgentID{Value: a.id},
				})
			}
		}
	}
	return out
}
