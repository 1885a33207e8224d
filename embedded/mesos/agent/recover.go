package agent

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/agent/internal/checkpoint"
	"github.com/baas-batch/baas/embedded/mesos/agent/internal/container"
)

// checkpoints are what an earlier agent left.
type checkpoints struct {
	agent      *mesos.AgentInfo
	frameworks []checkpoint.FrameworkState
	containers map[string]container.Record
}

func (a *Agent) readCheckpoints() (c checkpoints, err error) {
	if c.agent, err = a.store.Agent(); err != nil {
		return c, err
	}
	if c.containers, err = a.store.Containers(); err != nil {
		return c, err
	}
	if c.agent != nil {
		c.frameworks = a.store.Recover(func(path string, err error) {
			a.log.Error("checkpoint is skipped", "path", path, "error", err)
		})
	}
	return c, nil
}

// setInfo decides whether the agent goes on as the one of before.
func (a *Agent) setInfo(before checkpoints) error {
	_, port, err := net.SplitHostPort(a.addr)
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return err
	}
	number := int32(n)
	resources := a.cfg.Resources
	if resources == nil && before.agent != nil {
		resources = before.agent.Resources
	}
	if resources == nil {
		resources = machineResources(a.cfg.WorkDir)
	}
	a.info = mesos.AgentInfo{
		Hostname: a.cfg.Hostname, Port: &number, Resources: resources, Attributes: a.cfg.Attributes, Domain: a.cfg.Domain,
	}
	if before.agent == nil {
		return nil
	}
	if err := additive(*before.agent, a.info); err != nil {
		if len(before.frameworks) > 0 {
			return err
		}
		a.log.Info("starting as a new agent", "reason", err)
		return a.store.ForgetAgent()
	}
	a.setID(before.agent.ID)
	return nil
}

// additive allows what the policy of that name allows
// (src/slave/compatibility.cpp), but for the port, which may have been taken.
func additive(before, now mesos.AgentInfo) error {
	if before.Hostname != now.Hostname {
		return fmt.Errorf("%w: hostname changed from %s to %s", ErrIncompatible, before.Hostname, now.Hostname)
	}
	for _, r := range before.Resources {
		switch {
		case r.Scalar != nil:
			if had, has := sum(before.Resources, r.Name), sum(now.Resources, r.Name); has < had {
				return fmt.Errorf("%w: value of scalar resource '%s' decreased from %g to %g", ErrIncompatible, r.Name, had, has)
			}
		case r.Ranges != nil:
			for _, span := range r.Ranges.Range {
				if !covered(span, now.Resources, r.Name) {
					return fmt.Errorf("%w: range %d-%d of resource '%s' is gone", ErrIncompatible, span.Begin, span.End, r.Name)
				}
			}
		case r.Set != nil:
			for _, item := range r.Set.Item {
				if !contained(item, now.Resources, r.Name) {
					return fmt.Errorf("%w: item '%s' of resource '%s' is gone", ErrIncompatible, item, r.Name)
				}
			}
		}
	}
	for _, attribute := range before.Attributes {
		found := false
		for _, other := range now.Attributes {
			found = found || attribute.Equal(other)
		}
		if !found {
			return fmt.Errorf("%w: attribute '%s' has changed", ErrIncompatible, attribute.Name)
		}
	}
	return nil
}

func covered(span mesos.Value_Range, resources []mesos.Resource, name string) bool {
	for _, r := range resources {
		if r.Name != name {
			continue
		}
		for _, other := range r.GetRanges().GetRange() {
			if other.Begin <= span.Begin && span.End <= other.End {
				return true
			}
		}
	}
	return false
}

func contained(item string, resources []mesos.Resource, name string) bool {
	for _, r := range resources {
		if r.Name != name {
			continue
		}
		for _, other := range r.GetSet().GetItem() {
			if other == item {
				return true
			}
		}
	}
	return false
}

