package master

import (
	"net/http"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
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
	if answer == nil {
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
	case mastercalls.Call_GET_OPERATIONS:
		resp.Type = mastercalls.Response_GET_OPERATIONS
		resp.GetOperations = &mastercalls.Response_GetOperations{}
	case mastercalls.Call_MARK_AGENT_GONE:
		if call.MarkAgentGone == nil {
			return nil, badRequest("Failed to validate master::Call: Expecting 'mark_agent_gone' to be present")
		}
		return nil, m.markGone(call.MarkAgentGone.AgentID.Value)
	case mastercalls.Call_TEARDOWN:
		if call.Teardown == nil {
			return nil, badRequest("Failed to validate master::Call: Expecting 'teardown' to be present")
		}
		f := m.frameworks[call.Teardown.FrameworkID.Value]
		if f == nil {
			return nil, badRequest("No framework found with specified ID")
		}
		m.removeFramework(f)
		return nil, nil
	default:
		return nil, httpErrorf(http.StatusNotImplemented, "%s is not supported by this master", call.Type)
	}
	return resp, nil
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
		out.Agents = append(out.Agents, mastercalls.Response_GetAgents_Agent{
			AgentInfo:          a.info,
			Active:             a.active,
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

func (m *Master) getRoles() *mastercalls.Response_GetRoles {
	held := map[string]bag{mesos.DefaultRole: newBag()}
	members := map[string][]mesos.FrameworkID{}
	for _, f := range m.frameworks {
		for _, role := range frameworkRoles(&f.info) {
			members[role] = append(members[role], mesos.FrameworkID{Value: f.id})
			if _, ok := held[role]; !ok {
				held[role] = newBag()
			}
			held[role].add(f.allocated[role])
		}
	}
	out := &mastercalls.Response_GetRoles{}
	for _, role := range slices.Sorted(slices.Values(keys(held))) {
		out.Roles = append(out.Roles, mesos.Role{
			Name: role, Weight: 1, Frameworks: members[role], Resources: held[role].resources("", false),
		})
	}
	return out
}
