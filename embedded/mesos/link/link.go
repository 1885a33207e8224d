// Package link is what the embedded master and its agents say to each other:
// the internal messages of Mesos (src/messages/messages.proto) as Go calls.
//
// Every method queues and returns at once, in order per pair of sender and
// receiver, so that neither side ever waits for the other under a lock. A
// message to somebody who is gone is lost, as in Mesos.
package link

import (
	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// Agent is an agent as the master sees it.
type Agent interface {
	// Registered and Reregistered answer Master.Register and Master.Reregister.
	Registered(id mesos.AgentID)
	Reregistered(id mesos.AgentID, reconcile []TaskRef)
	// Shutdown tells the agent that the master has removed it: it kills all its
	// executors and may register anew.
	Shutdown(reason string)

	// RunTask tells by launchExecutor whether the task's executor is to be started
	// or, as far as the master knows, is there; if that is wrong the task is dropped.
	RunTask(framework mesos.FrameworkInfo, task mesos.TaskInfo, launchExecutor bool)
	KillTask(framework mesos.FrameworkID, task mesos.TaskID, policy *mesos.KillPolicy)
	ShutdownExecutor(framework mesos.FrameworkID, executor mesos.ExecutorID)
	ShutdownFramework(framework mesos.FrameworkID)
	UpdateFramework(framework mesos.FrameworkInfo)
	FrameworkMessage(framework mesos.FrameworkID, executor mesos.ExecutorID, data []byte)
	Acknowledge(framework mesos.FrameworkID, task mesos.TaskID, uuid []byte)

	// Drain has the agent kill its tasks and say why of each; nil ends that.
	Drain(config *mesos.DrainConfig)

	// Ping is answered by Master.Pong; the master counts what is missed.
	Ping(connected bool)
}

// Master is the master as an agent sees it.
type Master interface {
	// Register asks for a new agent ID; Reregister brings a known one back with
	// all that still runs or waits for acknowledgement there.
	Register(agent Agent, info mesos.AgentInfo)
	Reregister(agent Agent, state AgentState)
	Unregister(id mesos.AgentID)
	Pong(id mesos.AgentID)
	// Oversubscribe tells of revocable resources beside the agent's own: all that
	// there are now.
	Oversubscribe(id mesos.AgentID, revocable []mesos.Resource)

	// Update carries a status; Status.UUID is set, and the agent sends it again
	// until acknowledged. Latest is the newest state that the agent knows of,
	// which frees resources before the older updates are acknowledged.
	Update(update StatusUpdate)
	// ExecutorMessage is a framework message from an executor.
	ExecutorMessage(agent mesos.AgentID, framework mesos.FrameworkID, executor mesos.ExecutorID, data []byte)
	// ExecutorExited tells that an executor has ended, with its wait status.
	ExecutorExited(agent mesos.AgentID, framework mesos.FrameworkID, executor mesos.ExecutorID, status int32)
}

// TaskRef names a task of a framework.
type TaskRef struct {
	Framework mesos.FrameworkID
	Task      mesos.TaskID
}

// StatusUpdate is one status update on its way from an agent.
type StatusUpdate struct {
	Framework mesos.FrameworkID
	Agent     mesos.AgentID
	Executor  *mesos.ExecutorID
	Status    mesos.TaskStatus
	Latest    mesos.TaskState
}

// AgentState is what an agent brings when it re-registers.
type AgentState struct {
	Info       mesos.AgentInfo // with ID
	Frameworks []mesos.FrameworkInfo
	Executors  []ExecutorState
	Tasks      []mesos.Task // not yet acknowledged to their end; with FrameworkID, ExecutorID, AgentID, State and resources
}

// ExecutorState is a live executor of an agent.
type ExecutorState struct {
	Framework mesos.FrameworkID
	Info      mesos.ExecutorInfo
}
