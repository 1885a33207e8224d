package master

import (
	"errors"
	"fmt"
	"math"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// launchPlan is what a valid task takes from an offer.
type launchPlan struct {
	task, executor bag
	newExecutor    bool
}

// validateTaskResources finds resources of a wrong form; one such task makes the
// whole LAUNCH invalid.
func validateTaskResources(t *mesos.TaskInfo) error {
	if err := validateResources(t.Resources); err != nil {
		return err
	}
	return validateResources(t.Executor.GetResources())
}

// validateTask checks a task in the order in which Mesos does
// (src/master/validation.cpp), against what the offers have left.
func (m *Master) validateTask(f *framework, a *agent, role string, t *mesos.TaskInfo, rest bag) (launchPlan, error) {
	if err := validateTaskFields(f, a, t); err != nil {
		return launchPlan{}, err
	}
	if (t.Executor == nil) == (t.Command == nil) {
		return launchPlan{}, errors.New("task should have at least one (but not both) of CommandInfo or ExecutorInfo present")
	}
	plan := launchPlan{executor: newBag()}
	if t.Executor != nil {
		if err := validateExecutor(f, a, t.Executor); err != nil {
			return launchPlan{}, err
		}
		_, running := a.executors[f.id][t.Executor.ExecutorID.Value]
		plan.newExecutor = !running
	}
	var ok, okExecutor = false, true
	plan.task, ok = bagOf(t.Resources, role)
	if t.Executor != nil {
		plan.executor, okExecutor = bagOf(t.Executor.Resources, role)
	}
	if !ok || !okExecutor {
		return launchPlan{}, fmt.Errorf("resources required by task and its executor are not among those offered: %s", rest)
	}
	if plan.task.overlaps(plan.executor) {
		return launchPlan{}, fmt.Errorf("there are overlapping resources in the task resources %s and executor resources %s", plan.task, plan.executor)
	}
	needed := plan.task.clone()
	if plan.newExecutor {
		needed.add(plan.executor)
	}
	if name := both(plan).mixed(); name != "" {
		return launchPlan{}, fmt.Errorf("task and its executor cannot use both revocable and non-revocable '%s' at the same time", name)
	}
	if !rest.contains(needed) {
		return launchPlan{}, fmt.Errorf("total resources %s required by task and its executor is more than available %s", needed, rest)
	}
	if li := t.GetContainer().GetLinuxInfo(); li != nil && li.ShareCgroups != nil && !*li.ShareCgroups {
		return launchPlan{}, errors.New("only tasks in a task group may have 'share_cgroups' set to 'false'")
	}
	return plan, nil
}

// both is what a task and its executor use together.
func both(plan launchPlan) bag {
	sum := plan.task.clone()
	sum.add(plan.executor)
	return sum
}

func validateTaskFields(f *framework, a *agent, t *mesos.TaskInfo) error {
	id := t.TaskID.Value
	if err := validateID(id); err != nil {
		return fmt.Errorf("task has an invalid ID: %w", err)
	}
	if f.tasks[id] != nil {
		return fmt.Errorf("task has duplicate ID: %s", id)
	}
	if f.unreachable.has(id) {
		return fmt.Errorf("task reuses the ID of an unreachable task: %s", id)
	}
	if t.AgentID.Value != a.id {
		return fmt.Errorf("task uses invalid agent %s while agent %s is expected", t.AgentID.Value, a.id)
	}
	if t.KillPolicy.GetGracePeriod().GetNanoseconds() < 0 {
		return errors.New("task's 'kill_policy.grace_period' must be non-negative")
	}
	if t.MaxCompletionTime.GetNanoseconds() < 0 {
		return errors.New("task's 'max_completion_time' must be non-negative")
	}
	if len(t.Resources) == 0 {
		return errors.New("task uses no resources")
	}
	if err := validateCommand(t.Command); err != nil {
		return fmt.Errorf("task's `CommandInfo` is invalid: %w", err)
	}
	return validateLimits(t)
}

// validateLimits checks TaskInfo.limits: only cpus and mem, not below the request.
func validateLimits(t *mesos.TaskInfo) error {
	if len(t.Limits) == 0 {
		return nil
	}
	request, ok := bagOf(t.Resources, "")
	for name, limit := range t.Limits {
		if name != "cpus" && name != "mem" {
			return errors.New("only cpus and mem may be included in a task's resource limits")
		}
		want, named := request.scalars[name]
		if !ok || !named {
			return fmt.Errorf("when a %s limit is specified, a %s request must also be specified", name, name)
		}
		if v := limit.GetValue(); !math.IsInf(v, 1) && units(v) < want {
			return fmt.Errorf("the %s limit must be greater than or equal to the %s request", name, name)
		}
	}
	return nil
}

// validateExecutor checks a custom executor, and that one with its ID which
// already runs on the agent is the same.
func validateExecutor(f *framework, a *agent, e *mesos.ExecutorInfo) error {
	switch {
	case e.Type == mesos.ExecutorInfo_DEFAULT:
		return errors.New("'ExecutorInfo.type' must be 'CUSTOM'")
	case e.Command == nil:
		return errors.New("'ExecutorInfo.command' must be set")
	case e.ShutdownGracePeriod.GetNanoseconds() < 0:
		return errors.New("ExecutorInfo's 'shutdown_grace_period' must be non-negative")
	case e.FrameworkID.GetValue() != f.id:
		return fmt.Errorf("ExecutorInfo has an invalid FrameworkID (actual: %s vs expected: %s)", e.FrameworkID.GetValue(), f.id)
	}
	if err := validateID(e.ExecutorID.Value); err != nil {
		return fmt.Errorf("executor has an invalid ID: %w", err)
	}
	if err := validateCommand(e.Command); err != nil {
		return fmt.Errorf("executor's `CommandInfo` is invalid: %w", err)
	}
	if li := e.GetContainer().GetLinuxInfo(); li != nil && li.ShareCgroups != nil && *li.ShareCgroups {
		return errors.New("the 'share_cgroups' field cannot be set to 'true' on executor containers")
	}
	if known := a.executors[f.id][e.ExecutorID.Value]; known != nil && !sameExecutor(&known.info, e) {
		return errors.New("ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID")
	}
	return nil
}
