package agent

import (
	"net/http"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
)

var errStopped = refuse(http.StatusServiceUnavailable, "Agent has stopped")

// serveExecutor is the v1 executor API (docs/executor-http-api.md; src/slave/http.cpp).
func (a *Agent) serveExecutor(w http.ResponseWriter, r *http.Request) {
	var call executor.Call
	if err := readCall(w, r, &call); err != nil {
		fail(w, err)
		return
	}
	if err := validateCall(call); err != nil {
		fail(w, refuse(http.StatusBadRequest, "Failed to validate Executor::Call: %v", err))
		return
	}
	holder, err := a.authenticate(w, r)
	if err != nil {
		fail(w, err)
		return
	}
	switch call.Type {
	case executor.Call_HEARTBEAT:
		w.WriteHeader(http.StatusAccepted)
	case executor.Call_SUBSCRIBE:
		a.serveSubscribe(w, r, call, holder)
	default:
		err := error(errStopped)
		a.box.call(func() { err = a.executorCall(call, holder) })
		if err != nil {
			fail(w, err)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}
}

func (a *Agent) authenticate(w http.ResponseWriter, r *http.Request) (*claims, error) {
	if a.tokens.key == nil {
		return nil, nil
	}
	c, ok := a.tokens.read(r.Header.Get("Authorization"))
	if !ok {
		w.Header().Set("WWW-Authenticate", `Bearer realm="mesos-agent-executor"`)
		return nil, refuse(http.StatusUnauthorized, "A valid token is required")
	}
	return &c, nil
}

// invalid is why a call is refused as a whole.
func invalid(format string, args ...any) error {
	return refuse(http.StatusBadRequest, format, args...)
}

// validateCall is validateExecutorCall of src/common/validation.cpp.
func validateCall(call executor.Call) error {
	if call.Type == executor.Call_HEARTBEAT {
		return nil // may have empty IDs
	}
	if call.ExecutorID.Value == "" {
		return invalid("Expecting 'executor_id' to be present")
	}
	if call.FrameworkID.Value == "" {
		return invalid("Expecting 'framework_id' to be present")
	}
	switch call.Type {
	case executor.Call_SUBSCRIBE:
		if call.Subscribe == nil {
			return invalid("Expecting 'subscribe' to be present")
		}
	case executor.Call_UPDATE:
		if call.Update == nil {
			return invalid("Expecting 'update' to be present")
		}
		return validateStatus(call, call.Update.Status)
	case executor.Call_MESSAGE:
		if call.Message == nil {
			return invalid("Expecting 'message' to be present")
		}
	case executor.Call_UNKNOWN:
		return invalid("Expecting 'type' to be present")
	}
	return nil
}

func validateStatus(call executor.Call, status mesos.TaskStatus) error {
	id := call.ExecutorID.Value
	switch {
	case status.TaskID.Value == "":
		return invalid("Expecting 'task_id' to be present")
	case status.State == nil:
		return invalid("Expecting 'state' to be present")
	case status.UUID == nil:
		return invalid("Expecting 'uuid' to be present")
	case len(status.UUID) != 16:
		return invalid("Not a valid UUID: %d bytes", len(status.UUID))
	case status.ExecutorID != nil && status.ExecutorID.Value != id:
		return invalid("ExecutorID in Call: %s does not match ExecutorID in TaskStatus: %s", id, status.ExecutorID.Value)
	case status.GetSource() != mesos.SOURCE_EXECUTOR || status.Source == nil:
		return invalid("Received Call from executor %s of framework %s with invalid source, expecting 'SOURCE_EXECUTOR'",
			id, call.FrameworkID.Value)
	case *status.State == mesos.TASK_STAGING:
		return invalid("Received TASK_STAGING from executor %s of framework %s which is not allowed", id, call.FrameworkID.Value)
	}
	return nil
}

// caller finds who calls.
func (a *Agent) caller(call executor.Call, holder *claims) (*framework, *executorRun, error) {
	f := a.frameworks[call.FrameworkID]
	if f == nil {
		return nil, nil, refuse(http.StatusBadRequest, "Framework cannot be found")
	}
	e := f.executors[call.ExecutorID]
	if e == nil {
		return nil, nil, refuse(http.StatusBadRequest, "Executor cannot be found")
	}
	if holder != nil && *holder != e.claims() {
		return nil, nil, refuse(http.StatusForbidden, "Token does not belong to executor %s of framework %s",
			e.id().Value, f.id().Value)
	}
	return f, e, nil
}

func (a *Agent) executorCall(call executor.Call, holder *claims) error {
	if a.state == recovering {
		return refuse(http.StatusServiceUnavailable, "Agent has not finished recovery")
	}
	f, e, err := a.caller(call, holder)
	if err != nil {
		return err
	}
	if e.state == executorRegistering {
		return refuse(http.StatusForbidden, "Executor is not subscribed")
	}
	switch call.Type {
	case executor.Call_UPDATE:
		a.executorUpdate(f, e, call.Update.Status)
	case executor.Call_MESSAGE:
		a.executorMessage(f, e, call.Message.Data)
	default:
		return refuse(http.StatusNotImplemented, "Call %s is not implemented", call.Type)
	}
	return nil
}

func (a *Agent) serveSubscribe(w http.ResponseWriter, r *http.Request, call executor.Call, holder *claims) {
	asJSON, err := accepts(r)
	if err != nil {
		fail(w, err)
		return
	}
	events := newEventStream(asJSON)
	var e *executorRun
	err = errStopped
	a.box.call(func() { e, err = a.subscribe(call, holder, events) })
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", contentType(asJSON))
	w.WriteHeader(http.StatusOK)
	flush := w.(http.Flusher) // net/http's own always is
	flush.Flush()
	events.pump(r.Context(), w, flush)
	a.box.post(func() {
		if e.events == events {
			e.disconnect()
		}
	})
}

// subscribe connects an executor (Slave::subscribe).
func (a *Agent) subscribe(call executor.Call, holder *claims, events *eventStream) (*executorRun, error) {
	f, e, err := a.caller(call, holder)
	if err != nil {
		return nil, err
	}
	if a.state == terminating || f.terminating || e.state == executorTerminating || e.state == executorTerminated {
		a.log.Warn("executor subscribes but must end", "framework", f.id().Value, "executor", e.id().Value)
		err := events.send(&executor.Event{Type: executor.Event_SHUTDOWN})
		events.close()
		return e, err
	}
	e.disconnect()
	e.state = executorRunning
	e.events = events
	a.beat(e, events)
	for _, update := range call.Subscribe.UnacknowledgedUpdates {
		if err := validateStatus(call, update.Status); err != nil {
			a.log.Warn("update is ignored", "executor", e.id().Value, "error", err)
			continue
		}
		a.executorUpdate(f, e, update.Status)
	}
	a.dropUnheard(f, e, call.Subscribe.UnacknowledgedTasks)
	if !e.everSent && len(e.launched) == 0 && len(e.queued) == 0 {
		// All that it was started for has been killed (MESOS-8411).
		a.endExecutor(e)
		a.checkRecovered()
		return e, nil
	}
	a.send(e, &executor.Event{
		Type: executor.Event_SUBSCRIBED,
		Subscribed: &executor.Event_Subscribed{
			ExecutorInfo: e.info, FrameworkInfo: f.info, AgentInfo: a.info,
			ContainerID: &mesos.ContainerID{Value: e.containerID},
		},
	})
	a.sendQueued(e)
	a.drainExecutor(f, e)
	a.log.Info("executor has subscribed", "framework", f.id().Value, "executor", e.id().Value)
	a.checkRecovered()
	return e, nil
}

// dropUnheard answers for tasks that were sent to the executor's last connection
// and got lost on it: those that it does not know and that have no update yet.
func (a *Agent) dropUnheard(f *framework, e *executorRun, known []mesos.TaskInfo) {
	heard := map[mesos.TaskID]bool{}
	for _, t := range known {
		heard[t.TaskID] = true
	}
	for id, t := range e.launched {
		if t.GetState() != mesos.TASK_STAGING || heard[id] {
			continue
		}
		status := a.newStatus(id, f.either(mesos.TASK_DROPPED), mesos.REASON_AGENT_RESTARTED, "Task launched during agent restart")
		executorID := e.id()
		status.ExecutorID = &executorID
		a.agentUpdate(f, status)
	}
}

// beat sends a heartbeat now and then, so that nobody in between thinks the
// connection dead.
func (a *Agent) beat(e *executorRun, events *eventStream) {
	e.heartbeat = a.box.after(a.cfg.ExecutorHeartbeat, func() {
		if e.events == events {
			a.send(e, &executor.Event{Type: executor.Event_HEARTBEAT})
			a.beat(e, events)
		}
	})
}

// disconnect ends the connection, once what is queued has been written.
func (e *executorRun) disconnect() {
	if e.events == nil {
		return
	}
	e.heartbeat.Stop()
	e.events.close()
	e.events = nil
}
