package master

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"github.com/baas-batch/baas/embedded/mesos/link"
)

const headerStreamID = "Mesos-Stream-Id"

// serveScheduler takes one call of the v1 scheduler API.
func (m *Master) serveScheduler(w http.ResponseWriter, r *http.Request, principal string) error {
	call := &scheduler.Call{}
	if err := decode(r, call); err != nil {
		return err
	}
	if err := validateCall(call, principal); err != nil {
		return err
	}
	if call.Type == scheduler.Call_SUBSCRIBE {
		return m.serveSubscription(w, r, call.Subscribe, principal)
	}
	fate, err := m.fateOf(r.Context(), call)
	if err != nil {
		return err
	}
	status := http.StatusAccepted
	var refused error
	err = m.call(r.Context(), func() {
		f, err := m.subscribed(call, principal, r.Header)
		if err != nil {
			refused = err
			return
		}
		if !fate.Lose {
			status, refused = m.dispatch(f, call)
		}
	})
	switch {
	case err != nil:
		return err
	case refused != nil:
		return refused
	case fate.Cut:
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	return nil
}

// fateOf asks a test what becomes of a call, and waits as long as it says.
func (m *Master) fateOf(ctx context.Context, call *scheduler.Call) (fate link.CallFate, err error) {
	if m.cfg.OnCall == nil {
		return fate, nil
	}
	fate = m.cfg.OnCall(call)
	if fate.Delay <= 0 {
		return fate, nil
	}
	timer := time.NewTimer(fate.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return fate, nil
	case <-m.stop:
		return fate, errStopped
	case <-ctx.Done():
		return fate, ctx.Err()
	}
}

// serveSubscription answers SUBSCRIBE with the event stream and returns when it ends.
func (m *Master) serveSubscription(w http.ResponseWriter, r *http.Request, sub *scheduler.Call_Subscribe, principal string) error {
	media, err := answerType(r)
	if err != nil {
		return err
	}
	if len(r.Header.Values(headerStreamID)) > 0 {
		return badRequest("Subscribe calls should not include the 'Mesos-Stream-Id' header")
	}
	info := *sub.FrameworkInfo
	if principal != "" && info.Principal == nil {
		info.Principal = &principal
	}
	s := m.newStream(media == mediaJSON)
	// However this ends, the framework must not stay connected to a stream that nobody writes.
	defer m.box.post(func() { m.streamEnded(s) })
	if err := m.call(r.Context(), func() { m.subscribe(s, info, sub.SuppressedRoles) }); err != nil {
		return err
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set(headerStreamID, s.id)
	w.WriteHeader(http.StatusOK)
	if err := s.run(r.Context(), w, m.cfg.HeartbeatInterval); err != nil {
		m.log.Debug("master: subscription broken", "framework", info.Name, "error", err)
		panic(http.ErrAbortHandler) // the client must see a cut, not an end
	}
	return nil
}

// subscribed finds the framework of a call and checks that the call comes from
// its current subscription.
func (m *Master) subscribed(call *scheduler.Call, principal string, header http.Header) (*framework, error) {
	f := m.frameworks[call.GetFrameworkID().GetValue()]
	switch {
	case f == nil:
		return nil, badRequest("Framework cannot be found")
	case principal != "" && principal != f.info.GetPrincipal():
		return nil, badRequest("Authenticated principal '%s' does not match principal '%s' set in `FrameworkInfo`", principal, f.info.GetPrincipal())
	case f.stream == nil:
		return nil, httpErrorf(http.StatusForbidden, "Framework is not subscribed")
	case len(header.Values(headerStreamID)) == 0:
		return nil, badRequest("All non-subscribe calls should include the 'Mesos-Stream-Id' header")
	case header.Get(headerStreamID) != f.stream.id:
		return nil, badRequest("The stream ID '%s' included in this request didn't match the stream ID currently associated with framework ID %s",
			header.Get(headerStreamID), f.id)
	}
	return f, nil
}

// dispatch carries a call out and answers the status of its success.
func (m *Master) dispatch(f *framework, call *scheduler.Call) (int, error) {
	switch call.Type {
	case scheduler.Call_TEARDOWN:
		m.removeFramework(f)
	case scheduler.Call_ACCEPT:
		m.accept(f, call.Accept)
	case scheduler.Call_DECLINE:
		m.decline(f, call.Decline)
	case scheduler.Call_REVIVE:
		m.revive(f, call.GetRevive().GetRoles())
	case scheduler.Call_SUPPRESS:
		m.suppress(f, call.GetSuppress().GetRoles())
	case scheduler.Call_KILL:
		m.kill(f, call.Kill)
	case scheduler.Call_SHUTDOWN:
		m.shutdownExecutor(f, call.Shutdown)
	case scheduler.Call_ACKNOWLEDGE:
		m.acknowledge(f, call.Acknowledge)
	case scheduler.Call_RECONCILE:
		m.reconcile(f, call.Reconcile.Tasks)
	case scheduler.Call_RECONCILE_OPERATIONS:
		m.reconcileOperations(f, call.ReconcileOperations.Operations)
	case scheduler.Call_MESSAGE:
		m.message(f, call.Message)
	case scheduler.Call_UPDATE_FRAMEWORK:
		return http.StatusOK, m.updateFrameworkCall(f, call.UpdateFramework)
	case scheduler.Call_ACCEPT_INVERSE_OFFERS:
		m.answerInverse(f, call.AcceptInverseOffers.InverseOfferIDs, true, call.AcceptInverseOffers.Filters)
	case scheduler.Call_DECLINE_INVERSE_OFFERS:
		m.answerInverse(f, call.DeclineInverseOffers.InverseOfferIDs, false, call.DeclineInverseOffers.Filters)
	case scheduler.Call_REQUEST, scheduler.Call_ACKNOWLEDGE_OPERATION_STATUS:
		// Taken and without effect: Mesos' allocator ignores REQUEST, and this master
		// has no operations that anybody could refer to.
	}
	return http.StatusAccepted, nil
}

// validateCall checks the shape of a call before any framework is looked up.
func validateCall(call *scheduler.Call, principal string) error {
	const invalid = "Failed to validate scheduler::Call: "
	expect := func(name string, present bool) error {
		if present {
			return nil
		}
		return badRequest(invalid+"Expecting '%s' to be present", name)
	}
	id := call.GetFrameworkID().GetValue()
	if call.Type == scheduler.Call_SUBSCRIBE {
		if call.Subscribe == nil || call.Subscribe.FrameworkInfo == nil {
			return expect("subscribe", false)
		}
		info := call.Subscribe.FrameworkInfo
		if info.GetID().GetValue() != id {
			return badRequest(invalid + "'framework_id' differs from 'subscribe.framework_info.id'")
		}
		if principal != "" && info.Principal != nil && info.GetPrincipal() != principal {
			return badRequest(invalid+"Authenticated principal '%s' does not match principal '%s' set in `FrameworkInfo`",
				principal, info.GetPrincipal())
		}
		return nil
	}
	if _, known := scheduler.Call_Type_name[int32(call.Type)]; !known || call.Type == scheduler.Call_UNKNOWN {
		return expect("type", false)
	}
	if call.FrameworkID == nil {
		return expect("framework_id", false)
	}
	switch call.Type {
	case scheduler.Call_ACCEPT:
		return expect("accept", call.Accept != nil)
	case scheduler.Call_DECLINE:
		return expect("decline", call.Decline != nil)
	case scheduler.Call_ACCEPT_INVERSE_OFFERS:
		return expect("accept_inverse_offers", call.AcceptInverseOffers != nil)
	case scheduler.Call_DECLINE_INVERSE_OFFERS:
		return expect("decline_inverse_offers", call.DeclineInverseOffers != nil)
	case scheduler.Call_KILL:
		return expect("kill", call.Kill != nil)
	case scheduler.Call_SHUTDOWN:
		return expect("shutdown", call.Shutdown != nil)
	case scheduler.Call_ACKNOWLEDGE:
		if call.Acknowledge == nil {
			return expect("acknowledge", false)
		}
		return validateUUID(call.Acknowledge.UUID)
	case scheduler.Call_ACKNOWLEDGE_OPERATION_STATUS:
		if call.AcknowledgeOperationStatus == nil {
			return expect("acknowledge_operation_status", false)
		}
		if err := validateUUID(call.AcknowledgeOperationStatus.UUID); err != nil {
			return err
		}
		return expect("agent_id", call.AcknowledgeOperationStatus.AgentID != nil)
	case scheduler.Call_RECONCILE:
		return expect("reconcile", call.Reconcile != nil)
	case scheduler.Call_RECONCILE_OPERATIONS:
		return expect("reconcile_operations", call.ReconcileOperations != nil)
	case scheduler.Call_MESSAGE:
		return expect("message", call.Message != nil)
	case scheduler.Call_REQUEST:
		return expect("request", call.Request != nil)
	case scheduler.Call_UPDATE_FRAMEWORK:
		if call.UpdateFramework == nil {
			return expect("update_framework", false)
		}
		if call.UpdateFramework.FrameworkInfo.GetID().GetValue() != id {
			return badRequest(invalid + "'framework_id' differs from 'update_framework.framework_info.id'")
		}
	}
	return nil
}

func validateUUID(b []byte) error {
	if _, err := uuid.FromBytes(b); err != nil {
		return badRequest("Failed to validate scheduler::Call: not a valid UUID")
	}
	return nil
}