// recover takes over what still runs, and gives executors some time to come
// back. What nobody claims, such as executors of frameworks without
// checkpointing, is killed.
func (a *Agent) recover(before checkpoints) {
	if a.info.ID != nil {
		info := a.info
		if err := a.store.SaveAgent(info); err != nil {
			a.log.Error("agent's information is not kept", "error", err)
		}
		for _, state := range before.frameworks {
			a.recoverFramework(state, before.containers)
		}
	}
	for _, record := range before.containers {
		a.killOrphan(record)
	}
	if len(a.frameworks) == 0 {
		a.recovered()
		return
	}
	a.box.after(a.cfg.ExecutorReregistrationTimeout, a.reregistrationTimeout)
	a.checkRecovered()
}

// recoverFramework removes the records that it claims.
func (a *Agent) recoverFramework(state checkpoint.FrameworkState, containers map[string]container.Record) {
	f := &framework{info: state.Info, executors: map[mesos.ExecutorID]*executorRun{}}
	a.frameworks[f.id()] = f
	for _, es := range state.Executors {
		record, known := containers[es.ContainerID]
		if !known { // it was never started
			record = container.Record{ID: es.ContainerID, Boot: container.BootID()}
		}
		delete(containers, es.ContainerID)
		e := newExecutor(f.id(), es.Info, es.ContainerID, filepath.Join(a.runsDir(f.id(), es.Info.ExecutorID), es.ContainerID))
		e.log, e.memory, e.everSent = es.Log, record.Memory, record.Sent
		f.executors[e.id()] = e
		for _, ts := range es.Tasks {
			a.recoverTask(e, ts)
		}
		e.raiseMemory()
		e.container = container.Recover(a.ctx, record)
		a.log.Info("executor recovered", "framework", f.id().Value, "executor", e.id().Value,
			"pid", record.PID, "tasks", len(e.launched)+len(e.terminated))
		a.watch(e)
	}
	a.removeIdle(f)
}

// recoverTask replays the updates of a task.
func (a *Agent) recoverTask(e *executorRun, ts *checkpoint.TaskState) {
	task := ts.Task
	id := task.TaskID
	e.launched[id] = &task
	var s *stream
	for _, status := range ts.Updates {
		if err := e.check(status); err != nil {
			continue
		}
		e.apply(status)
		if s == nil {
			s = a.stream(e.framework, id, e.log)
		}
		s.known[string(status.UUID)] = true
		switch {
		case !ts.Acked[string(status.UUID)]:
			s.pending = append(s.pending, status)
		case terminal(*status.State):
			s.end()
			e.complete(id)
		}
	}
}

func (a *Agent) killOrphan(record container.Record) {
	a.log.Info("killing a container that belongs to nothing", "container", record.ID, "pid", record.PID)
	c := container.Recover(a.ctx, record)
	a.work.Go(func() {
		if err := c.Kill(); err != nil {
			a.log.Error("container cannot be killed", "container", record.ID, "error", err)
			return
		}
		if err := a.store.RemoveContainer(record.ID); err != nil {
			a.log.Error("container's record is not removed", "container", record.ID, "error", err)
		}
	})
}

// checkRecovered ends recovery as soon as every executor is back or dead. Mesos
// always waits for the whole time (MESOS-7539).
func (a *Agent) checkRecovered() {
	if a.state != recovering {
		return
	}
	for _, f := range a.frameworks {
		for _, e := range f.executors {
			if e.state == executorRegistering {
				return
			}
		}
	}
	a.recovered()
}

func (a *Agent) reregistrationTimeout() {
	if a.state != recovering {
		return
	}
	for _, f := range a.frameworks {
		for _, e := range f.executors {
			if e.state != executorRegistering {
				continue
			}
			a.log.Warn("executor did not come back in time", "framework", f.id().Value, "executor", e.id().Value)
			a.destroy(e)
			e.state = executorTerminating
			e.died = &termination{
				state: f.either(mesos.TASK_GONE), reason: mesos.REASON_EXECUTOR_REREGISTRATION_TIMEOUT,
				message: "Executor did not reregister within " + duration(a.cfg.ExecutorReregistrationTimeout),
			}
		}
	}
	a.recovered()
}

func (a *Agent) recovered() {
	a.state = disconnected
	a.log.Info("recovery has finished")
	close(a.ready)
	a.register()
}
