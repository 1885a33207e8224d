package master

import (
	"errors"
	"fmt"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

// accept launches tasks on the offers of one agent, taken together. What is left
// of them counts as refused, with the filters of the call.
func (m *Master) accept(f *framework, call *scheduler.Call_Accept) {
	offers, err := m.validateOffers(f, call.OfferIDs)
	if err != nil {
		m.refuseAccept(f, call, err)
		return
	}
	a, role := offers[0].agent, offers[0].role
	rest := newBag()
	for _, o := range offers {
		rest.add(o.resources)
		m.takeBack(o)
	}
	for i := range call.Operations {
		op := &call.Operations[i]
		switch op.Type {
		case mesos.Offer_Operation_LAUNCH:
			m.launch(f, a, role, op, rest)
		case mesos.Offer_Operation_LAUNCH_GROUP:
			m.refuseTasks(f, op.GetLaunchGroup().GetTaskGroup().Tasks, mesos.TASK_ERROR, mesos.REASON_TASK_GROUP_INVALID,
				"Task groups are not supported by this master: it has no default executor")
		default:
			m.dropOperation(f, op, op.Type.String()+" is not supported by this master")
		}
	}
	m.refuse(f, role, a, rest, call.Filters)
}

// validateOffers finds the offers of an ACCEPT: all of this framework, of one
// role and of one agent.
func (m *Master) validateOffers(f *framework, ids []mesos.OfferID) ([]*offer, error) {
	if len(ids) == 0 {
		return nil, errors.New("no offers specified")
	}
	var offers []*offer
	seen := map[string]bool{}
	for _, id := range ids {
		o := m.offers[id.Value]
		switch {
		case seen[id.Value]:
			return nil, fmt.Errorf("duplicate offer %s in offer list", id.Value)
		case o == nil:
			return nil, fmt.Errorf("offer %s is no longer valid", id.Value)
		case o.framework != f:
			return nil, fmt.Errorf("offer %s has invalid framework %s while framework %s is expected", id.Value, o.framework.id, f.id)
		case len(offers) > 0 && o.role != offers[0].role:
			return nil, fmt.Errorf("aggregated offers must be allocated to the same role; offer %s is not", id.Value)
		case len(offers) > 0 && o.agent != offers[0].agent:
			return nil, fmt.Errorf("aggregated offers must belong to one single agent; offer %s does not", id.Value)
		}
		seen[id.Value] = true
		offers = append(offers, o)
	}
	return offers, nil
}

// refuseAccept answers an ACCEPT whose offers do not do: those that are still
// valid are used up all the same.
func (m *Master) refuseAccept(f *framework, call *scheduler.Call_Accept, reason error) {
	m.log.Warn("master: ACCEPT with invalid offers", "framework", f.id, "error", reason)
	for _, id := range call.OfferIDs {
		if o := f.offers[id.Value]; o != nil {
			m.takeBack(o)
		}
	}
	for i := range call.Operations {
		op := &call.Operations[i]
		var tasks []mesos.TaskInfo
		switch op.Type {
		case mesos.Offer_Operation_LAUNCH:
			tasks = op.GetLaunch().GetTaskInfos()
		case mesos.Offer_Operation_LAUNCH_GROUP:
			tasks = op.GetLaunchGroup().GetTaskGroup().Tasks
		default:
			m.dropOperation(f, op, "operation attempted with invalid offers: "+reason.Error())
			continue
		}
		m.refuseTasks(f, tasks, f.lostOr(mesos.TASK_DROPPED), mesos.REASON_INVALID_OFFERS,
			"Task launched with invalid offers: "+reason.Error())
	}
}

// launch starts the tasks of one LAUNCH operation out of rest, which it reduces.
func (m *Master) launch(f *framework, a *agent, role string, op *mesos.Offer_Operation, rest bag) {
	tasks := op.GetLaunch().GetTaskInfos()
	if op.ID != nil {
		m.refuseTasks(f, tasks, mesos.TASK_ERROR, mesos.REASON_TASK_INVALID, "The `id` field cannot be set on LAUNCH operations")
		return
	}
	for i := range tasks {
		if err := validateTaskResources(&tasks[i]); err != nil {
			m.refuseTasks(f, tasks, mesos.TASK_ERROR, mesos.REASON_TASK_INVALID, err.Error())
			return
		}
	}
	for i := range tasks {
		t := tasks[i]
		normalise(&t, f.id, role)
		plan, err := m.validateTask(f, a, role, &t, rest)
		if err != nil {
			m.refuseTasks(f, tasks[i:i+1], mesos.TASK_ERROR, mesos.REASON_TASK_INVALID, err.Error())
			continue
		}
		rest.sub(plan.task)
		if plan.newExecutor {
			rest.sub(plan.executor)
			m.addExecutor(a, f, *t.Executor, plan.executor)
		}
		m.addTask(a, f, newTask(&t, f.id, plan.task))
		m.log.Debug("master: launching", "task", t.TaskID.Value, "framework", f.id, "agent", a.id)
		a.link.RunTask(f.info, t, plan.newExecutor)
	}
}

// normalise fills in what Mesos' master fills in: the framework of the executor
// and the role that all resources are allocated to. It does not change the call.
func normalise(t *mesos.TaskInfo, framework, role string) {
	t.Resources = allocatedTo(t.Resources, role)
	if t.Executor == nil {
		return
	}
	e := *t.Executor
	if e.FrameworkID == nil {
		e.FrameworkID = &mesos.FrameworkID{Value: framework}
	}
	e.Resources = allocatedTo(e.Resources, role)
	t.Executor = &e
}

func allocatedTo(resources []mesos.Resource, role string) []mesos.Resource {
	out := make([]mesos.Resource, len(resources))
	for i, r := range resources {
		if r.AllocationInfo == nil {
			r.AllocationInfo = &mesos.Resource_AllocationInfo{Role: ptr(role)}
		}
		out[i] = r
	}
	return out
}

func roleOf(resources []mesos.Resource) string {
	if len(resources) == 0 {
		return ""
	}
	return resources[0].GetAllocationInfo().GetRole()
}

// refuseTasks answers tasks that are not launched; the master does not know them.
func (m *Master) refuseTasks(f *framework, tasks []mesos.TaskInfo, state mesos.TaskState, reason mesos.TaskStatus_Reason, message string) {
	for i := range tasks {
		m.log.Info("master: task refused", "task", tasks[i].TaskID.Value, "framework", f.id, "reason", message)
		s := masterStatus(tasks[i].TaskID, state, message)
		s.AgentID = ptr(tasks[i].AgentID)
		s.Reason = reason.Enum()
		m.forward(f, s)
	}
}

// dropOperation answers an operation that is not carried out, if it asked for feedback.
func (m *Master) dropOperation(f *framework, op *mesos.Offer_Operation, message string) {
	m.log.Warn("master: operation dropped", "framework", f.id, "operation", op.Type, "reason", message)
	if op.ID != nil {
		m.operationStatus(f, op.ID, mesos.OPERATION_ERROR, message)
	}
}

func (m *Master) operationStatus(f *framework, id *mesos.OperationID, state mesos.OperationState, message string) {
	f.send(&scheduler.Event{
		Type: scheduler.Event_UPDATE_OPERATION_STATUS,
		UpdateOperationStatus: &scheduler.Event_UpdateOperationStatus{
			Status: mesos.OperationStatus{OperationID: id, State: state, Message: ptr(message)},
		},
	})
}

// reconcileOperations answers that no operation is known: this master has none.
func (m *Master) reconcileOperations(f *framework, ops []scheduler.Call_ReconcileOperations_Operation) {
	for i := range ops {
		m.operationStatus(f, &ops[i].OperationID, mesos.OPERATION_UNKNOWN, "Reconciliation: Operation is unknown")
	}
}
